//! Collected files on their way to the hub: on disk until the hub has them. Small ones come whole and are named by their
//! digest; what is too large for memory is taken piece by piece ([`incoming`]) and handed on piece by piece ([`large`]).

mod incoming;
mod large;
mod masked;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ContentUpload, Error, SinkError};

pub(super) use incoming::{Incoming, Owner};

/// Bytes that may wait unless said otherwise: four files of a gigabyte, or some 600 pods with everything their logs carry.
pub const MAX_SPOOL: u64 = 4 << 30;
/// Between tries while the hub is away.
const RETRY: Duration = Duration::from_secs(5);

/// A directory of files named by their digest. Clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    wake: Arc<Notify>,
    wake_large: Arc<Notify>,
    /// Bytes for which there must be room, though they are not there yet.
    reserved: Arc<Mutex<u64>>,
}

impl Spool {
    /// Opens or makes the directory, for at most so many bytes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf, max_bytes: u64) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Spool { path: dir.clone(), source })?;
        let spool = Self {
            dir,
            max_bytes,
            wake: Arc::default(),
            wake_large: Arc::default(),
            reserved: Arc::default(),
        };
        spool.forget_old();
        Ok(spool)
    }

    /// Keeps a file; durable when it answers.
    pub(super) async fn put(&self, sha256: &str, content: Vec<u8>) -> Result<(), SinkError> {
        let (spool, name) = (self.clone(), sha256.to_owned());
        let written = tokio::task::spawn_blocking(move || spool.write(&name, &content)).await;
        let written = written.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        written?;
        self.wake.notify_one();
        Ok(())
    }

    /// Hands files to the hub and forgets them, until `shutdown`. Large files wait for nothing but each other.
    pub(super) async fn deliver(self, upload: Arc<dyn ContentUpload>, shutdown: CancellationToken) {
        tokio::join!(
            self.deliver_small(upload.as_ref(), &shutdown),
            self.deliver_large(upload.as_ref(), &shutdown)
        );
    }

    async fn deliver_small(&self, upload: &dyn ContentUpload, shutdown: &CancellationToken) {
        loop {
            let waiting = self.pass(upload, shutdown).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(RETRY), if waiting => {}
            }
        }
    }

    /// Tries every file once; true when some are left.
    async fn pass(&self, upload: &dyn ContentUpload, shutdown: &CancellationToken) -> bool {
        let Ok(mut entries) = tokio::fs::read_dir(&self.dir).await else { return true };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name().to_string_lossy().into_owned();
            if shutdown.is_cancelled() {
                return true;
            }
            if !is_digest(&name) {
                continue;
            }
            let Ok(content) = tokio::fs::read(entry.path()).await else { continue };
            if workflow::collect::digest(&content) != name {
                warn!(file = %entry.path().display(), "a collected file was damaged on disk and is dropped");
                let _ = tokio::fs::remove_file(entry.path()).await;
                continue;
            }
            if let Err(error) = upload.put(&name, content).await {
                warn!(%error, "collected files wait for the hub");
                return true;
            }
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
        false
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), SinkError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => SinkError::Full,
            _ => SinkError::Unavailable(error.to_string()),
        };
        let target = self.dir.join(name);
        if target.exists() {
            return Ok(());
        }
        let used = used(&self.dir).saturating_add(*self.reserved.lock());
        if used.saturating_add(content.len() as u64) > self.max_bytes {
            return Err(SinkError::Full);
        }
        let partial = self.dir.join(format!("{name}.partial"));
        let mut file = std::fs::File::create(&partial).map_err(failed)?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&partial, &target).map_err(failed)?;
        std::fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

/// Bytes of all files below a directory; what cannot be read counts as nothing.
fn used(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => used(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
