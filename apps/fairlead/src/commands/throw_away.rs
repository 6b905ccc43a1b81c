//! What `fairlead cluster ephemeral` and `fairlead test run --ephemeral` have in common: a cluster in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use assembly::cluster::{Nodes, Options};
use assembly::containers::Containers;
use clap::Args;
use kube::Client;

use super::cluster::serve::Runtime;
use crate::documents::{self, Document};
use crate::failure::{Code, Failure, program};

/// Its name, in kubeconfigs and reports.
pub(crate) const NAME: &str = "ephemeral";

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ThrowAway {
    /// Simulated nodes of the ephemeral cluster [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(0..=1000), help_heading = "Ephemeral cluster")]
    nodes: Option<u16>,
    /// What runs its pods [default: simulated]
    #[arg(long, value_name = "simulated|containerd[=DIR]", help_heading = "Ephemeral cluster")]
    runtime: Option<Runtime>,
    /// File or directory of objects it holds from the start
    #[arg(long, value_name = "FILE", help_heading = "Ephemeral cluster")]
    seed: Vec<PathBuf>,
}

impl ThrowAway {
    /// Whether anything was said about the cluster.
    pub(crate) fn is_given(&self) -> bool {
        self.nodes.is_some() || self.runtime.is_some() || !self.seed.is_empty()
    }

    /// What the cluster is made of; `directory` is this run's own.
    pub(crate) fn options(&self, directory: &Path, bind: Option<SocketAddr>) -> Result<Options, Failure> {
        let nodes = match &self.runtime {
            None | Some(Runtime::Simulated) => Nodes::Simulated(usize::from(self.nodes.unwrap_or(1))),
            Some(Runtime::Containerd(_)) if self.nodes.is_some_and(|nodes| nodes != 1) => {
                return Err(Failure::usage("a cluster on containerd has one node"));
            }
            Some(Runtime::Containerd(shared)) => Nodes::Containers(Containers {
                directory: shared.clone().unwrap_or_else(|| directory.join("c")),
                pods_dir: directory.join("node"),
            }),
        };
        Ok(Options { nodes, bind, ..Options::ephemeral(NAME) })
    }

    /// Ends a containerd that was started for this cluster alone; one in a directory that was named goes on.
    pub(crate) async fn clean_up(&self, directory: &Path) -> Result<(), Failure> {
        if self.runtime == Some(Runtime::Containerd(None)) {
            assembly::containers::stop(&directory.join("c"), &[NAME.to_owned()]).await.map_err(program)?;
        }
        Ok(())
    }

    /// The objects to begin with, read before anything is started.
    pub(crate) fn seeds(&self) -> Result<Vec<Document>, Failure> {
        let mut all = Vec::new();
        for path in &self.seed {
            all.extend(documents::read(path)?);
        }
        Ok(all)
    }
}

/// Puts objects into a cluster, in their order.
pub(crate) async fn apply(client: &Client, seeds: &[Document]) -> Result<(), Failure> {
    for seed in seeds {
        assembly::test_clusters::apply(client, &seed.value).await.map_err(|error| {
            let error = anyhow::Error::new(error).context(format!("cannot take {}", seed.origin));
            Failure::new(Code::Usage, error)
        })?;
    }
    Ok(())
}

/// A directory of this run alone. Short, for sockets lie in it.
pub(crate) fn directory() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("fairlead-")
        .tempdir()
        .context("cannot make a directory for the ephemeral cluster")
        .map_err(Failure::from)
}
