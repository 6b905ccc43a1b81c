//! The store's directory: which files there are, who may open them, and in which order they come into being.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use storage::StoreError;

/// The marker's name.
const MARKER: &str = "FAIRLEAD-STORE";
const MARKER_TEXT: &[u8] =
    b"This directory is a Fairlead store, format 1. The data is in store.redb; do not move it alone.\n";
const DATA: &str = "store.redb";
const NEW_DATA: &str = "store.redb.new";
const LOCK: &str = "LOCK";
/// What to do about damage.
pub(crate) const ADVICE: &str =
    "restore it from a snapshot with `fairlead store restore`, or put back a copy of the whole directory";

/// A store's directory, locked for this handle.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Drop for Directory {
    /// Unlocks by word, not by closing: a process that this one is just starting still has the file open for a moment.
    fn drop(&mut self) {
        // Closing comes next and does the same, if later.
        let _ = self.lock.unlock();
    }
}

impl Directory {
    /// Creates the directory if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|e| io_error("create", path, &e))?;
        Self::lock(path)
    }

    /// Locks a directory that exists.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if !path.join(MARKER).exists() && !path.join(DATA).exists() {
            return Err(corrupt(path, "it is not the directory of a store"));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, StoreError> {
        let name = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name)
            .map_err(|e| io_error("open", &name, &e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
                "the store `{}` is in use by another process; stop that one first",
                path.display()
            ))),
            Err(TryLockError::Error(e)) => Err(io_error("lock", &name, &e)),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Where a data file is prepared before it counts.
    pub(crate) fn new_data(&self) -> PathBuf {
        self.path.join(NEW_DATA)
    }

    /// Whether there is a store here.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there was one and its data is missing.
    pub(crate) fn holds_store(&self) -> Result<bool, StoreError> {
        let marked = match fs::read(self.path.join(MARKER)) {
            Ok(text) if text == MARKER_TEXT => true,
            Ok(_) => return Err(corrupt(&self.path.join(MARKER), "it is not the marker of this format")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(io_error("read", &self.path.join(MARKER), &e)),
        };
        let data = self.data();
        match fs::metadata(&data) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound && marked => {
                Err(corrupt(&data, "the store's data is missing"))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io_error("look at", &data, &e)),
        }
    }

    /// Makes the prepared data file the store's. The marker comes last: a crash before it leaves a data file that is whole.
    pub(crate) fn adopt_new_data(&self) -> Result<(), StoreError> {
        let data = self.data();
        fs::rename(self.new_data(), &data).map_err(|e| io_error("rename into place", &data, &e))?;
        self.mark()
    }

    /// Writes the marker if it is not there.
    pub(crate) fn mark(&self) -> Result<(), StoreError> {
        let marker = self.path.join(MARKER);
        if marker.exists() {
            return Ok(());
        }
        sync_directory(&self.path)?;
        replace_file(&marker, |file| file.write_all(MARKER_TEXT))
    }
}

/// Writes a file under another name, syncs it and renames it into place, so that it is there whole or not at all.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let result = File::create(&new).and_then(|file| {
        let mut file = io::BufWriter::with_capacity(256 << 10, file);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, path)
    });
    if let Err(error) = result {
        // The half-written file is of no use to anybody; if it cannot be removed the first error still says why.
        let _ = fs::remove_file(&new);
        return Err(io_error("write", path, &error));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| io_error("sync", path, &e))
}

pub(crate) fn corrupt(path: &Path, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), reason: format!("{reason}; {ADVICE}") }
}

pub(crate) fn io_error(operation: &str, path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::NoSpace { path: path.to_owned() }
        }
        _ => StoreError::Unavailable(format!("cannot {operation} `{}`: {error}", path.display())),
    }
}
