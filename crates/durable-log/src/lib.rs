//! A bounded append-only log on disk: the agent's outbox, the hub's inbox.
//!
//! * [`Log::append`] answers when the record is durable. Concurrent appends share one fsync.
//! * [`Log::read_from`] reads durable records again, as often as wanted, until
//! * [`Log::acknowledge`] says that they are not needed any more. Whole segments are then deleted.
//! * A full log refuses ([`LogError::Full`], with counts); it never drops a record by itself.
//!
//! Crashes: a torn tail, which nobody was told is durable, is cut off at open. Anything else that is not what was written
//! is [`LogError::Damaged`], naming the file; the log never starts over silently. (A file that somebody
//! cut short at its newest end looks like a torn tail; nothing in it can tell the two apart.) After a failed fsync the log refuses
//! everything until it is opened again, for the kernel may have forgotten what it could not write.
//!
//! The log does not know what the records are, and must not.

mod directory;
mod error;
mod format;
mod log;
mod recovery;
mod writer;

pub use error::LogError;
pub use format::MAX_RECORD_BYTES;
pub use log::{Log, Options, Record, Sequence, Usage};
