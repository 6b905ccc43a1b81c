//! The handle: appends go to the writer thread, reads come from the files.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::directory::{self, ACKNOWLEDGED};
use crate::error::LogError;
use crate::format::{self, MAX_RECORD_BYTES, RECORD_HEADER};
use crate::recovery::{self, Segment};
use crate::writer::{Command, Writer};

/// A record's number. The first one of a log is 1; they have no gaps and are never used again.
pub type Sequence = u64;

/// Commands that may wait for the writer; senders wait beyond that.
const QUEUE: usize = 1024;

/// How a log behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What all segments may take on disk.
    pub max_bytes: u64,
    /// When a new segment is begun. Space is given back a segment at a time; kept to at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// Whether appends wait for the disk. Without it a power cut may lose them (a killed process still loses nothing).
    pub fsync: bool,
}

impl Default for Options {
    /// 1 GiB in segments of 16 MiB, synced.
    fn default() -> Self {
        Self { max_bytes: 1 << 30, segment_bytes: 16 << 20, fsync: true }
    }
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub sequence: Sequence,
    /// What was appended.
    pub payload: Bytes,
}

/// How full a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What the segments take on disk.
    pub used_bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// Records not acknowledged.
    pub records: u64,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last one is being appended to. Never empty.
    segments: Vec<Segment>,
    acknowledged: Sequence,
}

/// What the handle and the writer share. Holds durable facts only.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    state: Mutex<State>,
    next: watch::Sender<Sequence>,
    _lock: directory::Lock,
}

/// A log. Clones share it; it is closed, and its lock freed, when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    /// Waits for the writer, at most one group long: whoever drops a log may open it again at once.
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Log {
    /// Opens the log in `dir`, creating both. Reads and checks every segment.
    ///
    /// # Errors
    /// [`LogError::InUse`], [`LogError::Damaged`], [`LogError::NoSpace`], [`LogError::Io`].
    pub async fn open(dir: impl Into<PathBuf>, options: Options) -> Result<Self, LogError> {
        let dir = dir.into();
        let failed =
            LogError::Failed { path: dir.clone(), reason: "the runtime is shutting down".to_owned() };
        tokio::task::spawn_blocking(move || Self::open_blocking(&dir, options)).await.map_err(|_| failed)?
    }

    fn open_blocking(dir: &Path, mut options: Options) -> Result<Self, LogError> {
        options.segment_bytes = options.segment_bytes.min(options.max_bytes / 4);
        fs::create_dir_all(dir).map_err(|e| LogError::io("create", dir, e))?;
        let lock = directory::lock(dir)?;
        let mut found = recovery::recover(dir)?;
        if found.segments.is_empty() {
            let path = dir.join(ACKNOWLEDGED);
            let slot = format::acknowledgement(found.acknowledged);
            directory::replace(&path, &[slot, slot].concat(), options.fsync)?;
            let segment = Segment::new(dir, found.acknowledged + 1);
            directory::replace(&segment.path, &format::segment_header(segment.first), options.fsync)?;
            found.segments.push(segment);
        }
        let active = found.segments.last().expect("one was just made sure of").clone();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options,
            next: watch::Sender::new(active.next),
            state: Mutex::new(State { segments: found.segments, acknowledged: found.acknowledged }),
            _lock: lock,
        });
        shared.drop_acknowledged()?;
        let writer = Writer::new(shared.clone(), active, found.slot)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("durable-log".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|e| LogError::io("start the writer of", dir, e))?;
        Ok(Self { inner: Arc::new(Inner { shared, commands: Some(sender), thread: Some(thread) }) })
    }

    /// Appends a record; answers its number when it is durable. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// [`LogError::Full`], [`LogError::NoSpace`], [`LogError::TooLarge`]: not appended. [`LogError::Failed`] and
    /// [`LogError::Io`]: unknown until the log is opened again.
    pub async fn append(&self, payload: &[u8]) -> Result<Sequence, LogError> {
        let appended = self.append_batch(vec![Bytes::copy_from_slice(payload)]).await?;
        Ok(*appended.end())
    }

    /// Appends records with neighbouring numbers, and waits once. All are accepted or none; but after a crash before the
    /// answer, any number of the first of them may be there.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_batch(&self, payloads: Vec<Bytes>) -> Result<RangeInclusive<Sequence>, LogError> {
        if let Some(large) = payloads.iter().find(|payload| payload.len() > MAX_RECORD_BYTES) {
            return Err(LogError::TooLarge { bytes: large.len(), max: MAX_RECORD_BYTES });
        }
        let count = payloads.len() as u64;
        if count == 0 {
            let next = self.next_sequence();
            return Ok(next..=next - 1);
        }
        let last = self.command(|reply| Command::Append { payloads, reply }).await?;
        Ok(last + 1 - count..=last)
    }

    /// Says that no record through this one is needed any more; durable when it answers. Idempotent.
    ///
    /// # Errors
    /// [`LogError::NotAppended`]; [`LogError::NoSpace`] and [`LogError::Io`] may be retried.
    pub async fn acknowledge(&self, through: Sequence) -> Result<(), LogError> {
        self.command(|reply| Command::Acknowledge { through, reply }).await
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Command,
    ) -> Result<T, LogError> {
        let stopped = || LogError::Failed {
            path: self.inner.shared.dir.clone(),
            reason: "its writer stopped".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        let commands = self.inner.commands.as_ref().ok_or_else(stopped)?;
        commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The number of the oldest record not acknowledged; [`next_sequence`](Self::next_sequence) when there is none.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.inner.shared.state.lock().acknowledged + 1
    }

    /// The number that the next record will have.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        *self.inner.shared.next.borrow()
    }

    /// Follows [`next_sequence`](Self::next_sequence): wakes when records have become durable.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<Sequence> {
        self.inner.shared.next.subscribe()
    }

    /// How full the log is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.shared.usage()
    }

    /// Durable records from `sequence` on (or from the oldest not acknowledged, whichever is later), in order: at most
    /// `max_records`, and no more than `max_bytes` of payload, but always one if there is one. Empty: nothing there yet.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Io`].
    pub async fn read_from(
        &self,
        sequence: Sequence,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, LogError> {
        let shared = self.inner.shared.clone();
        let failed =
            LogError::Failed { path: shared.dir.clone(), reason: "the runtime is shutting down".to_owned() };
        tokio::task::spawn_blocking(move || shared.read(sequence, max_records, max_bytes))
            .await
            .map_err(|_| failed)?
    }
}

