//! `fairlead cluster ephemeral`

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use assembly::cluster::{Cluster, Nodes};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::commands::throw_away::{self, NAME, ThrowAway};
use crate::failure::{Code, Failure, program};
use crate::{output, signals};

/// How long a command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Run a command with a cluster of its own: KUBECONFIG leads to an empty cluster, which is gone when the command ends.
/// Its exit code is the command's.
#[derive(Args, Debug)]
pub(crate) struct EphemeralArguments {
    #[command(flatten)]
    cluster: ThrowAway,
    /// No controllers, scheduler and nodes: an API server in which nothing happens by itself, for tests that play those parts
    #[arg(long, conflicts_with_all = ["nodes", "runtime"], help_heading = "Ephemeral cluster")]
    api_server_only: bool,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(arguments: EphemeralArguments) -> Result<Code, Failure> {
    let stop = signals::shutdown()?;
    let seeds = arguments.cluster.seeds()?;
    let directory = throw_away::directory()?;
    let mut options = arguments.cluster.options(directory.path(), Some(arguments.listen))?;
    if arguments.api_server_only {
        (options.nodes, options.controllers) = (Nodes::Simulated(0), false);
    }
    let began = Instant::now();
    let cluster = Box::pin(Cluster::start(options.clone())).await.map_err(program)?;
    assembly::ephemeral::usable(&cluster.client(), &options).await.map_err(program)?;
    throw_away::apply(&cluster.client(), &seeds).await?;
    let kubeconfig = directory.path().join("kubeconfig");
    let text = cluster.kubeconfig(NAME).map_err(program)?.context("the cluster does not listen")?;
    write_secret(&kubeconfig, &text).with_context(|| format!("cannot write {}", kubeconfig.display()))?;
    output::progress(&format!("ephemeral cluster ready after {} ms", began.elapsed().as_millis()));
    let ended = command(&arguments.command, &kubeconfig, &stop).await;
    let end = CancellationToken::new();
    end.cancel();
    cluster.run(end).await.map_err(program)?;
    arguments.cluster.clean_up(directory.path()).await?;
    let status = ended?;
    if status.success() {
        return Ok(Code::Ok);
    }
    // The exit codes of other programs are not ours to translate; everything of this one has ended.
    drop(directory);
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

async fn command(
    words: &[String],
    kubeconfig: &Path,
    stop: &CancellationToken,
) -> Result<ExitStatus, Failure> {
    let (name, rest) = words.split_first().ok_or_else(|| Failure::usage("there is no command"))?;
    let mut child = Command::new(name)
        .args(rest)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {name}"))
        .map_err(|error| Failure::new(Code::Usage, error))?;
    tokio::select! {
        status = child.wait() => Ok(status.with_context(|| format!("cannot wait for {name}"))?),
        () = stop.cancelled() => end(&mut child, name).await,
    }
}

/// Passes the signal on; a terminal has sent Ctrl-C to the command itself already, which then hears twice.
async fn end(child: &mut Child, name: &str) -> Result<ExitStatus, Failure> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended in this moment.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        return Ok(status.with_context(|| format!("cannot wait for {name}"))?);
    }
    child.kill().await.with_context(|| format!("cannot end {name}"))?;
    Err(Failure::interrupted())
}
