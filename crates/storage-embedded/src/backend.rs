//! redb's file, with what redb's own backend does not do: space is really allocated when the file grows, so that a full
//! disk shows there and not in the middle of a write; a limit on the file's size; and a memory of what failed.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

/// What went wrong in a backend, shared with who drives the database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    no_space: Arc<AtomicBool>,
    other: Arc<AtomicBool>,
    /// Makes every sync fail.
    #[cfg(test)]
    pub(crate) break_sync: Arc<AtomicBool>,
}

impl Faults {
    /// Whether the only thing that failed was growing the file.
    pub(crate) fn only_no_space(&self) -> bool {
        self.no_space.load(Ordering::Acquire) && !self.other.load(Ordering::Acquire)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.other.store(true, Ordering::Release);
        }
        result
    }
}

#[derive(Debug)]
pub(crate) struct Backend {
    file: File,
    max_bytes: Option<u64>,
    faults: Faults,
}

impl Backend {
    pub(crate) fn new(file: File, max_bytes: Option<u64>, faults: Faults) -> Self {
        Self { file, max_bytes, faults }
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        if self.max_bytes.is_some_and(|max| to > max) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let offset = i64::try_from(from).map_err(io::Error::other)?;
        let length = i64::try_from(to - from).map_err(io::Error::other)?;
        match nix::fcntl::posix_fallocate(self.file.as_fd(), offset, length) {
            Ok(()) => Ok(()),
            // File systems that cannot allocate ahead: the file is grown without.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => self.file.set_len(to),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.faults.note(self.file.metadata().map(|metadata| metadata.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.note(self.file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if len <= now {
            return self.faults.note(self.file.set_len(len));
        }
        let result = self.grow(now, len);
        match &result {
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                self.faults.no_space.store(true, Ordering::Release);
                result
            }
            _ => self.faults.note(result),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.break_sync.load(Ordering::Acquire) {
            return self.faults.note(Err(io::Error::other("the disk is gone")));
        }
        self.faults.note(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.note(self.file.write_all_at(data, offset))
    }

    // The directory's lock already keeps others out, and ends with the handle; redb's own lock has nothing to add.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
