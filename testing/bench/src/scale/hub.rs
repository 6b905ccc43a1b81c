//! The hub of a scale test: a process of its own, so that its memory and processor time are its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use assembly::hub::{Hub, Options};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// What a hub that is ready says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    address: SocketAddr,
    pin: String,
}

/// Runs a hub in this process until it is killed; says on standard output when it is ready.
///
/// # Errors
/// When it does not start, or ends by itself.
pub async fn serve(directory: PathBuf, listen: SocketAddr) -> anyhow::Result<()> {
    let options = Options {
        directory,
        store: assembly::state::StoreOptions::default(),
        bind: listen,
        names: Vec::new(),
        serving: assembly::control_plane::Serving::default(),
        agent_certificate_ttl: None,
        test_retention: Default::default(),
        announce: None,
        telemetry: None,
        replica_url: None,
    };
    let hub = Box::pin(Hub::start(options)).await?;
    let address = hub.address().context("the hub has no address")?;
    println!("{}", serde_json::to_string(&Ready { address, pin: hub.pin() })?);
    Ok(hub.run(CancellationToken::new()).await?)
}

/// A hub's process; killed when this is dropped.
#[derive(Debug)]
pub(super) struct HubProcess {
    child: Child,
    directory: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) pin: String,
}

impl HubProcess {
    /// Starts this very program as a hub.
    pub(super) async fn start(directory: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("scale-hub").arg("--dir").arg(directory).arg("--listen").arg(listen.to_string());
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("start the hub")?;
        let stdout = child.stdout.take().context("the hub has no standard output")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the hub ended")?;
        let Ready { address, pin } = serde_json::from_str(&line)?;
        Ok(Self { child, directory: directory.to_owned(), address, pin })
    }

    /// Kills it as power loss does and starts it again on what it left.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        *self = Self::start(&self.directory.clone(), self.address).await?;
        Ok(())
    }

    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the hub has ended")
    }

    /// Acts as the hub's administrator.
    pub(super) async fn client(&self) -> anyhow::Result<kube::Client> {
        crate::connect(Some(&assembly::control_plane::kubeconfig_path(&self.directory))).await
    }
}
