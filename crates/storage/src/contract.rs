//! The [`Store`] trait. Semantics follow etcd v3's KV and watch API guarantees
//! (<https://etcd.io/docs/v3.6/learning/api_guarantees/>); where etcd leaves room, the narrower reading is stated here.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::error::StoreError;
use crate::guard::Witness;
use crate::mvcc::LeaseGrant;

/// A point in the store's one global history. Every successful transaction that changes something takes the next one;
/// a store that was never written is at revision 1. Revisions never go down, not even over a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of the store this is. A new one is drawn when a store is created and when it is restored from a
/// snapshot, so that a peer can tell "the same history, later" from "another history with the same numbers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub Uuid);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// A positive id that nobody else has drawn.
    #[must_use]
    pub fn random() -> Self {
        // 62 of a random UUID's 122 random bits; the lowest bit is set so that it is never zero.
        let (_, low) = Uuid::new_v4().as_u64_pair();
        Self(i64::try_from((low << 2) >> 1 | 1).expect("the highest bit was shifted out"))
    }
}

/// A stored version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The value as it was put. Cloning shares the buffer.
    pub value: Bytes,
    /// The revision at which the key last came into being.
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// How many times the key was put since it came into being; 1 for the first.
    pub version: u64,
    /// The lease that deletes the key when it ends.
    pub lease: Option<LeaseId>,
}

/// A half-open interval of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Bytes,
    /// First key after the range; `None`: no upper bound.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Just this key.
    #[must_use]
    pub fn single(key: impl Into<Bytes>) -> Self {
        let start: Bytes = key.into();
        let mut end = start.to_vec();
        end.push(0);
        Self { start, end: Some(end.into()) }
    }

    /// Every key that begins with `prefix`; an empty prefix is every key.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.last_mut() {
            if *last < 0xff {
                *last += 1;
                return Self { start, end: Some(end.into()) };
            }
            end.pop();
        }
        Self { start, end: None }
    }

    /// Keys from `start` to before `end`.
    #[must_use]
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }
}

/// What to read.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At which point of history; `None`: now, which includes every write acknowledged before the call.
    pub revision: Option<Revision>,
    /// At most this many keys, in key order; `None`: all.
    pub limit: Option<usize>,
    /// Answer only how many there are.
    pub count_only: bool,
}

impl RangeRequest {
    /// Everything in `range`, as it is now.
    #[must_use]
    pub fn all(range: KeyRange) -> Self {
        Self { range, revision: None, limit: None, count_only: false }
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub struct RangeResponse {
    /// The store's revision when the read was served: all of the answer is the state at `RangeRequest::revision`, or,
    /// when that was `None`, at this one.
    pub revision: Revision,
    /// In key order; empty when only a count was asked for.
    pub kvs: Vec<KeyValue>,
    /// How many keys the range holds, whatever the limit.
    pub count: usize,
}

/// What a [`Compare`] looks at. A key that does not exist has 0 for numbers and equals no value (etcd's rule).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// `mod_revision` equals.
    ModRevision(Revision),
    /// `create_revision` equals.
    CreateRevision(Revision),
    /// `version` equals.
    Version(u64),
    /// `value` equals.
    Value(Bytes),
}

/// A condition on one key.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What must be equal.
    pub target: CompareTarget,
}

impl Compare {
    /// The key's newest version is the one of this revision.
    #[must_use]
    pub fn unchanged_since(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self { key: key.into(), target: CompareTarget::ModRevision(revision) }
    }

    /// The key does not exist.
    #[must_use]
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::Version(0) }
    }
}

/// Puts one key.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// The key; not empty.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// Ties the key to a lease; `None` unties it.
    pub lease: Option<LeaseId>,
}

/// Deletes every key in a range.
#[derive(Clone, Debug)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Write.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
    /// Read; sees the writes of earlier operations of the same transaction.
    Range(RangeRequest),
}

impl Operation {
    /// Puts `key` without a lease.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put(PutRequest { key: key.into(), value: value.into(), lease: None })
    }

    /// Deletes `key`.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete(DeleteRequest { range: KeyRange::single(key) })
    }

    /// Reads `key` as it is now.
    #[must_use]
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Range(RangeRequest::all(KeyRange::single(key)))
    }
}

/// All of `compare` true: `success`, else `failure`; atomically, at one revision. One transaction may put a key at
/// most once ([`StoreError::InvalidRequest`]), as in etcd.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Conditions, all of which must hold.
    pub compare: Vec<Compare>,
    /// Done when they hold.
    pub success: Vec<Operation>,
    /// Done when they do not.
    pub failure: Vec<Operation>,
}

/// What one operation answered.
#[derive(Clone, Debug)]
pub enum OperationResponse {
    /// The previous version, if there was one.
    Put {
        /// What the put replaced.
        previous: Option<KeyValue>,
    },
    /// What was deleted, in key order.
    Delete {
        /// The versions that the deletion ended.
        previous: Vec<KeyValue>,
    },
    /// What was read.
    Range(RangeResponse),
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct TransactionResponse {
    /// Whether the compares held.
    pub succeeded: bool,
    /// The store's revision after the transaction: a new one if it changed anything.
    pub revision: Revision,
    /// One per operation of the branch taken, in order.
    pub responses: Vec<OperationResponse>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted, by a transaction or by the end of its lease.
    Delete,
}

/// A change to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Put: the new version. Delete: the key, an empty value, and the deletion's revision as `mod_revision`.
    pub kv: KeyValue,
    /// The version before, when there was one and it has not been compacted.
    pub previous: Option<KeyValue>,
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision whose events are wanted; `None`: from the next one on. A revision in the future is allowed
    /// and waited for.
    pub start: Option<Revision>,
    /// How many batches may wait unread before the watch ends with [`StoreError::SlowWatcher`]; at least 1.
    pub buffer: usize,
}

