//! Collected files on their way to the hub: on disk, sealed where the agent has a key, until the hub has them. Small ones come
//! whole; what is too large for memory is taken piece by piece ([`incoming`]) and handed on piece by piece ([`large`]). What
//! is lost on the way ([`lost`]) is told.

mod incoming;
mod large;
mod lost;
mod masked;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sealing::Files;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ContentUpload, Error, SinkError};

pub(super) use incoming::{Incoming, Owner};
pub(crate) use lost::DAMAGED;
pub(super) use lost::Losses;

/// For what files of the spool are sealed.
pub(super) const PLACE: &[u8] = b"spool";
/// Below the spool: a directory for each execution, as [`large`] names them, of files that came whole.
const SMALL: &str = "small";

/// Bytes that may wait unless said otherwise: four files of a gigabyte, or some 600 pods with everything their logs carry.
pub const MAX_SPOOL: u64 = 4 << 30;
/// Between tries while the hub is away.
const RETRY: Duration = Duration::from_secs(5);

/// A directory of files named by their digest. Clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    files: Files,
    wake: Arc<Notify>,
    wake_large: Arc<Notify>,
    /// Bytes for which there must be room, though they are not there yet.
    reserved: Arc<Mutex<u64>>,
}

impl Spool {
    /// Opens or makes the directory, for at most so many bytes, which are kept as `files` says.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf, max_bytes: u64, files: Files) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Spool { path: dir.clone(), source })?;
        let spool = Self {
            dir,
            max_bytes,
            files,
            wake: Arc::default(),
            wake_large: Arc::default(),
            reserved: Arc::default(),
        };
        spool.forget_old();
        Ok(spool)
    }

    /// Keeps a file of an execution; durable when it answers.
    pub(super) async fn put(&self, owner: &Owner, sha256: &str, content: Vec<u8>) -> Result<(), SinkError> {
        let dir = owner.directory().map(|name| self.dir.join(SMALL).join(name));
        let dir = dir
            .ok_or_else(|| SinkError::Refused(format!("{:?} is no name of a directory", owner.execution)))?;
        let (spool, name) = (self.clone(), sha256.to_owned());
        let written = tokio::task::spawn_blocking(move || spool.write(&dir, &name, &content)).await;
        let written = written.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        written?;
        self.wake.notify_one();
        Ok(())
    }

    /// Hands files to the hub and forgets them, until `shutdown`. Large files wait for nothing but each other.
    pub(super) async fn deliver(
        self,
        upload: Arc<dyn ContentUpload>,
        losses: Arc<dyn Losses>,
        shutdown: CancellationToken,
    ) {
        let (upload, losses) = (upload.as_ref(), losses.as_ref());
        tokio::join!(
            self.deliver_small(upload, losses, &shutdown),
            self.deliver_large(upload, losses, &shutdown)
        );
    }

    async fn deliver_small(
        &self,
        upload: &dyn ContentUpload,
        losses: &dyn Losses,
        shutdown: &CancellationToken,
    ) {
        loop {
            let waiting = self.pass_small(upload, losses, shutdown).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(RETRY), if waiting => {}
            }
        }
    }

    /// Tries every file once; true when some are left.
    async fn pass_small(
        &self,
        upload: &dyn ContentUpload,
        losses: &dyn Losses,
        shutdown: &CancellationToken,
    ) -> bool {
        // Files of earlier releases lie in the directory itself: nobody knows whose they are.
        let mut waiting = self.pass(&self.dir, None, upload, losses, shutdown).await;
        let Ok(mut owners) = tokio::fs::read_dir(self.dir.join(SMALL)).await else { return waiting };
        while let Ok(Some(entry)) = owners.next_entry().await {
            let Some(owner) = Owner::of_directory(&entry.file_name().to_string_lossy()) else { continue };
            waiting |= self.pass(&entry.path(), Some(&owner), upload, losses, shutdown).await;
            // Fails while there are files, as it should.
            let _ = tokio::fs::remove_dir(entry.path()).await;
        }
        waiting
    }

    async fn pass(
        &self,
        dir: &Path,
        owner: Option<&Owner>,
        upload: &dyn ContentUpload,
        losses: &dyn Losses,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut waiting = match owner {
            Some(owner) => lost::tell(dir, owner, losses).await,
            None => false,
        };
        let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return true };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name().to_string_lossy().into_owned();
            if shutdown.is_cancelled() {
                return true;
            }
            if !is_digest(&name) {
                continue;
            }
            let content = match self.whole(entry.path()).await {
                Ok(content) if workflow::collect::digest(&content) == name => content,
                Err(error) if error.kind() != ErrorKind::InvalidData => {
                    warn!(%error, file = %entry.path().display(), "a collected file cannot be read");
                    waiting = true;
                    continue;
                }
                _ => {
                    warn!(file = %entry.path().display(), "a collected file was damaged on disk and is lost");
                    match owner {
                        Some(owner) => {
                            waiting |= lost::note(&entry.path(), owner, lost::DAMAGED, losses).await
                        }
                        None => drop(tokio::fs::remove_file(entry.path()).await),
                    }
                    continue;
                }
            };
            if let Err(error) = upload.put(&name, content).await {
                warn!(%error, "collected files wait for the hub");
                return true;
            }
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
        waiting
    }

    async fn whole(&self, path: PathBuf) -> std::io::Result<Vec<u8>> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read(&path, PLACE)?.next(usize::MAX)).await;
        read.map_err(std::io::Error::other)?
    }

    fn write(&self, dir: &Path, name: &str, content: &[u8]) -> Result<(), SinkError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::StorageFull => SinkError::Full,
            _ => SinkError::Unavailable(error.to_string()),
        };
        let target = dir.join(name);
        if target.exists() {
            return Ok(());
        }
        let used = used(&self.dir).saturating_add(*self.reserved.lock());
        if used.saturating_add(content.len() as u64) > self.max_bytes {
            return Err(SinkError::Full);
        }
        std::fs::create_dir_all(dir).map_err(failed)?;
        let partial = dir.join(format!("{name}.partial"));
        // Left by a crash.
        let _ = std::fs::remove_file(&partial);
        let mut output = self.files.append(&partial, PLACE).map_err(failed)?;
        output.write_all(content).and_then(|()| output.sync()).map_err(failed)?;
        std::fs::rename(&partial, &target).map_err(failed)?;
        for dir in [dir, dir.parent().unwrap_or(dir)] {
            std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok(())
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
