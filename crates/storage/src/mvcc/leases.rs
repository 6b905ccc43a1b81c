//! Leases: which keys end with them, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::contract::LeaseId;
use crate::error::StoreError;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// The longest lease: a year.
pub const MAX_LEASE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A lease without its keys: what is stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Its name.
    pub id: LeaseId,
    /// How long it lasts after each renewal.
    pub ttl: Duration,
}

/// What an engine must store about leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease began.
    Granted(LeaseGrant),
    /// A lease ended.
    Ended(LeaseGrant),
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
    keys: BTreeSet<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    changes: Vec<LeaseChange>,
}

impl Leases {
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) -> Result<(), StoreError> {
        if !(MIN_LEASE..=MAX_LEASE).contains(&ttl) {
            return Err(StoreError::InvalidRequest(format!(
                "a lease of {ttl:?}: 1 second to 1 year is allowed"
            )));
        }
        if id.0 == 0 || self.contains(id) {
            return Err(StoreError::InvalidRequest(format!("lease id {} is zero or taken", id.0)));
        }
        self.insert(id, ttl, now);
        self.changes.push(LeaseChange::Granted(LeaseGrant { id, ttl }));
        Ok(())
    }

    /// Puts a lease in place without recording a change: it is stored already.
    pub(super) fn insert(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let deadline = now.saturating_add(ttl);
        self.leases.insert(id, Lease { ttl, deadline, keys: BTreeSet::new() });
    }

    pub(super) fn renew(&mut self, id: LeaseId, now: Duration) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&id).ok_or(StoreError::LeaseNotFound(id))?;
        lease.deadline = now.saturating_add(lease.ttl);
        Ok(())
    }

    /// Ends a lease and answers its keys.
    pub(super) fn end(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, StoreError> {
        let lease = self.leases.remove(&id).ok_or(StoreError::LeaseNotFound(id))?;
        self.changes.push(LeaseChange::Ended(LeaseGrant { id, ttl: lease.ttl }));
        Ok(lease.keys)
    }

    /// Ties a key to a lease; false: there is no such lease.
    pub(super) fn attach(&mut self, id: LeaseId, key: &Bytes) -> bool {
        match self.leases.get_mut(&id) {
            Some(lease) => {
                lease.keys.insert(key.clone());
                true
            }
            None => false,
        }
    }

    pub(super) fn detach(&mut self, id: LeaseId, key: &Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// The leases whose time is over.
    pub(super) fn over(&self, now: Duration) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id).collect()
    }

    pub(super) fn changes(&self) -> &[LeaseChange] {
        &self.changes
    }

    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// Takes back the recorded changes. A lease that comes back runs in full, without its keys: the caller attaches them.
    pub(super) fn undo_changes(&mut self, now: Duration) {
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            match change {
                LeaseChange::Granted(grant) => {
                    self.leases.remove(&grant.id);
                }
                LeaseChange::Ended(grant) => self.insert(grant.id, grant.ttl, now),
            }
        }
    }

    /// The leases as of the last publication.
    pub(super) fn published(&self) -> Vec<LeaseGrant> {
        let mut grants: BTreeMap<LeaseId, LeaseGrant> =
            self.leases.iter().map(|(id, lease)| (*id, LeaseGrant { id: *id, ttl: lease.ttl })).collect();
        for change in self.changes.iter().rev() {
            match change {
                LeaseChange::Granted(grant) => grants.remove(&grant.id),
                LeaseChange::Ended(grant) => grants.insert(grant.id, *grant),
            };
        }
        grants.into_values().collect()
    }
}
