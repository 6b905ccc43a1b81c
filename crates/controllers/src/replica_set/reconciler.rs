//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::plan;
use crate::{
    context::{BY_CONTROLLER, Context, ORPHANS, enqueue_controller},
    error::{Doing, Error, Gone},
    objects::{controller_reference, pod_of, selects},
};

pub(crate) struct ReplicaSets {
    pub(crate) context: Context,
}

/// Fed by changes of ReplicaSets and of pods.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let sets = queue.clone();
    context.replica_sets.on_change(move |change| sets.add(change.key.clone()));
    let (pods, sets) = (queue.clone(), context.replica_sets.clone());
    context.pods.on_change(move |change| {
        enqueue_controller(&pods, "ReplicaSet", change);
        let Some(pod) = change.new.filter(|pod| api_client::cache::controller_uid(&***pod).is_empty()) else {
            return;
        };
        // A pod that nobody controls may be adopted.
        for set in sets.list_in(&change.key.namespace) {
            let selector = set.spec.as_ref().map(|spec| &spec.selector);
            if selector.is_some_and(|selector| selects(selector, pod.metadata.labels.as_ref())) {
                pods.add(ObjectKey::of(&*set));
            }
        }
    });
    queue
}

impl Reconciler for ReplicaSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(set) = context.replica_sets.get(&key) else { return Ok(Action::Done) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let owned = context.pods.by_index(BY_CONTROLLER, &uid);
        let orphans = context.pods.by_index(ORPHANS, &key.namespace);
        let plan = plan(&set, &owned, &orphans, context.now());
        let owner = controller_reference("apps/v1", "ReplicaSet", &set.metadata);
        let pods = context.api::<Pod>(&key.namespace);
        for pod in &plan.adopt {
            let patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": [owner]}});
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let adopted = apply::strategic(&pods, name, "replicaset-controller", &patch).await;
            if let Some(pod) = adopted.unless_gone().doing("adopting a pod for", &key)? {
                context.pods.observe(&pod);
            }
        }
        for pod in &plan.release {
            let patch = json!({"metadata": {"uid": pod.metadata.uid,
                "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let released = apply::strategic(&pods, name, "replicaset-controller", &patch).await;
            if let Some(pod) = released.unless_gone().doing("releasing a pod of", &key)? {
                context.pods.observe(&pod);
            }
        }
        if let Some(status) = &plan.status {
            self.write_status(&key, &set, status).await?;
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        if let Some(template) = template.filter(|_| plan.create > 0) {
            let pod = pod_of(template, &key.name, &key.namespace, owner);
            context.create_pods(&key.namespace, vec![pod; plan.create], &key.to_string()).await?;
        }
        context.delete_pods(&plan.delete).await?;
        Ok(match plan.look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl ReplicaSets {
    async fn write_status(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        status: &serde_json::Value,
    ) -> Result<(), Error> {
        let api = self.context.api::<ReplicaSet>(&key.namespace);
        let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
        let written = apply::merge_status(&api, &key.name, "replicaset-controller", &patch).await;
        if let Some(set) = written.unless_gone().doing("writing the status of ReplicaSet", key)? {
            self.context.replica_sets.observe(&set);
        }
        Ok(())
    }
}
