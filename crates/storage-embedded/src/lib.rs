//! The embedded engine: redb behind a group-commit writer.
//!
//! Reads and watches are served from memory ([`storage::mvcc`]); redb only makes it last. One thread owns the database: it
//! drains a bounded queue of transactions, applies them to the memory's head, writes them in one redb commit (two-phase,
//! fsynced), and only then makes them visible, answers, and tells the watchers. A failed commit is never tried again: the
//! store answers [`StoreError::Unavailable`](storage::StoreError::Unavailable) from then on and must be opened again. The one exception is a full disk, when
//! the file still tells for certain that nothing was written.
//!
//! What is on disk: every version of every key since the last compaction, keyed by revision (as in etcd, so that each value
//! is written once, and watches resume across a restart), the leases, and the store's own facts. Automatic compaction
//! ([`Options::retention`]) bounds the history.
//!
//! A store is a directory: `store.redb`, `LOCK`, and `FAIRLEAD-STORE`, which says that there must be a `store.redb`.
//!
//! * [`EmbeddedStore`]: the engine.
//! * [`snapshot_file`]: the snapshot file format, and restoring a directory from it.
//!
//! This crate must never panic on what it finds on disk, and never take damage for emptiness.

mod backend;
mod database;
mod directory;
mod engine;
mod records;
pub mod snapshot_file;
mod writer;

pub use engine::{EmbeddedStore, Options, verify};
