//! Recalculates what a namespace's quotas have used: when a quota is new or changed, when something that counted is gone,
//! and now and then, in case a write failed after admission had taken its cost.
//!
//! Admission raises `status.used` before it lets a write through; so `used` is lowered only when two counts, some time
//! apart and with no write to the quota since the first, say so: what was let through before has been written by then.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api_client::{CacheOptions, ObjectCache, ObjectKey, dynamic::Discovery, error::is_conflict};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kind_rules::quota::{Evaluator, recalculate};
use kind_rules::resource_list::ResourceList;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use reconcile::{Action, Queue, Reconciler};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    context::Context,
    error::{Doing, Error, Gone},
};

/// Between the two counts that lower `used`: far longer than a server takes from its last admission step to its write.
const SETTLE: Duration = Duration::from_millis(150);
/// After a change, once more: what was created while a quota had no status yet was not counted by admission.
const AGAIN: Duration = Duration::from_secs(1);
/// Without any change (upstream's default).
const RESYNC: Duration = Duration::from_secs(300);

pub(crate) struct Quotas {
    context: Context,
    discovery: Discovery,
}

/// Tells of a namespace in which something is gone.
pub(crate) type Told = Arc<dyn Fn(&str) + Send + Sync>;

/// The controller, its queue, and whom to tell of what is gone.
pub(crate) fn start(context: &Context, discovery: Discovery) -> (Quotas, Queue<ObjectKey>, Told) {
    let queue = Queue::new();
    let quotas: ObjectCache<ResourceQuota> =
        ObjectCache::start(Api::all(context.reader.clone()), CacheOptions::new("resourcequotas"));
    let own = queue.clone();
    quotas.on_change(move |change| {
        let Some(quota) = change.new else { return };
        let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let known = quota.status.as_ref().and_then(|status| status.hard.as_ref());
        // Admission writes `used` all the time; that is no reason to count.
        if wanted != known || change.old.is_none() {
            own.add(change.key.clone());
        }
    });
    let told = queue.clone();
    let gone: Told = Arc::new(move |namespace: &str| {
        for quota in quotas.list_in(namespace) {
            told.add(ObjectKey::of(&*quota));
        }
    });
    let pods = Arc::clone(&gone);
    context.pods.on_change(move |change| {
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let shrank = match (change.old, change.new) {
            (Some(old), Some(new)) => ended(new) && !ended(old) || old.spec != new.spec,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if shrank {
            pods(&change.key.namespace);
        }
    });
    let services = Arc::clone(&gone);
    context.services.on_change(move |change| {
        if change.old.is_some() {
            services(&change.key.namespace);
        }
    });
    (Quotas { context: context.clone(), discovery }, queue, gone)
}

impl Reconciler for Quotas {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let api: Api<ResourceQuota> = self.context.api(&key.namespace);
        let found = api.get_opt(&key.name).await.doing("reading the quota", &key)?;
        let Some(mut quota) = found.filter(|quota| quota.metadata.deletion_timestamp.is_none()) else {
            return Ok(Action::Done);
        };
        let before = json!(quota);
        let known = ResourceList::of(&before["status"]["used"]);
        let mut used = self.count(&before, &key.namespace).await?;
        if used.0.iter().any(|(name, amount)| known.0.get(name).is_some_and(|known| amount < known)) {
            tokio::time::sleep(SETTLE).await;
            used = self.count(&before, &key.namespace).await?;
        }
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let unchanged = quota.status.as_ref().is_some_and(|status| status.hard.as_ref() == Some(&hard));
        if unchanged && known == used {
            return Ok(Action::RequeueAfter(RESYNC));
        }
        let used = serde_json::from_value(used.to_json()).unwrap_or_default();
        quota.status = Some(ResourceQuotaStatus { hard: Some(hard), used: Some(used) });
        // With the resourceVersion that was read: if admission has taken something since, this count is old.
        match api.replace_subresource("status", &key.name, &PostParams::default(), &quota).await {
            Err(error) if is_conflict(&error) => return Ok(Action::RequeueAfter(SETTLE)),
            written => {
                written.unless_gone().doing("writing what is used of", &key)?;
            }
        }
        Ok(Action::RequeueAfter(AGAIN))
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl Quotas {
    /// What a namespace's objects use of the quota's resources, read from the server.
    async fn count(&self, quota: &Value, namespace: &str) -> Result<ResourceList, Error> {
        let hard = ResourceList::of(&quota["spec"]["hard"]);
        let mut objects: Vec<(Evaluator, Value)> = Vec::new();
        let concerns = |evaluator: &Evaluator| hard.0.keys().any(|name| evaluator.covers(name));
        if concerns(&Evaluator::Pods) {
            objects.extend(self.all::<Pod>(namespace).await?.into_iter().map(|pod| (Evaluator::Pods, pod)));
        }
        if concerns(&Evaluator::Services) {
            let all = self.all::<Service>(namespace).await?;
            objects.extend(all.into_iter().map(|service| (Evaluator::Services, service)));
        }
        if concerns(&Evaluator::Claims) {
            let all = self.all::<PersistentVolumeClaim>(namespace).await?;
            objects.extend(all.into_iter().map(|claim| (Evaluator::Claims, claim)));
        }
        if concerns(&Evaluator::DeviceClaims) {
            let all = self.all::<ResourceClaim>(namespace).await?;
            objects.extend(all.into_iter().map(|claim| (Evaluator::DeviceClaims, claim)));
        }
        for (group, resource) in counted(&hard) {
            let Some(evaluator @ Evaluator::Objects { .. }) = Evaluator::of(&group, &resource) else {
                continue;
            };
            let kinds = self.discovery.kinds().await?;
            let kind = kinds.into_iter().find(|kind| {
                kind.resource.group == group && kind.resource.plural == resource && kind.namespaced
            });
            // A kind that is not served has no objects.
            let Some(kind) = kind else { continue };
            let api = self.discovery.api_of(&kind, Some(namespace));
            let list = api.list_metadata(&ListParams::default()).await;
            let list = list.doing("counting objects in", namespace)?;
            objects.extend(list.items.iter().map(|_| (evaluator.clone(), Value::Null)));
        }
        let each = objects.iter().map(|(evaluator, object)| (evaluator, object));
        Ok(recalculate(quota, each, self.context.now()))
    }

    async fn all<K>(&self, namespace: &str) -> Result<Vec<Value>, Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let list = self.context.api::<K>(namespace).list(&ListParams::default()).await;
        let list = list.doing("counting objects in", namespace)?;
        Ok(list.items.iter().map(|object| json!(object)).collect())
    }
}

/// Group and resource of what is only counted.
fn counted(hard: &ResourceList) -> BTreeSet<(String, String)> {
    let legacy = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
    hard.0
        .keys()
        .filter_map(|name| match name.strip_prefix("count/") {
            Some(counted) => {
                let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
                Some((group.to_owned(), resource.to_owned()))
            }
            None => legacy.contains(&name.as_str()).then(|| (String::new(), name.clone())),
        })
        .collect()
}
