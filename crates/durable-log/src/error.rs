//! What can go wrong in a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a log did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log holds as much as it may: acknowledge records, or drop this one and count it.
    #[error(
        "the log `{path}` is full: {used_bytes} of {max_bytes} bytes in {records} unacknowledged records"
    )]
    Full {
        /// The log's directory.
        path: PathBuf,
        /// What the segments take on disk.
        used_bytes: u64,
        /// What they may take.
        max_bytes: u64,
        /// Records not acknowledged.
        records: u64,
    },
    /// The disk has no room. The record was not kept; what was appended before is safe.
    #[error("no space left on the disk of `{path}`: make room, then try again")]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A record is larger than any log takes.
    #[error("a record of {bytes} bytes is too large: at most {max} are allowed")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What is on disk is not what was written.
    #[error(
        "`{path}` is damaged at byte {offset}: {reason}; move the directory away to start an empty log, or put back a copy of it"
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Another process, or another handle of this one, has the log open.
    #[error("the log `{path}` is in use by another process")]
    InUse {
        /// The log's directory.
        path: PathBuf,
    },
    /// An acknowledgement of records that were never appended.
    #[error("cannot acknowledge through {through}: the newest record is {newest}")]
    NotAppended {
        /// What was acknowledged.
        through: u64,
        /// The newest record.
        newest: u64,
    },
    /// The operating system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Arc<io::Error>,
    },
    /// An earlier error left it unknown what is on disk; open the log again.
    #[error("the log `{path}` has failed and must be opened again: {reason}")]
    Failed {
        /// The log's directory.
        path: PathBuf,
        /// The earlier error.
        reason: String,
    },
}

impl LogError {
    /// Names the operation and file of an I/O error, and sorts out a full disk.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path: path.to_owned() }
            }
            _ => Self::Io { operation, path: path.to_owned(), source: Arc::new(source) },
        }
    }
}
