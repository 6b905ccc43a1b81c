//! Where a program keeps its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::Store;
use storage::model::MemoryStore;
use storage_embedded::EmbeddedStore;

use crate::error::AssemblyError;

/// A directory of state, or none for what lives as long as the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything in memory; nothing is written, nothing is synced.
    Ephemeral,
    /// Everything below this directory.
    Directory(PathBuf),
}

impl State {
    /// The directory, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Ephemeral => None,
            Self::Directory(path) => Some(path),
        }
    }

    /// Opens the store below the directory, or one in memory. Blocks on the disk for milliseconds: call it before the
    /// program serves.
    ///
    /// # Errors
    /// When the directory cannot be made, is in use by another process, or holds a damaged store.
    pub fn open_store(&self) -> Result<Arc<dyn Store>, AssemblyError> {
        let Some(directory) = self.directory() else {
            return Ok(Arc::new(MemoryStore::default()));
        };
        let path = directory.join("store");
        let failed = |cause: crate::error::Cause| {
            AssemblyError::new(format!("failed to open the store in `{}`", path.display()), cause)
        };
        std::fs::create_dir_all(&path).map_err(|error| failed(error.into()))?;
        let store = EmbeddedStore::open(&path, storage_embedded::Options::default())
            .map_err(|error| failed(error.into()))?;
        Ok(Arc::new(store))
    }
}
