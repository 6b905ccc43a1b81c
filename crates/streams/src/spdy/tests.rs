//! Frames against bytes made by zlib, and connections against themselves.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::frame::{Frame, FrameError, Head, Headers, MAX_CONTROL, data};
use super::headers::{Deflater, Inflater};
use super::{Connection, Role, Stream};
use crate::idle::Idle;

/// Two frames as Go's library writes them: packed by zlib with the protocol's dictionary, flushed but not ended.
const GOLDEN: [&str; 2] = [
    "800300010000003d0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c6061606100a4398b20d198094ade8c0600000000ffff",
    "800300010100001800000003000000000000c2aa19540e2512d60b000000ffff",
];

fn parse(bytes: &[u8], inflater: &mut Inflater) -> Result<Frame, FrameError> {
    let (head, content) = bytes.split_first_chunk::<8>().expect("a head");
    match Head::parse(*head)? {
        Head::Control { kind, flags, length } => {
            assert_eq!(length as usize, content.len());
            Frame::parse(kind, flags, content, inflater)
        }
        Head::Data { .. } => panic!("no control frame"),
    }
}

#[test]
fn frames_of_gos_library_are_read() {
    let mut inflater = Inflater::default();
    for (hex, id, kind, fin) in [(GOLDEN[0], 1, "error", false), (GOLDEN[1], 3, "data", true)] {
        let bytes = hex::decode(hex).expect("hex");
        let headers = Headers::of(&[("streamType", kind), ("port", "8080"), ("requestID", "0")]);
        let want = Frame::SynStream { id, fin, unidirectional: false, headers };
        assert_eq!(parse(&bytes, &mut inflater), Ok(want));
    }
}

#[test]
fn frames_stand_on_the_wire_as_the_draft_has_them() {
    let mut deflater = Deflater::default();
    let mut render = |frame: Frame| hex::encode(frame.render(&mut deflater).expect("short"));
    assert_eq!(render(Frame::Ping { id: 7 }), "800300060000000400000007");
    assert_eq!(render(Frame::RstStream { id: 5, status: 3 }), "80030003000000080000000500000003");
    assert_eq!(render(Frame::GoAway { last: 9 }), "80030007000000080000000900000000");
    // The zlib head with the dictionary's name, a stored block (no headers), and an empty one.
    let reply = Frame::SynReply { id: 1, fin: true, headers: Headers::default() };
    assert_eq!(render(reply.clone()), "80030002010000180000000178bbe3c6a7c2000400fbff00000000000000ffff");
    assert_eq!(render(reply), "800300020100001200000001000400fbff00000000000000ffff");
    assert_eq!(hex::encode(data(3, true, b"ab")), "00000003010000026162");
}

