//! Which pods belong to a controller: those that match and that nobody controls are taken, those that match no longer are
//! let go (upstream's `ControllerRefManager`).

use std::{fmt::Debug, sync::Arc};

use api_client::{ObjectCache, ObjectKey, apply, cache::controller_uid};
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::Resource;
use reconcile::Queue;
use serde_json::json;

use crate::{
    context::{BY_CONTROLLER, Context, ORPHANS},
    error::{Doing, Error, Gone},
    objects::selects,
};

/// Who claims pods.
#[derive(Debug)]
pub(crate) struct Claimant<'a> {
    pub(crate) key: &'a ObjectKey,
    /// The reference that makes it a pod's controller.
    pub(crate) owner: OwnerReference,
    pub(crate) selector: &'a LabelSelector,
    /// False for one on its way out: it takes nothing more.
    pub(crate) adopts: bool,
    /// As whom it writes.
    pub(crate) manager: &'static str,
    /// What its pods carry until it lets them go.
    pub(crate) finalizer: Option<&'static str>,
}

impl Claimant<'_> {
    /// Takes and lets go; then the pods that are its own. `also` is what beside the labels makes a pod fit.
    pub(crate) async fn claim(
        &self,
        context: &Context,
        also: impl Fn(&Pod) -> bool,
    ) -> Result<Vec<Arc<Pod>>, Error> {
        let fits = |pod: &Pod| selects(self.selector, pod.metadata.labels.as_ref()) && also(pod);
        for pod in context.pods.by_index(BY_CONTROLLER, &self.owner.uid).iter().filter(|pod| !fits(pod)) {
            self.release(context, pod).await?;
        }
        if self.adopts {
            let orphans = context.pods.by_index(ORPHANS, &self.key.namespace);
            let staying = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none();
            for pod in orphans.iter().filter(staying).filter(|pod| fits(pod)) {
                self.adopt(context, pod).await?;
            }
        }
        let owned = context.pods.by_index(BY_CONTROLLER, &self.owner.uid);
        Ok(owned.into_iter().filter(|pod| fits(pod)).collect())
    }

    /// Makes a pod its own; one that is gone doesn't matter.
    pub(crate) async fn adopt(&self, context: &Context, pod: &Pod) -> Result<(), Error> {
        let mut patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": [self.owner]}});
        if let Some(finalizer) = self.finalizer {
            patch["metadata"]["finalizers"] = json!([finalizer]);
        }
        self.write(context, pod, &patch, "adopting a pod for").await
    }

    /// Lets a pod go; one that is gone doesn't matter.
    pub(crate) async fn release(&self, context: &Context, pod: &Pod) -> Result<(), Error> {
        let mut patch = json!({"metadata": {"uid": pod.metadata.uid,
            "ownerReferences": [{"$patch": "delete", "uid": self.owner.uid}]}});
        if let Some(finalizer) = self.finalizer {
            patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        self.write(context, pod, &patch, "releasing a pod of").await
    }

    async fn write(
        &self,
        context: &Context,
        pod: &Pod,
        patch: &serde_json::Value,
        doing: &'static str,
    ) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods = context.api::<Pod>(&self.key.namespace);
        let written = apply::strategic(&pods, name, self.manager, patch).await;
        if let Some(pod) = written.unless_gone().doing(doing, self.key)? {
            context.pods.observe(&pod);
        }
        Ok(())
    }
}

/// Puts into `queue` who might take a pod that nobody controls.
pub(crate) fn enqueue_claimants<K>(
    queue: &Queue<ObjectKey>,
    claimants: &ObjectCache<K>,
    change: api_client::Change<'_, Pod>,
    selector: impl Fn(&K) -> Option<LabelSelector>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let Some(pod) = change.new.filter(|pod| controller_uid(&***pod).is_empty()) else { return };
    for claimant in claimants.list_in(&change.key.namespace) {
        if selector(&claimant).is_some_and(|selector| selects(&selector, pod.metadata.labels.as_ref())) {
            queue.add(ObjectKey::of(&*claimant));
        }
    }
}
