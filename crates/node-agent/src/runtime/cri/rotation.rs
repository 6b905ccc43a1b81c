//! Log files do not grow without bound: as upstream's kubelet has it, a running container's file is put aside once it is
//! large, the runtime begins a new one, and only a few are kept.

use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use jiff::Timestamp;

use super::{CALL, CONTAINER_NAME, Inner, POD_UID, v1};

/// Upstream's `containerLogMaxSize`, `containerLogMaxFiles` and `containerLogMonitorInterval`.
const MAX_BYTES: u64 = 10 << 20;
const MAX_FILES: usize = 5;
const PERIOD: Duration = Duration::from_secs(10);
/// CRI's `CONTAINER_RUNNING`.
const RUNNING: i32 = 1;

/// Looks at the files of all running containers until the runtime is dropped.
pub(super) async fn run(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(inner) = inner.upgrade() else { return };
        let Ok((_, containers)) = inner.lists(None).await else { continue };
        for container in containers.iter().filter(|container| container.state == RUNNING) {
            if let Err(error) = look(&inner, container).await {
                tracing::warn!(%error, container = container.id, "a log file could not be rotated");
            }
        }
    }
}

async fn look(inner: &Inner, container: &v1::Container) -> std::io::Result<()> {
    let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
    let attempt = container.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    let path =
        inner.options.logs_dir.join(label(POD_UID)).join(format!("{}_{attempt}.log", label(CONTAINER_NAME)));
    match tokio::fs::metadata(&path).await {
        Ok(file) if file.len() >= MAX_BYTES => {}
        _ => return Ok(()),
    }
    for old in superfluous(&path, siblings(&path).await?) {
        tokio::fs::remove_file(old).await?;
    }
    let aside = aside(&path, Timestamp::now());
    tokio::fs::rename(&path, &aside).await?;
    let request = v1::ContainerId { container_id: container.id.clone() };
    let reopened = inner.call("reopen a log file", CALL, inner.runtime().reopen_container_log(request)).await;
    if let Err(error) = reopened {
        // The runtime goes on writing to the file it has: it must be found under its name.
        tokio::fs::rename(&aside, &path).await?;
        return Err(std::io::Error::other(error));
    }
    Ok(())
}

/// What a file is called once it is put aside; such names sort by age.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    name.into()
}

async fn siblings(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let Some(directory) = path.parent() else { return Ok(Vec::new()) };
    let mut entries = tokio::fs::read_dir(directory).await?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        found.push(entry.path());
    }
    Ok(found)
}

/// The oldest files put aside: beside the one to come and the one that is written, `MAX_FILES - 2` stay.
fn superfluous(path: &Path, siblings: Vec<PathBuf>) -> Vec<PathBuf> {
    let prefix = format!("{}.", path.display());
    let mut aside: Vec<PathBuf> =
        siblings.into_iter().filter(|own| own.display().to_string().starts_with(&prefix)).collect();
    aside.sort();
    let excess = aside.len().saturating_sub(MAX_FILES - 2);
    aside.truncate(excess);
    aside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let path = Path::new("/logs/u/main_0.log");
        let at = |second: i64| aside(path, Timestamp::from_second(second).expect("a time"));
        assert_eq!(at(0), Path::new("/logs/u/main_0.log.19700101-000000"));
        let other = PathBuf::from("/logs/u/main_1.log.19700101-000000");
        let siblings = vec![at(50), path.to_owned(), at(10), other, at(40), at(20), at(30)];
        assert_eq!(superfluous(path, siblings), [at(10), at(20)]);
        assert!(superfluous(path, vec![at(1), at(2), at(3)]).is_empty());
    }
}
