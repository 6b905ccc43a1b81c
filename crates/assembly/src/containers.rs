//! Real containers: a private containerd in a directory, shared by all clusters that name it, with the tool image in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node_agent::runtime::PodRuntime;
use node_agent::runtime::containerd::{Containerd, ContainerdOptions};
use node_agent::runtime::cri::{Cri, CriOptions};

use crate::error::{AssemblyError, Cause};

/// How real containers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    /// The private containerd's directory; started there unless it already runs. Keep the path short: its socket lies
    /// in it.
    pub directory: PathBuf,
    /// Where pods' volumes and logs lie.
    pub pods_dir: PathBuf,
}

/// The runtime of the node of cluster `owner`.
pub(crate) async fn runtime(
    containers: &Containers,
    owner: &str,
    node: &node_agent::Options,
) -> Result<Arc<dyn PodRuntime>, AssemblyError> {
    let containerd = start(&containers.directory).await?;
    let options = CriOptions {
        network_problem: containerd.network_problem(),
        cluster_dns: node.cluster_dns.clone(),
        cluster_domain: node.cluster_domain.clone(),
        ..CriOptions::new(containerd.socket(), owner, containers.pods_dir.join("logs"))
    };
    Ok(Arc::new(connect(options).await?))
}

/// Starts the private containerd, or finds the one that runs there, and puts the tool image into it.
///
/// # Errors
/// When something it needs is missing, it does not come up, or the image cannot be made or imported.
pub async fn start(directory: &Path) -> Result<Containerd, AssemblyError> {
    let failed = |cause: Cause| {
        AssemblyError::new(format!("failed to start containers in `{}`", directory.display()), cause)
    };
    let lock = directory.join("lock");
    let wanted = directory.to_owned();
    // Clusters that share it may start at the same moment. The lock goes with the file.
    let _starting = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&wanted)?;
        let file = File::create(lock)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    })
    .await
    .map_err(|panic| failed(panic.into()))?
    .map_err(|error| failed(error.into()))?;
    let containerd =
        Containerd::start(&ContainerdOptions::new(directory)).await.map_err(|error| failed(error.into()))?;
    let (directory, socket) = (directory.to_owned(), containerd.socket());
    tokio::task::spawn_blocking(move || import_tool_image(&directory, &socket))
        .await
        .map_err(|panic| failed(panic.into()))?
        .map_err(failed)?;
    Ok(containerd)
}

/// Ends every pod of the clusters `owners`, then containerd itself.
///
/// # Errors
/// When containerd cannot be reached or does not let go of a pod.
pub async fn stop(directory: &Path, owners: &[String]) -> Result<(), AssemblyError> {
    let containerd = start(directory).await?;
    for owner in owners {
        let cri = connect(CriOptions::new(containerd.socket(), owner, directory.join("logs"))).await?;
        cri.remove_all().await.map_err(|error| {
            AssemblyError::new(format!("failed to end the pods of cluster {owner}"), error.into())
        })?;
    }
    containerd.remove().await;
    Ok(())
}

async fn connect(options: CriOptions) -> Result<Cri, AssemblyError> {
    let socket = options.socket.clone();
    Cri::connect(options).await.map_err(|error| {
        AssemblyError::new(
            format!("failed to reach the container runtime at `{}`", socket.display()),
            error.into(),
        )
    })
}

/// Makes the tool image of this very program and imports it, unless the one imported last was made of the same.
fn import_tool_image(directory: &Path, socket: &Path) -> Result<(), Cause> {
    let program = std::env::current_exe()?;
    let facts = std::fs::metadata(&program)?;
    let mark = format!("{} {} {:?}", program.display(), facts.len(), facts.modified()?);
    let imported = directory.join("tool-image.made-of");
    if std::fs::read_to_string(&imported).is_ok_and(|last| last == mark) {
        return Ok(());
    }
    let archive = directory.join("tool-image.tar");
    container_images::build::write_tool_image(&program, &archive)?;
    container_images::load::load(&archive, socket)?;
    std::fs::remove_file(&archive)?;
    std::fs::write(&imported, mark)?;
    Ok(())
}
