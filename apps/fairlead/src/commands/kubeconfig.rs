//! `fairlead kubeconfig`

use anyhow::Context as _;
use clap::Args;

use crate::arguments::Global;
use crate::connection;
use crate::failure::{Code, Failure};
use crate::output;

#[derive(Args, Debug)]
pub(crate) struct KubeconfigArguments {
    /// Of this cluster of `fairlead up` instead of the hub
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Print where the file is instead of what it holds
    #[arg(long)]
    path: bool,
}

pub(crate) fn run(global: &Global, arguments: &KubeconfigArguments) -> Result<Code, Failure> {
    let path = match &arguments.cluster {
        Some(cluster) => {
            fleet_objects::check_cluster_name(cluster).map_err(|error| Failure::usage(error.to_string()))?;
            connection::state_dir(global)?.join(format!("{cluster}.kubeconfig"))
        }
        None => connection::kubeconfig_path(global)?.ok_or_else(|| {
            Failure::new(Code::Unreachable, anyhow::Error::msg("no hub is known")).hint("fairlead up")
        })?,
    };
    if !path.exists() {
        let message = format!("there is no kubeconfig {}", path.display());
        return Err(Failure::new(Code::Unreachable, anyhow::Error::msg(message)).hint("fairlead up"));
    }
    if arguments.path {
        output::data(&format!("{}\n", path.display()))?;
    } else {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        output::data(&text)?;
    }
    Ok(Code::Ok)
}
