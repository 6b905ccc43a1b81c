//! A wall clock that jumps for one process: `libfaketime` (Debian: package `faketime`) before the C library, told by a file
//! how far ahead the process believes to be. The monotonic clock goes on as it is, as it does when somebody sets the clock.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// How long a process may go on believing what the file said before.
const CACHED_SECONDS: &str = "1";

/// A clock of its own for one process.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that goes right, kept in `directory`; `None` where the library is not installed: the test says so.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(directory: &Path, name: &str) -> Result<Option<Self>> {
        let Some(library) = library() else {
            eprintln!("skipped: there is no libfaketime (./dev test installs it)");
            return Ok(None);
        };
        let clock = Self { file: directory.join(format!("clock-{name}")), library };
        clock.jump(0)?;
        Ok(Some(clock))
    }

    /// Sets it so many hours ahead of the true time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn jump(&self, hours: i64) -> Result<()> {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, format!("{hours:+}h\n"))?;
        std::fs::rename(&beside, &self.file).context("cannot set the clock")
    }

    /// What a process must be started with.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_CACHE_DURATION", CACHED_SECONDS.to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Debian keeps it below the directory of each architecture.
fn library() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib").ok()?;
    let found = entries.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.is_file())
}
