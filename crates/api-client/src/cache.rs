//! A watch cache: all objects of a kind (or those that match selectors) in memory, indexed, always catching up with the
//! server, with change notifications for several consumers.
//!
//! * Reads never wait and never ask the server.
//! * Listeners are called in the order of changes, after the cache shows the change. A listener that comes late is
//!   first told of everything that is there.
//! * A component that writes can put the server's answer into the cache at once ([`ObjectCache::observe`],
//!   [`ObjectCache::observe_deleted`]). The cache then never shows it an older state of that object, so a reconciler
//!   that reads the cache sees its own writes and needs no bookkeeping of what it expects to see.
//! * Bounded by [`CacheOptions::max_objects`]; `managedFields`, often the larger part of an object, are dropped.

mod index;
mod source;
mod store;
mod task;

use std::{fmt, sync::Arc, time::Duration};

use kube::{Api, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::AbortHandle};

pub use self::index::{controller_uid, label, owner_uids};
use self::{
    source::{FullSource, Source},
    store::Store,
};

/// What a cached object must be able to do. Every resource can; so can what is kept in place of one ([`ObjectCache::of`]).
pub trait Cached: Clone + fmt::Debug + Send + Sync + 'static {
    /// Its name.
    fn object_key(&self) -> ObjectKey;
    /// Which of all that ever bore the name it is.
    fn object_uid(&self) -> Option<&str>;
    /// The version that it is of.
    fn object_version(&self) -> Option<&str>;
    /// Drops what no cache keeps.
    fn drop_managed_fields(&mut self) {}
}

impl<T: Resource + Clone + fmt::Debug + Send + Sync + 'static> Cached for T {
    fn object_key(&self) -> ObjectKey {
        ObjectKey::of(self)
    }

    fn object_uid(&self) -> Option<&str> {
        self.meta().uid.as_deref()
    }

    fn object_version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }

    fn drop_managed_fields(&mut self) {
        self.meta_mut().managed_fields = None;
    }
}

/// Names an object within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// "" for objects that live in no namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// Of its parts; "" as namespace for an object that lives in none.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// An object's key.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// `namespace/name`, or only the name.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What happened to an object. Both are there for a change, or for one object in place of another of the same name
/// (then their uids differ).
#[derive(Debug)]
pub struct Change<'a, K> {
    /// Its name.
    pub key: &'a ObjectKey,
    /// What it was; `None` when it is new.
    pub old: Option<&'a Arc<K>>,
    /// What it is; `None` when it is gone.
    pub new: Option<&'a Arc<K>>,
}

impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

impl<'a, K> Change<'a, K> {
    /// The newest known state: the new one, or the last one of an object that is gone.
    #[must_use]
    pub fn latest(&self) -> Option<&'a Arc<K>> {
        self.new.or(self.old)
    }
}

type IndexFunction<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;
type Strip<K> = Arc<dyn Fn(&mut K) + Send + Sync>;
type Listener<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

/// How a cache works.
pub struct CacheOptions<K> {
    name: String,
    label_selector: Option<String>,
    field_selector: Option<String>,
    max_objects: usize,
    indexes: Vec<(&'static str, IndexFunction<K>)>,
    strip: Option<Strip<K>>,
    streaming_patience: Duration,
}

impl<K> fmt::Debug for CacheOptions<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Kubernetes is built for at most 150 000 pods in a cluster, its most numerous kind beside events.
const DEFAULT_MAX_OBJECTS: usize = 200_000;

impl<K: Cached> CacheOptions<K> {
    /// Everything of the kind, at most 200 000 objects. `name` appears in logs.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            label_selector: None,
            field_selector: None,
            max_objects: DEFAULT_MAX_OBJECTS,
            indexes: Vec::new(),
            strip: None,
            streaming_patience: Duration::from_secs(10),
        }
    }

    /// Only objects that match this label selector.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.label_selector = Some(selector.into());
        self
    }

    /// Only objects that match this field selector.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.field_selector = Some(selector.into());
        self
    }

    /// At most this many objects: beyond, the cache drops what it holds, says so in its status and tries again later.
    #[must_use]
    pub fn max_objects(mut self, max: usize) -> Self {
        self.max_objects = max;
        self
    }

    /// Keeps an index: `function` names the values under which an object is found by [`ObjectCache::by_index`].
    #[must_use]
    pub fn index(
        mut self,
        name: &'static str,
        function: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.indexes.push((name, Arc::new(function)));
        self
    }

    /// Drops what the cache's users don't need from each object (beside `managedFields`, which always go). Who strips
    /// must never write a cached object back whole.
    #[must_use]
    pub fn strip(mut self, strip: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.strip = Some(Arc::new(strip));
        self
    }

    /// How long a streaming list may stay silent before the cache takes the server for one that ignores the request
    /// for it, and lists instead; 10 s unless told.
    #[must_use]
    pub fn streaming_patience(mut self, patience: Duration) -> Self {
        self.streaming_patience = patience;
        self
    }
}

