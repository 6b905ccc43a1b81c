//! `fairlead hub …`

mod authority;
mod backup;
mod otlp;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::hub::test_runs::Retention;
use assembly::hub::{Hub, Options};
use clap::{Args, Subcommand};

use crate::arguments::Global;
use crate::failure::{Code, Failure, program};
use crate::serving::ServingArguments;
use crate::store_choice::{HistoryChoice, StoreChoice};
use crate::telemetry::{self, LogArguments};
use crate::{arguments, output, signals};

#[derive(Subcommand, Debug)]
pub(crate) enum HubCommand {
    /// Run a hub
    Serve(Box<ServeArguments>),
    /// Rotate the authority by which agents recognise the hub
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Write a whole hub to one file
    Backup(backup::BackupArguments),
    /// Make a hub of a backup
    Restore(backup::RestoreArguments),
}

/// Run a hub until SIGTERM. Its administrator's kubeconfig is DIR/admin.kubeconfig.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Where it keeps everything
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// DNS name or address by which agents reach it, besides this machine's loopback
    #[arg(long = "name", value_name = "DNS|IP")]
    names: Vec<String>,
    /// How long agents' certificates hold; they are renewed after two thirds of it
    #[arg(long, default_value = "24h", value_parser = arguments::duration, value_name = "DURATION")]
    agent_certificate_ttl: Duration,
    /// Remove test runs that are older
    #[arg(long, default_value = "2160h", value_parser = arguments::duration, value_name = "DURATION", help_heading = "Test runs")]
    test_runs_max_age: Duration,
    /// Keep this many runs of each workflow
    #[arg(long, default_value_t = 500, value_name = "COUNT", help_heading = "Test runs")]
    test_runs_max: usize,
    /// Megabytes of logs of all test runs together; the oldest runs go first
    #[arg(long, default_value_t = 10_240, value_name = "MB", help_heading = "Test runs")]
    test_logs_max: u64,
    /// Megabytes of large files of all test runs together; the oldest runs go first
    #[arg(long, default_value_t = 51_200, value_name = "MB", help_heading = "Test runs")]
    test_files_max: u64,
    /// Megabytes of large files that one test run may keep; more is refused
    #[arg(long, default_value_t = 16_384, value_name = "MB", help_heading = "Test runs")]
    test_run_files_max: u64,
    /// Where agents reach it from now on; they keep it, and go there when the place they know does not answer
    #[arg(long, value_name = "URL")]
    announce: Option<String>,
    /// Where other processes of this hub reach this one, when several serve one etcd [default: where it listens]
    #[arg(long, value_name = "URL")]
    replica_url: Option<String>,
    #[command(flatten)]
    telemetry: otlp::OtlpArguments,
    #[command(flatten)]
    store: StoreChoice,
    #[command(flatten)]
    history: HistoryChoice,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    log: LogArguments,
}

pub(crate) async fn run(global: &Global, command: HubCommand) -> Result<Code, Failure> {
    let arguments = match command {
        HubCommand::Serve(arguments) => *arguments,
        HubCommand::Authority(command) => return authority::run(global, &command).await,
        HubCommand::Backup(arguments) => return backup::backup(global, arguments).await,
        HubCommand::Restore(arguments) => return backup::restore(global, arguments).await,
    };
    telemetry::start(arguments.log.log_format)?;
    let stop = signals::shutdown()?;
    let directory = arguments.dir.ok_or_else(|| Failure::usage("--dir is missing"))?;
    let kubeconfig = assembly::control_plane::kubeconfig_path(&directory);
    let store = arguments.store.resolve(&arguments.history)?;
    let serving = arguments.serving.resolve()?;
    let options = Options {
        directory,
        store,
        bind: arguments.listen,
        names: arguments.names,
        serving,
        agent_certificate_ttl: Some(arguments.agent_certificate_ttl),
        test_retention: Retention {
            max_age: arguments.test_runs_max_age,
            max_runs: arguments.test_runs_max,
            max_log_bytes: arguments.test_logs_max.saturating_mul(1 << 20),
            max_file_bytes: arguments.test_files_max.saturating_mul(1 << 20),
            max_run_bytes: arguments.test_run_files_max.saturating_mul(1 << 20),
        },
        announce: arguments.announce,
        telemetry: arguments.telemetry.resolve()?,
        replica_url: arguments.replica_url,
    };
    let Some(started) = stop.run_until_cancelled(Box::pin(Hub::start(options))).await else {
        return Ok(Code::Ok);
    };
    let hub = started.map_err(program)?;
    output::progress(&format!(
        "hub ready at https://{}, authority {}, kubeconfig {}",
        hub.address().map(|address| address.to_string()).unwrap_or_default(),
        hub.pin(),
        kubeconfig.display()
    ));
    hub.run(stop).await.map_err(program)?;
    Ok(Code::Ok)
}
