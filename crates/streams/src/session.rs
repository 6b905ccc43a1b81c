//! A command that runs in a container and a port that is forwarded, apart from any protocol.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::idle::Idle;

/// Bytes in one chunk, at most; what Go's `io.Copy` moves at once, which is what clients send.
pub const CHUNK_BYTES: usize = 32 << 10;

/// Chunks that wait in one direction of one stream: 256 kB, so that a session of three streams holds about 1 MB.
pub const CHUNKS: usize = 8;

/// The longest status document of a command's end that is passed on.
pub const MAX_ENDING_BYTES: usize = 64 << 10;

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other side broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The other side did not do in time what it must.
    #[error("timed out waiting for {0}")]
    Timeout(&'static str),
    /// The WebSocket failed.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// Nobody said anything for too long.
    #[error("nothing was said for too long")]
    Idle,
}

/// Which streams are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// To the command.
    pub stdin: bool,
    /// From it.
    pub stdout: bool,
    /// From it; with a terminal there is none.
    pub stderr: bool,
    /// The command gets a terminal.
    pub tty: bool,
}

impl Streams {
    /// With a terminal standard error is left out, as upstream's kubelet does.
    ///
    /// # Errors
    /// Upstream's words when nothing is asked for.
    pub fn checked(mut self) -> Result<Self, &'static str> {
        self.stderr &= !self.tty;
        if self.stdin || self.stdout || self.stderr {
            Ok(self)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr")
        }
    }
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width", alias = "width", default)]
    pub width: u16,
    /// Rows.
    #[serde(rename = "Height", alias = "height", default)]
    pub height: u16,
}

/// How a command ended: a `v1.Status` document (upstream's v4 protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    document: Bytes,
}

impl Ending {
    /// It ended with 0.
    #[must_use]
    pub fn success() -> Self {
        Self::of(&json!({"metadata": {}, "status": "Success"}))
    }

    /// It ended with this code, in the form clients read exit codes from.
    #[must_use]
    pub fn exited(code: i32) -> Self {
        if code == 0 {
            return Self::success();
        }
        Self::of(&json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }))
    }

    /// It could not be run, or was lost.
    #[must_use]
    pub fn failed(why: &str) -> Self {
        Self::of(&json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {why}"),
            "details": {"causes": [{"message": why}]},
        }))
    }

    /// As a runtime told it; what is no document is told as a failure.
    #[must_use]
    pub fn told(document: Bytes) -> Self {
        match serde_json::from_slice::<Value>(&document) {
            Ok(Value::Object(_)) => Self { document },
            _ => Self::failed(&String::from_utf8_lossy(&document)),
        }
    }

    /// For protocols from v4 on.
    #[must_use]
    pub fn document(&self) -> Bytes {
        self.document.clone()
    }

    /// For protocols before v4: nothing for success, else the message.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let status: Value = serde_json::from_slice(&self.document).unwrap_or_default();
        if status["status"] == "Success" {
            return None;
        }
        Some(status["message"].as_str().unwrap_or("the command failed").to_owned())
    }

    fn of(status: &Value) -> Self {
        Self { document: status.to_string().into() }
    }
}

/// A command in a container, seen from whoever uses it. Dropping [`RemoteCommand::run`] lets go of the command.
pub struct RemoteCommand {
    /// To its standard input; dropping it is the end of the input.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Its standard output; ends when the command has closed it.
    pub stdout: Option<mpsc::Receiver<Bytes>>,
    /// Its standard error.
    pub stderr: Option<mpsc::Receiver<Bytes>>,
    /// To its terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Must be polled for anything to move; returns when the command has ended and all its output is in the channels.
    pub run: BoxFuture<'static, Ending>,
}

impl std::fmt::Debug for RemoteCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteCommand")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("tty", &self.resize.is_some())
            .finish_non_exhaustive()
    }
}

/// The other side of a [`RemoteCommand`]: what whoever runs it holds.
#[derive(Debug)]
pub struct CommandSide {
    /// Its standard input.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// To its standard output.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// To its standard error.
    pub stderr: Option<mpsc::Sender<Bytes>>,
    /// Changes of its terminal.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
}

impl RemoteCommand {
    /// Both sides of a command with these streams; `run` makes its future of the command's side.
    pub fn new<F>(streams: Streams, run: impl FnOnce(CommandSide) -> F) -> Self
    where
        F: Future<Output = Ending> + Send + 'static,
    {
        let pipe = |wanted: bool| wanted.then(|| mpsc::channel(CHUNKS)).unzip();
        let (stdin, stdin_end) = pipe(streams.stdin);
        let (stdout_end, stdout) = pipe(streams.stdout);
        let (stderr_end, stderr) = pipe(streams.stderr);
        let (resize, resize_end) = streams.tty.then(|| mpsc::channel(CHUNKS)).unzip();
        let side =
            CommandSide { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end, resize: resize_end };
        Self { stdin, stdout, stderr, resize, run: Box::pin(run(side)) }
    }
}

/// A connection to a port: bytes both ways, each of which can end by itself.
pub type Duplex = Box<dyn DuplexIo>;

/// What a [`Duplex`] is made of.
pub trait DuplexIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> DuplexIo for T {}

/// Chunks from one queue to the other until either ends.
pub async fn forward(from: Option<mpsc::Receiver<Bytes>>, to: Option<mpsc::Sender<Bytes>>) {
    let Some(mut from) = from else { return };
    while let Some(chunk) = from.recv().await {
        if let Some(to) = &to
            && to.send(chunk).await.is_err()
        {
            return;
        }
    }
}

/// Copies between a connection and two queues. Returns when the connection has said everything it will say and
/// everything has been passed on; what comes from the queue then has nobody to go to.
///
/// # Errors
/// As the connection says.
pub async fn pump(
    io: Duplex,
    mut from: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Bytes>,
    idle: &Idle,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let outward = async {
        while let Some(chunk) = from.recv().await {
            idle.touch();
            writer.write_all(&chunk).await?;
        }
        writer.shutdown().await
    };
    let inward = async {
        loop {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
            if reader.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            idle.touch();
            if to.send(chunk.freeze()).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::pin!(outward);
    tokio::pin!(inward);
    tokio::select! {
        read = &mut inward => read,
        written = &mut outward => {
            // A peer that closed its side may still have said something first.
            let read = inward.await;
            written.and(read)
        }
    }
}
