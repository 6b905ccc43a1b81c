//! The state machine all engines share: an ordered multi-version index, the history of events, leases and watchers.
//!
//! Pure: no I/O, no clock, no tasks. The caller passes the time in and holds the lock. An engine drives it in two steps, so
//! that nobody sees what could still be lost:
//!
//! 1. [`Core::transact`] (and the lease methods) move the *head*. Later transactions see what they did; readers do not.
//! 2. When the engine has made [`Core::unpublished`] durable, [`Core::publish`] makes it visible and hands it to the watchers.
//!    When it could not, and knows that nothing was written, [`Core::rollback`] undoes it.
//!
//! Memory: a version costs its value plus about 100 bytes, an event of the history about 250; values and keys are shared
//! between index, history, responses and watch batches, never copied.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::contract::{
    Event, Incarnation, KeyRange, KeyValue, LeaseId, RangeRequest, RangeResponse, Revision, Snapshot,
    StoreStatus, WatchRequest, WatchStream,
};
use crate::error::StoreError;

mod index;
mod leases;
mod load;
mod retention;
mod transaction;
mod watchers;

pub use leases::{LeaseChange, LeaseGrant, MAX_LEASE, MIN_LEASE};
pub use load::{Loader, Misplaced, Stored, StoredVersion};
pub use retention::{Retention, history_allowance};
pub use transaction::{MAX_KEY_BYTES, MAX_OPERATIONS, MAX_VALUE_BYTES, check_transaction};

use index::KeyHistory;
use leases::Leases;
use watchers::Watchers;

/// How far a restore moves the revision on, so that no revision of the life before can come up again with other content.
/// etcd's advice for `--bump-revision`: more than any store writes between a snapshot and its loss.
pub const RESTORE_BUMP: u64 = 1_000_000_000;

/// How a snapshot becomes a store.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// Added to the snapshot's revision; the sum is also the compaction point, so that every watcher of the life before
    /// must list again.
    pub revision_bump: u64,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { revision_bump: RESTORE_BUMP }
    }
}

/// All events of one revision.
#[derive(Clone, Debug)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: Revision,
    /// In the order of the transaction's operations; never empty. An event's position names its stored record.
    pub events: Arc<[Event]>,
    /// When it was applied, on the caller's monotonic clock.
    at: Duration,
}

/// What an engine must make durable before it may publish.
#[derive(Debug)]
pub struct Unpublished {
    /// The head that publishing makes visible.
    pub head: Revision,
    /// The revisions after the visible one, in order.
    pub revisions: Vec<RevisionEvents>,
    /// Leases granted and ended, in order.
    pub leases: Vec<LeaseChange>,
}

impl Unpublished {
    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty() && self.leases.is_empty()
    }
}

/// Where an engine finds a stored version: its revision and the event's position in it.
pub type RecordId = (Revision, u32);

/// The shared state machine. See the module's description for how to drive it.
#[derive(Debug)]
pub struct Core {
    incarnation: Incarnation,
    index: BTreeMap<Bytes, KeyHistory>,
    history: VecDeque<RevisionEvents>,
    history_events: usize,
    /// What history alone keeps: keys of events, and the versions that they superseded.
    history_bytes: usize,
    /// Values of the newest versions.
    live_bytes: usize,
    head: Revision,
    visible: Revision,
    compacted: Revision,
    leases: Leases,
    watchers: Watchers,
}

