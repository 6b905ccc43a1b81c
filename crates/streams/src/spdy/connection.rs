//! A connection: many streams over one pair of bytes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Frame, Head, Headers};
use super::headers::{Deflater, Inflater};
use crate::idle::Idle;
use crate::session::{CHUNK_BYTES, CHUNKS, StreamError};

/// Streams of one connection at once: two for each of two thousand forwarded connections.
const MAX_STREAMS: usize = 4096;
/// Commands and accepted streams that wait.
const QUEUE: usize = 64;
/// How long the peer may take to close its side once this one has.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
/// `RST_STREAM` codes of the draft.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;
const CANCEL: u32 = 5;

/// Which side opens odd streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens odd ones.
    Client,
    /// Opens even ones.
    Server,
}

/// One stream. Dropping the writer ends what this side sends; dropping the reader throws away what comes.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What the opener said of it.
    pub headers: Headers,
    /// What comes; ends with the peer's end, a reset or the connection.
    pub reader: mpsc::Receiver<Bytes>,
    /// What goes.
    pub writer: mpsc::Sender<Bytes>,
}

enum Command {
    Open { headers: Headers, answer: oneshot::Sender<Stream> },
    Accept { id: u32, outgoing: mpsc::Receiver<Bytes>, reset: CancellationToken, silent: bool },
    Reset { id: u32, status: u32 },
    Pong { id: u32 },
    Close,
}

/// Opens and resets streams. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    commands: mpsc::Sender<Command>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Opens a stream and waits until the peer has accepted it; data sent before would be lost on Go's side.
    ///
    /// # Errors
    /// When the connection has ended or the peer refuses.
    pub async fn open(&self, headers: Headers) -> Result<Stream, StreamError> {
        let (answer, answered) = oneshot::channel();
        let refused = || StreamError::Protocol("the peer did not accept a stream".to_owned());
        self.commands.send(Command::Open { headers, answer }).await.map_err(|_| refused())?;
        answered.await.map_err(|_| refused())
    }

    /// Ends a stream abnormally, both ways.
    pub async fn reset(&self, id: u32) {
        let _ = self.commands.send(Command::Reset { id, status: CANCEL }).await;
    }

    /// Ends the connection once everything queued on its streams is sent; writers that are still held put that off.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Close).await;
    }
}

struct Entry {
    /// Where data goes; `None` once the peer has ended.
    inbox: Option<mpsc::Sender<Bytes>>,
    /// Ends what this side sends.
    reset: CancellationToken,
    /// This side has ended.
    ended: bool,
    /// Waits for the peer to accept.
    opening: Option<(oneshot::Sender<Stream>, Stream)>,
    /// What goes, until it may go.
    outgoing: Option<mpsc::Receiver<Bytes>>,
}

type Entries = Arc<Mutex<HashMap<u32, Entry>>>;

/// A connection that has not begun to move: [`Driver::run`] moves it.
#[derive(Debug)]
pub struct Connection<IO> {
    /// Opens streams.
    pub control: Control,
    /// Streams the peer opens, accepted already.
    pub incoming: mpsc::Receiver<Stream>,
    /// Must be polled for anything to move.
    pub driver: Driver<IO>,
}

/// Moves a connection.
pub struct Driver<IO> {
    io: IO,
    role: Role,
    control: Control,
    commands: mpsc::Receiver<Command>,
    incoming: mpsc::Sender<Stream>,
    idle: Idle,
}

