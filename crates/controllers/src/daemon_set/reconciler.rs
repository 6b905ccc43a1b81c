//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply};
use k8s_openapi::api::apps::v1::DaemonSet;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{plan, template_for};
use crate::{
    context::{BY_CONTROLLER, Context, enqueue_controller},
    error::{Doing, Error, Gone},
    objects::{controller_reference, pod_of},
};

pub(crate) struct DaemonSets {
    pub(crate) context: Context,
}

/// Fed by changes of DaemonSets, of their pods, and of what decides where they run.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.daemon_sets.on_change(move |change| own.add(change.key.clone()));
    let pods = queue.clone();
    context.pods.on_change(move |change| enqueue_controller(&pods, "DaemonSet", change));
    let (of_nodes, sets) = (queue.clone(), context.daemon_sets.clone());
    context.nodes.on_change(move |change| {
        // Heartbeats don't decide where daemons run.
        let same = change
            .old
            .zip(change.new)
            .is_some_and(|(old, new)| old.spec == new.spec && old.metadata.labels == new.metadata.labels);
        if !same {
            for set in sets.list() {
                of_nodes.add(ObjectKey::of(&*set));
            }
        }
    });
    queue
}

impl Reconciler for DaemonSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(set) = context.daemon_sets.get(&key) else { return Ok(Action::Done) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let pods = context.pods.by_index(BY_CONTROLLER, &uid);
        let plan = plan(&set, &context.nodes.list(), &pods, context.now());
        context.delete_pods(&plan.delete).await?;
        let made = plan
            .create
            .iter()
            .map(|node| {
                let owner = controller_reference("apps/v1", "DaemonSet", &set.metadata);
                pod_of(&template_for(&set, Some(node)), &key.name, &key.namespace, owner)
            })
            .collect();
        context.create_pods(&key.namespace, made, &key.to_string()).await?;
        if let Some(status) = &plan.status {
            let api = context.api::<DaemonSet>(&key.namespace);
            let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
            let written = apply::merge_status(&api, &key.name, "daemonset-controller", &patch).await;
            if let Some(set) = written.unless_gone().doing("writing the status of DaemonSet", &key)? {
                context.daemon_sets.observe(&set);
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
