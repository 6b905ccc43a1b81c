//! Upgrades and what is spoken after them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use streams::Idle;
use streams::spdy::frame::{Frame, Head};
use streams::spdy::headers::{Deflater, Inflater};
use streams::spdy::{Connection, Role};
use streams::upgrade;
use streams::websocket::channels::{Codec, Inbound};
use tokio::io::AsyncWriteExt as _;

/// The headers of a request, a line each.
pub(super) fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Which protocol a request wants and what it is answered.
pub(super) fn upgrade(input: &[u8]) {
    let headers = headers(input);
    let _ = upgrade::requested(&headers);
    let offered = upgrade::subprotocols(&headers);
    let supported = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
    if let Ok(Some(chosen)) = upgrade::negotiate_websocket(&headers, &supported) {
        assert!(offered.iter().any(|own| own == chosen), "{chosen} was never offered");
    }
    if let Err(refusal) = upgrade::negotiate_spdy(&headers, &["portforward.k8s.io"]) {
        refusal.write(&mut HeaderMap::new());
    }
    let _ = upgrade::websocket_response(&headers, Some(supported[0]));
}

/// A message of the channel protocols, both ways.
pub(super) fn channel(input: &[u8]) {
    for codec in [Codec::Binary, Codec::Base64] {
        for with_end in [false, true] {
            let Ok(Inbound::Data(channel, data)) = codec.read(Bytes::copy_from_slice(input), with_end) else {
                continue;
            };
            if codec == Codec::Base64 && !channel.is_ascii_digit() && channel > 9 {
                continue;
            }
            let written = codec.write(channel, &data).into_data();
            assert_eq!(codec.read(written, false), Ok(Inbound::Data(channel, data)));
        }
    }
}

/// A stream of frames: one after the other through one inflater, then as a whole to a connection.
pub(super) fn spdy(input: &[u8]) {
    frames(input);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let connection = Connection::new(server, Role::Server, Idle::new(Duration::from_secs(1)));
        let mut incoming = connection.incoming;
        let reading = async {
            while let Some(mut stream) = incoming.recv().await {
                while stream.reader.recv().await.is_some() {}
            }
        };
        let writing = async {
            let _ = client.write_all(input).await;
            let _ = client.shutdown().await;
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        };
        let running = connection.driver.run();
        let all = async { tokio::join!(running, reading, writing) };
        // The clock is paused: this is the connection hanging for good, not a slow machine.
        assert!(
            tokio::time::timeout(Duration::from_secs(60), all).await.is_ok(),
            "the connection never ends"
        );
    });
}

fn frames(mut input: &[u8]) {
    let mut inflater = Inflater::default();
    while let Some((head, rest)) = input.split_first_chunk::<8>() {
        let Ok(head) = Head::parse(*head) else { return };
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let Some((content, rest)) = rest.split_at_checked(length as usize) else { return };
        input = rest;
        let Head::Control { kind, flags, .. } = head else { continue };
        let Ok(frame) = Frame::parse(kind, flags, content, &mut inflater) else { return };
        let _ = frame.render(&mut Deflater::default());
    }
}