impl Shared {
    /// The newest durable sequence.
    pub(crate) fn durable(&self) -> Sequence {
        *self.next.borrow() - 1
    }

    pub(crate) fn active(&self) -> Segment {
        self.state.lock().segments.last().expect("there is always one").clone()
    }

    /// Takes over the newest segment as it now is on disk.
    pub(crate) fn publish(&self, active: Segment) {
        let next = active.next;
        if let Some(last) = self.state.lock().segments.last_mut() {
            *last = active;
        }
        self.next.send_replace(next);
    }

    pub(crate) fn push_segment(&self, segment: Segment) {
        self.state.lock().segments.push(segment);
    }

    pub(crate) fn older_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.segments.iter().rev().skip(1).map(|segment| segment.bytes).sum()
    }

    pub(crate) fn all_acknowledged(&self) -> bool {
        self.state.lock().acknowledged + 1 == *self.next.borrow()
    }

    /// Whether the acknowledgement says anything new.
    pub(crate) fn check_acknowledgement(&self, through: Sequence) -> Result<bool, LogError> {
        let newest = self.durable();
        if through > newest {
            return Err(LogError::NotAppended { through, newest });
        }
        Ok(through > self.state.lock().acknowledged)
    }

    pub(crate) fn set_acknowledged(&self, through: Sequence) {
        self.state.lock().acknowledged = through;
    }

    /// Deletes the segments that hold nothing unacknowledged, oldest first, so that what is left has no gap.
    pub(crate) fn drop_acknowledged(&self) -> Result<(), LogError> {
        loop {
            let path = {
                let state = self.state.lock();
                match state.segments.first() {
                    Some(oldest) if state.segments.len() > 1 && oldest.next <= state.acknowledged + 1 => {
                        oldest.path.clone()
                    }
                    _ => return Ok(()),
                }
            };
            fs::remove_file(&path).map_err(|e| LogError::io("remove", &path, e))?;
            self.state.lock().segments.remove(0);
        }
    }

    fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            used_bytes: state.segments.iter().map(|segment| segment.bytes).sum(),
            max_bytes: self.options.max_bytes,
            records: *self.next.borrow() - 1 - state.acknowledged,
        }
    }

    pub(crate) fn full(&self) -> LogError {
        let Usage { used_bytes, max_bytes, records } = self.usage();
        LogError::Full { path: self.dir.clone(), used_bytes, max_bytes, records }
    }

    fn read(&self, from: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let mut reading = Reading { next: from, records: Vec::new(), max_records, bytes_left: max_bytes };
        loop {
            let Some(segment) = self.segment_of(&mut reading.next) else { return Ok(reading.records) };
            match reading.take_from(&segment) {
                Ok(true) => {}
                Ok(false) => return Ok(reading.records),
                // It was acknowledged and deleted while we were at it: go on with what is now the oldest, or, when
                // something has been read already, answer that, for an answer has no gaps.
                Err(error) if self.is_acknowledged(&segment) => {
                    tracing::debug!(%error, "a segment was acknowledged while it was read");
                    if !reading.records.is_empty() {
                        return Ok(reading.records);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_acknowledged(&self, segment: &Segment) -> bool {
        segment.next <= self.state.lock().acknowledged + 1
    }

    /// The segment of the record `next`, which is moved on to the oldest one not acknowledged.
    fn segment_of(&self, next: &mut Sequence) -> Option<Segment> {
        let state = self.state.lock();
        *next = (*next).max(state.acknowledged + 1);
        state.segments.iter().find(|segment| (segment.first..segment.next).contains(next)).cloned()
    }
}

struct Reading {
    next: Sequence,
    records: Vec<Record>,
    max_records: usize,
    bytes_left: usize,
}

impl Reading {
    /// Reads on in one segment; false: enough.
    fn take_from(&mut self, segment: &Segment) -> Result<bool, LogError> {
        let path = &segment.path;
        let mut file = File::open(path).map_err(|e| LogError::io("open", path, e))?;
        let mut offset = segment.offset_before(self.next);
        file.seek(SeekFrom::Start(offset)).map_err(|e| LogError::io("seek in", path, e))?;
        let mut file = std::io::BufReader::with_capacity(64 << 10, file.take(segment.bytes - offset));
        let mut sequence = None;
        while offset < segment.bytes {
            let record = read_record(&mut file, path, offset)?;
            offset = record.1;
            let record = record.0;
            if sequence.is_some_and(|before| record.sequence != before + 1) {
                return Err(damaged(path, offset, "the record has another one's sequence"));
            }
            sequence = Some(record.sequence);
            if record.sequence < self.next {
                continue;
            }
            let size = record.payload.len();
            if self.records.len() >= self.max_records || (size > self.bytes_left && !self.records.is_empty())
            {
                return Ok(false);
            }
            self.bytes_left = self.bytes_left.saturating_sub(size);
            self.next = record.sequence + 1;
            self.records.push(record);
        }
        Ok(self.records.len() < self.max_records)
    }
}

fn damaged(path: &Path, offset: u64, reason: &str) -> LogError {
    LogError::Damaged { path: path.to_owned(), offset, reason: reason.to_owned() }
}

fn read_record(file: &mut impl Read, path: &Path, offset: u64) -> Result<(Record, u64), LogError> {
    let short = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(path, offset, "the record is cut short"),
        _ => LogError::io("read", path, e),
    };
    let mut bytes = vec![0; RECORD_HEADER];
    file.read_exact(&mut bytes).map_err(short)?;
    let length = format::read_u32(&bytes, 4) as usize;
    if length > MAX_RECORD_BYTES {
        return Err(damaged(path, offset, "the record's length is impossible"));
    }
    bytes.resize(RECORD_HEADER + length, 0);
    file.read_exact(&mut bytes[RECORD_HEADER..]).map_err(short)?;
    let bytes = Bytes::from(bytes);
    let record = format::decode_record(&bytes, 0).map_err(|reason| damaged(path, offset, reason))?;
    Ok((Record { sequence: record.sequence, payload: record.payload }, offset + record.end as u64))
}
