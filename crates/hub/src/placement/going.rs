//! Placements and rollouts that are deleted. A placement goes when no cluster holds anything by it any more, a rollout when
//! no placement names it: so clusters are emptied behind the same questions, waves and gates as by any other change. Only a
//! placement that is there and says so takes anything away; one that is merely missing takes nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use fleet_objects::rollout::Rollout;
use fleet_objects::{ClusterDecision, DecisionStep, FINALIZER_WITHDRAWAL};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{ByPartition, Caches, Decided, placement_name, withdrawal};
use crate::error::Error;
use crate::service::Shared;

/// Whether it is being deleted.
pub(super) fn is_going(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether it is being deleted and is no business of the hub's any more.
pub(super) fn is_gone(object: &impl Resource) -> bool {
    is_going(object) && !is_bound(object)
}

fn is_bound(object: &impl Resource) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER_WITHDRAWAL)
}

/// Who deletes a placement chooses nobody by it.
pub(super) fn decisions(mut decisions: Vec<ClusterDecision>) -> Vec<ClusterDecision> {
    for decision in decisions.iter_mut().filter(|decision| decision.step == DecisionStep::Selector) {
        "the placement is being deleted".clone_into(&mut decision.reason);
    }
    decisions
}

/// Sees to it that no placement, and no rollout that one names, goes before the hub has let it go. Answers the placements of
/// which that is not so yet, with the reason: nothing is given out by them.
pub(super) async fn bind(shared: &Shared, caches: &Caches) -> BTreeMap<String, String> {
    let mut unbound = BTreeMap::new();
    for placement in caches.placements.list().into_iter().filter(|placement| !is_gone(&**placement)) {
        let rollout = placement.spec.rollout.as_deref();
        let rollout = rollout.and_then(|name| caches.rollouts.find(&placement.namespace()?, name));
        let bound = async {
            if let Some(placement) = add(shared, &*placement).await? {
                caches.placements.observe(&placement);
            }
            if let Some(rollout) = &rollout
                && let Some(rollout) = add(shared, &**rollout).await?
            {
                caches.rollouts.observe(&rollout);
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = bound.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a placement waits for its finalizer");
            unbound.insert(placement_name(&placement), "its finalizer could not be written yet".to_owned());
        }
    }
    unbound
}

/// Lets go what is being deleted and has nothing left to do.
pub(super) async fn release(
    shared: &Shared,
    caches: &Caches,
    decided: &[Decided],
    assignments: &ByPartition,
) -> Result<(), Error> {
    let held = withdrawal::by_placement(assignments);
    for one in decided.iter().filter(|one| is_going(&*one.placement)) {
        let is_held = held.contains_key(&placement_name(&one.placement));
        // The waves of a rollout are judged to their end.
        let under_way = one.governed.is_some() && !withdrawal::going(one, assignments).is_empty();
        if !is_held && !under_way && one.unbound.is_none() {
            remove(shared, &*one.placement).await?;
            caches.placements.observe_deleted(&one.placement);
        }
    }
    let placements = caches.placements.list();
    let is_named = |rollout: &Arc<Rollout>| {
        placements.iter().any(|placement| {
            !is_gone(&**placement)
                && placement.namespace() == rollout.namespace()
                && placement.spec.rollout == rollout.metadata.name
        })
    };
    let done = caches.rollouts.list().into_iter();
    let done = done.filter(|rollout| is_going(&**rollout) && is_bound(&**rollout) && !is_named(rollout));
    for rollout in done {
        remove(shared, &*rollout).await?;
        caches.rollouts.observe_deleted(&rollout);
    }
    Ok(())
}

async fn add<K>(shared: &Shared, object: &K) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    if is_going(object) || is_bound(object) {
        return Ok(None);
    }
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER_WITHDRAWAL.to_owned());
    write(shared, object, &finalizers).await
}

async fn remove<K>(shared: &Shared, object: &K) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER_WITHDRAWAL);
    write(shared, object, &finalizers).await
}

/// `None` when it is not there any more.
async fn write<K>(shared: &Shared, object: &K, finalizers: &[String]) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<K> = Api::namespaced(shared.client.clone(), &namespace);
    // Under the version that was looked at: others have finalizers of their own.
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": object.resource_version(), "uid": object.uid()}});
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if api_client::error::is_not_found(&error) => Ok(None),
        Err(error) => {
            let subject = format!("write the finalizers of {} {namespace}/{name}", K::kind(&()));
            Err(Error::api(subject)(error))
        }
    }
}
