//! Carries the plan out.

use std::{sync::Arc, time::Duration};

use api_client::{ObjectKey, apply, error::is_already_exists};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::api::PostParams;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{Versions, claims, ordinal, plan, pod};
use crate::{
    claims::{Claimant, enqueue_claimants},
    context::{Context, enqueue_controller},
    error::{Doing, Error, Gone},
    history::{self, Owner, template_of},
    objects::{REVISION_HASH, controller_reference},
};

const MANAGER: &str = "statefulset-controller";
/// Where a stateful set's revisions say their hash (upstream's `ControllerRevisionHashLabel`).
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

pub(crate) struct StatefulSets {
    pub(crate) context: Context,
}

/// Fed by changes of StatefulSets and of their pods.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.stateful_sets.on_change(move |change| own.add(change.key.clone()));
    let pods = queue.clone();
    let sets = context.stateful_sets.clone();
    context.pods.on_change(move |change| {
        enqueue_controller(&pods, "StatefulSet", change);
        enqueue_claimants(&pods, &sets, change, |set| Some(set.spec.as_ref()?.selector.clone()));
    });
    let revisions = queue.clone();
    context.revisions.on_change(move |change| enqueue_controller(&revisions, "StatefulSet", change));
    queue
}

impl Reconciler for StatefulSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(set) = context.stateful_sets.get(&key) else { return Ok(Action::Done) };
        let Some(spec) = set.spec.as_ref() else { return Ok(Action::Done) };
        let claimant = Claimant {
            key: &key,
            owner: controller_reference("apps/v1", "StatefulSet", &set.metadata),
            selector: &spec.selector,
            adopts: set.metadata.deletion_timestamp.is_none(),
            manager: MANAGER,
            finalizer: None,
        };
        let pods = claimant.claim(context, |pod| ordinal(&set, pod).is_some()).await?;
        let Some(versions) = self.versions(&key, &set, &pods).await? else {
            return Ok(Action::RequeueAfter(Duration::ZERO));
        };
        let plan = plan(&set, &pods, &versions, context.now());
        context.delete_pods(&plan.delete).await?;
        for ordinal in &plan.create {
            self.ensure_claims(&key, &set, *ordinal).await?;
        }
        let made = plan.create.iter().map(|ordinal| pod(&set, *ordinal, &versions)).collect();
        context.create_pods(&key.namespace, made, &key.to_string()).await?;
        if let Some(status) = &plan.status {
            let api = context.api::<StatefulSet>(&key.namespace);
            let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
            let written = apply::merge_status(&api, &key.name, MANAGER, &patch).await;
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
    /// The revisions of the set's templates; `None` when a name was taken and the hash must change.
    async fn versions(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
    ) -> Result<Option<Versions>, Error> {
        let Some(spec) = set.spec.as_ref() else { return Ok(None) };
        let status = set.status.clone().unwrap_or_default();
        let owner = Owner {
            kind: "StatefulSet",
            metadata: &set.metadata,
            template: &spec.template,
            hash_label: HASH_LABEL,
            collisions: status.collision_count.unwrap_or(0),
            limit: spec.revision_history_limit,
        };
        let in_use = |name: &str, _: &str| {
            let named = |own: Option<&String>| own.is_some_and(|own| own == name);
            named(status.current_revision.as_ref())
                || pods
                    .iter()
                    .any(|pod| named(pod.metadata.labels.as_ref().and_then(|own| own.get(REVISION_HASH))))
        };
        let Some(newest) = history::keep(&self.context, &owner, MANAGER, in_use).await? else {
            let patch = json!({"metadata": {"uid": set.metadata.uid},
                "status": {"collisionCount": owner.collisions.saturating_add(1)}});
            let api = self.context.api::<StatefulSet>(&key.namespace);
            let written = apply::merge_status(&api, &key.name, MANAGER, &patch).await;
            if let Some(set) = written.unless_gone().doing("counting a collision of StatefulSet", key)? {
                self.context.stateful_sets.observe(&set);
            }
            return Ok(None);
        };
        let current = status.current_revision.filter(|name| *name != newest.name);
        let recorded = current.and_then(|name| self.context.revisions.find(&key.namespace, &name));
        let kept = recorded.as_ref().and_then(|revision| template_of(revision));
        let current = recorded.filter(|_| kept.is_some()).and_then(|revision| revision.metadata.name.clone());
        let current = current.unwrap_or_else(|| newest.name.clone());
        Ok(Some(Versions { update: newest.name, current, kept }))
    }

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