/// Events of one or more whole revisions, or, when `events` is empty, only progress.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// Every event of the range up to and including this revision has now been delivered.
    pub revision: Revision,
    /// In revision order; within a revision in the order of the transaction's operations. All events of a revision
    /// are in one batch.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it. After an error nothing follows.
pub struct WatchStream {
    receiver: mpsc::Receiver<Result<WatchBatch, StoreError>>,
    /// What a store around the engine makes of each batch, applied when it is read.
    map: Option<Box<dyn Fn(WatchBatch) -> WatchBatch + Send + Sync>>,
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

impl WatchStream {
    /// A stream over what an engine sends into `receiver`.
    #[must_use]
    pub fn new(receiver: mpsc::Receiver<Result<WatchBatch, StoreError>>) -> Self {
        Self { receiver, map: None }
    }

    /// The same stream with each batch passed through `map`, which must keep revisions and the number of events. For
    /// stores around a store; it replaces what an earlier call gave.
    #[must_use]
    pub fn map(self, map: impl Fn(WatchBatch) -> WatchBatch + Send + Sync + 'static) -> Self {
        Self { map: Some(Box::new(map)), ..self }
    }

    /// The next batch; `None` when the store has shut down. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        let batch = self.receiver.recv().await?;
        Some(match &self.map {
            Some(map) => batch.map(map),
            None => batch,
        })
    }
}

/// A whole copy of a store at one revision, in memory: keys with their newest versions. Engines turn it into and out
/// of the snapshot file format of `storage-embedded`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The revision it was taken at.
    pub revision: Revision,
    /// The store it was taken of.
    pub incarnation: Incarnation,
    /// Every live key, in key order.
    pub kvs: Vec<KeyValue>,
    /// Every lease; its keys name it.
    pub leases: Vec<LeaseGrant>,
}

impl Snapshot {
    /// Whether it can be what a store held.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when it contradicts itself: keys out of order, or of a revision after it.
    pub fn check(&self) -> Result<(), StoreError> {
        let mut last: Option<&Bytes> = None;
        for kv in &self.kvs {
            if last.is_some_and(|last| *last >= kv.key) || kv.mod_revision > self.revision {
                return Err(StoreError::InvalidRequest(format!(
                    "the snapshot contradicts itself at key {}",
                    kv.key.escape_ascii()
                )));
            }
            last = Some(&kv.key);
        }
        Ok(())
    }
}

/// An ordered multi-version key-value store with one global history.
///
/// Guarantees, for every engine:
/// * *Durability*: when `transact` answers `Ok`, the change survives the process (and, on a disk engine, power loss).
///   In-memory engines are exempt and say so in their docs.
/// * *Linearizability* of transactions and of ranges without a revision.
/// * *Watches* are ordered (by revision), unique (no event twice), reliable (none missing), atomic (a revision whole in
///   one batch), resumable (from any revision not compacted) and bookmarkable (progress batches).
/// * A watcher never sees a revision before it is durable.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads. With a revision below the compaction point: [`StoreError::Compacted`]; above the current one:
    /// [`StoreError::FutureRevision`]. Safe to retry.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Compares and writes atomically. On [`StoreError::Unavailable`] the outcome may be unknown: read before retrying.
    /// Dropping the future does not undo a transaction already handed over.
    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError>;

    /// Starts a watch. A `start` at or below the compaction point fails with [`StoreError::Compacted`]. A watch whose
    /// reader falls behind ends with [`StoreError::SlowWatcher`]; it never silently drops an event.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError>;

    /// Forgets history at and before `revision`, except each key's version live at it. Idempotent; a revision already
    /// compacted is [`StoreError::Compacted`], a future one [`StoreError::FutureRevision`].
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The newest durable revision, which includes every write acknowledged before the call: what a consistent read waits
    /// for. Engines that several processes share make sure that watches which are behind soon get there.
    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.status().await?.revision)
    }

    /// The newest durable revision and the compaction point (0 when never compacted).
    async fn status(&self) -> Result<StoreStatus, StoreError>;

    /// Which life of the store this is; constant for the life of the handle.
    fn incarnation(&self) -> Incarnation;

    /// What this handle has served so far, without asking anybody: to be kept where a store that goes back does not take
    /// it along, and given to the engine when the store is opened again.
    fn served(&self) -> Witness;

    /// Completes when the handle must be dropped and the store opened again, which is not so of failures that pass.
    async fn failed(&self) {
        std::future::pending().await
    }

    /// Grants a lease that ends `ttl` after its last renewal, deleting its keys in one revision. Bounds: 1 s to 1 year.
    /// Lease clocks restart in full when a store is reopened (etcd's rule: never end a lease early).
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's time again; [`StoreError::LeaseNotFound`] if it has ended.
    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease now and deletes its keys.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// A consistent copy of the newest durable state. Does not block writers for longer than collecting references.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;
}

/// How far a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The newest durable revision.
    pub revision: Revision,
    /// The newest compacted revision; `Revision(0)` when never compacted.
    pub compacted: Revision,
}
