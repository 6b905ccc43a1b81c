//! All objects of a server in memory, encoded, with an index and their recent history: what lists and watches are served
//! from.
//!
//! * [`encoded`]: an object as bytes, its resourceVersion spliced in on the way out.
//! * [`index`]: what selectors look at.
//! * [`handover`]: what writers of this process leave for the cache, so that it need not parse what they had in hand.
//! * [`event`]: a change, encoded once per form for all watchers.
//! * [`pace`]: how often many watchers are woken.
//! * [`pieces`]: what a crowd of watchers shares.
//! * [`resource`]: the objects and the recent events of one storage.
//! * [`subscription`]: a watcher: a cursor into the events, no queue of its own.
//!
//! A stored CustomResourceDefinition brings a storage of its own: while its change is taken in, what is served changes
//! ([`crate::served`]) and its objects are loaded, before anybody is told.
//!
//! One watch on the store feeds all storages, so the revision up to which the cache is complete is one number. Readers
//! that need to see a write wait for its revision. History is bounded ([`resource::HistoryBounds`]); a watcher that falls
//! out of it is told so and never misses an event silently.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_machinery::custom_resource;
use bytes::Bytes;
use kube_objects::{Reason, Status, StatusDetails};
use parking_lot::RwLock;
use serde_json::Value;
use storage::{EventKind, KeyRange, RangeRequest, Revision, Store, StoreError, WatchBatch, WatchRequest};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Resource;
use crate::served::{DefinitionChange, ServedKinds, StorageChange};

pub(crate) mod encoded;
pub(crate) mod event;
mod handover;
mod index;
mod pace;
mod pieces;
pub(crate) mod resource;
pub(crate) mod subscription;

pub(crate) use encoded::{CachedObject, EncodedObject};
pub(crate) use event::{CachedEvent, Change};
pub(crate) use resource::{CacheVersion, HistoryBounds, ResourceCache, Scope, Wanted};
pub(crate) use subscription::{Delivery, Expired, Filter, Subscription};

/// Everything stored lies below this prefix.
pub(crate) const ROOT: &str = "/registry/";

/// How long a read waits for a revision that has not arrived (upstream: 3 s, then "Too large resource version").
const WAIT_LIMIT: Duration = Duration::from_secs(3);

/// Unread batches before the store ends the cache's watch; the cache only copies references, so this is far more than a
/// healthy one needs.
const STORE_BUFFER: usize = 4096;

/// How often history that is old is let go of where nothing happens.
const SWEEP: Duration = Duration::from_secs(30);

/// How long to wait before listing the store again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// `/registry/GROUP/RESOURCE/`; the core group is `core`.
pub(crate) fn storage_prefix(group: &str, resource: &str) -> String {
    format!("{ROOT}{}/{resource}/", if group.is_empty() { "core" } else { group })
}

/// An object's key; `namespace` is "" for a cluster-scoped one.
pub(crate) fn object_key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let prefix = storage_prefix(group, resource);
    if namespace.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}{namespace}/{name}") }
}

/// The caches of all storages of a server.
#[derive(Debug)]
pub(crate) struct WatchCache {
    caches: RwLock<HashMap<String, Arc<ResourceCache>>>,
    kinds: Arc<ServedKinds>,
    bounds: HistoryBounds,
    /// Where definitions are stored.
    definitions: String,
    handover: handover::Handover,
    applied: watch::Sender<Revision>,
}