#[test]
fn what_is_no_frame_is_refused() {
    assert_eq!(Head::parse(*b"GET / HT"), Ok(Head::Data { id: 0x4745_5420, fin: true, length: 0x20_4854 }));
    assert_eq!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 0]), Err(FrameError::Version(2)));
    assert_eq!(Head::parse([0x80, 3, 0, 1, 0, 1, 0, 1]), Err(FrameError::TooLong(MAX_CONTROL + 1)));
    let mut inflater = Inflater::default();
    assert_eq!(Frame::parse(3, 0, &[0; 7], &mut inflater), Err(FrameError::Short(3)));
    assert!(Frame::parse(2, 0, &[0; 12], &mut inflater).is_err(), "no zlib head");
    // A block that says it holds four billion headers.
    let mut bomb = hex::decode("0000000178bbe3c6a7c2000400fbffffffffff").expect("hex");
    assert_eq!(
        Frame::parse(2, 0, &bomb, &mut Inflater::default()),
        Err(FrameError::Headers("too many headers"))
    );
    bomb.truncate(14);
    assert!(Frame::parse(2, 0, &bomb, &mut Inflater::default()).is_err());
}

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9./ -]{0,40}"
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed(
        frames in proptest::collection::vec((1_u32..0x7fff_ffff, any::<bool>(), proptest::collection::vec((text(), text()), 0..6)), 1..8)
    ) {
        let mut deflater = Deflater::default();
        let mut inflater = Inflater::default();
        for (id, fin, pairs) in frames {
            let frame = Frame::SynStream { id, fin, unidirectional: !fin, headers: Headers(pairs) };
            let bytes = frame.render(&mut deflater).expect("short");
            prop_assert_eq!(parse(&bytes, &mut inflater), Ok(frame));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(kind in 0_u16..12, flags: u8, content: Vec<u8>, with_head: bool) {
        let mut content = content;
        if with_head {
            content.splice(0..0, hex::decode("0000000178bbe3c6a7c2").expect("hex"));
        }
        let _ = Frame::parse(kind, flags, &content, &mut Inflater::default());
    }
}

struct Ends {
    client: super::Control,
    client_streams: tokio::sync::mpsc::Receiver<Stream>,
    server: super::Control,
    server_streams: tokio::sync::mpsc::Receiver<Stream>,
    client_run: tokio::task::JoinHandle<Result<(), crate::StreamError>>,
    server_run: tokio::task::JoinHandle<Result<(), crate::StreamError>>,
}

fn connected() -> Ends {
    let (near, far) = tokio::io::duplex(16 << 10);
    let client = Connection::new(near, Role::Client, Idle::default());
    let server = Connection::new(far, Role::Server, Idle::default());
    Ends {
        client: client.control,
        client_streams: client.incoming,
        server: server.control,
        server_streams: server.incoming,
        client_run: tokio::spawn(client.driver.run()),
        server_run: tokio::spawn(server.driver.run()),
    }
}

async fn all(stream: &mut Stream) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(chunk) = stream.reader.recv().await {
        text.extend_from_slice(&chunk);
    }
    text
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end_one_way_at_a_time() {
    let mut ends = connected();
    let mut near = ends.client.open(Headers::of(&[("streamType", "data")])).await.expect("accepted");
    let mut far = ends.server_streams.recv().await.expect("a stream");
    assert_eq!((near.id, far.id, far.headers.get("streamtype")), (1, 1, Some("data")));
    near.writer.send(Bytes::from_static(b"question")).await.expect("sent");
    drop(near.writer);
    near.writer = tokio::sync::mpsc::channel(1).0;
    assert_eq!(all(&mut far).await, b"question");
    far.writer.send(Bytes::from_static(b"answer")).await.expect("sent");
    drop(far);
    assert_eq!(all(&mut near).await, b"answer");
    // The server opens even ones.
    let back = ends.server.open(Headers::default()).await.expect("accepted");
    assert_eq!((back.id, ends.client_streams.recv().await.map(|stream| stream.id)), (2, Some(2)));
    drop(back);
    ends.client.close().await;
    ends.client_run.await.expect("joined").expect("a clean end");
    ends.server_run.await.expect("joined").expect("a clean end");
}

#[tokio::test]
async fn a_reset_ends_both_ways() {
    let mut ends = connected();
    let mut near = ends.client.open(Headers::default()).await.expect("accepted");
    let mut far = ends.server_streams.recv().await.expect("a stream");
    ends.client.reset(near.id).await;
    assert_eq!(far.reader.recv().await, None);
    assert_eq!(near.reader.recv().await, None);
    tokio::time::timeout(Duration::from_secs(5), far.writer.closed()).await.expect("the sender is told");
}

#[tokio::test]
async fn a_reader_that_stops_holds_back_its_writer() {
    let mut ends = connected();
    let near = ends.client.open(Headers::default()).await.expect("accepted");
    let mut far = ends.server_streams.recv().await.expect("a stream");
    let chunk = Bytes::from(vec![7; 32 << 10]);
    let sending = tokio::spawn(async move {
        for _ in 0..1000 {
            near.writer.send(chunk.clone()).await.expect("sent");
        }
    });
    let mut sent = 0;
    // Queues on both sides and the pipe between: a small part of the 32 MB.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!sending.is_finished());
    while let Some(chunk) = far.reader.recv().await {
        sent += chunk.len();
    }
    assert_eq!(sent, 1000 * (32 << 10));
    sending.await.expect("joined");
}

async fn raw() -> (
    DuplexStream,
    tokio::task::JoinHandle<Result<(), crate::StreamError>>,
    tokio::sync::mpsc::Receiver<Stream>,
) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let Connection { incoming, driver, .. } = Connection::new(far, Role::Server, Idle::default());
    (near, tokio::spawn(driver.run()), incoming)
}

#[tokio::test]
async fn pings_of_the_peer_come_back_and_own_ones_do_not() {
    let (mut io, _run, _incoming) = raw().await;
    for id in [2_u32, 1] {
        io.write_all(&Frame::Ping { id }.render(&mut Deflater::default()).expect("short"))
            .await
            .expect("sent");
    }
    let mut answer = [0; 12];
    io.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(hex::encode(answer), "800300060000000400000001");
}

#[tokio::test]
async fn a_stream_with_a_wrong_number_is_reset() {
    let (mut io, _run, _incoming) = raw().await;
    let syn = Frame::SynStream { id: 2, fin: false, unidirectional: false, headers: Headers::default() };
    io.write_all(&syn.render(&mut Deflater::default()).expect("short")).await.expect("sent");
    let mut answer = [0; 16];
    io.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(hex::encode(answer), "80030003000000080000000200000001");
}

#[tokio::test]
async fn garbage_ends_the_connection_with_its_reason() {
    let (mut io, run, _incoming) = raw().await;
    io.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 0]).await.expect("sent");
    let error = run.await.expect("joined").expect_err("no SPDY/3");
    assert_eq!(error.to_string(), "protocol error: a control frame of SPDY version 2");
}
