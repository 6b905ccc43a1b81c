//! Ending what a state directory runs.

use std::path::Path;

use super::directory;
use super::error::UpError;
use super::plan::{Layout, RuntimeKind, SUPERVISOR};

/// What was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that ended, by name; the supervisor's children with it.
    pub ended: Vec<String>,
}

/// Ends the supervisor, which ends the rest in order, then whatever it left. Only processes that are provably of this
/// directory are touched: a pid file says when its process was started.
///
/// # Errors
/// When the directory cannot be read or written.
pub async fn stop(directory: &Path) -> Result<Stopped, UpError> {
    let layout = Layout { root: directory.to_owned() };
    let before = directory::processes(&layout)?;
    let ended =
        before.iter().filter(|(_, process)| process.is_running()).map(|(name, _)| name.clone()).collect();
    if let Some(supervisor) = directory::supervisor(&layout) {
        supervisor.end_patiently().await;
    }
    directory::end_leftovers(&layout).await?;
    end_containers(&layout).await?;
    directory::remove(&layout.pid(SUPERVISOR))?;
    directory::remove(&layout.ready())?;
    Ok(Stopped { ended })
}

/// Ends the pods of all clusters, then the container runtime, where there is one.
pub(crate) async fn end_containers(layout: &Layout) -> Result<(), UpError> {
    let memory = directory::read_memory(layout)?;
    let directory = layout.containerd();
    // Ended already, or never started: it is not to be started just to be ended.
    let runs = tokio::net::UnixStream::connect(directory.join("containerd.sock")).await.is_ok();
    if memory.runtime != Some(RuntimeKind::Containerd) || !runs {
        return Ok(());
    }
    let owners: Vec<String> = memory.clusters.into_keys().collect();
    let stopped = crate::containers::stop(&directory, &owners).await;
    stopped.map_err(|error| UpError::Containers(error.into()))
}
