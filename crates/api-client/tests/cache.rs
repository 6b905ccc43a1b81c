//! The watch cache against a small server that behaves well, behaves like an old one, or breaks off.

#![expect(clippy::unwrap_used, reason = "in a test a failed expectation should break off")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_client::{CacheOptions, ObjectCache, cache::label, connect};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// What the server makes of a request for a streaming list.
#[derive(Clone, Copy, PartialEq)]
enum Streaming {
    Works,
    Refused,
    Ignored,
}

/// Serves config maps.
struct Server {
    streaming: Streaming,
    objects: Mutex<BTreeMap<String, Value>>,
    version: AtomicU64,
    events: Mutex<broadcast::Sender<String>>,
    lists: AtomicUsize,
    watches: AtomicUsize,
    expired: AtomicUsize,
}

impl Server {
    fn new(streaming: Streaming) -> Arc<Self> {
        Arc::new(Self {
            streaming,
            objects: Mutex::default(),
            version: AtomicU64::new(1),
            events: Mutex::new(broadcast::channel(64).0),
            lists: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            expired: AtomicUsize::new(0),
        })
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        connect::in_process(tower::service_fn(move |request: http::Request<Body>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(&request)) }
        }))
    }

    fn set(&self, name: &str, owner: &str) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns",
            "uid": name, "resourceVersion": version.to_string(), "labels": {"owner": owner},
            "managedFields": [{"manager": "somebody"}]}});
        let known = self.objects.lock().unwrap().insert(name.to_owned(), object.clone()).is_some();
        self.send(if known { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn delete(&self, name: &str) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let mut object = self.objects.lock().unwrap().remove(name).unwrap();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.send("DELETED", &object);
    }

    /// Without a watcher nobody hears it.
    fn send(&self, kind: &str, object: &Value) {
        let _ = self.events.lock().unwrap().send(frame(kind, object));
    }

    /// Ends all watches; what happens until the next is lost to them, and their versions have expired.
    fn break_off(&self) {
        self.expired.store(1, Ordering::SeqCst);
        *self.events.lock().unwrap() = broadcast::channel(64).0;
    }

    fn answer(&self, request: &http::Request<Body>) -> http::Response<BoxBody> {
        let query = request.uri().query().unwrap_or_default();
        if !query.contains("watch=true") {
            self.lists.fetch_add(1, Ordering::SeqCst);
            let items: Vec<Value> = self.objects.lock().unwrap().values().cloned().collect();
            let version = self.version.load(Ordering::SeqCst).to_string();
            let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": version}, "items": items});
            return respond(200, stream::iter([list.to_string()]));
        }
        self.watches.fetch_add(1, Ordering::SeqCst);
        let live = self.events.lock().unwrap().subscribe();
        let live =
            tokio_stream::wrappers::BroadcastStream::new(live).filter_map(|event| async { event.ok() });
        if !query.contains("sendInitialEvents=true") {
            if self.expired.swap(0, Ordering::SeqCst) == 1 {
                let status = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
                return respond(200, stream::iter([frame("ERROR", &status)]));
            }
            return respond(200, live);
        }
        if self.streaming == Streaming::Refused {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                "reason": "Invalid", "message": "sendInitialEvents is forbidden for watch"});
            return respond(422, stream::iter([status.to_string()]));
        }
        self.expired.store(0, Ordering::SeqCst);
        let mut initial: Vec<String> =
            self.objects.lock().unwrap().values().map(|object| frame("ADDED", object)).collect();
        if self.streaming == Streaming::Works {
            let version = self.version.load(Ordering::SeqCst).to_string();
            initial.push(frame(
                "BOOKMARK",
                &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}),
            ));
        }
        respond(200, stream::iter(initial).chain(live))
    }
}

type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

fn frame(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn respond(
    code: u16,
    frames: impl futures::Stream<Item = String> + Send + 'static,
) -> http::Response<BoxBody> {
    let frames = frames.map(|text| Ok(http_body::Frame::data(Bytes::from(text))));
    let body = http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames));
    http::Response::builder().status(code).body(body).unwrap()
}

