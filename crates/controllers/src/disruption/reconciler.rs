//! Carries the plan out.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use api_client::{ObjectCache, ObjectKey, dynamic::Discovery};
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{
    Api, Resource,
    api::PostParams,
    core::{DynamicObject, GroupVersionKind, TypeMeta},
};
use reconcile::{Action, Queue, Reconciler};
use serde_json::Value;

use super::plan::{Scale, needs_scale, plan};
use crate::{
    context::Context,
    error::{Doing, Error, Gone},
    objects::{Labels, selects},
};

const MANAGER: &str = "disruption-controller";

pub(crate) struct Budgets {
    pub(crate) context: Context,
    pub(crate) discovery: Discovery,
}

/// An empty selector takes every pod of the namespace, no selector takes none (policy/v1).
fn covers(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let Some(selector) = selector else { return false };
    *selector == LabelSelector::default() || selects(selector, labels)
}

fn selector(budget: &PodDisruptionBudget) -> Option<&LabelSelector> {
    budget.spec.as_ref()?.selector.as_ref()
}

/// Fed by changes of budgets, of their pods, and of what controls those.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.budgets.on_change(move |change| own.add(change.key.clone()));
    let (of_pods, budgets) = (queue.clone(), context.budgets.clone());
    context.pods.on_change(move |change| {
        let same = change.old.zip(change.new).is_some_and(|(old, new)| {
            old.metadata.labels == new.metadata.labels
                && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
                && crate::objects::phase(old) == crate::objects::phase(new)
                && crate::objects::is_ready(old) == crate::objects::is_ready(new)
        });
        if same {
            return;
        }
        for budget in budgets.list_in(&change.key.namespace) {
            let mut states = [change.old, change.new].into_iter().flatten();
            if states.any(|pod| covers(selector(&budget), pod.metadata.labels.as_ref())) {
                of_pods.add(ObjectKey::of(&*budget));
            }
        }
    });
    follow(&queue, context, &context.replica_sets, |set| set.spec.as_ref()?.replicas);
    follow(&queue, context, &context.replication_controllers, |set| set.spec.as_ref()?.replicas);
    follow(&queue, context, &context.stateful_sets, |set| set.spec.as_ref()?.replicas);
    follow(&queue, context, &context.deployments, |set| set.spec.as_ref()?.replicas);
    queue
}

/// Budgets are few: a controller's new size asks all of its namespace's.
fn follow<K>(queue: &Queue<ObjectKey>, context: &Context, cache: &ObjectCache<K>, size: fn(&K) -> Option<i32>)
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
{
    let (queue, budgets) = (queue.clone(), context.budgets.clone());
    cache.on_change(move |change| {
        if change.old.zip(change.new).is_none_or(|(old, new)| size(old) != size(new)) {
            for budget in budgets.list_in(&change.key.namespace) {
                queue.add(ObjectKey::of(&*budget));
            }
        }
    });
}

impl Reconciler for Budgets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(budget) = context.budgets.get(&key) else { return Ok(Action::Done) };
        let pods: Vec<Arc<Pod>> = context
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|pod| covers(selector(&budget), pod.metadata.labels.as_ref()))
            .collect();
        let scale =
            if needs_scale(&budget) { self.scale(&key.namespace, &pods).await? } else { Scale::Known(0) };
        let (status, look_again) = plan(&budget, &pods, &scale, context.now());
        if let Some(status) = status {
            self.write(&key, &budget, status).await?;
        }
        Ok(match look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Budgets {
    /// An eviction takes from the same numbers: the status is written only over what was read.
    async fn write(&self, key: &ObjectKey, budget: &PodDisruptionBudget, status: Value) -> Result<(), Error> {
        let status = serde_json::from_value(status).map_err(|error| Error::Object {
            subject: key.to_string(),
            problem: format!("its status cannot be written: {error}"),
        })?;
        let wanted = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let api = self.context.api::<PodDisruptionBudget>(&key.namespace);
        let written = api.replace_subresource("status", &key.name, &by(MANAGER), &wanted).await;
        if let Some(budget) = written.unless_gone().doing("writing the status of PodDisruptionBudget", key)? {
            self.context.budgets.observe(&budget);
        }
        Ok(())
    }

    /// What the controllers of `pods` want, each counted once. Pods without one don't count (upstream's rule).
    async fn scale(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<Scale, Error> {
        let mut seen = BTreeSet::new();
        let mut sum = 0_i32;
        for pod in pods {
            let owner =
                pod.metadata.owner_references.iter().flatten().find(|own| own.controller == Some(true));
            let Some(owner) = owner.filter(|owner| seen.insert(owner.uid.clone())) else { continue };
            match self.size(namespace, owner).await? {
                Ok((uid, _)) if uid != owner.uid && !seen.insert(uid.clone()) => {}
                Ok((_, size)) => sum = sum.saturating_add(size),
                Err(why) => return Ok(Scale::Unknown(why)),
            }
        }
        Ok(Scale::Known(sum))
    }

    /// Uid and size of a controller, or of the Deployment above it; or why there is none.
    async fn size(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Result<(String, i32), String>, Error> {
        let context = &self.context;
        let own = |replicas: Option<i32>| Ok((owner.uid.clone(), replicas.unwrap_or(1)));
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => {
                if let Some(set) = context.replica_sets.find(namespace, &owner.name) {
                    let above = set.metadata.owner_references.iter().flatten();
                    let mut above =
                        above.filter(|own| own.controller == Some(true) && own.kind == "Deployment");
                    let deployment =
                        above.next().and_then(|above| context.deployments.find(namespace, &above.name));
                    if let Some(deployment) = deployment {
                        let size = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                        return Ok(Ok((deployment.metadata.uid.clone().unwrap_or_default(), size)));
                    }
                    return Ok(own(set.spec.as_ref().and_then(|spec| spec.replicas)));
                }
            }
            ("apps/v1", "StatefulSet") => {
                if let Some(set) = context.stateful_sets.find(namespace, &owner.name) {
                    return Ok(own(set.spec.as_ref().and_then(|spec| spec.replicas)));
                }
            }
            ("v1", "ReplicationController") => {
                if let Some(set) = context.replication_controllers.find(namespace, &owner.name) {
                    return Ok(own(set.spec.as_ref().and_then(|spec| spec.replicas)));
                }
            }
            _ => return self.custom_size(namespace, owner).await,
        }
        Ok(Err(format!("found no controllers for pod of {} {:?}", owner.kind, owner.name)))
    }

    /// By the `scale` subresource, which any kind may have.
    async fn custom_size(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Result<(String, i32), String>, Error> {
        let types = TypeMeta { api_version: owner.api_version.clone(), kind: owner.kind.clone() };
        let Ok(gvk) = GroupVersionKind::try_from(types) else {
            return Ok(Err(format!("{} {:?} has no valid apiVersion", owner.kind, owner.name)));
        };
        let kind = match self.discovery.resolve(&gvk).await {
            Ok(kind) => kind,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let api: Api<DynamicObject> = self.discovery.api_of(&kind, Some(namespace));
        match api.get_scale(&owner.name).await.unless_gone() {
            Ok(Some(scale)) => {
                let size = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
                Ok(Ok((owner.uid.clone(), size)))
            }
            Ok(None) => {
                let (plural, group) = (&kind.resource.plural, &kind.resource.group);
                Ok(Err(format!("{plural}.{group} does not implement the scale subresource")))
            }
            Err(error) => Err(error).doing("reading the scale of", &owner.name),
        }
    }
}

fn by(manager: &str) -> PostParams {
    PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() }
}
