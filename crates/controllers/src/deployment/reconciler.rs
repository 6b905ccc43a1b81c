//! Carries the plan out.

use std::time::Duration;

use api_client::{ObjectKey, apply, error::is_already_exists, events::Severity};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api,
    api::{PostParams, PropagationPolicy},
};
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use super::plan::{Plan, REVISION, is_of_template, plan};
use crate::{
    context::{BY_CONTROLLER, Context, ORPHANS, enqueue_controller},
    error::{Doing, Error, Gone},
    objects::{controller_reference, selects},
};

const MANAGER: &str = "deployment-controller";

pub(crate) struct Deployments {
    pub(crate) context: Context,
}

/// Fed by changes of Deployments, of their ReplicaSets and, for recreation, of pods that went.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.deployments.on_change(move |change| own.add(change.key.clone()));
    let of_sets = queue.clone();
    context.replica_sets.on_change(move |change| enqueue_controller(&of_sets, "Deployment", change));
    let (of_orphans, deployments) = (queue.clone(), context.deployments.clone());
    context.replica_sets.on_change(move |change| {
        let Some(set) = change.new.filter(|set| api_client::cache::controller_uid(&***set).is_empty()) else {
            return;
        };
        // A ReplicaSet that nobody controls may be adopted.
        for deployment in deployments.list_in(&change.key.namespace) {
            let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
            if selector.is_some_and(|selector| selects(selector, set.metadata.labels.as_ref())) {
                of_orphans.add(ObjectKey::of(&*deployment));
            }
        }
    });
    let (of_pods, sets) = (queue.clone(), context.replica_sets.clone());
    context.pods.on_change(move |change| {
        let Some(pod) = change.old.filter(|_| change.new.is_none()) else { return };
        for owner in pod.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == "ReplicaSet")
        {
            let set = sets.find(&change.key.namespace, &owner.name);
            let owners = set.iter().flat_map(|set| set.metadata.owner_references.iter().flatten());
            for owner in owners.filter(|owner| owner.kind == "Deployment") {
                of_pods.add(ObjectKey::new(change.key.namespace.clone(), owner.name.clone()));
            }
        }
    });
    queue
}

impl Reconciler for Deployments {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(deployment) = self.context.deployments.get(&key) else { return Ok(Action::Done) };
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        self.adopt_and_release(&key, &deployment, &uid).await?;
        let sets = self.context.replica_sets.by_index(BY_CONTROLLER, &uid);
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let old_pods = sets
            .iter()
            .filter(|set| template.is_none_or(|template| !is_of_template(set, template)))
            .any(|set| {
                let uid = set.metadata.uid.as_deref().unwrap_or_default();
                let pods = self.context.pods.by_index(BY_CONTROLLER, uid);
                pods.iter().any(|pod| !matches!(crate::objects::phase(pod), "Succeeded" | "Failed"))
            });
        let plan = plan(&deployment, &sets, old_pods, self.context.now());
        self.carry_out(&key, &deployment, &plan).await?;
        Ok(match plan.look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Deployments {
    /// Takes ReplicaSets that nobody controls and that match, lets go of those that match no longer.
    async fn adopt_and_release(
        &self,
        key: &ObjectKey,
        deployment: &Deployment,
        uid: &str,
    ) -> Result<(), Error> {
        let context = &self.context;
        let Some(spec) = deployment.spec.as_ref() else { return Ok(()) };
        let matches = |set: &ReplicaSet| selects(&spec.selector, set.metadata.labels.as_ref());
        let mut changes = Vec::new();
        for set in context.replica_sets.by_index(BY_CONTROLLER, uid).into_iter().filter(|set| !matches(set)) {
            changes.push((set, json!([{"$patch": "delete", "uid": uid}])));
        }
        if deployment.metadata.deletion_timestamp.is_none() {
            let owner = controller_reference("apps/v1", "Deployment", &deployment.metadata);
            for set in context.replica_sets.by_index(ORPHANS, &key.namespace) {
                if matches(&set) && set.metadata.deletion_timestamp.is_none() {
                    changes.push((set, json!([owner])));
                }
            }
        }
        let sets = context.api::<ReplicaSet>(&key.namespace);
        for (set, references) in changes {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"metadata": {"uid": set.metadata.uid, "ownerReferences": references}});
            let written = apply::strategic(&sets, name, MANAGER, &patch).await;
            if let Some(set) = written.unless_gone().doing("claiming or releasing a ReplicaSet for", key)? {
                context.replica_sets.observe(&set);
            }
        }
        Ok(())
    }

