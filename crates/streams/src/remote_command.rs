//! `exec` and `attach`, served to a client: WebSocket channels v1 to v5, SPDY v1 to v4.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::idle::Idle;
use crate::session::{CHUNKS, Ending, RemoteCommand, StreamError, Streams, TerminalSize, forward};
use crate::spdy::{Connection, Role};
use crate::websocket::{self, Channels, Codec};

mod resize;
#[cfg(test)]
mod tests;

/// How long a SPDY client may take to open its streams (upstream's `DefaultStreamCreationTimeout`).
const STREAM_CREATION_LIMIT: Duration = Duration::from_secs(30);
/// How long the last bytes and the ending may take to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

/// SPDY protocols, best first (upstream `remotecommand.SupportedStreamingProtocols`).
pub const SPDY_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// WebSocket protocols.
pub const WEBSOCKET_PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

/// The numbers of the channels.
const STDIN: usize = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: usize = 4;

/// The client's side of a session, whatever the protocol.
struct Front {
    stdin: Option<mpsc::Receiver<Bytes>>,
    stdout: Option<mpsc::Sender<Bytes>>,
    stderr: Option<mpsc::Sender<Bytes>>,
    resize: Option<mpsc::Receiver<Bytes>>,
    error: mpsc::Sender<Bytes>,
    /// The ending is a document, from v4 on.
    document: bool,
}

/// Serves a command over a WebSocket whose handshake is done with `protocol`.
///
/// # Errors
/// When the connection breaks, the client breaks the protocol, or nobody says anything for too long. The command has
/// been let go of then.
pub async fn serve_websocket<IO>(
    io: IO,
    protocol: Option<&str>,
    streams: Streams,
    command: RemoteCommand,
    idle: &Idle,
) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let protocol = protocol.unwrap_or_default();
    let pipe = |wanted: bool| wanted.then(|| mpsc::channel(CHUNKS)).unzip();
    let (stdin_end, stdin) = pipe(streams.stdin);
    let (resize_end, resize) = pipe(streams.tty);
    let (stdout, stdout_end) = pipe(streams.stdout);
    let (stderr, stderr_end) = pipe(streams.stderr);
    let (error, error_end) = mpsc::channel(CHUNKS);
    // An empty message tells the client that the session is there.
    let greeting = stdout.as_ref().or(stderr.as_ref()).unwrap_or(&error);
    let _ = greeting.try_send(Bytes::new());
    let mut inputs = vec![None; RESIZE + 1];
    inputs[STDIN] = stdin_end;
    inputs[RESIZE] = resize_end;
    let outputs = [(STDOUT, stdout_end), (STDERR, stderr_end), (ERROR, Some(error_end))];
    let channels = Channels {
        codec: if protocol.contains("base64") { Codec::Base64 } else { Codec::Binary },
        with_end: protocol.starts_with("v5."),
        inputs,
        outputs: outputs.into_iter().filter_map(|(number, end)| Some((number, end?))).collect(),
    };
    let document = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    let front = Front { stdin, stdout, stderr, resize, error, document };
    let driver = websocket::serve(io, channels, idle);
    attended(driver, join(front, command), async {}, idle).await
}

