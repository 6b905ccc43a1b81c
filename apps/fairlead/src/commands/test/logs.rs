//! `fairlead test logs`

use clap::Args;

use super::watch;
use crate::arguments::Global;
use crate::connection;
use crate::failure::{Code, Failure};

#[derive(Args, Debug)]
pub(crate) struct LogsArguments {
    /// Which run
    name: String,
    /// Only of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Only of this step
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// Go on until the run ends
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(global: &Global, arguments: &LogsArguments) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let (cluster, step) = (arguments.cluster.as_deref(), arguments.step.as_deref());
    watch::stream(&client, global, &arguments.name, arguments.follow, cluster, step).await?;
    Ok(Code::Ok)
}
