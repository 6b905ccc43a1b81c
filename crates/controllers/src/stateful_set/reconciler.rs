//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply, error::is_already_exists};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim};
use kube::api::PostParams;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{claims, plan, pod};
use crate::{
    context::{BY_CONTROLLER, Context, enqueue_controller},
    error::{Doing, Error, Gone},
};

pub(crate) struct StatefulSets {
    pub(crate) context: Context,
}

/// Fed by changes of StatefulSets and of their pods.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.stateful_sets.on_change(move |change| own.add(change.key.clone()));
    let pods = queue.clone();
    context.pods.on_change(move |change| enqueue_controller(&pods, "StatefulSet", change));
    queue
}

impl Reconciler for StatefulSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(set) = context.stateful_sets.get(&key) else { return Ok(Action::Done) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let pods = context.pods.by_index(BY_CONTROLLER, &uid);
        let plan = plan(&set, &pods, context.now());
        context.delete_pods(&plan.delete).await?;
        for ordinal in &plan.create {
            self.ensure_claims(&key, &set, *ordinal).await?;
        }
        let made = plan.create.iter().map(|ordinal| pod(&set, *ordinal)).collect();
        context.create_pods(&key.namespace, made, &key.to_string()).await?;
        if let Some(status) = &plan.status {
            let api = context.api::<StatefulSet>(&key.namespace);
            let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
            let written = apply::merge_status(&api, &key.name, "statefulset-controller", &patch).await;
            if let Some(set) = written.unless_gone().doing("writing the status of StatefulSet", &key)? {
                context.stateful_sets.observe(&set);
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

impl StatefulSets {
    /// Claims outlive pods and the set: they hold data.
    async fn ensure_claims(&self, key: &ObjectKey, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
        let api = self.context.api::<PersistentVolumeClaim>(&key.namespace);
        for (_, claim) in claims(set, ordinal) {
            match api.create(&PostParams::default(), &claim).await {
                Ok(_) => {}
                Err(error) if is_already_exists(&error) => {}
                Err(error) => return Err(error).doing("claiming a volume for StatefulSet", key),
            }
        }
        Ok(())
    }
}
