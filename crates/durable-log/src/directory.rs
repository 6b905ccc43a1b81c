//! File names of a log, its lock, and writes that survive a power cut.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::LogError;

pub(crate) const ACKNOWLEDGED: &str = "acknowledged";
const LOCK: &str = "LOCK";
const SEGMENT_SUFFIX: &str = ".segment";

pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SEGMENT_SUFFIX}"))
}

/// The segments of a log by first sequence; leftovers of an interrupted replacement are removed.
pub(crate) fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| LogError::io("list", dir, e))? {
        let path = entry.map_err(|e| LogError::io("list", dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(SEGMENT_SUFFIX).and_then(|digits| digits.parse().ok()) {
            found.push((first, path));
        } else if name.ends_with(".new") {
            fs::remove_file(&path).map_err(|e| LogError::io("remove", &path, e))?;
        }
    }
    found.sort();
    Ok(found)
}

/// A log's lock. It goes with the process, too.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Unlocks by word, not by closing: a process that this one is just starting still has the file open for a moment.
    fn drop(&mut self) {
        // Closing comes next and does the same, if later.
        let _ = self.0.unlock();
    }
}

/// Takes the log for this handle.
pub(crate) fn lock(dir: &Path) -> Result<Lock, LogError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| LogError::io("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(LogError::io("lock", &path, e)),
    }
}

/// Creates or replaces a small file as a whole.
pub(crate) fn replace(path: &Path, content: &[u8], fsync: bool) -> Result<(), LogError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        if fsync {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    };
    write().map_err(|e| LogError::io("write", path, e))?;
    if fsync { sync(path.parent().unwrap_or(path)) } else { Ok(()) }
}

/// Makes the names in a directory durable.
pub(crate) fn sync(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| LogError::io("sync", dir, e))
}
