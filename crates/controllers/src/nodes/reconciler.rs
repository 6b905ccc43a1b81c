//! Carries the plan out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use api_client::{ObjectKey, apply, error::is_conflict, events::Severity};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use parking_lot::Mutex;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{GRACE, plan};
use crate::{
    context::{BY_NODE, Context},
    error::{Doing, Error, Gone},
    objects::phase,
};

const MANAGER: &str = "node-controller";

/// When each node was last heard of, by this process's clock: nodes' own clocks may be wrong.
type Heard = Arc<Mutex<HashMap<String, Timestamp>>>;

pub(crate) struct Nodes {
    context: Context,
    heard: Heard,
    /// When each node was first found to be gone while pods still name it.
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// The controller and its queue. Renewals of leases only note the time: a healthy node costs a look per grace period.
pub(crate) fn queue(context: &Context) -> (Nodes, Queue<ObjectKey>) {
    let queue = Queue::new();
    let heard = Heard::default();
    let (own, times, clock) = (queue.clone(), Arc::clone(&heard), context.clock.clone());
    context.nodes.on_change(move |change| {
        let Some(node) = change.new else {
            times.lock().remove(&change.key.name);
            own.add(change.key.clone());
            return;
        };
        if change.old.is_none_or(|old| heartbeats(old) != heartbeats(node)) {
            times.lock().insert(change.key.name.clone(), clock.now());
        }
        let same = change.old.is_some_and(|old| old.spec == node.spec && states(old) == states(node));
        if !same {
            own.add(change.key.clone());
        }
    });
    let (own, times, clock) = (queue.clone(), Arc::clone(&heard), context.clock.clone());
    context.leases.on_change(move |change| {
        if change.new.is_none() {
            return;
        }
        let now = clock.now();
        let before = times.lock().insert(change.key.name.clone(), now);
        // A node that had gone silent is back.
        if before.is_some_and(|before| now.duration_since(before) >= GRACE) {
            own.add(ObjectKey::new("", change.key.name.clone()));
        }
    });
    let (own, nodes) = (queue.clone(), context.nodes.clone());
    context.pods.on_change(move |change| {
        let Some(pod) = change.new else { return };
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
        let was_there = change.old.and_then(|old| old.spec.as_ref()?.node_name.clone()).is_some();
        let key = ObjectKey::new("", node);
        let present = nodes.get(&key);
        let tainted = present.as_ref().is_some_and(|node| {
            node.spec
                .iter()
                .flat_map(|spec| spec.taints.iter().flatten())
                .any(|taint| taint.effect == "NoExecute")
        });
        if !was_there && (present.is_none() || tainted) {
            own.add(key);
        }
    });
    (Nodes { context: context.clone(), heard, missing: Mutex::default() }, queue)
}

fn heartbeats(node: &Node) -> Vec<Option<Timestamp>> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|own| own.last_heartbeat_time.as_ref().map(|time| time.0)).collect()
}

fn states(node: &Node) -> Vec<(String, String)> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|own| (own.type_.clone(), own.status.clone())).collect()
}

fn is_ready(node: &Node) -> bool {
    states(node).iter().any(|(kind, status)| kind == "Ready" && status == "True")
}

fn requeue(wait: Option<SignedDuration>) -> Action {
    match wait.map(Duration::try_from) {
        Some(Ok(wait)) => Action::RequeueAfter(wait),
        _ => Action::Done,
    }
}

impl Reconciler for Nodes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let now = context.now();
        let pods = context.pods.by_index(BY_NODE, &key.name);
        let Some(node) = context.nodes.get(&key) else { return self.clear_away(&key, &pods, now).await };
        self.missing.lock().remove(&key.name);
        let heard = *self.heard.lock().entry(key.name.clone()).or_insert(now);
        let any_ready = context.nodes.list().iter().any(|node| is_ready(node));
        let plan = plan(&node, heard, &pods, any_ready, now);
        let api: Api<Node> = Api::all(context.client.clone());
        if let Some(conditions) = &plan.conditions {
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"conditions": conditions}});
            let written = apply::strategic_status(&api, &key.name, MANAGER, &patch).await;
            if let Some(node) = written.unless_gone().doing("writing the status of node", &key)? {
                context.nodes.observe(&node);
                context.recorder.record(&node, Severity::Normal, "NodeNotReady", "Node is not answering.");
            }
        }
        if let Some(taints) = &plan.taints {
            // Others keep taints in the same list: write only over what was read.
            let present = context.nodes.get(&key).and_then(|node| node.metadata.resource_version.clone());
            let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": present},
                "spec": {"taints": taints}});
            let written = apply::merge(&api, &key.name, MANAGER, &patch).await;
            if let Some(node) = written.unless_gone().doing("tainting node", &key)? {
                context.nodes.observe(&node);
            }
        }
        if plan.silent {
            for pod in pods.iter().filter(|pod| crate::objects::is_ready(pod)) {
                self.mark_not_ready(pod, now).await?;
            }
        }
        context.delete_pods(&plan.evict).await?;
        Ok(requeue(plan.look_again))
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Nodes {
    /// Nobody answers for the pod any more, so Services must not send it anything.
    async fn mark_not_ready(&self, pod: &Pod, now: Timestamp) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": now}]}});
        let api = self.context.api::<Pod>(&key.namespace);
        let written = apply::strategic_status(&api, &key.name, MANAGER, &patch).await;
        if let Some(pod) = written.unless_gone().doing("marking as not ready the pod", &key)? {
            self.context.pods.observe(&pod);
        }
        Ok(())
    }

    /// Pods of a node that is gone go too, once it has been gone for a while and the server confirms it: a node may be
    /// registered anew, and a cache may lag.
    async fn clear_away(&self, key: &ObjectKey, pods: &[Arc<Pod>], now: Timestamp) -> Result<Action, Error> {
        if pods.is_empty() {
            self.missing.lock().remove(&key.name);
            return Ok(Action::Done);
        }
        let since = *self.missing.lock().entry(key.name.clone()).or_insert(now);
        let left = GRACE - now.duration_since(since);
        if left > SignedDuration::ZERO {
            return Ok(requeue(Some(left)));
        }
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        if nodes.get_metadata_opt(&key.name).await.doing("looking for node", key)?.is_some() {
            return Ok(requeue(Some(GRACE)));
        }
        for pod in pods {
            self.remove(pod, now).await?;
        }
        self.missing.lock().remove(&key.name);
        Ok(Action::Done)
    }

    async fn remove(&self, pod: &Pod, now: Timestamp) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let api = self.context.api::<Pod>(&key.namespace);
        if !matches!(phase(pod), "Succeeded" | "Failed") {
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                 "message": "PodGC: node no longer exists", "lastTransitionTime": now}]}});
            let written = apply::strategic_status(&api, &key.name, "pod-garbage-collector", &patch).await;
            written.unless_gone().doing("ending the pod", &key)?;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &params).await.unless_gone() {
            // Another pod bears the name by now.
            Err(error) if is_conflict(&error) => Ok(()),
            answer => answer.doing("removing the pod", &key).map(drop),
        }
    }
}
