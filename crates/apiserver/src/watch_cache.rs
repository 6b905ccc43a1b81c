//! All objects of a server in memory, encoded, with an index and their recent history: what lists and watches are served
//! from.
//!
//! * [`encoded`]: an object as bytes, its resourceVersion spliced in on the way out; what is indexed of it.
//! * [`event`]: a change, encoded once per form for all watchers.
//! * [`resource`]: the objects and the recent events of one storage.
//! * [`subscription`]: a watcher: a cursor into the events, no queue of its own.
//!
//! One watch on the store feeds all storages, so the revision up to which the cache is complete is one number. Readers
//! that need to see a write wait for its revision. History is bounded ([`resource::HistoryBounds`]); a watcher that falls
//! out of it is told so and never misses an event silently.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube_objects::{Reason, Status, StatusDetails};
use storage::{EventKind, KeyRange, RangeRequest, Revision, Store, StoreError, WatchBatch, WatchRequest};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Catalogue, Resource};

pub(crate) mod encoded;
pub(crate) mod event;
pub(crate) mod resource;
pub(crate) mod subscription;

pub(crate) use encoded::CachedObject;
pub(crate) use event::{CachedEvent, Change};
pub(crate) use resource::{HistoryBounds, ResourceCache};
pub(crate) use subscription::{Delivery, Filter, Subscription};

/// Everything stored lies below this prefix.
pub(crate) const ROOT: &str = "/registry/";

/// How long a read waits for a revision that has not arrived (upstream: 3 s, then "Too large resource version").
const WAIT_LIMIT: Duration = Duration::from_secs(3);

/// Unread batches before the store ends the cache's watch; the cache only copies references, so this is far more than a
/// healthy one needs.
const STORE_BUFFER: usize = 4096;

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
    caches: HashMap<String, Arc<ResourceCache>>,
    applied: watch::Sender<Revision>,
}

impl WatchCache {
    /// Loads everything, then follows the store until `shutdown`. Returns when the first load is complete.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        catalogue: &Catalogue,
        bounds: HistoryBounds,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let mut caches = HashMap::new();
        for resource in catalogue.resources().iter().filter(|resource| !resource.virtual_only) {
            let (group, name) = &resource.storage;
            // Two served resources may share a storage; the one that is stored in its own version indexes it.
            let owner = catalogue.stored(group, name).unwrap_or(resource);
            let prefix = storage_prefix(group, name);
            caches
                .entry(prefix.clone())
                .or_insert_with(|| Arc::new(ResourceCache::new(prefix, Arc::clone(owner), bounds)));
        }
        let (applied, _) = watch::channel(Revision::default());
        let cache = Arc::new(Self { caches, applied });
        let revision = cache.load(store.as_ref()).await?;
        let follower = Arc::clone(&cache);
        tokio::spawn(async move {
            let following = follower.follow(store.as_ref(), revision);
            shutdown.run_until_cancelled(following).await;
        });
        Ok(cache)
    }

    /// The cache of what `resource` is stored as; `None` for a virtual resource.
    pub(crate) fn of(&self, resource: &Resource) -> Option<&Arc<ResourceCache>> {
        self.storage(&resource.storage.0, &resource.storage.1)
    }

    /// The cache of a storage by group and resource.
    pub(crate) fn storage(&self, group: &str, resource: &str) -> Option<&Arc<ResourceCache>> {
        self.caches.get(&storage_prefix(group, resource))
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
        let mut applied = self.applied.subscribe();
        let arrived =
            tokio::time::timeout(WAIT_LIMIT, applied.wait_for(|applied| *applied >= revision)).await;
        if matches!(arrived, Ok(Ok(_))) {
            return Ok(());
        }
        let message = format!("Too large resource version: {revision}, current: {}", self.revision());
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
        for (prefix, cache) in &self.caches {
            let objects = sorted.remove(prefix.as_str()).unwrap_or_default();
            cache.replace(everything.revision, objects);
        }
        self.applied.send_replace(everything.revision);
        Ok(everything.revision)
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
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            *revision = batch.revision;
            self.apply(batch);
        }
        Ok(())
    }

    fn apply(&self, batch: WatchBatch) {
        for event in &batch.events {
            let Some((prefix, rest)) = split_key(&event.kv.key) else { continue };
            let Some(cache) = self.caches.get(prefix) else { continue };
            match event.kind {
                EventKind::Put => cache.put(rest, &event.kv),
                EventKind::Delete => cache.delete(rest, event.kv.mod_revision),
            }
        }
        for cache in self.caches.values() {
            cache.publish();
        }
        self.applied.send_replace(batch.revision);
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