impl<IO> std::fmt::Debug for Driver<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("role", &self.role).finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Connection<IO> {
    /// Over `io`, whose upgrade is done.
    pub fn new(io: IO, role: Role, idle: Idle) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (incoming, accepted) = mpsc::channel(QUEUE);
        let control = Control { commands };
        let driver = Driver { io, role, control: control.clone(), commands: queue, incoming, idle };
        Self { control, incoming: accepted, driver }
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Driver<IO> {
    /// Runs until either side ends the connection; all its streams end with it.
    ///
    /// # Errors
    /// When the connection breaks or the peer breaks the protocol.
    pub async fn run(self) -> Result<(), StreamError> {
        let Self { io, role, control, commands, incoming, idle } = self;
        let entries = Entries::default();
        let (reader, writer) = tokio::io::split(io);
        let reading = Reader {
            reader,
            role,
            last: 0,
            entries: Arc::clone(&entries),
            commands: control.commands,
            incoming,
            inflater: Inflater::default(),
            idle: idle.clone(),
        };
        let writing = Writer {
            writer,
            next: if role == Role::Client { 1 } else { 2 },
            entries: Arc::clone(&entries),
            deflater: Deflater::default(),
            outgoing: SelectAll::new(),
            idle,
        };
        let reading = reading.run();
        tokio::pin!(reading);
        let ended = tokio::select! {
            ended = &mut reading => ended,
            ended = writing.run(commands) => match ended {
                // A connection that is closed with bytes unread is reset, and the peer loses what it had not read yet.
                Ok(()) => tokio::time::timeout(LINGER_LIMIT, &mut reading).await.unwrap_or(Ok(())),
                failed => failed,
            },
        };
        entries.lock().clear();
        match ended {
            // The peer went while something was still to be said.
            Err(StreamError::Io(error))
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            ended => ended,
        }
    }
}

struct Reader<IO> {
    reader: ReadHalf<IO>,
    role: Role,
    /// The newest stream the peer opened.
    last: u32,
    entries: Entries,
    commands: mpsc::Sender<Command>,
    incoming: mpsc::Sender<Stream>,
    inflater: Inflater,
    idle: Idle,
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Reader<IO> {
    async fn run(mut self) -> Result<(), StreamError> {
        let mut head = [0; 8];
        loop {
            match self.reader.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            match Head::parse(head).map_err(|error| StreamError::Protocol(error.to_string()))? {
                Head::Data { id, fin, length } => self.data(id, fin, length).await?,
                Head::Control { kind, flags, length } => {
                    let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
                    self.reader.read_exact(&mut content).await?;
                    let frame = Frame::parse(kind, flags, &content, &mut self.inflater)
                        .map_err(|error| StreamError::Protocol(error.to_string()))?;
                    self.control(frame).await;
                }
            }
        }
    }

    /// Passes a stream's bytes on as they come; waits while its queue is full.
    async fn data(&mut self, id: u32, fin: bool, length: u32) -> Result<(), StreamError> {
        let inbox = self.entries.lock().get(&id).and_then(|entry| entry.inbox.clone());
        let mut left = u64::from(length);
        if left > 0 {
            self.idle.touch();
        }
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let mut chunk = BytesMut::with_capacity(room);
            let read = (&mut self.reader).take(room as u64).read_buf(&mut chunk).await?;
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            left -= read as u64;
            if let Some(inbox) = &inbox {
                // Nobody reads any more: it is thrown away.
                let _ = inbox.send(chunk.freeze()).await;
            }
        }
        if fin {
            self.peer_ended(id);
        }
        Ok(())
    }

    fn peer_ended(&self, id: u32) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&id) {
            entry.inbox = None;
            if entry.ended {
                entries.remove(&id);
            }
        }
    }

    async fn control(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { id, fin, unidirectional, headers } => {
                self.opened(id, fin, unidirectional, headers).await;
            }
            Frame::SynReply { id, fin, .. } => {
                self.accepted(id).await;
                if fin {
                    self.peer_ended(id);
                }
            }
            Frame::RstStream { id, .. } => {
                if let Some(entry) = self.entries.lock().remove(&id) {
                    entry.reset.cancel();
                }
            }
            Frame::Ping { id } => {
                let own = (id % 2 == 1) == (self.role == Role::Client);
                if !own {
                    self.command(Command::Pong { id }).await;
                }
            }
            Frame::Headers { id, fin: true, .. } => self.peer_ended(id),
            // Going away: the peer closes the connection when it has said everything.
            Frame::GoAway { .. } | Frame::Headers { .. } | Frame::Other { .. } => {}
        }
    }

    async fn command(&mut self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    async fn opened(&mut self, id: u32, fin: bool, unidirectional: bool, headers: Headers) {
        let theirs = (id % 2 == 1) == (self.role == Role::Server);
        if !theirs || id <= self.last {
            return self.command(Command::Reset { id, status: PROTOCOL_ERROR }).await;
        }
        self.last = id;
        let (inbox, reader) = mpsc::channel(CHUNKS);
        let (writer, outgoing) = mpsc::channel(CHUNKS);
        let reset = CancellationToken::new();
        {
            let mut entries = self.entries.lock();
            if entries.len() < MAX_STREAMS {
                let entry = Entry {
                    inbox: (!fin).then_some(inbox),
                    reset: reset.clone(),
                    ended: unidirectional,
                    opening: None,
                    outgoing: None,
                };
                entries.insert(id, entry);
            } else {
                drop(inbox);
            }
        }
        if !self.entries.lock().contains_key(&id) {
            return self.command(Command::Reset { id, status: REFUSED_STREAM }).await;
        }
        self.command(Command::Accept { id, outgoing, reset, silent: unidirectional }).await;
        if self.incoming.send(Stream { id, headers, reader, writer }).await.is_err() {
            self.command(Command::Reset { id, status: REFUSED_STREAM }).await;
        }
    }

    /// The peer has accepted a stream of ours: what is sent on it may go.
    async fn accepted(&mut self, id: u32) {
        let accepted = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&id) else { return };
            let (Some(opening), Some(outgoing)) = (entry.opening.take(), entry.outgoing.take()) else {
                return;
            };
            Some((opening, outgoing, entry.reset.clone()))
        };
        if let Some(((answer, stream), outgoing, reset)) = accepted {
            self.command(Command::Accept { id, outgoing, reset, silent: true }).await;
            let _ = answer.send(stream);
        }
    }
}

