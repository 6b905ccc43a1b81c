//! Clusters of executions' own: made before their pods, led to by a Secret that their pods mount, gone afterwards.
//!
//! They live in this process and in memory alone. An agent that starts again has lost them, and ends the executions that
//! used them, since what these tested is gone.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::warn;
use workflow::plan::{ExecutionPlan, PlannedCluster};
use workflow::pod;

use super::Error;
use super::run::{Ended, Execution};

/// Clusters at once: each takes some 30 MB of the agent's memory. More wait.
const MAX_CLUSTERS: usize = 8;

/// Makes clusters.
#[async_trait]
pub trait EphemeralClusters: Send + Sync + 'static {
    /// Makes a cluster that answers when this does. Why not, for people, otherwise.
    async fn start(&self, name: &str, wanted: &PlannedCluster) -> Result<Box<dyn EphemeralCluster>, String>;
}

/// A cluster that was made.
#[async_trait]
pub trait EphemeralCluster: Send + Sync {
    /// How pods of the agent's cluster reach it, with all rights.
    fn kubeconfig(&self) -> &str;
    /// Ends it; nothing is left when this answers.
    async fn stop(self: Box<Self>);
}

/// Who makes clusters, and how many there may be.
pub(super) struct Places {
    clusters: Arc<dyn EphemeralClusters>,
    places: Semaphore,
}

impl Places {
    pub(super) fn new(clusters: Arc<dyn EphemeralClusters>) -> Self {
        Self { clusters, places: Semaphore::new(MAX_CLUSTERS) }
    }
}

impl Execution {
    /// Carries out the plan, with a cluster of its own where it asks for one. `None` when the agent stops first.
    pub(super) async fn with_cluster(
        self: &Arc<Self>,
        plan: Arc<ExecutionPlan>,
        begun: bool,
    ) -> Result<Option<Ended>, Error> {
        let whole = || self.part(Arc::clone(&plan), String::new(), String::new());
        let Some(wanted) = &plan.ephemeral_cluster else {
            return match &self.shared.own_cluster {
                Some(kubeconfig) => self.led(kubeconfig, whole()).await,
                None => whole().await,
            };
        };
        if begun {
            let lost = "the agent was started anew, and the cluster of this run went with it";
            let _ = self.why.set(lost.to_owned());
            self.cancel.cancel();
            let left = pod::kubeconfig_name(&self.options(""));
            // It is not there where the agent had time to remove it; it leads nowhere in either case.
            let _ = self.kubeconfigs().delete(&left, &DeleteParams::default()).await;
        }
        let refused = |why: String| Ok(Some(Ended::NotRun("EphemeralClusterUnavailable", why)));
        let Some(places) = &self.shared.clusters else {
            return refused("this agent makes no clusters".to_owned());
        };
        let place = tokio::select! {
            biased;
            // Steps that have not ended are told as cancelled.
            () = self.cancel.cancelled() => return whole().await,
            () = self.shutdown.cancelled() => return Ok(None),
            place = places.places.acquire() => place,
        };
        let name = pod::kubeconfig_name(&self.options(""));
        let cluster = match places.clusters.start(&name, wanted).await {
            Ok(cluster) => cluster,
            Err(why) => return refused(why),
        };
        let ended = self.led(cluster.kubeconfig(), whole()).await;
        cluster.stop().await;
        drop(place);
        ended
    }

    /// Carries out the plan while pods are led to a cluster.
    async fn led(
        &self,
        kubeconfig: &str,
        whole: impl Future<Output = Result<Option<Ended>, Error>>,
    ) -> Result<Option<Ended>, Error> {
        let name = pod::kubeconfig_name(&self.options(""));
        if let Err(error) = self.lead_to(&name, kubeconfig).await {
            let why = format!("its kubeconfig cannot be handed to the pods: {error}");
            return Ok(Some(Ended::NotRun("EphemeralClusterUnavailable", why)));
        }
        let _ = self.kubeconfig.set(name.clone());
        let ended = whole.await;
        if let Err(error) = self.kubeconfigs().delete(&name, &DeleteParams::default()).await {
            warn!(%error, secret = %name, "cannot remove a kubeconfig that is not needed any more");
        }
        ended
    }

    fn kubeconfigs(&self) -> Api<Secret> {
        Api::namespaced(self.shared.cluster.clone(), &self.shared.options.namespace)
    }

    async fn lead_to(&self, name: &str, kubeconfig: &str) -> Result<(), kube::Error> {
        self.ensure_namespace().await?;
        let object = json!({
            "metadata": { "name": name, "labels": {
                (pod::MANAGED_BY.0): pod::MANAGED_BY.1, (pod::EXECUTION_UID_LABEL): self.uid,
            } },
            "stringData": { (pod::KUBECONFIG_KEY): kubeconfig },
        });
        let secret: Secret = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        match self.kubeconfigs().create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Left by a start of this agent that ended in between.
                self.kubeconfigs().delete(name, &DeleteParams::default()).await?;
                self.kubeconfigs().create(&PostParams::default(), &secret).await.map(drop)
            }
            made => made.map(drop),
        }
    }
}
