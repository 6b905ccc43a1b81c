//! What agents told, durably and once. A record and the fact that it was received are one write, so that a crash can neither
//! lose a record nor take it twice.
//!
//! * [`file`]: of a hub that is one process, in its own log.
//! * [`shared`]: of several processes, in the store that they share: an agent that comes back to another process goes on
//!   where it was.

mod file;
mod shared;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use agent_protocol::{OutboxAck, OutboxBatch, Record, RecordPage};
use fleet_objects::AgentIdentity;
use parking_lot::Mutex;
use storage::{Compare, Store};
use uuid::Uuid;

use crate::error::Error;
use crate::record_key::RecordKey;
use file::FileInbox;
use shared::SharedInbox;

/// Records read at once.
const PAGE_RECORDS: usize = 500;
/// Bytes read at once.
const PAGE_BYTES: usize = 2 << 20;

/// Places that are remembered as unreadable.
const MAX_UNREADABLE: usize = 10_000;
/// Of so many the log says why.
const UNREADABLE_SAID: usize = 10;

/// A record taken from the inbox.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its place in the inbox.
    pub position: u64,
    /// Whose it is, from the authenticated connection.
    pub from: AgentIdentity,
    /// The record.
    pub record: Record,
}

/// The inbox of all clusters. Clones share it.
#[derive(Clone, Debug)]
pub struct Inbox(Kind);

#[derive(Clone, Debug)]
enum Kind {
    File(FileInbox),
    Shared(SharedInbox),
}

impl Inbox {
    /// Opens the inbox of a hub that is one process and reads all of it once. `key` seals what is taken in.
    ///
    /// # Errors
    /// As the log's, and when records are sealed with another key. One that is not understood is said and passed over.
    pub async fn open(dir: PathBuf, options: durable_log::Options, key: RecordKey) -> Result<Self, Error> {
        FileInbox::open(dir, options, key).await.map(|inbox| Self(Kind::File(inbox)))
    }

    /// Opens the inbox that several processes share, of at most `max_bytes`. Follows the store until the last clone is
    /// dropped.
    ///
    /// # Errors
    /// As the store's.
    pub async fn open_shared(store: Arc<dyn Store>, max_bytes: u64, key: RecordKey) -> Result<Self, Error> {
        SharedInbox::open(store, max_bytes, key).await.map(|inbox| Self(Kind::Shared(inbox)))
    }

    /// Takes a batch: what is new is durable when this answers. `from` is the authenticated sender.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch out of order; another error when it could not be made durable: nothing beyond what an
    /// earlier answer said was acknowledged, send it again.
    pub async fn accept(&self, from: &AgentIdentity, batch: OutboxBatch) -> Result<OutboxAck, Error> {
        check_order(&batch)?;
        match &self.0 {
            Kind::File(inbox) => inbox.accept(from, batch).await,
            Kind::Shared(inbox) => inbox.accept(from, batch).await,
        }
    }

    /// The highest sequence received of an outbox, as far as this process knows; 0 when none.
    #[must_use]
    pub fn watermark(&self, uid: &str, epoch: Uuid) -> u64 {
        match &self.0 {
            Kind::File(inbox) => inbox.watermark(uid, epoch),
            Kind::Shared(inbox) => inbox.watermark(uid, epoch),
        }
    }

    /// Records of a cluster from a position on, at most 500.
    ///
    /// # Errors
    /// As the log's or the store's.
    pub async fn page(&self, uid: &str, from: u64) -> Result<RecordPage, Error> {
        match &self.0 {
            Kind::File(inbox) => inbox.page(uid, from).await,
            Kind::Shared(inbox) => inbox.page(uid, from).await,
        }
    }

    /// Records of all clusters from a position on, with the position to go on from. Waits for nothing.
    ///
    /// # Errors
    /// As the log's or the store's.
    pub async fn read(&self, from: u64) -> Result<(Vec<Received>, u64), Error> {
        match &self.0 {
            Kind::File(inbox) => inbox.read(from).await,
            Kind::Shared(inbox) => inbox.read(from).await,
        }
    }

    /// Wakes when something was appended.
    #[must_use]
    pub fn appended(&self) -> tokio::sync::watch::Receiver<u64> {
        match &self.0 {
            Kind::File(inbox) => inbox.appended(),
            Kind::Shared(inbox) => inbox.appended(),
        }
    }

    /// Gives space back when the inbox is more than three quarters full: the older half of what lies before `handled`.
    /// `fence`: the leader's, where several processes share it.
    ///
    /// # Errors
    /// As the log's or the store's.
    pub async fn trim(&self, handled: u64, fence: Option<&Compare>) -> Result<(), Error> {
        match &self.0 {
            Kind::File(inbox) => inbox.trim(handled).await,
            Kind::Shared(inbox) => inbox.trim(handled, fence).await,
        }
    }

    /// The oldest position kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        match &self.0 {
            Kind::File(inbox) => inbox.first(),
            Kind::Shared(_) => 0,
        }
    }
}

/// Where records are that this hub does not understand, since a newer one wrote them. They stay where they are until there
/// is no more room, and hold nothing up: agents report again how they are.
#[derive(Debug, Default)]
struct Unreadable(Mutex<BTreeSet<u64>>);

impl Unreadable {
    fn note(&self, place: u64, why: &dyn Display) {
        let count = {
            let mut places = self.0.lock();
            if places.len() >= MAX_UNREADABLE || !places.insert(place) {
                return;
            }
            places.len()
        };
        if count <= UNREADABLE_SAID {
            tracing::error!(place, %why, "a record of the inbox cannot be read and is passed over");
        }
    }

    /// Says how many there are when the inbox has been opened.
    fn summarise(&self) {
        let count = self.0.lock().len();
        if count > UNREADABLE_SAID {
            tracing::error!(count, "records of the inbox cannot be read and are passed over");
        }
    }
}

fn check_order(batch: &OutboxBatch) -> Result<(), Error> {
    let mut previous = 0;
    for record in &batch.records {
        if record.agent_epoch != batch.agent_epoch {
            return Err(Error::Invalid(format!(
                "record {} is of another agent epoch than its batch",
                record.sequence
            )));
        }
        if record.sequence <= previous {
            return Err(Error::Invalid(format!("record {} comes after record {previous}", record.sequence)));
        }
        previous = record.sequence;
    }
    Ok(())
}
