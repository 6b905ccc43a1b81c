//! Objects over the store: consistent reads through the watch cache, conditional writes.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use api_machinery::custom_resource::status::NamesInUse;
use async_trait::async_trait;
use bytes::Bytes;
use kube_objects::{Reason, Status};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use storage::{
    Compare, KeyRange, KeyValue, Operation, OperationResponse, Revision, Store, StoreError, Transaction,
};

use crate::catalogue::Resource;
use crate::metrics::{StoreOperation, StoreRequests};
use crate::registry::fence::Fence;
use crate::registry::parsed::ParsedObjects;
use crate::registry::strategy::Objects;
use crate::served::ServedKinds;
use crate::watch_cache::{CachedObject, ResourceCache, WatchCache, object_key};
use crate::webhook_client::WebhookClient;

/// What a conditional write came to.
#[derive(Debug)]
pub(crate) enum Written {
    /// Done, at this revision.
    At(Revision),
    /// The condition did not hold; what is there now.
    Lost(Option<KeyValue>),
}

/// Reads and writes objects in their stored form.
pub(crate) struct ObjectAccess {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<WatchCache>,
    pub(crate) kinds: Arc<ServedKinds>,
    /// Asks conversion webhooks; set once at start. Weak, for it resolves Services through this very access.
    pub(crate) webhooks: OnceLock<Weak<WebhookClient>>,
    /// What was asked of the store.
    pub(crate) requests: StoreRequests,
    /// What strategies and admission read of other objects.
    pub(crate) parsed: ParsedObjects,
}

/// Lists of more objects than these leave nothing for later: they would push out what every write looks at.
const FEW: usize = 32;

/// A store's failure as a client sees it.
pub(crate) fn store_failure(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => {
            Status::new(Reason::Expired, format!("The resourceVersion is too old: {error}"))
        }
        StoreError::FutureRevision { .. } => {
            Status::new(Reason::Timeout, format!("Too large resource version: {error}"))
        }
        StoreError::Unavailable(_) | StoreError::NoSpace { .. } => {
            tracing::error!(%error, "the store refused a request");
            Status::new(Reason::ServiceUnavailable, error.to_string())
        }
        _ => Status::internal(error),
    }
}

/// The bytes an object is kept as: without resourceVersion, which the store gives; apiVersion, kind and metadata first
/// ([`crate::watch_cache::EncodedObject`] cuts there).
pub(crate) fn encode(object: &Value) -> Bytes {
    thread_local! {
        /// What is kept for as long as the object lives is copied out of here, and is not larger than it has to be.
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        // A tree of JSON values has text keys and finite numbers, and a vector takes every write.
        drop(serde_json::to_writer(&mut *scratch, &Kept(object)));
        let kept = Bytes::copy_from_slice(scratch);
        scratch.shrink_to(SCRATCH_BYTES);
        kept
    })
}

/// What a thread keeps for writing objects: most fit.
const SCRATCH_BYTES: usize = 64 << 10;

/// Writes an object without the resourceVersion in its metadata, and without copying the rest.
struct Kept<'a>(&'a Value);

/// The fields that an object begins with.
const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.0 else { return self.0.serialize(serializer) };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for key in HEAD {
            match fields.get(key) {
                Some(Value::Object(metadata)) if key == "metadata" => {
                    map.serialize_entry(key, &KeptMetadata(metadata))?;
                }
                Some(value) => map.serialize_entry(key, value)?,
                None => {}
            }
        }
        for (key, value) in fields.iter().filter(|(key, _)| !HEAD.contains(&key.as_str())) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

struct KeptMetadata<'a>(&'a Map<String, Value>);

impl Serialize for KeptMetadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(key, _)| *key != "resourceVersion"))
    }
}

/// Says which revision an object is of.
pub(crate) fn stamp(object: &mut Value, revision: Revision) {
    object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
}

impl ObjectAccess {
    /// Waits until reads of the cache see every write acknowledged before the call; answers the revision.
    pub(crate) async fn catch_up(&self) -> Result<Revision, Status> {
        let revision = self.store.revision().await.map_err(|error| store_failure(&error))?;
        self.cache.wait_for(revision).await?;
        Ok(revision)
    }

