//! An agent: the cluster agent on its own disk, towards a hub over TLS.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster_agent::{Credentials, Join, TlsConnector, Trust};
use policy_engines::pod_security::{Level, LevelVersion, Version, details, evaluate};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::agent_lease::AgentLease;
use crate::error::{AssemblyError, Cause};
use crate::expressions::Cel;
use crate::state::{Opened, State, StoreOptions};
use crate::test_clusters::TestClusters;

/// How long the agent's store keeps what was superseded.
const HISTORY: Duration = Duration::from_secs(10);

/// With what an agent joins a hub that does not know it yet.
#[derive(Clone)]
pub struct Invitation {
    /// One-use token.
    pub token: String,
    /// `sha256:…` of the public key of the hub's authority.
    pub ca_pin: String,
    /// The name wished for.
    pub name: String,
    /// Labels the cluster gets.
    pub labels: BTreeMap<String, String>,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("name", &self.name)
            .field("ca_pin", &self.ca_pin)
            .finish_non_exhaustive()
    }
}

/// What people of the hub may do in the cluster, through the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody reaches the cluster that way.
    Off,
    /// Whom the cluster's own RBAC lets in, under the names of `cluster:hub:…`; the agent binds nobody.
    Unbound,
    /// And the hub's administrators get this ClusterRole.
    Role(String),
}

impl Access {
    /// `off`, `none` or a ClusterRole's name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "off" => Self::Off,
            "none" => Self::Unbound,
            role => Self::Role(role.to_owned()),
        }
    }
}

/// What an agent is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps everything.
    pub directory: PathBuf,
    /// `https://host:port` of the hub.
    pub hub: String,
    /// How to join; without it the agent must have joined before.
    pub invitation: Option<Invitation>,
    /// The cluster's kubeconfig; `None`: the cluster this process is a pod of.
    pub kubeconfig: Option<PathBuf>,
    /// The ceiling of the cluster's owner; `None`: `ceiling.yaml` in the directory.
    pub ceiling: Option<PathBuf>,
    /// What people of the hub may do in the cluster.
    pub access: Access,
    /// The key that seals what is held on disk; `None`: `state.key` in the directory.
    pub state_key: Option<PathBuf>,
    /// Test executions under way at once; `None`: the usual number.
    pub max_tests: Option<usize>,
    /// Bytes of files of tests that may wait for the hub; `None`: the usual number.
    pub max_test_files: Option<u64>,
}

/// An agent that is ready to run.
#[derive(Debug)]
pub struct Agent {
    service: cluster_agent::Service,
}

impl Agent {
    /// Opens what is on disk; talks to nobody yet.
    ///
    /// # Errors
    /// When the directory or the kubeconfig cannot be used, or it has neither joined nor an invitation.
    pub async fn open(options: Options) -> Result<Self, AssemblyError> {
        let failed = |cause: Cause| AssemblyError::new("failed to start the agent", cause);
        if options.invitation.is_none() && !has_joined(&options.directory) {
            return Err(failed("it has not joined a hub yet and was given no token".into()));
        }
        let cluster = connect(&options).await?;
        let connector = TlsConnector::new(&options.hub).map_err(|error| failed(error.into()))?;
        let connector = connector.with_places(&options.directory);
        // No witness is kept: an agent's generations say by themselves when its hub or its own store went back.
        let state = State::Directory(options.directory.clone());
        // Nobody watches it, and a past version of what is held takes as much as the present one.
        let kept = StoreOptions { history: HISTORY, ..StoreOptions::default() };
        let Opened { store, .. } = state.open_store(&kept, &[]).await?;
        let mut agent = cluster_agent::Options::new(Arc::new(connector), options.directory, store, cluster);
        agent.pods = Some(Arc::new(PodSecurityStandards));
        agent.policies = Some(Arc::new(crate::policies::Engine));
        agent.expressions = Arc::new(Cel::default());
        agent.test_clusters = Some(Arc::new(TestClusters));
        if let Some(ceiling) = options.ceiling {
            agent.ceiling = ceiling;
        }
        agent.access = match options.access {
            Access::Off => None,
            Access::Unbound => Some(cluster_agent::access::Options { administrators: None }),
            Access::Role(role) => Some(cluster_agent::access::Options { administrators: Some(role) }),
        };
        if let Some(key) = options.state_key {
            agent.state_key = key;
        }
        if let Some(max) = options.max_tests {
            agent.max_tests = max;
        }
        if let Some(max) = options.max_test_files {
            agent.max_test_files = max;
        }
        if let Some(Invitation { token, ca_pin, name, labels }) = options.invitation {
            agent.trust = Some(Trust::Pin(ca_pin));
            agent.join = Some(Join { token, name, labels });
        }
        let service = cluster_agent::Service::new(agent).await.map_err(|error| failed(error.into()))?;
        Ok(Self { service })
    }