fn cache(server: &Arc<Server>) -> ObjectCache<ConfigMap> {
    let options = CacheOptions::new("config maps")
        .index("owner", label("owner"))
        .streaming_patience(Duration::from_millis(300));
    ObjectCache::start(Api::all(server.client()), options)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "in vain: {what}");
}

#[tokio::test]
async fn streams_the_list_and_follows_changes() {
    let server = Server::new(Streaming::Works);
    server.set("a", "x");
    let cache = cache(&server);
    cache.has_synced().await;
    assert_eq!(server.lists.load(Ordering::SeqCst), 0, "no list was needed");
    let object = cache.find("ns", "a").unwrap();
    assert!(object.metadata.managed_fields.is_none());
    server.set("a", "y");
    server.set("b", "y");
    until("both are found by their new owner", || cache.by_index("owner", "y").len() == 2).await;
    assert!(cache.by_index("owner", "x").is_empty());
    server.delete("a");
    until("the deletion arrives", || cache.find("ns", "a").is_none()).await;
}

#[tokio::test]
async fn lists_where_streaming_is_refused_or_ignored() {
    for streaming in [Streaming::Refused, Streaming::Ignored] {
        let server = Server::new(streaming);
        server.set("a", "x");
        let cache = cache(&server);
        tokio::time::timeout(Duration::from_secs(10), cache.has_synced()).await.unwrap();
        assert_eq!(cache.len(), 1);
        assert_eq!(server.lists.load(Ordering::SeqCst), 1);
        until("the watch runs", || server.watches.load(Ordering::SeqCst) >= 2).await;
        server.set("b", "x");
        until("changes arrive", || cache.len() == 2).await;
    }
}

#[tokio::test]
async fn after_a_gap_it_makes_up_for_what_it_missed() {
    let server = Server::new(Streaming::Works);
    server.set("gone", "x");
    server.set("stays", "x");
    let cache = cache(&server);
    cache.has_synced().await;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&heard);
    cache.on_change(move |change| {
        let verb = match (change.old, change.new) {
            (None, _) => "+",
            (Some(_), Some(_)) => "~",
            (Some(_), None) => "-",
        };
        notes.lock().unwrap().push(format!("{verb}{}", change.key.name));
    });
    assert_eq!(*heard.lock().unwrap(), ["+gone", "+stays"], "who comes late is told what is there");
    server.break_off();
    server.objects.lock().unwrap().remove("gone");
    server.set("new", "x");
    until("the new one is known", || cache.find("ns", "new").is_some()).await;
    until("the old one is not", || cache.find("ns", "gone").is_none()).await;
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[2..], ["+new", "-gone"], "what stayed the same is no news");
}

#[tokio::test]
async fn a_writer_sees_its_own_write_at_once_and_never_an_older_state() {
    let server = Server::new(Streaming::Works);
    let cache = cache(&server);
    cache.has_synced().await;
    let mut mine = ConfigMap::default();
    mine.metadata.name = Some("a".to_owned());
    mine.metadata.namespace = Some("ns".to_owned());
    mine.metadata.uid = Some("a".to_owned());
    mine.metadata.resource_version = Some("100".to_owned());
    cache.observe(&mine);
    assert!(cache.find("ns", "a").is_some());
    server.set("a", "late");
    server.set("b", "x");
    until("the later change arrives", || cache.find("ns", "b").is_some()).await;
    assert_eq!(cache.find("ns", "a").unwrap().metadata.resource_version.as_deref(), Some("100"));
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_watch() {
    let server = Server::new(Streaming::Works);
    let cache = cache(&server);
    cache.has_synced().await;
    let clone = cache.clone();
    drop(cache);
    assert_eq!(server.events.lock().unwrap().receiver_count(), 1);
    drop(clone);
    until("the server sees it go", || server.events.lock().unwrap().receiver_count() == 0).await;
}

#[tokio::test]
async fn too_many_objects_are_refused_and_said() {
    let server = Server::new(Streaming::Works);
    for name in ["a", "b", "c"] {
        server.set(name, "x");
    }
    let options = CacheOptions::<ConfigMap>::new("few").max_objects(2);
    let cache = ObjectCache::start(Api::all(server.client()), options);
    until("it says so", || cache.status().last_error.is_some_and(|text| text.contains("more than 2"))).await;
    assert!(!cache.status().synced);
}
