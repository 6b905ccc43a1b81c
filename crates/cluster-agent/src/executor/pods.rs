//! Pods of steps: made once, found again after a restart, removed when everything is known about them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tracing::warn;
use workflow::plan::ExecutionPlan;
use workflow::pod;

use super::run::Execution;
use super::{Error, results};

/// How long a stopped pod may take to be gone before it is removed by force.
const POD_GONE: Duration = Duration::from_secs(40);
/// How long making a pod is tried.
const MAKE: Duration = Duration::from_secs(300);
/// Between tries of a request that failed.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Why a pod is not there: reason and message.
pub(super) type Refused = (String, String);

impl Execution {
    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.cluster.clone(), &self.shared.options.namespace)
    }

    /// Makes namespace and pod, or finds the pod of an earlier start. What may pass is tried again; a refusal is final.
    pub(super) async fn ensure_pod(&self, wanted: &Pod) -> Result<(), Refused> {
        let deadline = Instant::now() + MAKE;
        loop {
            let error = match self.try_ensure(wanted).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let message =
                        format!("a pod called {} that is not of this test is in the way", wanted.name_any());
                    return Err(("PodNameTaken".to_owned(), message));
                }
                Err(error) => error,
            };
            match &error {
                kube::Error::Api(status) if matches!(status.code, 400..=428) && status.code != 404 => {
                    return Err(("PodRejected".to_owned(), status.message.clone()));
                }
                _ if Instant::now() >= deadline || self.cancel.is_cancelled() => {
                    return Err(("ClusterUnavailable".to_owned(), error.to_string()));
                }
                _ => warn!(%error, "cannot make a test pod; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// False: a pod of that name is somebody else's.
    async fn try_ensure(&self, wanted: &Pod) -> Result<bool, kube::Error> {
        let pods = self.pods();
        if let Some(there) = pods.get_opt(&wanted.name_any()).await? {
            return Ok(self.is_ours(&there));
        }
        self.ensure_namespace().await?;
        match pods.create(&PostParams::default(), wanted).await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) => {
                Ok(pods.get_opt(&wanted.name_any()).await?.is_some_and(|pod| self.is_ours(&pod)))
            }
            // A new namespace has no default service account for a moment.
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains("serviceaccount") =>
            {
                tokio::time::sleep(RETRY).await;
                pods.create(&PostParams::default(), wanted).await.map(|_| true)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn ensure_namespace(&self) -> Result<(), kube::Error> {
        let name = &self.shared.options.namespace;
        let namespaces: Api<Namespace> = Api::all(self.shared.cluster.clone());
        if namespaces.get_opt(name).await?.is_some() {
            return Ok(());
        }
        match namespaces.create(&PostParams::default(), &pod::namespace(name)).await {
            Err(error) if !is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        pod.labels().get(pod::EXECUTION_UID_LABEL).is_some_and(|uid| *uid == self.uid)
    }

    /// Says to a pod's runners whether they wait before the next step.
    pub(super) async fn control(&self, name: &str, held: bool) {
        let value = if held { "pause" } else { "go" };
        let patch =
            serde_json::json!({ "metadata": { "annotations": { (pod::CONTROL_ANNOTATION): value } } });
        let done = self.pods().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Err(error) = done {
            warn!(%error, pod = name, "cannot hold a test pod or let it go on");
        }
    }

    /// Removes the pod that a part has under way.
    pub(super) async fn remove_pod_of(&self, part: &str) {
        let known = self.part_note(part).await;
        if known.pod.is_some() {
            self.remove_pod(&pod::name(&self.options(part), known.number)).await;
        }
    }

    /// Removes a pod and sees it go; by force when it does not go by itself.
    pub(super) async fn remove_pod(&self, name: &str) {
        let pods = self.pods();
        let deadline = Instant::now() + POD_GONE;
        let mut asked = false;
        loop {
            match pods.get_opt(name).await {
                Ok(None) => return,
                Ok(Some(pod)) if !self.is_ours(&pod) => return,
                Ok(Some(pod)) => {
                    let late = Instant::now() >= deadline;
                    if !asked || late {
                        let params = DeleteParams {
                            grace_period_seconds: Some(u32::from(!late)),
                            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                            ..DeleteParams::default()
                        };
                        asked = pods.delete(name, &params).await.is_ok();
                    }
                    if late && asked {
                        return;
                    }
                }
                Err(error) => {
                    warn!(%error, pod = name, "cannot remove a test pod; trying again");
                    if Instant::now() >= deadline {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the first open step of a pod because of the pod itself.
    pub(super) async fn first_open(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        parent: &str,
        steps: (usize, usize),
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let known = self.part_note(part).await.progress;
        if let Some(open) = (steps.0..steps.1).find(|index| !known.ended.contains_key(index)) {
            let mut attempt = results::not_run(reason, message);
            if reason == "TimedOut" {
                attempt.outcome = fleet_objects::test_run::Outcome::TimedOut;
            }
            let outcome = attempt.outcome;
            self.ended(plan, part, parent, open, outcome, vec![attempt]).await?;
        }
        Ok(())
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
