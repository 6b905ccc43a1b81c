//! `fairlead agent …`

use std::path::PathBuf;

use anyhow::Context as _;
use assembly::agent::{Access, Agent, Invitation, Options};
use clap::{Args, Subcommand};
use fleet_planner::ceiling::Ceiling;

use super::join;
use crate::failure::{Code, Failure, program};
use crate::telemetry::{self, LogArguments};
use crate::{output, signals};

#[derive(Subcommand, Debug)]
pub(crate) enum AgentCommand {
    /// Run the agent of a cluster
    Serve(ServeArguments),
    /// Tell an agent that its hub has another address or authority
    Rebind(RebindArguments),
    /// Print the built-in ceiling, or check one
    Ceiling(CeilingArguments),
}

/// Tell an agent that its hub has another address or authority: for agents that were away while these changed. Its
/// registered key proves who it is; it needs no token, and keeps what it holds. A running agent follows by itself.
#[derive(Args, Debug)]
pub(crate) struct RebindArguments {
    /// Where the agent keeps everything
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the hub is, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    hub: String,
    /// By what the hub is recognised: `fairlead hub authority show`
    #[arg(long, value_name = "sha256:…")]
    ca_pin: String,
}

/// Print the ceiling that holds where a cluster's owner wrote none, as a beginning for one's own; with a file, check it.
#[derive(Args, Debug)]
pub(crate) struct CeilingArguments {
    /// A ceiling to check
    file: Option<PathBuf>,
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
    /// The ceiling of the cluster's owner; it is read again when it changes [default: DIR/ceiling.yaml, else the built-in one]
    #[arg(long, value_name = "FILE")]
    ceiling: Option<PathBuf>,
    /// The key that seals what is held on disk; made when it is not there. On another disk, or in a mounted Secret, it
    /// protects this one [default: DIR/state.key]
    #[arg(long, value_name = "FILE")]
    state_key: Option<PathBuf>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Labels the cluster gets when it joins
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE,…")]
    labels: Vec<String>,
    /// What the hub's administrators may do here with kubectl through the hub: a ClusterRole; `none`: what the cluster's
    /// own RBAC gives to users and groups called cluster:hub:…; `off`: nobody of the hub reaches this cluster
    #[arg(long, default_value = "view", value_name = "CLUSTERROLE|none|off")]
    access: String,
    /// Test executions that run at once; more wait in a queue on disk
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_tests: u16,
    /// Megabytes of files of tests that wait on disk until the hub has them; what is beyond is not kept, and the run says so
    #[arg(long, value_name = "MB", default_value_t = 4096)]
    test_files_max: u64,
    #[command(flatten)]
    log: LogArguments,
}

pub(crate) async fn run(command: AgentCommand) -> Result<Code, Failure> {
    match command {
        AgentCommand::Serve(arguments) => serve(arguments).await,
        AgentCommand::Ceiling(arguments) => ceiling(&arguments),
        AgentCommand::Rebind(arguments) => {
            let directory = arguments.dir.ok_or_else(|| Failure::usage("--dir is missing"))?;
            let bound = assembly::agent::rebind(&directory, &arguments.hub, &arguments.ca_pin);
            let name = bound.await.map_err(program)?;
            output::progress(&format!("the agent of {name} is bound to {}", arguments.hub));
            Ok(Code::Ok)
        }
    }
}

fn ceiling(arguments: &CeilingArguments) -> Result<Code, Failure> {
    let Some(file) = &arguments.file else {
        output::data(&output::yaml(&Ceiling::builtin())?)?;
        return Ok(Code::Ok);
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ceiling::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    output::progress(&format!("{} is a ceiling", file.display()));
    Ok(Code::Ok)
}

async fn serve(arguments: ServeArguments) -> Result<Code, Failure> {
    let format = arguments.log.log_format;
    let options = resolve(arguments)?;
    telemetry::start(format)?;
    let stop = signals::shutdown()?;
    let hub = options.hub.clone();
    let joined = assembly::agent::has_joined(&options.directory);
    let ready = move || output::progress(&format!("agent ready, hub {hub}"));
    let served = Agent::serve(options, stop, ready).await;
    served.map_err(|error| {
        let failure = program(error);
        if joined { failure } else { failure.hint("fairlead agent serve --token TOKEN --ca-pin PIN …") }
    })?;
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
    Ok(Options {
        directory,
        hub: arguments.hub,
        invitation,
        kubeconfig: arguments.kubeconfig,
        ceiling: arguments.ceiling,
        access: Access::parse(&arguments.access),
        state_key: arguments.state_key,
        max_tests: Some(usize::from(arguments.max_tests)),
        max_test_files: Some(arguments.test_files_max.saturating_mul(1 << 20)),
    })
}
