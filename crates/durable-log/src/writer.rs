//! The writer thread: drains the queue, writes one group, syncs once, then answers.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::directory::{self, ACKNOWLEDGED};
use crate::error::LogError;
use crate::format::{self, RECORD_HEADER};
use crate::log::Shared;
use crate::recovery::Segment;

/// At most this many commands share one fsync.
const GROUP_COMMANDS: usize = 1024;
/// A group is closed when it holds this many bytes: about what a disk writes in the time of an fsync.
const GROUP_BYTES: usize = 4 << 20;

pub(crate) enum Command {
    Append { payloads: Vec<Bytes>, reply: oneshot::Sender<Result<u64, LogError>> },
    Acknowledge { through: u64, reply: oneshot::Sender<Result<(), LogError>> },
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { payloads, .. } => payloads.iter().map(Bytes::len).sum(),
            Self::Acknowledge { .. } => 0,
        }
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    file: File,
    /// The active segment as it will be when the group is synced.
    active: Segment,
    buffer: Vec<u8>,
    acknowledged: File,
    /// The slot of the newest acknowledgement.
    slot: usize,
    waiting: Vec<(oneshot::Sender<Result<u64, LogError>>, u64)>,
    failed: Option<LogError>,
}

impl Writer {
    /// Takes over the newest segment.
    pub(crate) fn new(shared: Arc<Shared>, active: Segment, slot: usize) -> Result<Self, LogError> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(&active.path)
            .map_err(|e| LogError::io("open", &active.path, e))?;
        file.seek(SeekFrom::Start(active.bytes)).map_err(|e| LogError::io("seek in", &active.path, e))?;
        let path = shared.dir.join(ACKNOWLEDGED);
        let acknowledged =
            OpenOptions::new().write(true).open(&path).map_err(|e| LogError::io("open", &path, e))?;
        let (buffer, waiting) = (Vec::new(), Vec::new());
        Ok(Self { shared, file, active, buffer, acknowledged, slot, waiting, failed: None })
    }

    /// Runs until every handle of the log is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            let (mut count, mut bytes) = (1, command.bytes());
            self.take(command);
            while count < GROUP_COMMANDS && bytes < GROUP_BYTES {
                let Ok(command) = commands.try_recv() else { break };
                bytes += command.bytes();
                count += 1;
                self.take(command);
            }
            self.finish_group();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append { payloads, reply } => match self.stage(&payloads) {
                Ok(last) => self.waiting.push((reply, last)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Acknowledge { through, reply } => {
                self.finish_group();
                drop(reply.send(self.acknowledge(through)));
            }
        }
    }

    /// Puts records into the group's buffer; all of them or none.
    fn stage(&mut self, payloads: &[Bytes]) -> Result<u64, LogError> {
        self.check_failed()?;
        let length: u64 = payloads.iter().map(|payload| (RECORD_HEADER + payload.len()) as u64).sum();
        self.make_room(length)?;
        let durable = self.shared.durable();
        for payload in payloads {
            format::encode_record(self.active.next, durable, payload, &mut self.buffer);
            self.active.grow((RECORD_HEADER + payload.len()) as u64);
        }
        Ok(self.active.next - 1)
    }

    fn make_room(&mut self, length: u64) -> Result<(), LogError> {
        let options = self.shared.options;
        let header = format::SEGMENT_HEADER as u64;
        if self.active.bytes > header && self.active.bytes + length > options.segment_bytes {
            self.finish_group();
            self.check_failed()?;
            self.rotate()?;
        }
        let used = self.shared.older_bytes() + self.active.bytes;
        if used + length <= options.max_bytes {
            return Ok(());
        }
        self.finish_group();
        self.check_failed()?;
        if self.shared.all_acknowledged() && self.active.bytes > header {
            self.rotate()?;
            self.shared.drop_acknowledged()?;
        }
        if self.shared.older_bytes() + self.active.bytes + length <= options.max_bytes {
            return Ok(());
        }
        Err(self.shared.full())
    }

    /// Writes and syncs the group, then tells those who wait for it.
    fn finish_group(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let written = self.check_failed().and_then(|()| self.write_group());
        self.buffer.clear();
        for (reply, last) in self.waiting.drain(..) {
            drop(reply.send(written.clone().map(|()| last)));
        }
    }

    fn write_group(&mut self) -> Result<(), LogError> {
        let path = self.active.path.clone();
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.take_back();
            return Err(LogError::io("write", &path, error));
        }
        if self.shared.options.fsync
            && let Err(error) = self.file.sync_data()
        {
            // The kernel may have dropped the pages it could not write: nothing more can be known of this file.
            let error = LogError::io("sync", &path, error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.shared.publish(self.active.clone());
        Ok(())
    }

    /// Cuts off what a failed write may have left, so that the next group begins where this one did.
    fn take_back(&mut self) {
        self.active = self.shared.active();
        let cut = self.file.set_len(self.active.bytes);
        if let Err(error) = cut.and_then(|()| self.file.seek(SeekFrom::Start(self.active.bytes)).map(drop)) {
            self.failed = Some(LogError::io("truncate", &self.active.path, error));
        }
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        let next = Segment::new(&self.shared.dir, self.active.next);
        // As a whole, so that a segment file always has its header.
        directory::replace(&next.path, &format::segment_header(next.first), self.shared.options.fsync)?;
        let mut file = OpenOptions::new()
            .write(true)
            .open(&next.path)
            .map_err(|e| LogError::io("open", &next.path, e))?;
        file.seek(SeekFrom::End(0)).map_err(|e| LogError::io("seek in", &next.path, e))?;
        self.shared.push_segment(next.clone());
        (self.file, self.active) = (file, next);
        Ok(())
    }

    fn acknowledge(&mut self, through: u64) -> Result<(), LogError> {
        self.check_failed()?;
        if !self.shared.check_acknowledgement(through)? {
            return Ok(());
        }
        self.store_acknowledgement(through)?;
        self.shared.set_acknowledged(through);
        self.shared.drop_acknowledged()?;
        // A mostly used-up segment without anything to deliver is given back at once. If there is no room for its
        // successor, the next append or acknowledgement tries again: this acknowledgement is done.
        if self.shared.all_acknowledged() && self.active.bytes > self.shared.options.segment_bytes / 2 {
            match self.rotate() {
                Ok(()) => self.shared.drop_acknowledged()?,
                Err(error) => tracing::debug!(%error, "a used-up segment is kept for now"),
            }
        }
        Ok(())
    }

    fn store_acknowledgement(&mut self, through: u64) -> Result<(), LogError> {
        let path = self.shared.dir.join(ACKNOWLEDGED);
        let slot = 1 - self.slot;
        self.acknowledged
            .write_all_at(&format::acknowledgement(through), (slot * format::SLOT) as u64)
            .map_err(|e| LogError::io("write", &path, e))?;
        if self.shared.options.fsync
            && let Err(error) = self.acknowledged.sync_data()
        {
            let error = LogError::io("sync", &path, error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.slot = slot;
        Ok(())
    }

    fn check_failed(&self) -> Result<(), LogError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(LogError::Failed { path: self.shared.dir.clone(), reason: error.to_string() }),
        }
    }
}
