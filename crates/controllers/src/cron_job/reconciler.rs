//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply, error::is_already_exists, events::Severity};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{PostParams, PropagationPolicy};
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::plan;
use crate::{
    context::{BY_CONTROLLER, Context, enqueue_controller},
    error::{Doing, Error, Gone},
};

pub(crate) struct CronJobs {
    pub(crate) context: Context,
}

/// Fed by changes of CronJobs and of their Jobs.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.cron_jobs.on_change(move |change| own.add(change.key.clone()));
    let jobs = queue.clone();
    context.jobs.on_change(move |change| enqueue_controller(&jobs, "CronJob", change));
    queue
}

impl Reconciler for CronJobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(cron) = context.cron_jobs.get(&key) else { return Ok(Action::Done) };
        let uid = cron.metadata.uid.clone().unwrap_or_default();
        let plan = plan(&cron, &context.jobs.by_index(BY_CONTROLLER, &uid), context.now());
        let jobs = context.api::<Job>(&key.namespace);
        if let Some((reason, text)) = &plan.warning {
            context.recorder.record(&*cron, Severity::Warning, reason, text.clone());
        }
        for job in &plan.delete {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let uid = job.metadata.uid.as_deref().unwrap_or_default();
            apply::delete_exactly(&jobs, name, uid, PropagationPolicy::Background)
                .await
                .unless_gone()
                .doing("deleting a Job of CronJob", &key)?;
        }
        if let Some(job) = &plan.start {
            match jobs.create(&PostParams::default(), job).await {
                Ok(job) => {
                    let name = job.metadata.name.clone().unwrap_or_default();
                    context.jobs.observe(&job);
                    context.recorder.record(
                        &*cron,
                        Severity::Normal,
                        "SuccessfulCreate",
                        format!("Created job {name}"),
                    );
                }
                // Made by an attempt whose status was not written.
                Err(error) if is_already_exists(&error) => {}
                Err(error) if api_client::error::is_namespace_terminating(&error) => return Ok(Action::Done),
                Err(error) => return Err(error).doing("creating a Job of CronJob", &key),
            }
        }
        if let Some(status) = &plan.status {
            let api = context.api::<CronJob>(&key.namespace);
            let patch = json!({"metadata": {"uid": cron.metadata.uid}, "status": status});
            let written = apply::merge_status(&api, &key.name, "cronjob-controller", &patch).await;
            if let Some(cron) = written.unless_gone().doing("writing the status of CronJob", &key)? {
                context.cron_jobs.observe(&cron);
            }
        }
        Ok(match plan.look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}
