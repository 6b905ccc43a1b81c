//! One agent governs a cluster: by a Lease in the cluster itself, so that a second one stands by, whether it is a
//! replica or belongs to another hub. It is taken before anything is opened or done.
//!
//! Unlike a controller's, the lease is not lost because it could not be renewed: an agent whose API server is away has
//! still to talk to its hub, and can write nothing meanwhile. It is lost when another is seen to hold it.

use std::path::Path;
use std::time::Duration;

use fleet_objects::SYSTEM_NAMESPACE;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::error::AssemblyError;
use crate::leader::{Candidate, Election};

/// The Lease's name.
const LEASE: &str = "fairlead-agent";
/// How often the holder renews, a third of what the lease lasts, and how often others look.
const EVERY: Duration = Duration::from_secs(5);
/// How often one that stands by says so.
const SAY_EVERY: u32 = 60;

/// The lease of an agent.
pub(crate) struct AgentLease {
    election: Election,
}

impl AgentLease {
    /// For the agent of a directory on this machine: after a crash it is the same one and need not wait for itself.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn new(client: Client, directory: &Path) -> Result<Self, AssemblyError> {
        let path = directory.join("agent-id");
        let failed = |error: std::io::Error| {
            AssemblyError::new(format!("failed to use `{}`", path.display()), error.into())
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let id = match std::fs::read_to_string(&path) {
            Ok(id) => id,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = uuid::Uuid::new_v4().to_string();
                crate::identity::write_private(&path, &id).map_err(failed)?;
                id
            }
            Err(error) => return Err(failed(error)),
        };
        // Replicas on one volume share its id, and differ by the machine or pod.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self::of(client, format!("{}_{}", host.trim(), id.trim())))
    }

    fn of(client: Client, identity: String) -> Self {
        let candidate = Candidate { client, lease: LEASE, identity, namespace: SYSTEM_NAMESPACE };
        Self { election: Election::new(candidate) }
    }

    /// Waits for the lease. True: it is held; false: this agent may not use leases here and goes on without.
    pub(crate) async fn take(&mut self) -> bool {
        let mut waited = 0;
        loop {
            match self.election.try_once(true).await {
                Ok(true) => return true,
                Ok(false) => {
                    if waited % SAY_EVERY == 0 {
                        let holder = self.election.holder().unwrap_or("another");
                        tracing::warn!(holder, "another agent governs this cluster; standing by");
                    }
                    waited += 1;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let namespace = Namespace {
                        metadata: kube::api::ObjectMeta {
                            name: Some(SYSTEM_NAMESPACE.to_owned()),
                            ..kube::api::ObjectMeta::default()
                        },
                        ..Namespace::default()
                    };
                    let namespaces: Api<Namespace> = Api::all(self.election.client().clone());
                    match namespaces.create(&PostParams::default(), &namespace).await {
                        Ok(_) => continue,
                        Err(error) if api_client::error::is_already_exists(&error) => continue,
                        Err(kube::Error::Api(status)) if status.code == 403 => {
                            return without(&status.message);
                        }
                        Err(_) => {}
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 403 => return without(&status.message),
                Err(error) => {
                    tracing::debug!(%error, "the lease of this cluster's agent was not taken; trying again");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Renews until another is seen to hold it.
    pub(crate) async fn keep(&mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Ok(false) = self.election.try_once(true).await {
                return;
            }
        }
    }

    /// Lets another begin at once.
    pub(crate) async fn release(&mut self) {
        let _ = tokio::time::timeout(EVERY, self.election.try_once(false)).await;
    }

    /// Runs `part` while the lease is held, until `stop`.
    ///
    /// # Errors
    /// Those of `part`, or that another agent took over.
    pub(crate) async fn during<F>(
        mut self,
        stop: CancellationToken,
        part: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), AssemblyError>
    where
        F: Future<Output = Result<(), AssemblyError>>,
    {
        let Some(held) = stop.run_until_cancelled(self.take()).await else { return Ok(()) };
        if !held {
            return part(stop).await;
        }
        let inner = stop.child_token();
        let ended = tokio::select! {
            ended = part(inner.clone()) => Some(ended),
            () = self.keep() => None,
        };
        if let Some(ended) = ended {
            self.release().await;
            return ended;
        }
        let holder = self.election.holder().unwrap_or("another").to_owned();
        Err(AssemblyError::new("this agent governs the cluster no more", format!("{holder} does").into()))
    }
}

fn without(message: &str) -> bool {
    tracing::warn!(message, "no lease may be taken in this cluster: nothing keeps a second agent out");
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Options};

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_agents_one_governs_and_the_other_takes_over() {
        let cluster = Cluster::start(Options::ephemeral("lease")).await.expect("a cluster");
        let lease = |name: &str| AgentLease::of(cluster.client(), name.to_owned());
        let (mut first, mut second) = (lease("first"), lease("second"));
        assert!(first.take().await);
        assert!(!second.election.try_once(true).await.expect("an answer"), "it stands by");
        assert_eq!(second.election.holder(), Some("first"));
        // The same agent after a crash waits for nobody.
        assert!(lease("first").take().await);
        first.release().await;
        // A released lease is over in a second.
        let took = tokio::time::timeout(Duration::from_secs(30), second.take()).await;
        assert!(took.expect("in time"));
        let lost = tokio::time::timeout(Duration::from_secs(30), first.keep()).await;
        assert!(lost.is_ok(), "the first sees that another holds it");
        let stop = CancellationToken::new();
        stop.cancel();
        cluster.run(stop).await.expect("ended");
    }
}