    /// Waits until reads of the cache show at least `revision`.
    ///
    /// # Errors
    /// After 3 s, "Too large resource version".
    pub(crate) async fn reach(&self, revision: Revision) -> Result<(), Status> {
        if self.cache.revision() < revision {
            // Also makes a store that others write to say how far it is.
            self.store.revision().await.map_err(|error| store_failure(&error))?;
        }
        self.cache.wait_for(revision).await
    }

    /// The cache of a served resource; 404 for one that is not stored.
    pub(crate) fn cache_of(&self, resource: &Resource) -> Result<Arc<ResourceCache>, Status> {
        self.cache.of(resource).ok_or_else(not_served)
    }

    /// The newest version of an object.
    pub(crate) async fn current(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<CachedObject>>, Status> {
        self.catch_up().await?;
        match self.cache_of(resource)?.get(namespace, name) {
            Some(found) => self.view(resource, found).await.map(Some),
            None => Ok(None),
        }
    }

    /// A version that a lost write brought along.
    pub(crate) async fn version(
        &self,
        resource: &Resource,
        kv: Option<&KeyValue>,
    ) -> Result<Option<Arc<CachedObject>>, Status> {
        let Some(kv) = kv else { return Ok(None) };
        let cache = self.cache_of(resource)?;
        let found = cache.version(kv).ok_or_else(|| Status::internal("a stored object is damaged"))?;
        self.view(resource, found).await.map(Some)
    }

    /// The key of an object of `resource`.
    pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> String {
        object_key(&resource.storage.0, &resource.storage.1, namespace, name)
    }

    /// Creates, unless it is there.
    pub(crate) async fn insert(&self, key: String, value: Bytes) -> Result<Written, Status> {
        let compare = Compare::absent(key.clone());
        self.write(StoreOperation::Create, compare, Operation::put(key.clone(), value), key).await
    }

    /// Replaces the version of `revision`.
    pub(crate) async fn replace(
        &self,
        key: String,
        revision: Revision,
        value: Bytes,
    ) -> Result<Written, Status> {
        let compare = Compare::unchanged_since(key.clone(), revision);
        self.write(StoreOperation::Update, compare, Operation::put(key.clone(), value), key).await
    }

    /// Deletes the version of `revision`.
    pub(crate) async fn remove(&self, key: String, revision: Revision) -> Result<Written, Status> {
        let compare = Compare::unchanged_since(key.clone(), revision);
        self.write(StoreOperation::Delete, compare, Operation::delete(key.clone()), key).await
    }

    async fn write(
        &self,
        kind: StoreOperation,
        compare: Compare,
        operation: Operation,
        key: String,
    ) -> Result<Written, Status> {
        let since = Instant::now();
        let fence = Fence::current();
        let mut transaction = Transaction {
            compare: vec![compare],
            success: vec![operation],
            failure: vec![Operation::get(key)],
        };
        if let Some(fence) = &fence {
            transaction.compare.push(fence.compare());
            transaction.failure.push(fence.read());
        }
        let done = self.store.transact(transaction).await;
        self.requests.observe(kind, since, done.is_err());
        let done = done.map_err(|error| store_failure(&error))?;
        if done.succeeded {
            return Ok(Written::At(done.revision));
        }
        let mut responses = done.responses;
        if let Some(fence) = &fence {
            fence.check(responses.pop())?;
        }
        let found = responses.into_iter().find_map(|response| match response {
            OperationResponse::Range(range) => range.kvs.into_iter().next(),
            _ => None,
        });
        Ok(Written::Lost(found))
    }

    fn stored(&self, group: &str, resource: &str) -> Result<Arc<Resource>, Status> {
        self.kinds.catalogue().stored(group, resource).cloned().ok_or_else(not_served)
    }

    /// The range of keys of a storage below a namespace ("" for all).
    pub(crate) fn range(resource: &Resource, namespace: &str) -> KeyRange {
        let mut prefix = crate::watch_cache::storage_prefix(&resource.storage.0, &resource.storage.1);
        if !namespace.is_empty() {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        KeyRange::prefix(prefix)
    }
}

/// 404 for a path that leads nowhere.
pub(crate) fn not_served() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

#[async_trait]
impl Objects for ObjectAccess {
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status> {
        let Ok(resource) = self.stored(group, resource) else { return Ok(None) };
        Ok(self.current(&resource, namespace, name).await?.map(|object| self.parsed.of(&object)))
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, Status> {
        let Ok(resource) = self.stored(group, resource) else { return Ok(Vec::new()) };
        self.catch_up().await?;
        let objects = self.cache_of(&resource)?.objects(namespace, None);
        let objects = self.views(&resource, objects).await?;
        if objects.len() > FEW {
            return Ok(objects.iter().map(|object| Arc::new(object.encoded.to_value())).collect());
        }
        Ok(objects.iter().map(|object| self.parsed.of(object)).collect())
    }

    async fn modify(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: &(dyn for<'a> Fn(&'a mut Value) -> Result<bool, Status> + Send + Sync),
    ) -> Result<bool, Status> {
        let resource = self.stored(group, resource)?;
        let mut current = self.current(&resource, namespace, name).await?;
        loop {
            let Some(object) = current else { return Ok(false) };
            let mut value = object.encoded.to_value();
            if !change(&mut value)? {
                return Ok(true);
            }
            let key = Self::key(&resource, namespace, name);
            match self.replace(key, object.encoded.revision(), encode(&value)).await? {
                Written::At(_) => return Ok(true),
                Written::Lost(found) => current = self.version(&resource, found.as_ref()).await?,
            }
        }
    }

    fn resource_of(&self, group: &str, version: &str, kind: &str) -> Option<String> {
        let catalogue = self.kinds.catalogue();
        let is_it =
            |own: &&Arc<Resource>| own.kind == kind && own.gvr.group == group && own.gvr.version == version;
        catalogue.resources().iter().find(is_it).map(|own| own.gvr.resource.clone())
    }

    fn names_in_use(&self, group: &str, except: &str) -> NamesInUse {
        self.kinds.names_in_use(group, except)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_deposed_leaders_write_is_refused_by_the_store() {
        let store: Arc<dyn Store> = Arc::new(storage::model::MemoryStore::default());
        let service =
            crate::Service::new(crate::Options::new(Arc::clone(&store), crate::Catalogue::cluster()));
        let handle = service.await.expect("a server").handle();
        let user = || kube_objects::UserInfo::new("leader", &["system:masters"]);
        let draw = async || {
            let success = vec![Operation::put("leader", "x")];
            let drawn =
                store.transact(Transaction { success, ..Transaction::default() }).await.expect("drawn");
            Fence { key: "leader".into(), revision: drawn.revision }
        };
        let put = async |client: kube::Client, name: &str| {
            let body =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
            let request =
                http::Request::post("/api/v1/namespaces").header("content-type", "application/json");
            let request = request.body(kube::client::Body::from(body.into_bytes())).expect("a request");
            client.send(request).await.expect("an answer").status().as_u16()
        };
        let first = handle.fenced_client(user(), draw().await);
        assert_eq!((put(first.clone(), "a").await, put(first.clone(), "a").await), (201, 409));
        let second = handle.fenced_client(user(), draw().await);
        assert_eq!((put(first.clone(), "b").await, put(second.clone(), "b").await), (409, 201));
        let gone = |client: kube::Client, name: &'static str| async move {
            let path = format!("/api/v1/namespaces/{name}/status");
            let patch = json!({"metadata": {"labels": {"by": "leader"}}}).to_string().into_bytes();
            let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
            let request = request.body(kube::client::Body::from(patch)).expect("a request");
            client.send(request).await.expect("an answer").status().as_u16()
        };
        assert_eq!((gone(first.clone(), "b").await, gone(second, "b").await), (409, 200));
        let read =
            http::Request::get("/api/v1/namespaces/b").body(kube::client::Body::empty()).expect("a request");
        assert_eq!(first.send(read).await.expect("an answer").status(), 200, "who leads no more may look");
        assert_eq!(put(handle.client(user()), "c").await, 201, "others have no fence");
    }

    #[test]
    fn the_revision_is_not_kept() {
        let object = json!({"kind": "A", "metadata": {"name": "x", "resourceVersion": "7"}, "spec": {"resourceVersion": "1"}});
        let kept: Value = serde_json::from_slice(&encode(&object)).expect("JSON");
        assert_eq!(kept, json!({"kind": "A", "metadata": {"name": "x"}, "spec": {"resourceVersion": "1"}}));
    }
}