enum Out {
    Data(u32, Bytes),
    End(u32),
}

struct Writer<IO> {
    writer: WriteHalf<IO>,
    /// The next stream of ours.
    next: u32,
    entries: Entries,
    deflater: Deflater,
    outgoing: SelectAll<BoxStream<'static, Out>>,
    idle: Idle,
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Writer<IO> {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), StreamError> {
        let mut closing = false;
        while !closing || !self.outgoing.is_empty() {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Close) | None => closing = true,
                    Some(command) => self.command(command).await?,
                },
                out = self.outgoing.next(), if !self.outgoing.is_empty() => match out {
                    Some(Out::Data(id, bytes)) => self.data(id, &bytes).await?,
                    Some(Out::End(id)) => self.end(id).await?,
                    // The last stream has ended.
                    None => {}
                },
            }
        }
        let last = 0;
        self.frame(&Frame::GoAway { last }).await?;
        self.writer.shutdown().await?;
        Ok(())
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), StreamError> {
        let bytes =
            frame.render(&mut self.deflater).map_err(|error| StreamError::Protocol(error.to_string()))?;
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await?;
        Ok(())
    }

    async fn data(&mut self, id: u32, bytes: &Bytes) -> Result<(), StreamError> {
        self.idle.touch();
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.write(&frame::data(id, false, chunk)).await?;
        }
        Ok(())
    }

    /// This side has said everything on a stream, unless the stream is gone.
    async fn end(&mut self, id: u32) -> Result<(), StreamError> {
        {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&id) else { return Ok(()) };
            if std::mem::replace(&mut entry.ended, true) {
                return Ok(());
            }
            if entry.inbox.is_none() {
                entries.remove(&id);
            }
        }
        self.write(&frame::data(id, true, &[])).await
    }

    async fn command(&mut self, command: Command) -> Result<(), StreamError> {
        match command {
            Command::Open { headers, answer } => self.open(headers, answer).await,
            Command::Accept { id, outgoing, reset, silent } => {
                if !silent {
                    self.frame(&Frame::SynReply { id, fin: false, headers: Headers::default() }).await?;
                }
                let sent = ReceiverStream::new(outgoing)
                    .take_until(reset.cancelled_owned())
                    .map(move |bytes| Out::Data(id, bytes))
                    .chain(futures::stream::once(async move { Out::End(id) }));
                self.outgoing.push(sent.boxed());
                Ok(())
            }
            Command::Reset { id, status } => {
                if let Some(entry) = self.entries.lock().remove(&id) {
                    entry.reset.cancel();
                }
                self.frame(&Frame::RstStream { id, status }).await
            }
            Command::Pong { id } => self.frame(&Frame::Ping { id }).await,
            Command::Close => Ok(()),
        }
    }

    async fn open(&mut self, headers: Headers, answer: oneshot::Sender<Stream>) -> Result<(), StreamError> {
        let id = self.next;
        let (inbox, reader) = mpsc::channel(CHUNKS);
        let (writer, outgoing) = mpsc::channel(CHUNKS);
        {
            let mut entries = self.entries.lock();
            if entries.len() >= MAX_STREAMS {
                return Ok(());
            }
            let stream = Stream { id, headers: headers.clone(), reader, writer };
            let entry = Entry {
                inbox: Some(inbox),
                reset: CancellationToken::new(),
                ended: false,
                opening: Some((answer, stream)),
                outgoing: Some(outgoing),
            };
            entries.insert(id, entry);
        }
        self.next += 2;
        self.frame(&Frame::SynStream { id, fin: false, unidirectional: false, headers }).await
    }
}
