//! Building a [`Core`] from what an engine stored.

use std::time::Duration;

use bytes::Bytes;

use super::index::KeyHistory;
use super::leases::LeaseGrant;
use super::{Core, RecordId};
use crate::contract::{Event, EventKind, Incarnation, KeyValue, LeaseId, Revision};

/// What a stored record says about its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// The value put.
    pub value: Bytes,
    /// When the key came into being.
    pub create_revision: Revision,
    /// How many times it was put since.
    pub version: u64,
    /// Its lease.
    pub lease: Option<LeaseId>,
}

/// One stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The revision that wrote it, and the position of its event.
    pub id: RecordId,
    /// The key.
    pub key: Bytes,
    /// The version put; `None`: the key was deleted.
    pub put: Option<StoredVersion>,
}

/// A record that does not fit: out of order, or contradicting those before it.
#[derive(Debug, thiserror::Error)]
#[error("the record of revision {}, position {} does not fit: {reason}", id.0, id.1)]
pub struct Misplaced {
    /// Which record.
    pub id: RecordId,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Takes stored records in order of revision and position.
#[derive(Debug)]
pub struct Loader {
    core: Core,
    now: Duration,
    last: Option<RecordId>,
    events: Vec<Event>,
    garbage: Vec<RecordId>,
}

impl Loader {
    /// Begins with a store's own facts and leases; every lease's time starts again.
    #[must_use]
    pub fn new(
        incarnation: Incarnation,
        revision: Revision,
        compacted: Revision,
        leases: impl IntoIterator<Item = LeaseGrant>,
        now: Duration,
    ) -> Self {
        let mut core = Core::new(incarnation);
        (core.visible, core.compacted) = (revision, compacted);
        for grant in leases {
            core.leases.insert(grant.id, grant.ttl, now);
        }
        Self { core, now, last: None, events: Vec::new(), garbage: Vec::new() }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Misplaced`] when the records cannot be what a store wrote.
    pub fn push(&mut self, record: Stored) -> Result<(), Misplaced> {
        let id = record.id;
        let misplaced = |reason| Misplaced { id, reason };
        if self.last.is_some_and(|last| last >= id) {
            return Err(misplaced("not after the one before it"));
        }
        if id.0 > self.core.visible {
            return Err(misplaced("its revision is after the store's"));
        }
        if self.last.is_some_and(|last| last.0 != id.0) {
            self.finish_revision();
        }
        self.last = Some(id);
        if id.0 <= self.core.compacted {
            self.settle(record);
            return Ok(());
        }
        if id.1 as usize != self.events.len() {
            return Err(misplaced("an event of its revision is missing before it"));
        }
        self.replay(record).map_err(misplaced)
    }

    /// A record from before the compaction point: it replaces what was there; nothing can ask for the older one.
    fn settle(&mut self, record: Stored) {
        let kv = key_value(&record);
        if record.put.is_some() {
            let history = KeyHistory::of(&kv, record.id.1);
            if let Some(mut old) = self.core.index.insert(kv.key, history) {
                old.compact_all(&mut self.garbage);
            }
        } else {
            self.garbage.push(record.id);
            if let Some(mut old) = self.core.index.remove(&kv.key) {
                old.compact_all(&mut self.garbage);
            }
        }
    }

    fn replay(&mut self, record: Stored) -> Result<(), &'static str> {
        let kv = key_value(&record);
        let previous = self.core.newest(&kv.key);
        let kind = match (&record.put, &previous) {
            (Some(put), Some(before)) if put.version != before.version + 1 => {
                return Err("its version does not follow the one before");
            }
            (Some(put), None) if put.version != 1 => return Err("the version before it is missing"),
            (None, None) => return Err("it deletes a key that does not exist"),
            (Some(_), _) => EventKind::Put,
            (None, _) => EventKind::Delete,
        };
        match self.core.index.get_mut(&kv.key) {
            Some(history) => history.push(&kv, record.id.1),
            None => {
                self.core.index.insert(kv.key.clone(), KeyHistory::of(&kv, record.id.1));
            }
        }
        self.events.push(Event { kind, kv, previous });
        Ok(())
    }

    fn finish_revision(&mut self) {
        if let (Some((revision, _)), false) = (self.last, self.events.is_empty()) {
            self.core.record(revision, std::mem::take(&mut self.events), self.now);
        }
    }

    /// The store, and the stored records that nothing can ask for any more (left by a compaction that was cut short).
    #[must_use]
    pub fn finish(mut self) -> (Core, Vec<RecordId>) {
        self.finish_revision();
        let Core { index, leases, live_bytes, .. } = &mut self.core;
        *live_bytes = 0;
        for (key, history) in index {
            let Some(newest) = history.newest() else { continue };
            *live_bytes += newest.value.len();
            if let Some(lease) = newest.lease {
                leases.attach(lease, key);
            }
        }
        self.core.head = self.core.visible;
        (self.core, self.garbage)
    }
}

fn key_value(record: &Stored) -> KeyValue {
    let put = record.put.as_ref();
    KeyValue {
        key: record.key.clone(),
        value: put.map_or_else(Bytes::new, |put| put.value.clone()),
        create_revision: put.map_or(Revision(0), |put| put.create_revision),
        mod_revision: record.id.0,
        version: put.map_or(0, |put| put.version),
        lease: put.and_then(|put| put.lease),
    }
}