impl Core {
    /// An empty store that was never written.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            index: BTreeMap::new(),
            history: VecDeque::new(),
            history_events: 0,
            history_bytes: 0,
            live_bytes: 0,
            head: Revision(1),
            visible: Revision(1),
            compacted: Revision(0),
            leases: Leases::default(),
            watchers: Watchers::default(),
        }
    }

    /// A new life of what `snapshot` holds. Leases run in full from `now`; a key whose lease the snapshot does not know
    /// loses it.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when the snapshot contradicts itself: keys out of order, or of a revision after it.
    pub fn restore(
        snapshot: &Snapshot,
        options: RestoreOptions,
        incarnation: Incarnation,
        now: Duration,
    ) -> Result<Self, StoreError> {
        snapshot.check()?;
        let revision = Revision(snapshot.revision.0.saturating_add(options.revision_bump));
        let mut core = Self::new(incarnation);
        for grant in &snapshot.leases {
            core.leases.insert(grant.id, grant.ttl, now);
        }
        for kv in &snapshot.kvs {
            let mut kv = kv.clone();
            kv.lease = kv.lease.filter(|lease| core.leases.attach(*lease, &kv.key));
            core.live_bytes += kv.value.len();
            core.index.insert(kv.key.clone(), KeyHistory::of(&kv, 0));
        }
        (core.head, core.visible, core.compacted) = (revision, revision, revision);
        Ok(core)
    }

    /// Which life of the store this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The visible revision and the compaction point.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        StoreStatus { revision: self.visible, compacted: self.compacted }
    }

    /// The newest revision, visible or not.
    #[must_use]
    pub fn head(&self) -> Revision {
        self.head
    }

    /// How many keys, dead ones with history included, the index holds.
    #[must_use]
    pub fn indexed_keys(&self) -> usize {
        self.index.len()
    }

    /// Reads what is visible.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] and [`StoreError::FutureRevision`], as in the contract.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        self.check_readable(request.revision, self.visible)?;
        Ok(self.read(request, self.visible))
    }

    fn check_readable(&self, revision: Option<Revision>, newest: Revision) -> Result<(), StoreError> {
        match revision {
            Some(requested) if requested < self.compacted => {
                Err(StoreError::Compacted { requested, oldest: self.compacted })
            }
            Some(requested) if requested > newest => Err(StoreError::FutureRevision { requested, newest }),
            _ => Ok(()),
        }
    }

    /// Reads as of the requested revision or, without one, of `newest`.
    fn read(&self, request: &RangeRequest, newest: Revision) -> RangeResponse {
        let at = request.revision.unwrap_or(newest);
        let limit = if request.count_only { 0 } else { request.limit.unwrap_or(usize::MAX) };
        let (mut kvs, mut count) = (Vec::new(), 0);
        for (key, history) in self.keys(&request.range) {
            let Some(version) = history.at(at) else { continue };
            if count < limit {
                kvs.push(version.to_key_value(key));
            }
            count += 1;
        }
        RangeResponse { revision: newest, kvs, count }
    }

    fn keys(&self, range: &KeyRange) -> impl Iterator<Item = (&Bytes, &KeyHistory)> {
        let start: &[u8] = &range.start;
        // BTreeMap::range panics on bounds in the wrong order; such a range is simply empty.
        let end: Bound<&[u8]> = match &range.end {
            Some(end) if end.as_ref() > start => Bound::Excluded(end.as_ref()),
            Some(_) => return None.into_iter().flatten(),
            None => Bound::Unbounded,
        };
        Some(self.index.range::<[u8], _>((Bound::Included(start), end))).into_iter().flatten()
    }

    /// Starts a watch: what is visible from `start` on is delivered at once as one batch, the rest as it is published.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `start` is at or below the compaction point.
    pub fn watch(&mut self, request: WatchRequest, now: Duration) -> Result<WatchStream, StoreError> {
        let start = request.start.map_or(self.visible.next(), |start| start.max(Revision(1)));
        if start <= self.compacted {
            return Err(StoreError::Compacted { requested: start, oldest: self.compacted });
        }
        let first = self.history.partition_point(|entry| entry.revision < start);
        let replay = self.history.range(first..).take_while(|entry| entry.revision <= self.visible);
        Ok(self.watchers.add(request, start, self.visible, replay, now))
    }

    /// What must be made durable before [`publish`](Self::publish).
    #[must_use]
    pub fn unpublished(&self) -> Unpublished {
        Unpublished {
            head: self.head,
            revisions: self.after_visible().cloned().collect(),
            leases: self.leases.changes().to_vec(),
        }
    }

    fn after_visible(&self) -> impl Iterator<Item = &RevisionEvents> {
        let first = self.history.partition_point(|entry| entry.revision <= self.visible);
        self.history.range(first..)
    }

    /// Makes everything up to the head visible and hands it to the watchers.
    pub fn publish(&mut self, now: Duration) {
        self.leases.forget_changes();
        if self.visible == self.head {
            return;
        }
        let first = self.history.partition_point(|entry| entry.revision <= self.visible);
        self.visible = self.head;
        self.watchers.publish(self.history.range(first..), self.visible, now);
    }

    /// Undoes everything that is not visible. Only for an engine that knows that none of it was written.
    pub fn rollback(&mut self, now: Duration) {
        while let Some(entry) = self.history.pop_back_if(|entry| entry.revision > self.visible) {
            self.history_events -= entry.events.len();
            self.history_bytes -= history_bytes_of(&entry.events);
            let (new, previous) = (new_bytes(&entry.events), previous_bytes(&entry.events));
            self.live_bytes = (self.live_bytes + previous).saturating_sub(new);
            for event in entry.events.iter().rev() {
                self.undo(event);
            }
        }
        self.leases.undo_changes(now);
        // A lease's keys are found again from the index: rare enough not to be kept track of.
        for (key, history) in &self.index {
            if let Some(lease) = history.newest().and_then(|version| version.lease) {
                self.leases.attach(lease, key);
            }
        }
        self.head = self.visible;
    }

    fn undo(&mut self, event: &Event) {
        if let Some(lease) = event.kv.lease {
            self.leases.detach(lease, &event.kv.key);
        }
        if let Some(history) = self.index.get_mut(&event.kv.key)
            && history.undo(event.kv.mod_revision)
        {
            self.index.remove(&event.kv.key);
        }
    }

    /// Forgets history at and before `revision`, except each key's version live at it. Answers the stored versions that
    /// nothing can ask for any more.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when that has been done, [`StoreError::FutureRevision`].
    pub fn compact(&mut self, revision: Revision) -> Result<Vec<RecordId>, StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, oldest: self.compacted });
        }
        if revision > self.visible {
            return Err(StoreError::FutureRevision { requested: revision, newest: self.visible });
        }
        self.compacted = revision;
        let mut garbage = Vec::new();
        // Only a key that changed in the forgotten stretch can have a version to drop.
        while let Some(entry) = self.history.pop_front_if(|entry| entry.revision <= revision) {
            self.history_events -= entry.events.len();
            self.history_bytes -= history_bytes_of(&entry.events);
            for event in entry.events.iter() {
                if let Some(history) = self.index.get_mut(&event.kv.key)
                    && history.compact(revision, &mut garbage)
                {
                    self.index.remove(&event.kv.key);
                }
            }
        }
        Ok(garbage)
    }

    /// A consistent copy of what is visible.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all = RangeRequest::all(KeyRange::prefix(Bytes::new()));
        Snapshot {
            revision: self.visible,
            incarnation: self.incarnation,
            kvs: self.read(&all, self.visible).kvs,
            leases: self.leases.published(),
        }
    }

    /// Delivers progress to idle watchers, and forgets those whose stream was dropped. Call it a few times a second.
    pub fn tick(&mut self, now: Duration) {
        self.watchers.progress(self.visible, now);
    }

    /// Whether anything needs [`tick`](Self::tick) or [`expire`](Self::expire).
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        !self.watchers.is_empty() || !self.leases.is_empty()
    }

    /// Ends every watch with `error`.
    pub fn end_watches(&mut self, error: &StoreError) {
        self.watchers.end_all(error);
    }

    /// The newest version of a key at the head.
    fn newest(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, history) = self.index.get_key_value(key)?;
        history.newest().map(|version| version.to_key_value(key))
    }

    fn record(&mut self, revision: Revision, events: Vec<Event>, at: Duration) {
        self.history_events += events.len();
        self.history_bytes += history_bytes_of(&events);
        self.live_bytes = (self.live_bytes + new_bytes(&events)).saturating_sub(previous_bytes(&events));
        self.history.push_back(RevisionEvents { revision, events: events.into(), at });
        self.head = revision;
    }
}

