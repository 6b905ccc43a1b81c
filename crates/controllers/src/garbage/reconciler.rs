//! Watches the metadata of everything that can be deleted and carries the plan out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use api_client::{
    CacheOptions, ObjectCache, ObjectKey, apply,
    cache::owner_uids,
    dynamic::{Discovery, Kind},
    error::is_conflict,
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api,
    api::PropagationPolicy,
    core::{DynamicObject, GroupVersionKind, PartialObjectMeta},
};
use parking_lot::RwLock;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::plan::{Dependents, FOREGROUND, ORPHAN, Owner, Step, plan};
use crate::error::{Doing, Error, Gone};
use crate::resource_quota::Told;

const BY_OWNER: &str = "owner";
const BY_UID: &str = "uid";
const MANAGER: &str = "garbage-collector";
/// Custom kinds come in batches; discovery follows once they have settled.
const SETTLE: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(2);

type Metadata = PartialObjectMeta<DynamicObject>;
/// What is watched, by group and kind.
type Watches = HashMap<(String, String), Arc<Watched>>;

/// Names an object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    group: String,
    kind: String,
    key: ObjectKey,
}

struct Watched {
    kind: Kind,
    cache: ObjectCache<Metadata>,
}

/// The collector. Clones share the watched kinds.
#[derive(Clone)]
pub(crate) struct Collector {
    discovery: Discovery,
    queue: Queue<Item>,
    watched: Arc<RwLock<Watches>>,
    told: Told,
}

impl Collector {
    /// Tells `told` of every namespace in which an object of any kind is gone.
    pub(crate) fn new(discovery: Discovery, told: Told) -> Self {
        Self { discovery, queue: Queue::new(), watched: Arc::default(), told }
    }

    pub(crate) fn queue(&self) -> Queue<Item> {
        self.queue.clone()
    }

