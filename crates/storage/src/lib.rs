//! The storage contract every engine implements, and what proves that an engine keeps it.
//!
//! A [`Store`] is a flat, ordered, multi-version key-value map with one global [`Revision`], in the shape of etcd v3:
//! an API server keeps its objects in it, an agent its desired state.
//!
//! * [`contract`]: the trait and its requests and responses. Every method states revision, ordering, error and retry
//!   semantics.
//! * [`error`]: what can go wrong, by what the caller can do about it.
//! * [`guard`]: what tells that a store has gone back in time.
//! * [`mvcc`]: the state machine that engines share: index, history, leases, watchers.
//! * [`model`]: the in-memory engine.
//! * `suite` (feature `suite`): the tests that every engine runs.
//!
//! This crate must never know an engine, a file or a Kubernetes object.

pub mod contract;
pub mod error;
pub mod guard;
pub mod model;
pub mod mvcc;
#[cfg(feature = "suite")]
pub mod suite;

pub use contract::{
    Compare, CompareTarget, DeleteRequest, Event, EventKind, Incarnation, KeyRange, KeyValue, LeaseId,
    Operation, OperationResponse, PutRequest, RangeRequest, RangeResponse, Revision, Snapshot, Store,
    StoreStatus, Transaction, TransactionResponse, WatchBatch, WatchRequest, WatchStream,
};
pub use error::StoreError;
pub use guard::Witness;
