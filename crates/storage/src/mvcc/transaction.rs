//! Transactions: checked whole before the first step is done, so that no step can fail half-way.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Core;
use super::index::KeyHistory;
use crate::contract::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, Operation, OperationResponse, PutRequest,
    Revision, Transaction, TransactionResponse,
};
use crate::error::StoreError;

/// The longest key. API servers use a few hundred bytes.
pub const MAX_KEY_BYTES: usize = 4096;
/// The largest value: room for content blobs of several megabytes while one batch of the writer stays in memory.
pub const MAX_VALUE_BYTES: usize = 32 << 20;
/// The most compares plus operations of one transaction.
pub const MAX_OPERATIONS: usize = 4096;

impl Core {
    /// Compares and writes at the head; see the contract.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`], [`StoreError::LeaseNotFound`], [`StoreError::Compacted`],
    /// [`StoreError::FutureRevision`]; nothing has then been done.
    pub fn transact(
        &mut self,
        transaction: Transaction,
        now: Duration,
    ) -> Result<TransactionResponse, StoreError> {
        check_transaction(&transaction)?;
        let succeeded = transaction.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { transaction.success } else { transaction.failure };
        self.check_branch(&branch)?;
        let revision = self.head.next();
        let mut events = Vec::new();
        let mut responses = Vec::with_capacity(branch.len());
        for operation in branch {
            responses.push(self.perform(operation, revision, &mut events));
        }
        if !events.is_empty() {
            self.record(revision, events, now);
        }
        Ok(TransactionResponse { succeeded, revision: self.head, responses })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let version = self.index.get(&compare.key).and_then(KeyHistory::newest);
        match &compare.target {
            CompareTarget::ModRevision(wanted) => {
                version.map_or(Revision(0), |version| version.mod_revision) == *wanted
            }
            CompareTarget::CreateRevision(wanted) => {
                version.map_or(Revision(0), |version| version.create_revision) == *wanted
            }
            CompareTarget::Version(wanted) => version.map_or(0, |version| version.version) == *wanted,
            CompareTarget::Value(wanted) => version.is_some_and(|version| version.value == *wanted),
        }
    }

    /// What depends on the store's state and could make an operation fail.
    fn check_branch(&self, branch: &[Operation]) -> Result<(), StoreError> {
        for operation in branch {
            match operation {
                Operation::Put(PutRequest { lease: Some(lease), .. }) if !self.leases.contains(*lease) => {
                    return Err(StoreError::LeaseNotFound(*lease));
                }
                Operation::Range(request) => self.check_readable(request.revision, self.head)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        operation: Operation,
        revision: Revision,
        events: &mut Vec<Event>,
    ) -> OperationResponse {
        match operation {
            Operation::Put(put) => OperationResponse::Put { previous: self.put_key(put, revision, events) },
            Operation::Delete(delete) => {
                let keys: Vec<Bytes> = self
                    .keys(&delete.range)
                    .filter(|(_, history)| history.newest().is_some())
                    .map(|(key, _)| key.clone())
                    .collect();
                let previous = keys.iter().filter_map(|key| self.delete_key(key, revision, events)).collect();
                OperationResponse::Delete { previous }
            }
            Operation::Range(request) => {
                let newest = if events.is_empty() { self.head } else { revision };
                OperationResponse::Range(self.read(&request, newest))
            }
        }
    }

    fn put_key(&mut self, put: PutRequest, revision: Revision, events: &mut Vec<Event>) -> Option<KeyValue> {
        let previous = self.newest(&put.key);
        // The index's own handle of the key is shared on, so that a hundred versions hold one buffer.
        let key = previous.as_ref().map_or(put.key, |previous| previous.key.clone());
        let kv = KeyValue {
            value: put.value,
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |previous| previous.version + 1),
            lease: put.lease,
            key,
        };
        if let Some(lease) = previous.as_ref().and_then(|previous| previous.lease) {
            self.leases.detach(lease, &kv.key);
        }
        if let Some(lease) = kv.lease {
            self.leases.attach(lease, &kv.key);
        }
        self.push_version(&kv, events.len());
        events.push(Event { kind: EventKind::Put, kv, previous: previous.clone() });
        previous
    }

    /// Deletes a key; `None`: it did not exist.
    pub(super) fn delete_key(
        &mut self,
        key: &Bytes,
        revision: Revision,
        events: &mut Vec<Event>,
    ) -> Option<KeyValue> {
        let previous = self.newest(key)?;
        if let Some(lease) = previous.lease {
            self.leases.detach(lease, key);
        }
        let kv = KeyValue {
            key: previous.key.clone(),
            value: Bytes::new(),
            create_revision: Revision(0),
            mod_revision: revision,
            version: 0,
            lease: None,
        };
        self.push_version(&kv, events.len());
        events.push(Event { kind: EventKind::Delete, kv, previous: Some(previous.clone()) });
        Some(previous)
    }

    fn push_version(&mut self, kv: &KeyValue, position: usize) {
        // One transaction changes far fewer keys than 2^32: a range delete is bounded by the keys in memory.
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        match self.index.get_mut(&kv.key) {
            Some(history) => history.push(kv, position),
            None => {
                self.index.insert(kv.key.clone(), KeyHistory::of(kv, position));
            }
        }
    }
}

/// What is wrong with a transaction whatever the store holds. Both branches count, as in etcd: a transaction must not
/// become invalid by the other branch being taken.
///
/// # Errors
/// [`StoreError::InvalidRequest`].
pub fn check_transaction(transaction: &Transaction) -> Result<(), StoreError> {
    let parts = transaction.compare.len() + transaction.success.len() + transaction.failure.len();
    if parts > MAX_OPERATIONS {
        return Err(invalid(format!(
            "{parts} compares and operations: at most {MAX_OPERATIONS} are allowed"
        )));
    }
    for compare in &transaction.compare {
        validate_key(&compare.key)?;
    }
    validate_branch(&transaction.success)?;
    validate_branch(&transaction.failure)
}

fn validate_branch(branch: &[Operation]) -> Result<(), StoreError> {
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    let mut deletes: Vec<&KeyRange> = Vec::new();
    for operation in branch {
        match operation {
            Operation::Put(put) => {
                validate_key(&put.key)?;
                if put.value.len() > MAX_VALUE_BYTES {
                    return Err(invalid(format!(
                        "a value of {} bytes: at most {MAX_VALUE_BYTES} are allowed",
                        put.value.len()
                    )));
                }
                if !puts.insert(&put.key) {
                    return Err(invalid(format!("key {} is put twice", put.key.escape_ascii())));
                }
            }
            Operation::Delete(delete) => deletes.push(&delete.range),
            Operation::Range(_) => {}
        }
    }
    for range in deletes {
        // A key has one version per revision, so one transaction cannot both put and delete it.
        if let Some(key) = puts.iter().find(|key| range.contains(key)) {
            return Err(invalid(format!("key {} is both put and deleted", key.escape_ascii())));
        }
    }
    Ok(())
}

fn validate_key(key: &Bytes) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(invalid("a key is empty".to_owned())),
        length if length > MAX_KEY_BYTES => {
            Err(invalid(format!("a key of {length} bytes: at most {MAX_KEY_BYTES} are allowed")))
        }
        _ => Ok(()),
    }
}

fn invalid(reason: String) -> StoreError {
    StoreError::InvalidRequest(reason)
}
