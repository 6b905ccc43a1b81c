//! Carries the plan out.

use std::{sync::Arc, time::Duration};

use api_client::{ObjectKey, apply};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{plan, template_for};
use crate::{
    claims::{Claimant, enqueue_claimants},
    context::{Context, enqueue_controller},
    error::{Doing, Error, Gone},
    history::{self, Kept, Owner},
    objects::{REVISION_HASH, controller_reference, pod_of},
};

const MANAGER: &str = "daemonset-controller";

pub(crate) struct DaemonSets {
    pub(crate) context: Context,
}

/// Fed by changes of DaemonSets, of their pods, and of what decides where they run.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.daemon_sets.on_change(move |change| own.add(change.key.clone()));
    let pods = queue.clone();
    let sets = context.daemon_sets.clone();
    context.pods.on_change(move |change| {
        enqueue_controller(&pods, "DaemonSet", change);
        enqueue_claimants(&pods, &sets, change, |set| Some(set.spec.as_ref()?.selector.clone()));
    });
    let revisions = queue.clone();
    context.revisions.on_change(move |change| enqueue_controller(&revisions, "DaemonSet", change));
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
        let Some(spec) = set.spec.as_ref() else { return Ok(Action::Done) };
        let claimant = Claimant {
            key: &key,
            owner: controller_reference("apps/v1", "DaemonSet", &set.metadata),
            selector: &spec.selector,
            adopts: set.metadata.deletion_timestamp.is_none(),
            manager: MANAGER,
            finalizer: None,
        };
        let pods = claimant.claim(context, |_| true).await?;
        let Some(revision) = self.record(&key, &set, &pods).await? else {
            return Ok(Action::RequeueAfter(Duration::ZERO));
        };
        let plan = plan(&set, &context.nodes.list(), &pods, &revision.hash, context.now());
        context.delete_pods(&plan.delete).await?;
        let made = plan
            .create
            .iter()
            .map(|node| {
                let owner = controller_reference("apps/v1", "DaemonSet", &set.metadata);
                pod_of(&template_for(&set, Some(node), &revision.hash), &key.name, &key.namespace, owner)
            })
            .collect();
        context.create_pods(&key.namespace, made, &key.to_string()).await?;
        if let Some(status) = &plan.status {
            let api = context.api::<DaemonSet>(&key.namespace);
            let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
            let written = apply::merge_status(&api, &key.name, MANAGER, &patch).await;
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

impl DaemonSets {
    /// The revision of the set's template; `None` when its name was taken and the hash must change.
    async fn record(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        pods: &[Arc<Pod>],
    ) -> Result<Option<Kept>, Error> {
        let Some(spec) = set.spec.as_ref() else { return Ok(None) };
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let owner = Owner {
            kind: "DaemonSet",
            metadata: &set.metadata,
            template: &spec.template,
            hash_label: REVISION_HASH,
            collisions,
            limit: spec.revision_history_limit,
        };
        let in_use = |_: &str, hash: &str| {
            pods.iter().any(|pod| {
                pod.metadata
                    .labels
                    .as_ref()
                    .and_then(|own| own.get(REVISION_HASH))
                    .is_some_and(|own| own == hash)
            })
        };
        let kept = history::keep(&self.context, &owner, MANAGER, in_use).await?;
        if kept.is_none() {
            let patch = json!({"metadata": {"uid": set.metadata.uid},
                "status": {"collisionCount": collisions.saturating_add(1)}});
            let api = self.context.api::<DaemonSet>(&key.namespace);
            let written = apply::merge_status(&api, &key.name, MANAGER, &patch).await;
            if let Some(set) = written.unless_gone().doing("counting a collision of DaemonSet", key)? {
                self.context.daemon_sets.observe(&set);
            }
        }
        Ok(kept)
    }
}
