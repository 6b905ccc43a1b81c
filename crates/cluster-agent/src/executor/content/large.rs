//! Files of any size on their way to the hub, one after the other, each from where the hub has it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::incoming::{Owner, is_plain};
use super::{RETRY, Spool, is_digest};
use crate::executor::{ContentUpload, LargeFile, SinkError};

/// Below the spool: a directory for each execution, named `<name>_<uid>`.
const READY: &str = "large";
/// How long a file waits that the hub does not know what to do with: its run was removed, or has not been told of yet.
const UNKNOWN: Duration = Duration::from_secs(3 * 24 * 3600);

impl Spool {
    /// Where files of an execution wait for the hub; `None` for a name that no execution has.
    pub(super) fn ready(&self, owner: &Owner) -> Option<PathBuf> {
        let plain = is_plain(&owner.execution) && is_plain(&owner.uid);
        plain.then(|| self.dir.join(READY).join(format!("{}_{}", owner.execution, owner.uid)))
    }

    pub(super) async fn deliver_large(&self, upload: &dyn ContentUpload, shutdown: &CancellationToken) {
        loop {
            let pass = shutdown.run_until_cancelled(self.pass_large(upload)).await;
            let Some(waiting) = pass else { return };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake_large.notified() => {}
                () = tokio::time::sleep(RETRY), if waiting => {}
            }
        }
    }

    /// Tries every file once; true when some are left.
    pub(super) async fn pass_large(&self, upload: &dyn ContentUpload) -> bool {
        let Ok(mut owners) = tokio::fs::read_dir(self.dir.join(READY)).await else { return false };
        let mut waiting = false;
        while let Ok(Some(owner)) = owners.next_entry().await {
            let name = owner.file_name().to_string_lossy().into_owned();
            let Some((execution, uid)) = name.split_once('_') else { continue };
            let Ok(mut files) = tokio::fs::read_dir(owner.path()).await else { continue };
            while let Ok(Some(file)) = files.next_entry().await {
                let sha256 = file.file_name().to_string_lossy().into_owned();
                let Ok(facts) = file.metadata().await else { continue };
                if !is_digest(&sha256) {
                    continue;
                }
                let large = LargeFile {
                    execution: execution.to_owned(),
                    uid: uid.to_owned(),
                    sha256,
                    path: file.path(),
                    size: facts.len(),
                };
                waiting |= !self.hand_on(upload, &large).await;
            }
            // Fails while there are files, as it should.
            let _ = tokio::fs::remove_dir(owner.path()).await;
        }
        waiting
    }

    /// False: it waits.
    async fn hand_on(&self, upload: &dyn ContentUpload, file: &LargeFile) -> bool {
        match upload.send(file).await {
            Ok(()) => info!(sha256 = %file.sha256, size = file.size, "the hub has a large file whole"),
            Err(SinkError::Refused(why)) => {
                warn!(sha256 = %file.sha256, size = file.size, %why, "the hub does not take a large file; it is dropped");
            }
            Err(SinkError::Unknown) if age(&file.path).await < UNKNOWN => return false,
            Err(SinkError::Unknown) => {
                warn!(sha256 = %file.sha256, execution = %file.execution, "the hub does not know whose a large file is; it is dropped");
            }
            Err(error) => {
                warn!(%error, sha256 = %file.sha256, "a large file waits for the hub");
                return false;
            }
        }
        let _ = tokio::fs::remove_file(&file.path).await;
        true
    }
}

async fn age(path: &Path) -> Duration {
    let facts = tokio::fs::metadata(path).await.and_then(|facts| facts.modified());
    facts.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}