impl WatchCache {
    /// Loads everything, definitions first, then follows the store until `shutdown`. Returns when the first load is
    /// complete.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        kinds: Arc<ServedKinds>,
        bounds: HistoryBounds,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let (applied, _) = watch::channel(Revision::default());
        let definitions = storage_prefix(custom_resource::GROUP, custom_resource::RESOURCE);
        let cache = Arc::new(Self {
            caches: RwLock::default(),
            kinds,
            bounds,
            definitions,
            handover: handover::Handover::default(),
            applied,
        });
        let revision = cache.load(store.as_ref()).await?;
        let follower = Arc::clone(&cache);
        tokio::spawn(async move {
            let following = follower.follow(store.as_ref(), revision);
            shutdown.run_until_cancelled(following).await;
        });
        Ok(cache)
    }

    /// The cache of what `resource` is stored as; `None` for a virtual resource.
    pub(crate) fn of(&self, resource: &Resource) -> Option<Arc<ResourceCache>> {
        self.storage(&resource.storage.0, &resource.storage.1)
    }

    /// The cache of a storage by group and resource.
    pub(crate) fn storage(&self, group: &str, resource: &str) -> Option<Arc<ResourceCache>> {
        self.at(&storage_prefix(group, resource))
    }

    fn at(&self, prefix: &str) -> Option<Arc<ResourceCache>> {
        self.caches.read().get(prefix).cloned()
    }

    /// Indexes an object from the tree that `bytes` were written from, for when they are committed.
    pub(crate) fn hand_over(&self, resource: &Resource, bytes: &Bytes, value: &Value) {
        if let Some(object) = self.of(resource).and_then(|cache| cache.index(bytes, value)) {
            self.handover.leave(object);
        }
    }

    /// The revision up to which the cache is complete.
    pub(crate) fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until the cache is complete up to `revision`.
    ///
    /// # Errors
    /// After 3 s: the `Timeout` that clients know as "Too large resource version", with a retry after 1 s.
    pub(crate) async fn wait_for(&self, revision: Revision) -> Result<(), Status> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let arrived =
            tokio::time::timeout(WAIT_LIMIT, applied.wait_for(|applied| *applied >= revision)).await;
        if matches!(arrived, Ok(Ok(_))) {
            return Ok(());
        }
        let message =
            format!("Timeout: Too large resource version: {revision}, current: {}", self.revision());
        let cause = kube_objects::StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        Err(Status::new(Reason::Timeout, message).with_details(StatusDetails {
            causes: vec![cause],
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        }))
    }

    async fn load(&self, store: &dyn Store) -> Result<Revision, StoreError> {
        let everything = store.range(RangeRequest::all(KeyRange::prefix(ROOT))).await?;
        let mut sorted: HashMap<&str, Vec<(&str, &storage::KeyValue)>> = HashMap::new();
        for kv in &everything.kvs {
            if let Some((prefix, rest)) = split_key(&kv.key) {
                sorted.entry(prefix).or_default().push((rest, kv));
            }
        }
        let stored = sorted.remove(self.definitions.as_str()).unwrap_or_default();
        let named = stored.iter().map(|(name, kv)| ((*name).to_owned(), kv.value.clone())).collect();
        // What is read below holds the objects in their new form anyway.
        self.kinds.replace_all(named);
        sorted.insert(&self.definitions, stored);
        self.keep_storages();
        for (prefix, cache) in self.caches.read().iter() {
            let objects = sorted.remove(prefix.as_str()).unwrap_or_default();
            cache.replace(everything.revision, objects);
        }
        self.applied.send_replace(everything.revision);
        Ok(everything.revision)
    }

    /// Makes the caches those of what is served.
    fn keep_storages(&self) {
        let catalogue = self.kinds.catalogue();
        let mut caches = self.caches.write();
        let mut kept = HashMap::new();
        for resource in catalogue.storages() {
            let (group, name) = &resource.storage;
            // Two served resources may share a storage; the one that is stored in its own version indexes it.
            let owner = catalogue.stored(group, name).unwrap_or(resource);
            let prefix = storage_prefix(group, name);
            if kept.contains_key(&prefix) {
                continue;
            }
            let cache = caches.remove(&prefix).unwrap_or_else(|| {
                Arc::new(ResourceCache::new(prefix.clone(), Arc::clone(owner), self.bounds))
            });
            cache.set_resource(Arc::clone(owner));
            kept.insert(prefix, cache);
        }
        *caches = kept;
    }

    /// Never returns while the store lives. A watch that was ended for being slow goes on where it was; when history is
    /// gone, everything is loaded again and running watchers are told to list.
    async fn follow(&self, store: &dyn Store, mut revision: Revision) {
        loop {
            let ended = match self.follow_from(store, &mut revision).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if matches!(ended, StoreError::SlowWatcher { .. }) {
                continue;
            }
            tracing::warn!(error = %ended, "the store ended the watch; loading everything again");
            revision = loop {
                match self.load(store).await {
                    Ok(revision) => break revision,
                    Err(error) => tracing::error!(%error, "failed to load objects from the store"),
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            };
        }
    }

    /// Applies what comes after `revision`, and moves it along. `Ok` when the store has shut down.
    async fn follow_from(&self, store: &dyn Store, revision: &mut Revision) -> Result<(), StoreError> {
        let start = Some(revision.next());
        let request = WatchRequest { range: KeyRange::prefix(""), start, buffer: STORE_BUFFER };
        let mut stream = store.watch(request).await?;
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let batch = tokio::select! {
                batch = stream.next() => batch,
                _ = sweep.tick() => {
                    self.caches.read().values().for_each(|cache| cache.forget_old());
                    continue;
                }
            };
            let Some(batch) = batch.transpose()? else { return Ok(()) };
            let reached = batch.revision;
            self.apply(store, batch).await?;
            *revision = reached;
        }
    }

    async fn apply(&self, store: &dyn Store, batch: WatchBatch) -> Result<(), StoreError> {
        let changes = self.kinds.apply(self.definition_changes(&batch));
        // New storages come first, for they are read at this revision; what the others hold is read anew when the
        // events below are in, so that each event still knows the version before it.
        let (new, known): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| match change {
            StorageChange::Load(resource) => self.of(resource).is_none(),
            _ => false,
        });
        for change in new {
            self.change_storage(store, change, batch.revision).await?;
        }
        let mut touched: Vec<Arc<ResourceCache>> = Vec::new();
        for event in &batch.events {
            let Some((prefix, rest)) = split_key(&event.kv.key) else { continue };
            let Some(cache) = self.at(prefix) else { continue };
            match event.kind {
                EventKind::Put => {
                    let own = self.handover.take(&event.kv.value, event.kv.mod_revision);
                    cache.put(rest, &event.kv, own);
                }
                EventKind::Delete => cache.delete(rest, event.kv.mod_revision),
            }
            if !touched.iter().any(|known| Arc::ptr_eq(known, &cache)) {
                touched.push(cache);
            }
        }
        for change in known {
            self.change_storage(store, change, batch.revision).await?;
        }
        for cache in touched {
            cache.publish();
        }
        self.applied.send_replace(batch.revision);
        Ok(())
    }

    fn definition_changes(&self, batch: &WatchBatch) -> Vec<DefinitionChange> {
        let own = batch.events.iter().filter_map(|event| {
            let (prefix, name) = split_key(&event.kv.key)?;
            (prefix == self.definitions).then_some((event, name.to_owned()))
        });
        own.map(|(event, name)| match event.kind {
            EventKind::Put => DefinitionChange::Put(name, event.kv.value.clone()),
            EventKind::Delete => DefinitionChange::Gone(name),
        })
        .collect()
    }

    async fn change_storage(
        &self,
        store: &dyn Store,
        change: StorageChange,
        revision: Revision,
    ) -> Result<(), StoreError> {
        match change {
            StorageChange::Drop(group, resource) => {
                self.caches.write().remove(&storage_prefix(&group, &resource));
            }
            StorageChange::Replace(resource) => {
                if let Some(cache) = self.of(&resource) {
                    cache.set_resource(resource);
                }
            }
            StorageChange::Load(resource) => {
                let prefix = storage_prefix(&resource.storage.0, &resource.storage.1);
                let request = RangeRequest {
                    revision: Some(revision),
                    ..RangeRequest::all(KeyRange::prefix(prefix.clone()))
                };
                let stored = store.range(request).await?;
                let listed = stored.kvs.iter().filter_map(|kv| Some((split_key(&kv.key)?.1, kv))).collect();
                let known = self.at(&prefix);
                let cache = known.clone().unwrap_or_else(|| {
                    Arc::new(ResourceCache::new(prefix.clone(), Arc::clone(&resource), self.bounds))
                });
                cache.set_resource(resource);
                if known.is_some() {
                    cache.refresh(listed);
                } else {
                    cache.replace(revision, listed);
                    self.caches.write().insert(prefix, cache);
                }
            }
        }
        Ok(())
    }
}

/// Splits `/registry/GROUP/RESOURCE/REST` into the storage's prefix and the rest.
fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    let key = std::str::from_utf8(key).ok()?;
    let below = key.strip_prefix(ROOT)?;
    let group = below.find('/')?;
    let resource = below[group + 1..].find('/')?;
    Some(key.split_at(ROOT.len() + group + 1 + resource + 1))
}

#[cfg(test)]
mod tests;
