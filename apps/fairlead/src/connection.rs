//! Finding the hub.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::arguments::Global;
use crate::failure::{Code, Failure};

/// The kubeconfig that `fairlead up` leaves in its state directory.
const HUB_KUBECONFIG: &str = "hub.kubeconfig";

/// The state directory: given, or the user's.
pub(crate) fn state_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(dir) = &global.dir {
        return Ok(dir.clone());
    }
    if let Some(dir) = variable("FAIRLEAD_DIR") {
        return Ok(dir);
    }
    let base = directories::BaseDirs::new();
    let base =
        base.ok_or_else(|| Failure::usage("the user has no home directory").hint("fairlead --dir DIR …"))?;
    Ok(base.data_dir().join("fairlead"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Which kubeconfig leads to the hub: given, of the state directory, or the user's own.
pub(crate) fn kubeconfig_path(global: &Global) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &global.kubeconfig {
        return Ok(Some(path.clone()));
    }
    // A directory on the command line says more than a variable.
    if let (None, Some(path)) = (&global.dir, variable("FAIRLEAD_KUBECONFIG")) {
        return Ok(Some(path));
    }
    let own = state_dir(global)?.join(HUB_KUBECONFIG);
    if own.exists() {
        return Ok(Some(own));
    }
    if global.dir.is_some() {
        let message = format!("there is no hub in {}", own.parent().unwrap_or(&own).display());
        return Err(Failure::new(Code::Unreachable, anyhow::Error::msg(message)).hint("fairlead up"));
    }
    Ok(None)
}

/// Connects to the hub.
pub(crate) async fn hub(global: &Global) -> Result<Client, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    Client::try_from(config(global).await?).context("cannot set up the connection").map_err(unreachable)
}

/// Connects to the hub for requests that go on to clusters: a cluster that is away (503) is an answer, and is not asked again.
pub(crate) async fn hub_once(global: &Global) -> Result<Client, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    let mut config = config(global).await?;
    config.default_retry = false;
    Client::try_from(config).context("cannot set up the connection").map_err(unreachable)
}

/// Connects to a server by the kubeconfig that it leaves in its directory, or by one that was named. One that is away is
/// not waited for.
pub(crate) async fn server(global: &Global, kubeconfig: &Path) -> Result<Client, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read the kubeconfig {}", kubeconfig.display()))
        .map_err(unreachable)?;
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(read, &options).await;
    let mut config = config.context("the kubeconfig leads nowhere").map_err(unreachable)?;
    config.default_retry = false;
    Client::try_from(config).context("cannot set up the connection").map_err(unreachable)
}

/// The kubeconfig that leads to the hub; the files it names are absolute.
pub(crate) fn kubeconfig(global: &Global) -> Result<Kubeconfig, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    match kubeconfig_path(global)? {
        Some(path) => Kubeconfig::read_from(&path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))
            .map_err(unreachable),
        None => Kubeconfig::read()
            .context("no hub is known: there is neither a state directory nor a kubeconfig")
            .map_err(|error| unreachable(error).hint("fairlead up")),
    }
}

/// How the hub is reached.
pub(crate) async fn config(global: &Global) -> Result<Config, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    let kubeconfig = kubeconfig(global)?;
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .context("the kubeconfig does not lead to a hub")
        .map_err(unreachable)
}
