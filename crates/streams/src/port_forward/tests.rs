//! Forwarded ports as clients see them.

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as SocketRole;

use super::*;
use crate::spdy::Headers;

/// Port 80 sends back what it gets and closes when the client has; every other is closed.
fn dial() -> Dial {
    Arc::new(|port| {
        async move {
            if port != 80 {
                return Err("connection refused".to_owned());
            }
            let (near, mut far) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(count @ 1..) = far.read(&mut buffer).await {
                    if far.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Box::new(near) as Duplex)
        }
        .boxed()
    })
}

struct Client {
    control: Control,
    _running: tokio::task::JoinHandle<Result<(), StreamError>>,
}

fn client() -> Client {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { serve_spdy(far, "web", dial(), &Idle::default()).await });
    let Connection { control, driver, .. } = Connection::new(near, Role::Client, Idle::default());
    Client { control, _running: tokio::spawn(driver.run()) }
}

impl Client {
    async fn open(&self, port: u16, request: u32) -> (Stream, Stream) {
        let (port, request) = (port.to_string(), request.to_string());
        let open = async |kind| {
            let headers = Headers::of(&[("streamType", kind), ("port", &port), ("requestID", &request)]);
            self.control.open(headers).await.expect("accepted")
        };
        (open("error").await, open("data").await)
    }
}

async fn text(mut from: mpsc::Receiver<Bytes>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = from.recv().await {
        all.extend_from_slice(&chunk);
    }
    all
}

#[tokio::test]
async fn connections_share_one_session() {
    let client = client();
    let (error, data) = client.open(80, 0).await;
    let (other_error, other) = client.open(80, 1).await;
    other.writer.send(Bytes::from_static(b"two")).await.expect("sent");
    data.writer.send(Bytes::from_static(b"one")).await.expect("sent");
    drop((data.writer, other.writer));
    assert_eq!(text(data.reader).await, b"one");
    assert_eq!(text(other.reader).await, b"two");
    assert_eq!((text(error.reader).await, text(other_error.reader).await), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_closed_port_is_told_on_the_error_stream() {
    let client = client();
    let (error, data) = client.open(81, 0).await;
    assert_eq!(text(error.reader).await, b"error forwarding port 81 to pod web: connection refused");
    assert_eq!(text(data.reader).await, b"");
    // The session goes on.
    let (_error, data) = client.open(80, 1).await;
    data.writer.send(Bytes::from_static(b"still")).await.expect("sent");
    drop(data.writer);
    assert_eq!(text(data.reader).await, b"still");
}

#[tokio::test]
async fn a_hundred_megabytes_pass_in_bounded_queues() {
    const BYTES: usize = 100 << 20;
    let client = client();
    let (_error, data) = client.open(80, 0).await;
    let Stream { reader, writer, .. } = data;
    let chunk = Bytes::from(vec![7; 32 << 10]);
    let sending = tokio::spawn(async move {
        for _ in 0..BYTES / chunk.len() {
            writer.send(chunk.clone()).await.expect("sent");
        }
    });
    let mut reader = reader;
    let mut read = 0;
    while let Some(chunk) = reader.recv().await {
        read += chunk.len();
    }
    sending.await.expect("joined");
    assert_eq!(read, BYTES);
}

#[tokio::test]
async fn a_stream_for_no_port_is_reset() {
    let client = client();
    let mut stream =
        client.control.open(Headers::of(&[("streamType", "data")])).await.expect("accepted first");
    assert_eq!(stream.reader.recv().await, None);
    stream.writer.closed().await;
}

#[tokio::test]
async fn websocket_channels_begin_with_their_port() {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        serve_websocket(far, Some("v4.channel.k8s.io"), &[80, 81], "web", &dial(), &Idle::default()).await
    });
    let mut socket = WebSocketStream::from_raw_socket(near, SocketRole::Client, None).await;
    socket.send(Message::binary(b"\x00hi".to_vec())).await.expect("sent");
    let mut messages = Vec::new();
    for _ in 0..6 {
        messages.push(socket.next().await.expect("a message").expect("whole").into_data().to_vec());
    }
    let of = |channel: u8| -> Vec<u8> {
        let own = messages.iter().filter(|message| message[0] == channel);
        own.flat_map(|message| message[1..].to_vec()).collect()
    };
    assert_eq!(of(0), b"\x50\x00hi");
    assert_eq!(of(1), b"\x50\x00");
    assert_eq!(of(2), b"\x51\x00");
    assert_eq!(of(3), b"\x51\x00error forwarding port 81 to pod web: connection refused");
}

#[test]
fn ports_are_read_from_the_query() {
    assert_eq!(ports(["80,81", "82"].into_iter()), Ok(vec![80, 81, 82]));
    for (given, why) in [
        (vec![], "query parameter \"ports\" is required"),
        (vec![""], "query parameter \"ports\" cannot be empty"),
        (vec!["0"], "port \"0\" must be > 0"),
        (vec!["x"], "unable to parse \"x\" as a port"),
    ] {
        assert_eq!(ports(given.into_iter()), Err(why.to_owned()));
    }
}
