//! The client of a container runtime's streaming server: the URL that the runtime interface's `Exec`, `Attach` and
//! `PortForward` give, spoken to over SPDY, which is the one protocol every runtime has that can end the input.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::idle::Idle;
use crate::session::{
    CHUNK_BYTES, CommandSide, Ending, MAX_ENDING_BYTES, RemoteCommand, StreamError, Streams, TerminalSize,
    forward,
};
use crate::spdy::{Connection, Control, Driver, Headers, Role, Stream};

/// How long the runtime may take to answer the upgrade and to accept the streams.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the head of an HTTP answer.
const MAX_HEAD: usize = 16 << 10;
/// Bytes of what a runtime says went wrong.
const MAX_MESSAGE: usize = 4 << 10;

/// Starts what the URL stands for and gives its streams, which must be those that were asked of the runtime.
///
/// # Errors
/// When the runtime cannot be reached or refuses.
pub async fn command(url: &str, streams: Streams) -> Result<RemoteCommand, StreamError> {
    let io = upgrade(url, "v4.channel.k8s.io").await?;
    let Connection { control, driver, .. } = Connection::new(io, Role::Client, Idle::default());
    let mut driver = Box::pin(driver.run());
    let opened = tokio::select! {
        opened = within(open_command(&control, streams)) => opened?,
        ended = &mut driver => return Err(ended.err().unwrap_or_else(closed)),
    };
    Ok(RemoteCommand::new(streams, move |side| async move {
        let ending = join(opened, side);
        tokio::pin!(ending);
        let ended = tokio::select! {
            ended = &mut ending => ended,
            // What has come already is still passed on.
            _ = &mut driver => ending.await,
        };
        drop(control);
        ended
    }))
}

fn closed() -> StreamError {
    StreamError::Protocol("the container runtime closed the connection".to_owned())
}

async fn within<T>(work: impl Future<Output = Result<T, StreamError>>) -> Result<T, StreamError> {
    tokio::time::timeout(OPEN_LIMIT, work).await.unwrap_or(Err(StreamError::Timeout("the container runtime")))
}