    /// Opens and runs the agent as the one that governs its cluster, until `stop`; while another does, it stands by.
    /// `ready` is told once it governs.
    ///
    /// # Errors
    /// Those of [`Self::open`] and [`Self::run`], or that another agent took over.
    pub async fn serve(
        options: Options,
        stop: CancellationToken,
        ready: impl FnOnce() + Send,
    ) -> Result<(), AssemblyError> {
        let client = connect(&options).await?;
        let lease = AgentLease::new(client, &options.directory)?;
        let governed = lease.during(stop, |stop| async move {
            let Some(agent) = stop.run_until_cancelled(Box::pin(Self::open(options))).await else {
                return Ok(());
            };
            let agent = agent?;
            ready();
            agent.run(stop).await
        });
        Box::pin(governed).await
    }

    /// Reaches the agent.
    #[must_use]
    pub fn handle(&self) -> cluster_agent::Handle {
        self.service.handle()
    }

    /// Runs until `shutdown`. Enforcement begins at once, whether or not the hub is there.
    ///
    /// # Errors
    /// When its store or its outbox fails.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AssemblyError> {
        let ended = Box::pin(self.service.run(shutdown)).await;
        ended.map_err(|error| AssemblyError::new("the agent failed", error.into()))
    }
}

async fn connect(options: &Options) -> Result<kube::Client, AssemblyError> {
    let cluster = match &options.kubeconfig {
        Some(path) => api_client::connect::from_kubeconfig(path, None).await,
        None => api_client::connect::in_cluster(),
    };
    cluster.map_err(|error| AssemblyError::new("failed to start the agent", error.into()))
}

/// Judges pods by the newest edition of the Pod Security Standards.
#[derive(Clone, Copy, Debug)]
pub struct PodSecurityStandards;

impl cluster_agent::PodStandards for PodSecurityStandards {
    fn violations(&self, level: &str, metadata: &Value, spec: &Value) -> Option<String> {
        // A level that is not known is met by nothing.
        let level = Level::parse(level).unwrap_or(Level::Restricted);
        let found = evaluate(LevelVersion { level, version: Version::Latest }, metadata, spec);
        (!found.is_empty()).then(|| details(&found))
    }
}

/// Binds the agent of a directory to another place or authority of its hub; answers the cluster's name.
///
/// # Errors
/// When the agent has not joined, or the hub there is not the pinned one or does not know the agent's key.
pub async fn rebind(directory: &Path, hub: &str, ca_pin: &str) -> Result<String, AssemblyError> {
    let rebound = cluster_agent::rebind(directory, hub, ca_pin).await;
    let failed = |error: cluster_agent::Error| AssemblyError::new("failed to rebind the agent", error.into());
    rebound.map(|identity| identity.name).map_err(failed)
}

/// Whether the agent of a directory has joined a hub.
#[must_use]
pub fn has_joined(directory: &Path) -> bool {
    let credentials = directory.join("credentials");
    credentials.exists()
        && Credentials::open(credentials)
            .is_ok_and(|found| found.identity().is_ok_and(|identity| identity.is_some()))
}