    /// Keeps the set of watched kinds equal to what the server serves; looks again when custom kinds change.
    pub(crate) async fn follow_kinds(self, shutdown: CancellationToken) {
        let client = self.discovery.client().clone();
        let definitions = ObjectCache::<PartialObjectMeta<CustomResourceDefinition>>::start(
            Api::all(client),
            CacheOptions::new("custom resource definitions"),
        );
        let changed = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&changed);
        definitions.on_change(move |_| notify.notify_one());
        loop {
            let wait = match self.watch_kinds().await {
                Ok(()) => None,
                Err(error) => {
                    tracing::debug!(%error, "could not find out what to collect; trying again");
                    Some(RETRY)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed.notified() => {}
                () = async { match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                } } => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn watch_kinds(&self) -> Result<(), Error> {
        let kinds = self.discovery.deletable().await?;
        // Nobody owns events, and they are many.
        let served: HashMap<(String, String), Kind> = kinds
            .into_iter()
            .filter(|kind| kind.resource.kind != "Event")
            .map(|kind| ((kind.resource.group.clone(), kind.resource.kind.clone()), kind))
            .collect();
        self.watched.write().retain(|name, _| served.contains_key(name));
        for (name, kind) in served {
            if self.watched.read().contains_key(&name) {
                continue;
            }
            let api: Api<Metadata> = Api::all_with(self.discovery.client().clone(), &kind.resource);
            let options = CacheOptions::<Metadata>::new(format!("metadata of {}", kind.resource.plural))
                .index(BY_OWNER, owner_uids)
                .index(BY_UID, |object: &Metadata| object.metadata.uid.iter().cloned().collect())
                .strip(|object: &mut Metadata| {
                    object.metadata.annotations = None;
                    object.metadata.labels = None;
                });
            let cache = ObjectCache::start(api, options);
            self.watched.write().insert(name.clone(), Arc::new(Watched { kind, cache: cache.clone() }));
            self.listen(&cache, name.0, name.1);
        }
        Ok(())
    }

    fn listen(&self, cache: &ObjectCache<Metadata>, group: String, kind: String) {
        // The listener must not keep the caches alive: it belongs to one of them.
        let (queue, watched) = (self.queue.clone(), Arc::downgrade(&self.watched));
        let told = Arc::clone(&self.told);
        cache.on_change(move |change| {
            if change.new.is_none() && !change.key.namespace.is_empty() {
                told(&change.key.namespace);
            }
            let Some(object) = change.latest() else { return };
            let owned = object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
            let going = object.metadata.deletion_timestamp.is_some();
            if change.new.is_some() && (owned || going) {
                queue.add(Item { group: group.clone(), kind: kind.clone(), key: change.key.clone() });
            }
            // Dependents of what went or is going, and owners that wait for what went.
            if change.new.is_none() || going {
                let Some(watched) = watched.upgrade() else { return };
                let all: Vec<_> =
                    watched.read().iter().map(|(name, own)| (name.clone(), Arc::clone(own))).collect();
                let uid = object.metadata.uid.as_deref().unwrap_or_default();
                for ((group, kind), own) in &all {
                    for dependent in own.cache.by_index(BY_OWNER, uid) {
                        queue.add(Item {
                            group: group.clone(),
                            kind: kind.clone(),
                            key: ObjectKey::of(&*dependent),
                        });
                    }
                    for owner in object.metadata.owner_references.iter().flatten() {
                        for owner in own.cache.by_index(BY_UID, &owner.uid) {
                            if owner.metadata.deletion_timestamp.is_some() {
                                queue.add(Item {
                                    group: group.clone(),
                                    kind: kind.clone(),
                                    key: ObjectKey::of(&*owner),
                                });
                            }
                        }
                    }
                }
            }
        });
    }

    fn dependents(&self, uid: &str) -> Vec<(Arc<Watched>, Arc<Metadata>)> {
        let all: Vec<Arc<Watched>> = self.watched.read().values().cloned().collect();
        all.into_iter()
            .flat_map(|own| {
                let mut found = own.cache.by_index(BY_OWNER, uid);
                // Nothing waits for itself.
                found.retain(|object| object.metadata.uid.as_deref() != Some(uid));
                found.into_iter().map(move |object| (Arc::clone(&own), object))
            })
            .collect()
    }

    /// How an owner is. What the caches don't show is asked of the server: absence must be certain.
    async fn owner_state(&self, owner: &OwnerReference, namespace: &str) -> Result<Owner, Error> {
        let gvk = GroupVersionKind::try_from(kube::core::TypeMeta {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
        })
        .map_err(|error| Error::Object { subject: owner.name.clone(), problem: error.to_string() })?;
        let watched = self.watched.read().get(&(gvk.group.clone(), gvk.kind.clone())).cloned();
        let kind = match &watched {
            Some(watched) => {
                if let Some(object) = watched.cache.by_index(BY_UID, &owner.uid).first() {
                    return Ok(state_of(object));
                }
                watched.kind.clone()
            }
            // An owner of a kind that isn't served may come back with its kind: an error, never absence.
            None => self.discovery.resolve(&gvk).await?,
        };
        let api = self.discovery.api_of(&kind, Some(namespace));
        let found = api.get_metadata_opt(&owner.name).await.doing("looking for the owner", &owner.name)?;
        Ok(match found {
            Some(object) if object.metadata.uid.as_deref() == Some(owner.uid.as_str()) => {
                if is_waiting(&object.metadata) { Owner::Waiting } else { Owner::Solid }
            }
            _ => Owner::Absent,
        })
    }

    async fn carry_out(
        &self,
        watched: &Watched,
        object: &Metadata,
        step: Step,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let api = self.discovery.api_of(&watched.kind, Some(&key.namespace));
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        match step {
            Step::Keep => Ok(()),
            Step::Unreference(gone) => {
                let left: Vec<_> = object
                    .metadata
                    .owner_references
                    .iter()
                    .flatten()
                    .filter(|owner| !gone.contains(&owner.uid))
                    .collect();
                let patch = json!({"metadata": {"uid": uid, "resourceVersion": object.metadata.resource_version, "ownerReferences": left}});
                apply::merge(&api, &key.name, MANAGER, &patch)
                    .await
                    .unless_gone()
                    .doing("unreferencing owners of", key)
                    .map(drop)
            }
            Step::Delete { foreground, unblock } => {
                if unblock {
                    let mut owners = object.metadata.owner_references.clone().unwrap_or_default();
                    owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
                    let patch = json!({"metadata": {"uid": uid, "resourceVersion": object.metadata.resource_version, "ownerReferences": owners}});
                    let written = apply::merge(&api, &key.name, MANAGER, &patch).await;
                    written.unless_gone().doing("letting owners go on without", key)?;
                }
                let policy =
                    if foreground { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
                match apply::delete_exactly(&api, &key.name, uid, policy).await.unless_gone() {
                    // Another object bears the name by now.
                    Err(error) if is_conflict(&error) => Ok(()),
                    answer => answer.doing("deleting", key).map(drop),
                }
            }
            Step::DeleteDependents => {
                let dependents = self.dependents(uid);
                if dependents.iter().any(|(_, dependent)| blocks(dependent, uid)) {
                    // Those that wait themselves are told when one of theirs goes: asking them again would never end.
                    for (own, dependent) in dependents.iter().filter(|(_, own)| !is_waiting(&own.metadata)) {
                        let key = ObjectKey::of(&**dependent);
                        self.queue.add(Item {
                            group: own.kind.resource.group.clone(),
                            kind: own.kind.resource.kind.clone(),
                            key,
                        });
                    }
                    return Ok(());
                }
                self.let_go(&api, object, FOREGROUND, key).await
            }
            Step::OrphanDependents => {
                for (own, dependent) in self.dependents(uid) {
                    let dependent_key = ObjectKey::of(&*dependent);
                    let left: Vec<_> = dependent
                        .metadata
                        .owner_references
                        .iter()
                        .flatten()
                        .filter(|owner| owner.uid != uid)
                        .collect();
                    let patch = json!({"metadata": {"uid": dependent.metadata.uid, "resourceVersion": dependent.metadata.resource_version, "ownerReferences": left}});
                    let api = self.discovery.api_of(&own.kind, Some(&dependent_key.namespace));
                    apply::merge(&api, &dependent_key.name, MANAGER, &patch)
                        .await
                        .unless_gone()
                        .doing("orphaning", &dependent_key)?;
                }
                self.let_go(&api, object, ORPHAN, key).await
            }
        }
    }

    async fn let_go(
        &self,
        api: &Api<DynamicObject>,
        object: &Metadata,
        finalizer: &str,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let left: Vec<_> =
            object.metadata.finalizers.iter().flatten().filter(|own| *own != finalizer).collect();
        let patch = json!({"metadata": {"uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version, "finalizers": left}});
        apply::merge(api, &key.name, MANAGER, &patch)
            .await
            .unless_gone()
            .doing("letting go of", key)
            .map(drop)
    }
}

/// Whether an owner that waits for its dependents waits for this one.
fn blocks(dependent: &Metadata, uid: &str) -> bool {
    let mut owners = dependent.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
}

fn is_waiting(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    let foreground = meta.finalizers.iter().flatten().any(|own| own == FOREGROUND);
    meta.deletion_timestamp.is_some() && foreground
}

fn state_of(object: &Metadata) -> Owner {
    if is_waiting(&object.metadata) { Owner::Waiting } else { Owner::Solid }
}

impl Reconciler for Collector {
    type Key = Item;
    type Error = Error;

    async fn reconcile(&self, item: Item) -> Result<Action, Error> {
        let watched = self.watched.read().get(&(item.group.clone(), item.kind.clone())).cloned();
        let Some(watched) = watched else { return Ok(Action::Done) };
        let Some(object) = watched.cache.get(&item.key) else { return Ok(Action::Done) };
        let references: Vec<OwnerReference> = object.metadata.owner_references.clone().unwrap_or_default();
        let mut owners = Vec::with_capacity(references.len());
        if object.metadata.deletion_timestamp.is_none() {
            for owner in &references {
                owners.push((owner, self.owner_state(owner, &item.key.namespace).await?));
            }
        }
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let dependents = self.dependents(uid);
        let dependents = Dependents {
            block: dependents.iter().any(|(_, dependent)| blocks(dependent, uid)),
            wait: dependents.iter().any(|(_, dependent)| is_waiting(&dependent.metadata)),
        };
        let step = plan(&object.metadata, &owners, dependents);
        // Orphaning and letting go need the full picture of dependents.
        if matches!(step, Step::DeleteDependents | Step::OrphanDependents) {
            let all: Vec<Arc<Watched>> = self.watched.read().values().cloned().collect();
            if !all.iter().all(|own| own.cache.status().synced) {
                return Ok(Action::RequeueAfter(SETTLE));
            }
        }
        self.carry_out(&watched, &object, step, &item.key).await?;
        Ok(Action::Done)
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}
