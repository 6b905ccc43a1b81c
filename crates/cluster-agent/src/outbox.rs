//! What the agent has to tell, on disk until the hub has made it durable.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_protocol::{OutboxBatch, Record, RecordBody};
use durable_log::{Log, LogError};
use jiff::Timestamp;
use sealing::Key;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::credentials::write;
use crate::error::Error;

/// Records sent at once.
const BATCH_RECORDS: usize = 500;
/// Bytes sent at once.
const BATCH_BYTES: usize = 1 << 20;
/// The digits of the largest count, and a line's end.
const DROPPED_BYTES: usize = 21;

/// The outbox. Clones share it.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    /// Seals records: they may hold what tests printed.
    key: Arc<Key>,
    epoch: Uuid,
    dropped: AtomicU64,
    dropped_told: AtomicU64,
    /// How many were dropped, kept over restarts. Written in place: a full disk refuses a file that is made anew.
    dropped_file: std::fs::File,
    /// Why the last append was refused for want of room; nothing once there is room again.
    problem: watch::Sender<Option<String>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    time: Timestamp,
    #[serde(flatten)]
    body: RecordBody,
}

impl Outbox {
    /// Opens or makes the outbox in `dir`. A new log gets a new epoch: its sequence numbers mean something else.
    /// `key` seals what is appended.
    ///
    /// # Errors
    /// As the log's.
    pub async fn open(dir: &Path, options: durable_log::Options, key: Arc<Key>) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let log = Log::open(dir.join("log"), options).await?;
        let epoch_path = dir.join("epoch");
        let known =
            std::fs::read_to_string(&epoch_path).ok().and_then(|text| text.trim().parse::<Uuid>().ok());
        let epoch = match known {
            Some(epoch) if log.next_sequence() > 1 => epoch,
            _ if log.next_sequence() == 1 => {
                let epoch = Uuid::new_v4();
                write(&epoch_path, epoch.to_string().as_bytes(), 0o600)?;
                epoch
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "`{}` is missing or unreadable but the outbox holds records; move `{}` away to start an empty one",
                    epoch_path.display(),
                    dir.display()
                )));
            }
        };
        let (dropped_file, dropped) = open_dropped(&dir.join("dropped"))?;
        let shared = Shared {
            log,
            key,
            epoch,
            dropped: AtomicU64::new(dropped),
            // Said once more after a restart: the count is of the outbox's life, so saying it twice changes nothing.
            dropped_told: AtomicU64::new(0),
            dropped_file,
            problem: watch::Sender::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends a record; durable when this answers.
    ///
    /// # Errors
    /// When there is no room ([`is_full`]) or the disk fails. The record was not kept; who cannot say it again later
    /// calls [`Outbox::note_dropped`].
    pub async fn append(&self, body: RecordBody) -> Result<u64, LogError> {
        let total = self.shared.dropped.load(Ordering::Relaxed);
        if total > self.shared.dropped_told.load(Ordering::Relaxed) {
            // There is room again, or this fails like the record itself would.
            self.append_now(RecordBody::Dropped { count: total }).await?;
            self.shared.dropped_told.fetch_max(total, Ordering::Relaxed);
        }
        self.append_now(body).await
    }

    async fn append_now(&self, body: RecordBody) -> Result<u64, LogError> {
        let entry = Entry { time: Timestamp::now(), body };
        let bytes = serde_json::to_vec(&entry).expect("records are JSON: they come from types made for it");
        let sealed = self.shared.key.seal(&self.place(), &bytes).map_err(|error| LogError::Io {
            operation: "seal a record of",
            path: "the outbox".into(),
            source: Arc::new(std::io::Error::other(error)),
        })?;
        let appended = self.shared.log.append(&sealed).await;
        self.note_room(appended.as_ref().err().filter(|error| is_full(error)));
        appended
    }

    /// What records are sealed for: this life of the outbox.
    fn place(&self) -> Vec<u8> {
        format!("outbox/{}", self.shared.epoch).into_bytes()
    }

    fn entry(&self, payload: &[u8]) -> Result<Entry, String> {
        // Records of earlier releases were not sealed.
        let opened = match sealing::is_sealed(payload) {
            true => self.shared.key.unseal(&self.place(), payload).map_err(|error| error.to_string())?,
            false => payload.to_vec(),
        };
        serde_json::from_slice(&opened).map_err(|error| error.to_string())
    }

    /// Keeps why there is no room, and says it once each time it begins and ends.
    fn note_room(&self, refused: Option<&LogError>) {
        let problem = refused.map(ToString::to_string);
        self.shared.problem.send_if_modified(|known| {
            if known.is_some() == problem.is_some() {
                return false;
            }
            match &problem {
                Some(problem) => tracing::error!(%problem, "the outbox takes no more records"),
                None => tracing::info!(dropped = self.dropped(), "the outbox takes records again"),
            }
            *known = problem;
            true
        });
    }

    /// Why the outbox takes no records, while it does not; wakes when that begins and ends.
    #[must_use]
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.shared.problem.subscribe()
    }

    /// Appends a record that cannot be said again; when there is no room it is counted instead.
    pub async fn append_or_count(&self, body: RecordBody) {
        if let Err(error) = self.append(body).await {
            self.note_dropped();
            tracing::warn!(%error, "a record was dropped; the count of dropped records is reported");
        }
    }

    /// Counts a record that had to be dropped.
    pub fn note_dropped(&self) {
        let total = self.shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(error) = self.shared.dropped_file.write_all_at(&dropped_text(total), 0) {
            tracing::warn!(%error, "the count of dropped records is kept in memory only");
        }
    }

    /// Records dropped over the life of this outbox.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Records waiting.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.shared.log.usage().records
    }

    /// Wakes when something was appended.
    #[must_use]
    pub fn appended(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.log.appended()
    }

    /// The oldest records not acknowledged; `None` when there are none.
    ///
    /// # Errors
    /// As the log's.
    pub async fn batch(&self) -> Result<Option<OutboxBatch>, Error> {
        let stored = self.shared.log.read_from(self.shared.log.first(), BATCH_RECORDS, BATCH_BYTES).await?;
        let mut records = Vec::with_capacity(stored.len());
        for one in stored {
            let entry = self.entry(&one.payload).map_err(|error| {
                Error::Invalid(format!("outbox record {} cannot be read: {error}", one.sequence))
            })?;
            records.push(Record {
                sequence: one.sequence,
                agent_epoch: self.shared.epoch,
                time: entry.time,
                body: entry.body,
            });
        }
        Ok((!records.is_empty()).then_some(OutboxBatch { agent_epoch: self.shared.epoch, records }))
    }

    /// The hub has made everything through this sequence durable.
    ///
    /// # Errors
    /// As the log's; may be tried again.
    pub async fn acknowledge(&self, through: u64) -> Result<(), Error> {
        // A hub that remembers more than this log has (it never should) must not stop the agent.
        let newest = self.shared.log.next_sequence() - 1;
        if through >= self.shared.log.first() && newest > 0 {
            self.shared.log.acknowledge(through.min(newest)).await?;
        }
        Ok(())
    }
}

