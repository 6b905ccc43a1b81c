//! What can go wrong in a store, sorted by what the caller can do about it.

use std::path::PathBuf;

use crate::contract::{LeaseId, Revision};

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// History at that revision is gone: list again, then watch from there.
    #[error("revision {requested} has been compacted; the oldest one kept is {oldest}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision {requested} is in the future; the newest is {newest}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// The watch's reader fell behind its buffer: watch again from the last revision seen.
    #[error("the watcher fell {unread} batches behind and was ended")]
    SlowWatcher {
        /// How many batches it had not read.
        unread: usize,
    },
    /// No such lease, or it has ended.
    #[error("lease {} not found", .0.0)]
    LeaseNotFound(LeaseId),
    /// The request itself is wrong; retrying it cannot help.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// The disk has no room. Nothing was written; reads go on.
    #[error("no space left for `{path}`")]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// What is on disk is not what was written.
    #[error("`{path}` is damaged: {reason}")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What was found wrong, and what to do.
        reason: String,
    },
    /// The store cannot serve now (shut down, or its disk failed). The outcome of a write in flight is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}