fn new_bytes(events: &[Event]) -> usize {
    events.iter().map(|event| event.kv.value.len()).sum()
}

fn previous_bytes(events: &[Event]) -> usize {
    events.iter().filter_map(|event| event.previous.as_ref()).map(|previous| previous.value.len()).sum()
}

fn history_bytes_of(events: &[Event]) -> usize {
    previous_bytes(events) + events.iter().map(|event| event.kv.key.len()).sum::<usize>()
}

/// Leases: thin delegations that keep the index in step.
impl Core {
    /// Grants a lease under an id that the caller drew.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when `ttl` is out of bounds or the id is zero or taken.
    pub fn lease_grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) -> Result<(), StoreError> {
        self.leases.grant(id, ttl, now)
    }

    /// Starts a lease's time again. Nothing of it needs to be durable: lease clocks restart at open.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`].
    pub fn lease_renew(&mut self, id: LeaseId, now: Duration) -> Result<(), StoreError> {
        self.leases.renew(id, now)
    }

    /// Ends a lease and deletes its keys in one revision.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`].
    pub fn lease_revoke(&mut self, id: LeaseId, now: Duration) -> Result<(), StoreError> {
        let keys = self.leases.end(id)?;
        let revision = self.head.next();
        let mut events = Vec::with_capacity(keys.len());
        for key in keys {
            self.delete_key(&key, revision, &mut events);
        }
        if !events.is_empty() {
            self.record(revision, events, now);
        }
        Ok(())
    }

    /// Ends every lease whose time is over; answers how many.
    pub fn expire(&mut self, now: Duration) -> usize {
        let over = self.leases.over(now);
        over.iter().filter(|id| self.lease_revoke(**id, now).is_ok()).count()
    }
}
