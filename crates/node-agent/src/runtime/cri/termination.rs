//! The file in which a container leaves its last message, beside its log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt as _;

use super::v1;

/// Where a container finds it unless its specification says otherwise.
const PATH: &str = "/dev/termination-log";
/// Bytes of a message that are kept, as upstream.
const MAX_BYTES: u64 = 4096;

fn beside(log: &Path) -> PathBuf {
    log.with_extension("message")
}

/// Makes the file and says how it is mounted; `None` when it cannot be made, which costs no container its start.
pub(super) async fn mount(log: &Path, path: Option<&str>) -> Option<v1::Mount> {
    let file = beside(log);
    tokio::fs::write(&file, b"").await.ok()?;
    // Whoever the container runs as writes to it.
    tokio::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).await.ok()?;
    let container_path = path.filter(|path| !path.is_empty()).unwrap_or(PATH).to_owned();
    let host_path = file.display().to_string();
    Some(v1::Mount { container_path, host_path, readonly: false, propagation: 0 })
}

/// What a container left; nothing when there is no file.
pub(super) async fn message(log: &Path) -> String {
    let Ok(file) = tokio::fs::File::open(beside(log)).await else { return String::new() };
    let mut content = Vec::new();
    let _ = file.take(MAX_BYTES).read_to_end(&mut content).await;
    String::from_utf8_lossy(&content).into_owned()
}
