//! `fairlead agent serve`

use std::path::PathBuf;

use assembly::agent::{Agent, Invitation, Options};
use clap::{Args, Subcommand};

use super::join;
use crate::failure::{Code, Failure, program};
use crate::telemetry::{self, LogArguments};
use crate::{output, signals};

#[derive(Subcommand, Debug)]
pub(crate) enum AgentCommand {
    /// Run the agent of a cluster
    Serve(ServeArguments),
}

/// Run the agent of a cluster until SIGTERM. A token and --ca-pin are needed the first time only.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Where it keeps everything
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the hub is, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    hub: String,
    /// One-use token of `fairlead join token create`
    #[arg(long, env = "FAIRLEAD_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN", requires_all = ["ca_pin", "name"])]
    token: Option<String>,
    /// By what the hub is recognised; printed with the token
    #[arg(long, value_name = "sha256:…")]
    ca_pin: Option<String>,
    /// Kubeconfig of the cluster [default: the cluster this is a pod of]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Labels the cluster gets when it joins
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE,…")]
    labels: Vec<String>,
    #[command(flatten)]
    log: LogArguments,
}

pub(crate) async fn run(command: AgentCommand) -> Result<Code, Failure> {
    let AgentCommand::Serve(arguments) = command;
    let format = arguments.log.log_format;
    let options = resolve(arguments)?;
    telemetry::start(format)?;
    let stop = signals::shutdown()?;
    let hub = options.hub.clone();
    let joined = assembly::agent::has_joined(&options.directory);
    let Some(opened) = stop.run_until_cancelled(Box::pin(Agent::open(options))).await else {
        return Ok(Code::Ok);
    };
    let agent = opened.map_err(|error| {
        let failure = program(error);
        if joined { failure } else { failure.hint("fairlead agent serve --token TOKEN --ca-pin PIN …") }
    })?;
    output::progress(&format!("agent ready, hub {hub}"));
    agent.run(stop).await.map_err(program)?;
    Ok(Code::Ok)
}

fn resolve(arguments: ServeArguments) -> Result<Options, Failure> {
    let directory = arguments.dir.ok_or_else(|| Failure::usage("--dir is missing"))?;
    let labels = join::labels(&arguments.labels)?;
    let invitation = match (arguments.token, arguments.ca_pin, arguments.name) {
        (Some(token), Some(ca_pin), Some(name)) => {
            fleet_objects::check_cluster_name(&name).map_err(|error| Failure::usage(error.to_string()))?;
            Some(Invitation { token, ca_pin, name, labels })
        }
        _ => None,
    };
    Ok(Options { directory, hub: arguments.hub, invitation, kubeconfig: arguments.kubeconfig })
}
