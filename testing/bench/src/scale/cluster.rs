//! A cluster as an agent sees it, simulated: namespaces, nodes and config maps of one Kubernetes API, in memory, without
//! sockets. It costs some kilobytes, so that what is measured beside it is agents and hub.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The resources there are, with their kinds and whether they live in namespaces.
const RESOURCES: [(&str, &str, bool); 3] =
    [("namespaces", "Namespace", false), ("nodes", "Node", false), ("configmaps", "ConfigMap", true)];
/// Events kept for watches; a watch that is further behind is told to list anew.
const HISTORY: usize = 256;

/// A simulated cluster. Clones share it.
#[derive(Clone)]
pub(super) struct SimulatedCluster {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for SimulatedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedCluster").finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    history: VecDeque<Event>,
}

type Key = (&'static str, String, String);

struct Event {
    revision: u64,
    resource: &'static str,
    line: Bytes,
}

impl State {
    /// Keeps an object and tells watches; answers it as stored. What says nothing new changes nothing.
    fn put(&mut self, key: Key, mut object: Value) -> Value {
        let before = self.objects.get(&key);
        let uid = match before {
            Some(before) => before["metadata"]["uid"].clone(),
            None => Value::from(uuid::Uuid::new_v4().to_string()),
        };
        object["metadata"]["uid"] = uid;
        if let Some(before) = before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == object {
                return object;
            }
        }
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.revision += 1;
        object["metadata"]["resourceVersion"] = Value::from(self.revision.to_string());
        self.tell(kind, key.0, &object);
        self.objects.insert(key, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) -> Option<Value> {
        let object = self.objects.remove(key)?;
        self.revision += 1;
        self.tell("DELETED", key.0, &object);
        Some(object)
    }

    fn tell(&mut self, kind: &str, resource: &'static str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Event { revision: self.revision, resource, line: line.into() });
    }
}

impl Default for SimulatedCluster {
    fn default() -> Self {
        let mut state = State::default();
        for name in ["kube-system", "default"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            state.put(("namespaces", String::new(), name.to_owned()), object);
        }
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0"}, "status": {"conditions": ready}});
        state.put(("nodes", String::new(), "node-0".to_owned()), node);
        let (revision, _) = watch::channel(state.revision);
        Self { shared: Arc::new(Shared { state: Mutex::new(state), revision }) }
    }
}

impl SimulatedCluster {
    /// A client with all rights.
    #[must_use]
    pub(super) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Waits until a config map of namespace `default` says `value` under `key`; answers when it was seen to.
    pub(super) async fn says(&self, name: &str, value: &str) -> Instant {
        let mut revision = self.shared.revision.subscribe();
        loop {
            revision.mark_unchanged();
            if self.value(name).as_deref() == Some(value) {
                return Instant::now();
            }
            // The sender lives as long as this.
            let _ = revision.changed().await;
        }
    }

    /// Somebody else changes a config map.
    pub(super) fn spoil(&self, name: &str) {
        self.change(|state| {
            let key = ("configmaps", "default".to_owned(), name.to_owned());
            if let Some(mut object) = state.objects.get(&key).cloned() {
                object["data"]["key"] = Value::from("spoilt");
                state.put(key, object);
            }
        });
    }

    fn value(&self, name: &str) -> Option<String> {
        let state = self.shared.state.lock();
        let object = state.objects.get(&("configmaps", "default".to_owned(), name.to_owned()))?;
        object["data"]["key"].as_str().map(str::to_owned)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.state.lock();
        let answer = change(&mut state);
        let revision = state.revision;
        drop(state);
        self.shared.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
        answer
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let query = query(parts.uri.query().unwrap_or_default());
        let found = match path.as_slice() {
            ["version"] => return json_answer(StatusCode::OK, &version()),
            ["api"] => return json_answer(StatusCode::OK, &discovery(true)),
            ["apis"] => return json_answer(StatusCode::OK, &discovery(false)),
            ["api", "v1", "namespaces", namespace, plural] => place(plural, namespace, None),
            ["api", "v1", "namespaces", namespace, plural, name] => place(plural, namespace, Some(name)),
            ["api", "v1", plural] => place(plural, "", None),
            ["api", "v1", plural, name] => place(plural, "", Some(name)),
            _ => None,
        };
        let Some((resource, namespace, name)) = found else { return missing() };
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        match (parts.method, name) {
            (Method::GET, None) if query.get("watch").is_some_and(|watch| watch == "true") => {
                self.watch(resource, query.get("resourceVersion").map_or("0", String::as_str))
            }
            (Method::GET, None) => self.list(resource, &namespace),
            (Method::GET, Some(name)) => {
                let found = self.shared.state.lock().objects.get(&(resource, namespace, name)).cloned();
                found.map_or_else(missing, |object| json_answer(StatusCode::OK, &object))
            }
            (Method::PATCH, Some(name)) => self.apply((resource, namespace, name), &query, &bytes),
            (Method::DELETE, Some(name)) => {
                let removed = self.change(|state| state.remove(&(resource, namespace, name)));
                removed.map_or_else(missing, |object| json_answer(StatusCode::OK, &object))
            }
            _ => missing(),
        }
    }

    fn list(&self, resource: &'static str, namespace: &str) -> Response<Body> {
        let state = self.shared.state.lock();
        let of = |key: &Key| key.0 == resource && (namespace.is_empty() || key.1 == namespace);
        let items: Vec<&Value> =
            state.objects.iter().filter(|(key, _)| of(key)).map(|(_, object)| object).collect();
        let kind = RESOURCES.iter().find(|known| known.0 == resource).map_or("", |known| known.1);
        let metadata = json!({"resourceVersion": state.revision.to_string()});
        let list =
            json!({"apiVersion": "v1", "kind": format!("{kind}List"), "metadata": metadata, "items": items});
        json_answer(StatusCode::OK, &list)
    }

    /// Only one manager ever applies, so its last word is the whole object.
    fn apply(&self, key: Key, query: &HashMap<String, String>, bytes: &[u8]) -> Response<Body> {
        let Ok(mut object) = serde_json::from_slice::<Value>(bytes) else { return missing() };
        let manager = query.get("fieldManager").cloned().unwrap_or_default();
        object["metadata"]["managedFields"] =
            json!([{"manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}]);
        if query.get("dryRun").is_some() {
            return json_answer(StatusCode::OK, &object);
        }
        let stored = self.change(|state| state.put(key, object));
        json_answer(StatusCode::OK, &stored)
    }

    fn watch(&self, resource: &'static str, from: &str) -> Response<Body> {
        let cursor: u64 = from.parse().unwrap_or(0);
        let state = (self.clone(), self.shared.revision.subscribe(), cursor);
        let lines = stream::unfold(state, move |(cluster, mut revision, cursor)| async move {
            loop {
                revision.mark_unchanged();
                let next = cluster.next(resource, cursor);
                if let Some((line, cursor)) = next {
                    return Some((Ok::<_, Infallible>(Frame::data(line)), (cluster, revision, cursor)));
                }
                // The sender lives as long as the cluster that this stream holds.
                let _ = revision.changed().await;
            }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn next(&self, resource: &str, cursor: u64) -> Option<(Bytes, u64)> {
        let state = self.shared.state.lock();
        let oldest = state.history.front().map_or(1, |event| event.revision);
        if cursor + 1 < oldest {
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old resource version"}});
            return Some((format!("{gone}\n").into(), state.revision));
        }
        let event =
            state.history.iter().find(|event| event.revision > cursor && event.resource == resource)?;
        Some((event.line.clone(), event.revision))
    }
}

fn place(
    plural: &str,
    namespace: &str,
    name: Option<&str>,
) -> Option<(&'static str, String, Option<String>)> {
    let (resource, ..) = RESOURCES.iter().find(|known| known.0 == plural)?;
    Some((resource, namespace.to_owned(), name.map(str::to_owned)))
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn json_answer(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(value.to_string()).boxed_unsync());
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn missing() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": "the simulated cluster has no such thing"});
    json_answer(StatusCode::NOT_FOUND, &status)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "simulated",
    })
}

fn discovery(core: bool) -> Value {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let resource = |(plural, kind, namespaced): &(&str, &str, bool)| {
        json!({
            "resource": plural, "singularResource": kind.to_lowercase(), "verbs": verbs,
            "scope": if *namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": {"group": "", "version": "v1", "kind": kind},
        })
    };
    let resources: Vec<Value> = RESOURCES.iter().map(resource).collect();
    let group = json!({"metadata": {"name": ""}, "versions": [{"version": "v1", "freshness": "Current", "resources": resources}]});
    let items = if core { vec![group] } else { Vec::new() };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// How long nothing measured here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use kube::Api;
    use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};

    use super::*;

    #[tokio::test]
    async fn what_is_applied_is_listed_and_watched_and_can_be_spoilt() {
        use futures::StreamExt as _;
        let cluster = SimulatedCluster::default();
        let client = cluster.client();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        assert!(namespaces.get("kube-system").await.unwrap().metadata.uid.is_some());
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let from = maps.list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"key": "1"}});
        let params = PatchParams::apply("test");
        let first = maps.patch("a", &params, &Patch::Apply(&object)).await.unwrap();
        let again = maps.patch("a", &params, &Patch::Apply(&object)).await.unwrap();
        assert_eq!(first.metadata.resource_version, again.metadata.resource_version, "nothing new");
        cluster.says("a", "1").await;
        cluster.spoil("a");
        let mut events = maps.watch(&WatchParams::default(), &from.unwrap()).await.unwrap().boxed();
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(_)))));
        assert_eq!(cluster.value("a").as_deref(), Some("spoilt"));
        assert!(api_client_discovers(client).await);
    }

    async fn api_client_discovers(client: kube::Client) -> bool {
        let discovered = kube::Discovery::new(client).run_aggregated().await.unwrap();
        discovered.groups().any(|group| group.recommended_kind("ConfigMap").is_some())
    }
}
