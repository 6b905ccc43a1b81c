//! Collected files on their way to the hub: on disk until the hub has them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ContentUpload, Error, SinkError};

/// Bytes that may wait: some 150 attempts with everything an attempt may keep.
const MAX_SPOOL: u64 = 1024 * 1024 * 1024;
/// Between tries while the hub is away.
const RETRY: Duration = Duration::from_secs(5);

/// A directory of files named by their digest.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    wake: Arc<Notify>,
}

impl Spool {
    /// Opens or makes the directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Spool { path: dir.clone(), source })?;
        Ok(Self { dir, wake: Arc::new(Notify::new()) })
    }

    /// Keeps a file; durable when it answers.
    pub(super) async fn put(&self, sha256: &str, content: Vec<u8>) -> Result<(), SinkError> {
        let (dir, name) = (self.dir.clone(), sha256.to_owned());
        let written = tokio::task::spawn_blocking(move || write(&dir, &name, &content)).await;
        let written = written.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        written?;
        self.wake.notify_one();
        Ok(())
    }

    /// Hands files to the hub and forgets them, until `shutdown`.
    pub(super) async fn deliver(self, upload: Arc<dyn ContentUpload>, shutdown: CancellationToken) {
        loop {
            let waiting = self.pass(upload.as_ref(), &shutdown).await;
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
            if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
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
}

fn write(dir: &Path, name: &str, content: &[u8]) -> Result<(), SinkError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => SinkError::Full,
        _ => SinkError::Unavailable(error.to_string()),
    };
    let target = dir.join(name);
    if target.exists() {
        return Ok(());
    }
    let mut used = content.len() as u64;
    for entry in std::fs::read_dir(dir).map_err(failed)?.flatten() {
        used = used.saturating_add(entry.metadata().map_or(0, |metadata| metadata.len()));
    }
    if used > MAX_SPOOL {
        return Err(SinkError::Full);
    }
    let partial = dir.join(format!("{name}.partial"));
    let mut file = std::fs::File::create(&partial).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&partial, &target).map_err(failed)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