/// As long as any count is.
fn dropped_text(count: u64) -> [u8; DROPPED_BYTES] {
    let mut text = [b'\n'; DROPPED_BYTES];
    let digits = format!("{count:020}");
    text[..digits.len()].copy_from_slice(digits.as_bytes());
    text
}

/// The file of the count, made whole while there is room, and what it says.
fn open_dropped(path: &Path) -> Result<(std::fs::File, u64), Error> {
    let failed = Error::file("open", path);
    let opened = (|| {
        let mut file =
            std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        // A count that cannot be read is one of nothing: it is for people, nothing is decided by it.
        let _ = std::io::Read::read_to_string(&mut file, &mut text);
        let count = text.trim().parse().unwrap_or(0);
        file.write_all_at(&dropped_text(count), 0)?;
        Ok((file, count))
    })();
    opened.map_err(failed)
}

/// Whether an error means that there is no room.
#[must_use]
pub fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Full { .. } | LogError::NoSpace { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Arc<Key> {
        Arc::new(Key::new(&[1; sealing::KEY_BYTES]))
    }

    fn options(max_bytes: u64) -> durable_log::Options {
        durable_log::Options { max_bytes, segment_bytes: 1 << 10, fsync: false }
    }

    #[tokio::test]
    async fn records_wait_for_their_acknowledgement_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), options(1 << 20), key()).await.unwrap();
        for count in 1..=3 {
            outbox.append(RecordBody::Dropped { count }).await.unwrap();
        }
        let first = outbox.batch().await.unwrap().unwrap();
        outbox.acknowledge(2).await.unwrap();
        drop(outbox);
        let outbox = Outbox::open(dir.path(), options(1 << 20), key()).await.unwrap();
        let batch = outbox.batch().await.unwrap().unwrap();
        assert_eq!(batch.agent_epoch, first.agent_epoch);
        assert_eq!(batch.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [3]);
        outbox.acknowledge(3).await.unwrap();
        assert!(outbox.batch().await.unwrap().is_none());
        drop(outbox);
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        let outbox = Outbox::open(dir.path(), options(1 << 20), key()).await.unwrap();
        outbox.append(RecordBody::Dropped { count: 1 }).await.unwrap();
        assert_ne!(
            outbox.batch().await.unwrap().unwrap().agent_epoch,
            first.agent_epoch,
            "a lost log is another outbox"
        );
    }

    #[tokio::test]
    async fn a_full_outbox_counts_what_it_drops_and_says_so_later() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), options(4 << 10), key()).await.unwrap();
        let mut kept = 0;
        while outbox.dropped() < 5 {
            outbox
                .append_or_count(RecordBody::Unknown { kind: "x".into(), data: "y".repeat(100).into() })
                .await;
            kept += 1;
            assert!(kept < 1000, "the outbox is bounded");
        }
        let error = outbox.append(RecordBody::Dropped { count: 0 }).await.unwrap_err();
        assert!(is_full(&error), "{error}");
        let problem = outbox.problem();
        assert!(problem.borrow().as_ref().is_some_and(|problem| problem.contains("is full")));
        while let Some(batch) = outbox.batch().await.unwrap() {
            outbox.acknowledge(batch.records.last().unwrap().sequence).await.unwrap();
        }
        outbox
            .append(RecordBody::Unknown { kind: "after".into(), data: serde_json::Value::Null })
            .await
            .unwrap();
        let batch = outbox.batch().await.unwrap().unwrap();
        assert_eq!(batch.records[0].body, RecordBody::Dropped { count: 5 });
        assert_eq!(batch.records[1].body.kind(), "after");
        assert!(problem.borrow().is_none());
        drop((outbox, problem));
        let outbox = Outbox::open(dir.path(), options(4 << 10), key()).await.unwrap();
        assert_eq!(outbox.dropped(), 5, "the count outlives a restart");
    }
}
