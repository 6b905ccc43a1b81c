//! `fairlead cluster serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use assembly::cluster::{Cluster, Nodes, Options};
use assembly::containers::Containers;
use assembly::state::State;
use clap::Args;

use crate::failure::{Code, Failure, program};
use crate::serving::ServingArguments;
use crate::store_choice::{HistoryChoice, StoreChoice};
use crate::telemetry::{self, LogArguments};
use crate::{output, signals};

/// Run a Kubernetes cluster until SIGTERM: API server, controllers, scheduler and nodes in this process.
/// The administrator's kubeconfig is DIR/admin.kubeconfig; that of an ephemeral cluster is printed.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Its name
    #[arg(long, default_value = "cluster", value_name = "NAME")]
    name: String,
    /// Where it keeps everything
    #[arg(long, value_name = "DIR", required_unless_present = "ephemeral")]
    dir: Option<PathBuf>,
    /// Keep everything in memory
    #[arg(long, conflicts_with = "dir")]
    ephemeral: bool,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// How many simulated nodes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(0..=1000))]
    nodes: Option<u16>,
    /// What runs its pods: nothing, or a private containerd, kept in DIR/containerd or in a directory that clusters share
    #[arg(long, default_value = "simulated", value_name = "simulated|containerd[=DIR]")]
    runtime: Runtime,
    /// No controllers, scheduler and nodes: an API server in which nothing happens by itself, for tests that play those parts
    #[arg(long, conflicts_with_all = ["nodes", "runtime"])]
    api_server_only: bool,
    #[command(flatten)]
    store: StoreChoice,
    #[command(flatten)]
    history: HistoryChoice,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// What runs pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Nothing; they go through their states by themselves.
    Simulated,
    /// A private containerd in this directory, or below the cluster's own.
    Containerd(Option<PathBuf>),
}

impl std::str::FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "simulated" => Ok(Self::Simulated),
            None if text == "containerd" => Ok(Self::Containerd(None)),
            Some(("containerd", dir)) if !dir.is_empty() => Ok(Self::Containerd(Some(dir.into()))),
            _ => Err("neither simulated nor containerd[=DIR]".to_owned()),
        }
    }
}

pub(crate) async fn run(arguments: ServeArguments) -> Result<Code, Failure> {
    fleet_objects::check_cluster_name(&arguments.name).map_err(|error| Failure::usage(error.to_string()))?;
    telemetry::start(arguments.log.log_format)?;
    let stop = signals::shutdown()?;
    let options = resolve(&arguments)?;
    let Some(started) = stop.run_until_cancelled(Box::pin(Cluster::start(options))).await else {
        return Ok(Code::Ok);
    };
    let cluster = started.map_err(program)?;
    let address = cluster.address().context("the cluster does not listen")?;
    let ready = format!("cluster {} ready at https://{address}", arguments.name);
    match &arguments.dir {
        Some(dir) => {
            let kubeconfig = assembly::control_plane::kubeconfig_path(dir);
            output::progress(&format!("{ready}, kubeconfig {}", kubeconfig.display()));
        }
        None => {
            let kubeconfig = cluster.kubeconfig(&arguments.name).map_err(program)?;
            output::data(&kubeconfig.unwrap_or_default())?;
            output::progress(&ready);
        }
    }
    cluster.run(stop).await.map_err(program)?;
    Ok(Code::Ok)
}

fn resolve(arguments: &ServeArguments) -> Result<Options, Failure> {
    let nodes = match &arguments.runtime {
        _ if arguments.api_server_only => Nodes::Simulated(0),
        Runtime::Simulated => Nodes::Simulated(usize::from(arguments.nodes.unwrap_or(1))),
        Runtime::Containerd(_) if arguments.nodes.is_some_and(|nodes| nodes != 1) => {
            return Err(Failure::usage("a cluster on containerd has one node"));
        }
        Runtime::Containerd(directory) => containers(arguments, directory.clone())?,
    };
    let state = arguments.dir.clone().map_or(State::Ephemeral, State::Directory);
    let store = arguments.store.resolve(&arguments.history)?;
    let serving = arguments.serving.resolve()?;
    let name = arguments.name.clone();
    let controllers = !arguments.api_server_only;
    Ok(Options { name, state, store, bind: Some(arguments.listen), nodes, controllers, serving })
}

fn containers(arguments: &ServeArguments, directory: Option<PathBuf>) -> Result<Nodes, Failure> {
    let dir = arguments.dir.as_ref().ok_or_else(|| Failure::usage("--runtime containerd needs --dir"))?;
    let directory = directory.unwrap_or_else(|| dir.join("containerd"));
    Ok(Nodes::Containers(Containers { directory, pods_dir: dir.join("node") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_may_name_its_socket() {
        assert_eq!("simulated".parse(), Ok(Runtime::Simulated));
        assert_eq!("containerd".parse(), Ok(Runtime::Containerd(None)));
        assert_eq!("containerd=/run/c".parse(), Ok(Runtime::Containerd(Some("/run/c".into()))));
        assert!("containerd=".parse::<Runtime>().is_err());
        assert!("docker".parse::<Runtime>().is_err());
    }
}