struct Opened {
    error: Stream,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

async fn open_command(control: &Control, streams: Streams) -> Result<Opened, StreamError> {
    let open = async |wanted: bool, kind: &str| match wanted {
        true => control.open(Headers::of(&[("streamtype", kind)])).await.map(Some),
        false => Ok(None),
    };
    // In the order upstream's client opens them.
    Ok(Opened {
        error: control.open(Headers::of(&[("streamtype", "error")])).await?,
        stdin: open(streams.stdin, "stdin").await?,
        stdout: open(streams.stdout, "stdout").await?,
        stderr: open(streams.stderr, "stderr").await?,
        resize: open(streams.tty, "resize").await?,
    })
}

/// Joins the runtime's streams and the command's user until the runtime has said how it ended and all its output is
/// passed on.
async fn join(opened: Opened, side: CommandSide) -> Ending {
    let Opened { error, stdin, stdout, stderr, resize } = opened;
    let reader = |stream: Option<Stream>| stream.map(|stream| stream.reader);
    let output = async {
        let told = collect(error.reader, MAX_ENDING_BYTES);
        let (told, (), ()) =
            tokio::join!(told, forward(reader(stdout), side.stdout), forward(reader(stderr), side.stderr));
        if told.is_empty() {
            Ending::failed("the container runtime did not tell how the command ended")
        } else {
            Ending::told(told)
        }
    };
    let input = async {
        // The stream's reader is kept: on a stream with neither side the runtime could say nothing.
        let (writer, _reader) = stdin.map(|stream| (stream.writer, stream.reader)).unzip();
        tokio::join!(forward(side.stdin, writer), sizes(side.resize, resize));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ending = output => ending,
        () = input => Ending::success(),
    }
}

async fn sizes(from: Option<mpsc::Receiver<TerminalSize>>, to: Option<Stream>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    while let Some(size) = from.recv().await {
        let Ok(document) = serde_json::to_vec(&size) else { continue };
        if to.writer.send(document.into()).await.is_err() {
            return;
        }
    }
}

/// What a stream says until it ends, cut at `limit`.
async fn collect(mut from: mpsc::Receiver<Bytes>, limit: usize) -> Bytes {
    let mut text = Vec::new();
    while let Some(chunk) = from.recv().await {
        let room = limit.saturating_sub(text.len());
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    text.into()
}

/// A connection to a port inside of a pod's network.
///
/// # Errors
/// When the runtime cannot be reached or refuses. That nothing listens is told when the connection is read.
pub async fn port_forward(url: &str, port: u16) -> Result<Forwarded, StreamError> {
    let io = upgrade(url, "portforward.k8s.io").await?;
    let Connection { control, driver, .. } = Connection::new(io, Role::Client, Idle::default());
    let (near, far) = tokio::io::duplex(2 * CHUNK_BYTES);
    let failure = Arc::new(Mutex::new(None));
    let moving = move_port(far, control, driver, port, Arc::clone(&failure));
    let task = AbortOnDropHandle::new(tokio::spawn(moving));
    Ok(Forwarded { io: near, failure, _task: task })
}

async fn move_port(
    far: DuplexStream,
    control: Control,
    driver: Driver<TcpStream>,
    port: u16,
    failure: Arc<Mutex<Option<String>>>,
) {
    let told = Arc::clone(&failure);
    let work = async {
        let open = async |kind: &str| {
            let port = port.to_string();
            control.open(Headers::of(&[("streamtype", kind), ("port", &port), ("requestid", "0")])).await
        };
        let opened = within(async { Ok((open("error").await?, open("data").await?)) }).await;
        let (error, data) = match opened {
            Ok(opened) => opened,
            Err(why) => return *told.lock() = Some(why.to_string()),
        };
        let Stream { mut reader, writer, .. } = data;
        let Stream { reader: error, writer: silent, .. } = error;
        drop(silent);
        let (mut from, mut to) = tokio::io::split(far);
        let inward = async {
            while let Some(chunk) = reader.recv().await {
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            // What went wrong must be known before the end is seen.
            let why = collect(error, MAX_MESSAGE).await;
            if !why.is_empty() {
                *told.lock() = Some(String::from_utf8_lossy(&why).into_owned());
            }
            let _ = to.shutdown().await;
        };
        let outward = async {
            loop {
                let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
                match from.read_buf(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) if writer.send(chunk.freeze()).await.is_err() => break,
                    Ok(_) => {}
                }
            }
            drop(writer);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = inward => {}
            () = outward => {}
        }
    };
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => {}
        _ = driver.run() => work.await,
    }
}

/// A connection through a runtime. Dropping it closes it.
#[derive(Debug)]
pub struct Forwarded {
    io: DuplexStream,
    failure: Arc<Mutex<Option<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if buffer.filled().len() == before
            && let Some(why) = self.failure.lock().take()
        {
            return Poll::Ready(Err(io::Error::other(why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Asks the streaming server for SPDY. Runtimes listen on the machine itself, without TLS.
async fn upgrade(url: &str, protocol: &str) -> Result<TcpStream, StreamError> {
    within(async {
        let bad =
            || StreamError::Protocol(format!("the container runtime gave {url:?}, which is no http:// URL"));
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = authority.host().trim_matches(['[', ']']);
        let mut io = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
        io.set_nodelay(true)?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        let head = read_head(&mut io).await?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if status != "101" {
            let mut body = Vec::new();
            let _ = (&mut io).take(MAX_MESSAGE as u64).read_to_end(&mut body).await;
            let why = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(StreamError::Protocol(format!("the container runtime answered {status}: {why}")));
        }
        Ok(io)
    })
    .await
}

/// The head of an answer, byte by byte: what follows belongs to the upgraded connection.
async fn read_head(io: &mut TcpStream) -> Result<String, StreamError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(StreamError::Protocol("the container runtime's answer has no end".to_owned()));
        }
        head.push(io.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
