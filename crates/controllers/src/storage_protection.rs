//! Lets claims and volumes go that nothing holds any more: takes off the finalizers that admission
//! (`StorageObjectInUseProtection`) puts on them (upstream `pkg/controller/volume/pvcprotection` and `pvprotection`).
//!
//! A claim is held by every pod on a node that names it, a volume by the claim that it is bound to.

use std::time::Duration;

use api_client::{CacheOptions, ObjectCache, ObjectKey, error::is_conflict};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use reconcile::{Action, Queue, Reconciler};

use crate::{
    context::Context,
    error::{Doing, Error, Gone},
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) struct Claims {
    context: Context,
    claims: ObjectCache<PersistentVolumeClaim>,
}

pub(crate) struct Volumes {
    context: Context,
    volumes: ObjectCache<PersistentVolume>,
}

/// Fed by claims on their way out, and by pods that went or changed and named such a claim.
pub(crate) fn claims(context: &Context) -> (Claims, Queue<ObjectKey>) {
    let queue = Queue::new();
    let claims: ObjectCache<PersistentVolumeClaim> =
        ObjectCache::start(Api::all(context.client.clone()), CacheOptions::new("persistentvolumeclaims"));
    let own = queue.clone();
    claims.on_change(move |change| {
        if change.new.is_some_and(|claim| is_held(&**claim, CLAIM_FINALIZER)) {
            own.add(change.key.clone());
        }
    });
    let (pods, known) = (queue.clone(), claims.clone());
    context.pods.on_change(move |change| {
        for name in change.old.into_iter().flat_map(|pod| named(pod)) {
            let key = ObjectKey::new(change.key.namespace.clone(), name);
            if known.get(&key).is_some_and(|claim| is_held(&*claim, CLAIM_FINALIZER)) {
                pods.add(key);
            }
        }
    });
    (Claims { context: context.clone(), claims }, queue)
}

/// Fed by volumes on their way out.
pub(crate) fn volumes(context: &Context) -> (Volumes, Queue<ObjectKey>) {
    let queue = Queue::new();
    let volumes: ObjectCache<PersistentVolume> =
        ObjectCache::start(Api::all(context.client.clone()), CacheOptions::new("persistentvolumes"));
    let own = queue.clone();
    volumes.on_change(move |change| {
        if change.new.is_some_and(|volume| is_held(&**volume, VOLUME_FINALIZER)) {
            own.add(change.key.clone());
        }
    });
    (Volumes { context: context.clone(), volumes }, queue)
}

impl Reconciler for Claims {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(claim) = self.claims.get(&key) else { return Ok(Action::Done) };
        if !is_held(&*claim, CLAIM_FINALIZER) {
            return Ok(Action::Done);
        }
        let name = key.name.as_str();
        if self.context.pods.list_in(&key.namespace).iter().any(|pod| uses(pod, name)) {
            return Ok(Action::Done);
        }
        // A pod that the cache has not seen yet may use it.
        let pods = self.context.api::<Pod>(&key.namespace).list(&ListParams::default()).await;
        let pods = pods.doing("looking for pods that use", &key)?;
        if pods.items.iter().any(|pod| uses(pod, name)) {
            return Ok(Action::Done);
        }
        release(&self.context, &*claim, CLAIM_FINALIZER, &key).await
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Reconciler for Volumes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(volume) = self.volumes.get(&key) else { return Ok(Action::Done) };
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        if bound || !is_held(&*volume, VOLUME_FINALIZER) {
            return Ok(Action::Done);
        }
        release(&self.context, &*volume, VOLUME_FINALIZER, &key).await
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

/// Whether an object is to go and waits for this finalizer.
fn is_held<K: Resource>(object: &K, finalizer: &str) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|own| own == finalizer)
}

/// The claims that a pod names, its own among them.
fn named(pod: &Pod) -> Vec<String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// A pod without a node does not count: no node starts one whose claim is on its way out.
fn uses(pod: &Pod, claim: &str) -> bool {
    let placed =
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    placed && named(pod).iter().any(|name| name == claim)
}

/// Takes the finalizer off: as an update of the whole object, for the controllers' roles allow no patch. It is read anew, as
/// it is and not in this program's types, so that nothing is lost that these do not know.
async fn release<K>(context: &Context, object: &K, finalizer: &str, key: &ObjectKey) -> Result<Action, Error>
where
    K: Resource<DynamicType = ()>,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = if key.namespace.is_empty() {
        Api::all_with(context.client.clone(), &kind)
    } else {
        Api::namespaced_with(context.client.clone(), &key.namespace, &kind)
    };
    let found = api.get_opt(&key.name).await.doing("reading", key)?;
    // Another of the same name is not this one, and comes back by itself when it is to go.
    let Some(mut found) = found.filter(|found| found.metadata.uid == object.meta().uid) else {
        return Ok(Action::Done);
    };
    if let Some(finalizers) = &mut found.metadata.finalizers {
        finalizers.retain(|own| own != finalizer);
    }
    match api.replace(&key.name, &PostParams::default(), &found).await {
        // Somebody changed it meanwhile: the change brings the key back.
        Err(error) if is_conflict(&error) => Ok(Action::Done),
        answer => answer.unless_gone().doing("letting go of", key).map(|_| Action::Done),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}},
            {"name": "c", "emptyDir": {}}]}}),
        )
        .expect("a pod")
    }

    #[test]
    fn pods_on_nodes_hold_the_claims_they_name() {
        assert_eq!(named(&pod("n")), ["data", "p-b"]);
        assert!(uses(&pod("n"), "data") && uses(&pod("n"), "p-b"));
        assert!(!uses(&pod("n"), "p-c") && !uses(&pod(""), "data"));
    }

    #[test]
    fn only_what_is_to_go_is_held() {
        let claim = |deleted: Option<&str>, finalizer: &str| -> PersistentVolumeClaim {
            let meta = json!({"name": "c", "deletionTimestamp": deleted, "finalizers": [finalizer]});
            serde_json::from_value(json!({"metadata": meta})).expect("a claim")
        };
        let now = Some("2026-01-01T00:00:00Z");
        assert!(is_held(&claim(now, CLAIM_FINALIZER), CLAIM_FINALIZER));
        assert!(!is_held(&claim(None, CLAIM_FINALIZER), CLAIM_FINALIZER));
        assert!(!is_held(&claim(now, "a/b"), CLAIM_FINALIZER));
    }
}
