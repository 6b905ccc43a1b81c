//! Files that will never reach the hub: told once the result that names them was, so that nobody waits for them for ever.
//!
//! `<sha256>.lost` stands in a file's place, holds why, and stays until it is told.

use std::path::Path;

use async_trait::async_trait;
use tracing::warn;

use super::incoming::Owner;
use super::is_digest;

/// Why a file is lost whose bytes are not those that were written.
pub(crate) const DAMAGED: &str = "the agent's disk damaged it while it waited for the hub";
/// What the reason's file ends in.
const ENDING: &str = "lost";
/// Bytes of a reason.
const MAX_REASON: usize = 4096;

/// Who is told.
#[async_trait]
pub(in super::super) trait Losses: Send + Sync {
    /// Tells that a file of an execution is lost; false when it cannot be told yet. Telling it again changes nothing.
    async fn tell(&self, owner: &Owner, sha256: &str, reason: &str) -> bool;
}

/// Notes why a file is lost, in its place, and tells it; true when that has to wait.
pub(super) async fn note(path: &Path, owner: &Owner, reason: &str, losses: &dyn Losses) -> bool {
    let place = path.with_extension(ENDING);
    let reason: String = reason.chars().take(MAX_REASON / 4).collect();
    if let Err(error) = tokio::fs::write(&place, reason).await {
        warn!(%error, path = %place.display(), "cannot note that a file is lost");
        return true;
    }
    let _ = tokio::fs::remove_file(path).await;
    tell_one(&place, owner, losses).await
}

/// Tells what is noted in a directory; true when some of it has to wait.
pub(super) async fn tell(dir: &Path, owner: &Owner, losses: &dyn Losses) -> bool {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return false };
    let mut waiting = false;
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.path().extension().is_some_and(|ending| ending == ENDING) {
            waiting |= tell_one(&entry.path(), owner, losses).await;
        }
    }
    waiting
}

async fn tell_one(place: &Path, owner: &Owner, losses: &dyn Losses) -> bool {
    let sha256 = place.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let reason = tokio::fs::read(place).await.unwrap_or_default();
    let reason = String::from_utf8_lossy(&reason[..reason.len().min(MAX_REASON)]).into_owned();
    // A name that no file has is nobody's.
    if is_digest(&sha256) && !losses.tell(owner, &sha256, &reason).await {
        return true;
    }
    let _ = tokio::fs::remove_file(place).await;
    false
}
