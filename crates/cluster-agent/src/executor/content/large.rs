//! Files of any size on their way to the hub, one after the other, each from where the hub has it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::incoming::Owner;
use super::lost::{self, Losses};
use super::{RETRY, Spool, is_digest};
use crate::executor::{ContentUpload, LargeFile, SinkError};

/// Below the spool: a directory for each execution, named `<name>_<uid>`.
const READY: &str = "large";
/// How long a file waits that the hub does not know what to do with: its run was removed, or has not been told of yet.
const UNKNOWN: Duration = Duration::from_secs(3 * 24 * 3600);

impl Spool {
    /// Where files of an execution wait for the hub; `None` for a name that no execution has.
    pub(super) fn ready(&self, owner: &Owner) -> Option<PathBuf> {
        owner.directory().map(|name| self.dir.join(READY).join(name))
    }

    pub(super) async fn deliver_large(
        &self,
        upload: &dyn ContentUpload,
        losses: &dyn Losses,
        shutdown: &CancellationToken,
    ) {
        loop {
            let pass = shutdown.run_until_cancelled(self.pass_large(upload, losses)).await;
            let Some(waiting) = pass else { return };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake_large.notified() => {}
                () = tokio::time::sleep(RETRY), if waiting => {}
            }
        }
    }

    /// Tries every file once; true when some are left.
    pub(super) async fn pass_large(&self, upload: &dyn ContentUpload, losses: &dyn Losses) -> bool {
        let Ok(mut owners) = tokio::fs::read_dir(self.dir.join(READY)).await else { return false };
        let mut waiting = false;
        while let Ok(Some(entry)) = owners.next_entry().await {
            let Some(owner) = Owner::of_directory(&entry.file_name().to_string_lossy()) else { continue };
            waiting |= lost::tell(&entry.path(), &owner, losses).await;
            let Ok(mut files) = tokio::fs::read_dir(entry.path()).await else { continue };
            while let Ok(Some(file)) = files.next_entry().await {
                let sha256 = file.file_name().to_string_lossy().into_owned();
                if !is_digest(&sha256) {
                    continue;
                }
                let (own, path) = (self.files.clone(), file.path());
                let Ok(Ok(size)) = tokio::task::spawn_blocking(move || own.length(&path)).await else {
                    continue;
                };
                let large = LargeFile {
                    execution: owner.execution.clone(),
                    uid: owner.uid.clone(),
                    sha256,
                    path: file.path(),
                    size,
                    files: self.files.clone(),
                };
                waiting |= hand_on(upload, &large, &owner, losses).await;
            }
            // Fails while there are files, as it should.
            let _ = tokio::fs::remove_dir(entry.path()).await;
        }
        waiting
    }
}

/// True: it waits.
async fn hand_on(upload: &dyn ContentUpload, file: &LargeFile, owner: &Owner, losses: &dyn Losses) -> bool {
    match upload.send(file).await {
        Ok(()) => info!(sha256 = %file.sha256, size = file.size, "the hub has a large file whole"),
        Err(SinkError::Refused(why)) => {
            warn!(sha256 = %file.sha256, size = file.size, %why, "a large file does not reach the hub; it is lost");
            return lost::note(&file.path, owner, &why, losses).await;
        }
        Err(SinkError::Unknown) if age(&file.path).await < UNKNOWN => return true,
        Err(SinkError::Unknown) => {
            warn!(sha256 = %file.sha256, execution = %file.execution, "the hub does not know whose a large file is; it is dropped");
        }
        Err(error) => {
            warn!(%error, sha256 = %file.sha256, "a large file waits for the hub");
            return true;
        }
    }
    let _ = tokio::fs::remove_file(&file.path).await;
    false
}

async fn age(path: &Path) -> Duration {
    let facts = tokio::fs::metadata(path).await.and_then(|facts| facts.modified());
    facts.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}
