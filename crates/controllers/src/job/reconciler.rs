//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply, events::Severity};
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::{EnvVar, Pod},
};
use kube::api::PropagationPolicy;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{INDEX, TRACKING, is_finished, plan};
use crate::{
    claims::{Claimant, enqueue_claimants},
    context::{BY_CONTROLLER, Context, enqueue_controller},
    error::{Doing, Error, Gone},
    objects::{controller_reference, pod_of},
};

const MANAGER: &str = "job-controller";

pub(crate) struct Jobs {
    pub(crate) context: Context,
}

/// Fed by changes of Jobs and of their pods.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.jobs.on_change(move |change| own.add(change.key.clone()));
    let pods = queue.clone();
    let jobs = context.jobs.clone();
    context.pods.on_change(move |change| {
        enqueue_controller(&pods, "Job", change);
        enqueue_claimants(&pods, &jobs, change, |job| job.spec.as_ref()?.selector.clone());
    });
    queue
}

impl Reconciler for Jobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(job) = context.jobs.get(&key) else { return self.release_left(&key).await };
        let managed = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if managed.is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(Action::Done);
        }
        let uid = job.metadata.uid.clone().unwrap_or_default();
        if job.metadata.deletion_timestamp.is_some() {
            let pods = context.pods.by_index(BY_CONTROLLER, &uid);
            for pod in &pods {
                self.release(&key, pod).await?;
            }
            return Ok(Action::Done);
        }
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Ok(Action::Done);
        };
        let claimant = Claimant {
            key: &key,
            owner: controller_reference("batch/v1", "Job", &job.metadata),
            selector,
            adopts: !is_finished(&job),
            manager: MANAGER,
            finalizer: Some(TRACKING),
        };
        let pods = claimant.claim(context, |_| true).await?;
        let plan = plan(&job, &pods, context.now());
        if plan.expired {
            let api = context.api::<Job>(&key.namespace);
            apply::delete_exactly(&api, &key.name, &uid, PropagationPolicy::Foreground)
                .await
                .unless_gone()
                .doing("deleting the expired Job", &key)?;
            return Ok(Action::Done);
        }
        // Finalizers go before the status forgets the uids they stand for.
        for pod in &plan.release {
            self.release(&key, pod).await?;
        }
        if let Some(status) = &plan.status {
            self.write_status(&key, &job, status).await?;
        }
        context.delete_pods(&plan.delete).await?;
        let made = plan.create.iter().map(|index| pod_for(&job, &key, *index)).collect();
        context.create_pods(&key.namespace, made, &key.to_string()).await?;
        Ok(match plan.look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Jobs {
    /// Pods of a Job that is gone: nobody counts their ends any more, so nothing may hold them.
    async fn release_left(&self, key: &ObjectKey) -> Result<Action, Error> {
        let mut left = self.context.pods.list_in(&key.namespace);
        left.retain(|pod| is_held_for(pod, &key.name));
        if left.is_empty() {
            return Ok(Action::Done);
        }
        // A cache may lag: the server must say that the Job is gone.
        let api = self.context.api::<Job>(&key.namespace);
        if api.get_metadata_opt(&key.name).await.doing("looking for Job", key)?.is_some() {
            return Ok(Action::RequeueAfter(Duration::from_secs(1)));
        }
        for pod in left {
            self.release(key, &pod).await?;
        }
        Ok(Action::Done)
    }

    async fn release(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        let finalizers: Vec<_> =
            pod.metadata.finalizers.iter().flatten().filter(|own| *own != TRACKING).collect();
        if pod.metadata.finalizers.as_ref().is_none_or(|own| own.len() == finalizers.len()) {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version, "finalizers": finalizers}});
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api = self.context.api::<Pod>(&key.namespace);
        let written = apply::merge(&api, name, MANAGER, &patch).await;
        if let Some(written) = written.unless_gone().doing("letting go of a pod of Job", key)? {
            // A pod that was on its way out is gone with its last finalizer.
            if written.metadata.deletion_timestamp.is_none() {
                self.context.pods.observe(&written);
            }
        }
        Ok(())
    }

    async fn write_status(&self, key: &ObjectKey, job: &Job, status: &JobStatus) -> Result<(), Error> {
        let mut body = json!(status);
        // What a merge patch should take out must be named.
        for field in ["startTime", "completionTime"] {
            if body.get(field).is_none() {
                body[field] = serde_json::Value::Null;
            }
        }
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        body["uncountedTerminatedPods"] =
            json!({"succeeded": uncounted.succeeded, "failed": uncounted.failed});
        // Counting is only right against the status that was read: a conflict starts anew.
        let patch = json!({"metadata": {"uid": job.metadata.uid,
            "resourceVersion": job.metadata.resource_version}, "status": body});
        let api = self.context.api::<Job>(&key.namespace);
        let written = apply::merge_status(&api, &key.name, MANAGER, &patch).await;
        if let Some(written) = written.unless_gone().doing("writing the status of Job", key)? {
            self.context.jobs.observe(&written);
        }
        let ended = |status: Option<&JobStatus>, kind: &str| {
            status.is_some_and(|own| {
                own.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
            })
        };
        for (kind, severity, reason, message) in [
            ("Complete", Severity::Normal, "Completed", "Job completed"),
            ("Failed", Severity::Warning, "Failed", "Job failed"),
        ] {
            if ended(Some(status), kind) && !ended(job.status.as_ref(), kind) {
                self.context.recorder.record(job, severity, reason, message);
            }
        }
        Ok(())
    }
}

/// Whether a pod carries the finalizer of a Job of that name.
fn is_held_for(pod: &Pod, job: &str) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    pod.metadata.finalizers.iter().flatten().any(|own| own == TRACKING)
        && owners.any(|own| own.controller == Some(true) && own.kind == "Job" && own.name == job)
}

fn pod_for(job: &Job, key: &ObjectKey, index: Option<i32>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let owner = controller_reference("batch/v1", "Job", &job.metadata);
    let mut pod = pod_of(&template, &key.name, &key.namespace, owner);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(index) = index {
        let text = index.to_string();
        pod.metadata.generate_name = Some(format!("{}-{index}-", key.name));
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
        pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
        let variable =
            EnvVar { name: "JOB_COMPLETION_INDEX".to_owned(), value: Some(text), value_from: None };
        if let Some(spec) = pod.spec.as_mut() {
            spec.hostname = Some(format!("{}-{index}", key.name));
            for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
                container.env.get_or_insert_default().push(variable.clone());
            }
        }
    }
    pod
}