/// A cache's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct CacheStatus {
    /// Whether it has been complete once.
    pub synced: bool,
    /// How many objects it holds.
    pub objects: usize,
    /// Why the last attempt to follow the server failed; none once it goes on.
    pub last_error: Option<String>,
}

/// The cache. Clones are the same cache; it stops following the server when the last one is dropped.
pub struct ObjectCache<K: Cached> {
    inner: Arc<Inner<K>>,
    task: Arc<TaskGuard>,
}

struct TaskGuard(AbortHandle);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Inner<K: Cached> {
    store: RwLock<Store<K>>,
    /// Held while a change is put into the store and told, so that every listener hears the same order.
    listeners: Mutex<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
    last_error: Mutex<Option<String>>,
    strip: Option<Strip<K>>,
}

impl<K: Cached> Clone for ObjectCache<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), task: Arc::clone(&self.task) }
    }
}

impl<K: Cached> fmt::Debug for ObjectCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCache").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<K: Resource + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static> ObjectCache<K> {
    /// Starts a cache of what `api` reads: an `Api<PartialObjectMeta<K>>` makes one of objects' metadata alone. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn start(api: Api<K>, options: CacheOptions<K>) -> Self {
        Self::start_from(FullSource::new(api, std::convert::identity), options)
    }
}

impl<K: Cached> ObjectCache<K> {
    /// Starts a cache of what `keep` makes of each object that `api` reads: where there are many, and little of each is asked
    /// for. Must be called within a tokio runtime.
    #[must_use]
    pub fn of<R>(api: Api<R>, options: CacheOptions<K>, keep: fn(R) -> K) -> Self
    where
        R: Resource + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static,
    {
        Self::start_from(FullSource::new(api, keep), options)
    }

    fn start_from(source: impl Source<K>, options: CacheOptions<K>) -> Self {
        let inner = Arc::new(Inner {
            store: RwLock::new(Store::new(options.indexes.clone())),
            listeners: Mutex::new(Vec::new()),
            synced: watch::Sender::new(false),
            last_error: Mutex::new(None),
            strip: options.strip.clone(),
        });
        let task = tokio::spawn(task::follow(Arc::downgrade(&inner), source, options));
        Self { inner, task: Arc::new(TaskGuard(task.abort_handle())) }
    }

    /// Waits until the cache has been complete once. From then on reads show some state the server had.
    pub async fn has_synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives in `self.inner`, so the channel cannot close.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        CacheStatus {
            synced: *self.inner.synced.borrow(),
            objects: self.inner.store.read().len(),
            last_error: self.inner.last_error.lock().clone(),
        }
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.inner.store.read().get(key)
    }

    /// The object of that name in `namespace` ("" for objects in none).
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&ObjectKey::new(namespace, name))
    }

    /// All objects, by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.store.read().list()
    }

    /// The objects in one namespace, by name.
    #[must_use]
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner.store.read().list_in(namespace)
    }

    /// The objects that the index called `index` files under `value`, by namespace and name; nothing for an index
    /// that was not asked for at the start.
    #[must_use]
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.inner.store.read().by_index(index, value)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.store.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `listener` for everything that is there now, and then for every change, in order. It must be quick (put a
    /// key into a queue) and must not call `on_change` or `observe` of the same cache.
    pub fn on_change(&self, listener: impl Fn(Change<'_, K>) + Send + Sync + 'static) {
        let mut listeners = self.inner.listeners.lock();
        for object in self.list() {
            let key = object.object_key();
            listener(Change { key: &key, old: None, new: Some(&object) });
        }
        listeners.push(Box::new(listener));
    }

    /// Puts in what the server answered to a write, unless the cache knows something newer.
    pub fn observe(&self, object: &K) {
        self.inner.apply(object.clone(), true);
    }

    /// Takes out an object that the server has confirmed to be gone. Late news of it are then passed over.
    pub fn observe_deleted(&self, object: &K) {
        self.inner.remove(object, true);
    }
}

impl<K: Cached> Inner<K> {
    fn prepare(&self, object: &mut K) {
        object.drop_managed_fields();
        if let Some(strip) = &self.strip {
            strip(object);
        }
    }

    fn apply(&self, mut object: K, own_write: bool) {
        self.prepare(&mut object);
        let key = object.object_key();
        let object = Arc::new(object);
        let listeners = self.listeners.lock();
        let Some(old) = self.store.write().apply(&key, Arc::clone(&object), own_write) else { return };
        tell(&listeners, Change { key: &key, old: old.as_ref(), new: Some(&object) });
    }

    fn remove(&self, object: &K, own_write: bool) {
        let key = object.object_key();
        let listeners = self.listeners.lock();
        let Some(old) = self.store.write().remove(&key, object, own_write) else { return };
        tell(&listeners, Change { key: &key, old: Some(&old), new: None });
    }
}

fn tell<K>(listeners: &[Listener<K>], change: Change<'_, K>) {
    for listener in listeners {
        listener(change);
    }
}