/// Serves a command over SPDY; `protocol` as negotiated, `None` is the first.
///
/// # Errors
/// As [`serve_websocket`].
pub async fn serve_spdy<IO>(
    io: IO,
    protocol: Option<&str>,
    streams: Streams,
    command: RemoteCommand,
    idle: &Idle,
) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let version = match protocol {
        Some("v4.channel.k8s.io") => 4,
        Some("v3.channel.k8s.io") => 3,
        Some("v2.channel.k8s.io") => 2,
        _ => 1,
    };
    let Connection { control, mut incoming, driver } = Connection::new(io, Role::Server, idle.clone());
    let resizable = streams.tty && version >= 3;
    let wanted = 1
        + usize::from(streams.stdin)
        + usize::from(streams.stdout)
        + usize::from(streams.stderr)
        + usize::from(resizable);
    let session = async move {
        let mut stdin = None;
        let mut stdout = None;
        let mut stderr = None;
        let mut resize = None;
        let mut error = None;
        // The end of our side of an input tells clients that the command takes no more.
        let mut held = Vec::new();
        for _ in 0..wanted {
            let next = tokio::time::timeout(STREAM_CREATION_LIMIT, incoming.recv()).await;
            let stream = next.map_err(|_| StreamError::Timeout("client to create streams"))?;
            let Some(stream) = stream else { return Ok(()) };
            match stream.headers.get("streamtype") {
                Some("error") => error = Some(stream.writer),
                Some("stdin") => {
                    held.push(stream.writer);
                    stdin = Some(stream.reader);
                }
                Some("stdout") => stdout = Some(stream.writer),
                Some("stderr") => stderr = Some(stream.writer),
                Some("resize") => {
                    held.push(stream.writer);
                    resize = Some(stream.reader);
                }
                other => {
                    let name = other.unwrap_or_default();
                    return Err(StreamError::Protocol(format!("unexpected stream type: {name:?}")));
                }
            }
        }
        let error = error.ok_or_else(|| StreamError::Protocol("no error stream".to_owned()))?;
        join(Front { stdin, stdout, stderr, resize, error, document: version >= 4 }, command).await;
        drop(held);
        Ok(())
    };
    let finish = control.close();
    attended(driver.run(), session, finish, idle).await
}

/// Runs a session beside what moves its connection; whichever ends, the other does. `finish` is told to the connection
/// when the session is over.
async fn attended<S: Into<SessionEnd>>(
    driver: impl Future<Output = Result<(), StreamError>>,
    session: impl Future<Output = S>,
    finish: impl Future<Output = ()>,
    idle: &Idle,
) -> Result<(), StreamError> {
    tokio::pin!(driver);
    let over = tokio::select! {
        ended = &mut driver => return ended,
        over = session => over.into().0,
        () = idle.expired() => return Err(StreamError::Idle),
    };
    over?;
    let flush = async { tokio::join!(finish, driver).1 };
    tokio::time::timeout(FLUSH_LIMIT, flush).await.unwrap_or(Ok(()))
}

/// How a session ended.
struct SessionEnd(Result<(), StreamError>);

impl From<()> for SessionEnd {
    fn from((): ()) -> Self {
        Self(Ok(()))
    }
}

impl From<Result<(), StreamError>> for SessionEnd {
    fn from(ended: Result<(), StreamError>) -> Self {
        Self(ended)
    }
}

/// Joins client and command until the command has ended, then tells how.
async fn join(front: Front, command: RemoteCommand) {
    let Front { stdin, stdout, stderr, resize, error, document } = front;
    let RemoteCommand { stdin: to, stdout: out, stderr: err, resize: sizes, run } = command;
    let work = async {
        let (ending, (), ()) = tokio::join!(run, forward(out, stdout), forward(err, stderr));
        ending
    };
    let input = async {
        tokio::join!(forward(stdin, to), resized(resize, sizes));
        std::future::pending::<()>().await;
    };
    let ending = tokio::select! {
        ending = work => ending,
        () = input => return,
    };
    tell(&error, &ending, document).await;
}

async fn tell(error: &mpsc::Sender<Bytes>, ending: &Ending, document: bool) {
    let text = if document { Some(ending.document()) } else { ending.message().map(Bytes::from) };
    if let Some(text) = text {
        let _ = error.send(text).await;
    }
}

async fn resized(from: Option<mpsc::Receiver<Bytes>>, to: Option<mpsc::Sender<TerminalSize>>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut parser = resize::Parser::default();
    while let Some(bytes) = from.recv().await {
        for size in parser.push(&bytes) {
            if to.send(size).await.is_err() {
                return;
            }
        }
    }
}
