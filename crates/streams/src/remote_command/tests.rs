//! Sessions as clients see them.

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as SocketRole;

use super::*;
use crate::session::CommandSide;
use crate::spdy::Headers;

/// Repeats its input in capitals, tells its terminal's sizes on standard error, ends with the input's length.
async fn shout(side: CommandSide) -> Ending {
    let CommandSide { stdin, stdout, stderr, resize } = side;
    let mut length = 0;
    let sizes = async {
        let (Some(mut resize), Some(out)) = (resize, stderr.clone().or(stdout.clone())) else { return };
        while let Some(size) = resize.recv().await {
            let _ = out.send(format!("{}x{}", size.width, size.height).into()).await;
        }
    };
    let work = async {
        let Some(mut stdin) = stdin else { return };
        while let Some(chunk) = stdin.recv().await {
            length += chunk.len();
            if let Some(stdout) = &stdout {
                let _ = stdout.send(chunk.to_ascii_uppercase().into()).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = async { sizes.await; std::future::pending::<()>().await } => {}
    }
    Ending::exited(i32::try_from(length).expect("short"))
}

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

async fn socket(
    protocol: &'static str,
    streams: Streams,
) -> (WebSocketStream<tokio::io::DuplexStream>, tokio::task::JoinHandle<Result<(), StreamError>>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(async move {
        let command = RemoteCommand::new(streams, shout);
        serve_websocket(far, Some(protocol), streams, command, &Idle::default()).await
    });
    (WebSocketStream::from_raw_socket(near, SocketRole::Client, None).await, serving)
}

async fn rest(socket: &mut WebSocketStream<tokio::io::DuplexStream>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        messages.push(message);
    }
    messages
}

#[tokio::test]
async fn version_five_ends_the_input_and_tells_the_exit_code() {
    let (mut socket, serving) = socket("v5.channel.k8s.io", ALL).await;
    socket.send(Message::binary(b"\x00hello".to_vec())).await.expect("sent");
    socket.send(Message::binary(b"\xff\x00".to_vec())).await.expect("sent");
    let messages = rest(&mut socket).await;
    assert_eq!(messages[0], Message::binary(b"\x01".to_vec()), "the session is there");
    assert_eq!(messages[1], Message::binary(b"\x01HELLO".to_vec()));
    let status = messages[2].clone().into_data();
    assert_eq!(status[0], 3);
    let status: serde_json::Value = serde_json::from_slice(&status[1..]).expect("a document");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0], serde_json::json!({"reason": "ExitCode", "message": "5"}));
    assert!(matches!(messages.last(), Some(Message::Close(_))), "{messages:?}");
    serving.await.expect("joined").expect("a clean end");
}

#[tokio::test]
async fn older_protocols_have_their_forms() {
    let (mut socket, _serving) = socket("v4.base64.channel.k8s.io", ALL).await;
    socket.send(Message::text("0aGk=")).await.expect("sent");
    let next =
        async |socket: &mut WebSocketStream<_>| socket.next().await.expect("a message").expect("whole");
    assert_eq!(next(&mut socket).await, Message::text("1"));
    assert_eq!(next(&mut socket).await, Message::text("1SEk="));
    // Without a document the ending is a message, and nothing when all went well.
    let plain = Ending::exited(3);
    assert_eq!(plain.message().as_deref(), Some("command terminated with non-zero exit code: exit status 3"));
    assert_eq!(Ending::success().message(), None);
}

#[tokio::test]
async fn a_terminal_learns_its_size() {
    let streams = Streams { stdin: true, stdout: true, stderr: true, tty: true }.checked().expect("some");
    assert!(!streams.stderr);
    let (mut socket, _serving) = socket("v4.channel.k8s.io", streams).await;
    socket.send(Message::binary(b"\x04{\"Width\":80,\"Height\":24}\n".to_vec())).await.expect("sent");
    socket.next().await.expect("the greeting").expect("whole");
    let told = socket.next().await.expect("a message").expect("whole");
    assert_eq!(told, Message::binary(b"\x0180x24".to_vec()));
}

#[tokio::test]
async fn a_client_that_goes_lets_go_of_the_command() {
    let (dropped, watch) = tokio::sync::oneshot::channel::<()>();
    let (near, far) = tokio::io::duplex(64 << 10);
    let command = RemoteCommand::new(ALL, |side| async move {
        let _held = (dropped, side);
        std::future::pending().await
    });
    let serving = tokio::spawn(async move {
        serve_websocket(far, Some("v5.channel.k8s.io"), ALL, command, &Idle::default()).await
    });
    drop(near);
    assert!(watch.await.is_err(), "the command was dropped");
    serving.await.expect("joined").expect("no failure");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_session() {
    let (_near, far) = tokio::io::duplex(64 << 10);
    let command = RemoteCommand::new(ALL, |side| async move {
        let _held = side;
        std::future::pending().await
    });
    let ended = serve_websocket(far, Some("v5.channel.k8s.io"), ALL, command, &Idle::default()).await;
    assert!(matches!(ended, Err(StreamError::Idle)), "{ended:?}");
}

#[tokio::test]
async fn spdy_clients_get_their_streams_and_the_ending() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(async move {
        let command = RemoteCommand::new(ALL, shout);
        serve_spdy(far, Some("v4.channel.k8s.io"), ALL, command, &Idle::default()).await
    });
    let Connection { control, driver, .. } = Connection::new(near, Role::Client, Idle::default());
    let running = tokio::spawn(driver.run());
    let open = async |kind| control.open(Headers::of(&[("streamType", kind)])).await.expect("accepted");
    let mut error = open("error").await;
    let mut stdin = open("stdin").await;
    let mut stdout = open("stdout").await;
    let mut stderr = open("stderr").await;
    // The server's side of the input stays open as long as the command takes any: kubectl closes its own after it.
    let early = tokio::time::timeout(Duration::from_millis(100), stdin.reader.recv()).await;
    assert!(early.is_err(), "{early:?}");
    stdin.writer.send(Bytes::from_static(b"abc")).await.expect("sent");
    assert_eq!(stdout.reader.recv().await.as_deref(), Some(b"ABC".as_slice()));
    drop(stdin);
    let status: serde_json::Value =
        serde_json::from_slice(&error.reader.recv().await.expect("a status")).expect("a document");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    assert_eq!((stdout.reader.recv().await, stderr.reader.recv().await), (None, None));
    running.await.expect("joined").expect("a clean end");
    serving.await.expect("joined").expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_spdy_client_must_open_its_streams_in_time() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let Connection { control, driver, .. } = Connection::new(near, Role::Client, Idle::default());
    let _running = tokio::spawn(driver.run());
    let command = RemoteCommand::new(ALL, shout);
    let _error = tokio::spawn(async move { control.open(Headers::of(&[("streamType", "error")])).await });
    let ended = serve_spdy(far, Some("v4.channel.k8s.io"), ALL, command, &Idle::default()).await;
    assert!(matches!(ended, Err(StreamError::Timeout(_))), "{ended:?}");
}