    async fn carry_out(&self, key: &ObjectKey, deployment: &Deployment, plan: &Plan) -> Result<(), Error> {
        let context = &self.context;
        let own = context.api::<Deployment>(&key.namespace);
        let sets = context.api::<ReplicaSet>(&key.namespace);
        if let Some(set) = &plan.create {
            self.create(key, deployment, &sets, set).await?;
        }
        for resize in &plan.resize {
            let mut patch = json!({"metadata": {"annotations": resize.annotations}});
            if resize.from != resize.to {
                patch["spec"] = json!({"replicas": resize.to});
                let verb = if resize.to > resize.from { "up" } else { "down" };
                let message = format!(
                    "Scaled {verb} replica set {} from {} to {}",
                    resize.name, resize.from, resize.to
                );
                context.recorder.record(deployment, Severity::Normal, "ScalingReplicaSet", message);
            }
            let written = apply::merge(&sets, &resize.name, MANAGER, &patch).await;
            if let Some(set) = written.unless_gone().doing("sizing a ReplicaSet of", key)? {
                context.replica_sets.observe(&set);
            }
        }
        for name in &plan.delete {
            let Some(set) = context.replica_sets.find(&key.namespace, name) else { continue };
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            apply::delete_exactly(&sets, name, uid, PropagationPolicy::Background)
                .await
                .unless_gone()
                .doing("deleting an old ReplicaSet of", key)?;
        }
        if let Some(revision) = &plan.revision {
            let patch =
                json!({"metadata": {"uid": deployment.metadata.uid, "annotations": {REVISION: revision}}});
            let written = apply::merge(&own, &key.name, MANAGER, &patch).await;
            if let Some(deployment) = written.unless_gone().doing("numbering Deployment", key)? {
                context.deployments.observe(&deployment);
            }
        }
        if let Some(status) = &plan.status {
            let patch = json!({"metadata": {"uid": deployment.metadata.uid}, "status": status});
            let written = apply::merge_status(&own, &key.name, MANAGER, &patch).await;
            if let Some(deployment) = written.unless_gone().doing("writing the status of Deployment", key)? {
                context.deployments.observe(&deployment);
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        key: &ObjectKey,
        deployment: &Deployment,
        sets: &Api<ReplicaSet>,
        set: &ReplicaSet,
    ) -> Result<(), Error> {
        match sets.create(&PostParams::default(), set).await {
            Ok(set) => {
                let name = set.metadata.name.as_deref().unwrap_or_default();
                let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                self.context.recorder.record(deployment, Severity::Normal, "ScalingReplicaSet", message);
                self.context.replica_sets.observe(&set);
                Ok(())
            }
            Err(error) if api_client::error::is_namespace_terminating(&error) => Ok(()),
            Err(error) if is_already_exists(&error) => {
                self.resolve_collision(key, deployment, set, error).await
            }
            Err(error) => Err(error).doing("creating a ReplicaSet of", key),
        }
    }

    /// The name is taken: by our own set that the cache has not shown yet (then it will), or by something else (then
    /// the hash must change).
    async fn resolve_collision(
        &self,
        key: &ObjectKey,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: kube::Error,
    ) -> Result<(), Error> {
        let sets = self.context.api::<ReplicaSet>(&key.namespace);
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let existing = sets.get_opt(name).await.doing("reading a ReplicaSet of", key)?;
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        if let Some(existing) = &existing
            && crate::objects::is_controlled_by(&existing.metadata, uid)
            && template.is_some_and(|template| is_of_template(existing, template))
        {
            self.context.replica_sets.observe(existing);
            return Ok(());
        }
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let patch = json!({"metadata": {"uid": deployment.metadata.uid},
            "status": {"collisionCount": collisions.saturating_add(1)}});
        let own = self.context.api::<Deployment>(&key.namespace);
        let written = apply::merge_status(&own, &key.name, MANAGER, &patch).await;
        if let Some(deployment) = written.unless_gone().doing("counting a collision of Deployment", key)? {
            self.context.deployments.observe(&deployment);
        }
        Err(error).doing("creating a ReplicaSet of", key)
    }
}
