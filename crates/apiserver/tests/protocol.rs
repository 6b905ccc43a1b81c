//! What stands on the wire: status codes and reasons, media types, watch frames.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use apiserver::{Body, Catalogue, Handle, Options, Service};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube_objects::UserInfo;
use serde_json::{Value, json};
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

#[path = "protocol/aggregation.rs"]
mod aggregation;
#[path = "protocol/audit.rs"]
mod audit;
#[path = "protocol/chain.rs"]
mod chain;
#[path = "protocol/decisions.rs"]
mod decisions;
#[path = "objects/https.rs"]
mod https;
#[path = "protocol/lists.rs"]
mod lists;
#[path = "protocol/overload.rs"]
mod overload;
#[path = "protocol/ownership.rs"]
mod ownership;
#[path = "protocol/protobuf.rs"]
mod protobuf;

struct Subject {
    handle: Handle,
    _stop: DropGuard,
}

impl Subject {
    async fn start() -> Self {
        Self::serving(Arc::default(), Catalogue::cluster()).await
    }

    async fn serving(store: Arc<MemoryStore>, catalogue: Catalogue) -> Self {
        let options = Options::new(store, catalogue);
        let service = Service::new(options).await.unwrap();
        let handle = service.handle();
        let stop = CancellationToken::new();
        tokio::spawn(Box::pin(service.run(stop.clone())));
        assert!(handle.ready().await);
        Self { handle, _stop: stop.drop_guard() }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
        self.handle.request(UserInfo::new("tester", &["system:masters"]), request.body(body).unwrap()).await
    }

    async fn json(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        read(self.send(method, path, &[], text).await).await
    }

    async fn create(&self, name: &str) -> Value {
        let (code, created) = self.json(Method::POST, MAPS, &map(name)).await;
        assert_eq!(code, 201, "{created}");
        created
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

async fn read(response: Response<Body>) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// The next whole frame of a watch.
async fn frame(body: &mut Body) -> Value {
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let first = frame.split(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice(first).unwrap()
}

#[tokio::test]
async fn bad_requests_are_refused_with_their_reason() {
    let subject = Subject::start().await;
    let huge = json!({"data": {"a": "x".repeat(4 << 20)}});
    let (code, status) = subject.json(Method::POST, MAPS, &huge).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let xml = [("content-type", "application/xml")];
    let (code, status) = read(subject.send(Method::POST, MAPS, &xml, "<a/>").await).await;
    assert_eq!((code, &status["reason"]), (415, &json!("UnsupportedMediaType")));
    let png = [("accept", "image/png")];
    let (code, status) = read(subject.send(Method::GET, MAPS, &png, "").await).await;
    assert_eq!((code, &status["reason"]), (406, &json!("NotAcceptable")));
    let (code, _) = read(subject.send(Method::POST, MAPS, &[], "{").await).await;
    assert_eq!(code, 400);
    let (code, status) = subject.json(Method::POST, MAPS, &map("Not_A_Name")).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    assert_eq!(status["details"]["causes"][0]["field"], "metadata.name");
    let (code, _) = subject.json(Method::GET, "/apis/nobody.example.com/v1/things", &Value::Null).await;
    assert_eq!(code, 404);
    let (code, status) = subject.json(Method::POST, &format!("{MAPS}/a"), &map("a")).await;
    assert_eq!((code, &status["reason"]), (405, &json!("MethodNotAllowed")));
    let (code, _) =
        subject.json(Method::GET, &format!("{MAPS}?fieldSelector=data.a%3Db"), &Value::Null).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn validation_of_fields_is_as_the_request_asks() {
    let subject = Subject::start().await;
    let mut wrong = map("a");
    wrong["dta"] = json!({});
    let (code, status) = subject.json(Method::POST, &format!("{MAPS}?fieldValidation=Strict"), &wrong).await;
    assert_eq!(code, 400);
    assert!(status["message"].as_str().unwrap().contains("unknown field \"dta\""), "{status}");
    let warned = subject.send(Method::POST, MAPS, &[], wrong.to_string()).await;
    assert_eq!(warned.status(), 201);
    assert!(warned.headers()["warning"].to_str().unwrap().starts_with("299 - \"unknown field"));
    let dry = subject.json(Method::POST, &format!("{MAPS}?dryRun=All"), &map("dry")).await;
    assert_eq!(dry.0, 201);
    assert_eq!(subject.json(Method::GET, &format!("{MAPS}/dry"), &Value::Null).await.0, 404);
}

#[tokio::test]
async fn names_are_generated_and_preconditions_hold() {
    let subject = Subject::start().await;
    let nameless = json!({"metadata": {"generateName": "gen-"}});
    let (_, created) = subject.json(Method::POST, MAPS, &nameless).await;
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
    let wrong = json!({"preconditions": {"uid": "another"}});
    let path = format!("{MAPS}/{name}");
    let (code, status) = subject.json(Method::DELETE, &path, &wrong).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let (code, status) = subject.json(Method::DELETE, &path, &Value::Null).await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_spec_is_counted() {
    let subject = Subject::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let wanted = json!({
        "metadata": {"name": "web"}, "status": {"replicas": 7},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "example.com/c"}]}}},
    });
    let (code, mut web) = subject.json(Method::POST, deployments, &wanted).await;
    assert_eq!((code, &web["metadata"]["generation"]), (201, &json!(1)), "{web}");
    assert!(web["status"]["replicas"].is_null());
    web["status"] = json!({"replicas": 1});
    web["spec"]["replicas"] = json!(9);
    let path = format!("{deployments}/web");
    let (code, after) = subject.json(Method::PUT, &format!("{path}/status"), &web).await;
    assert_eq!((code, &after["spec"]["replicas"]), (200, &json!(1)), "{after}");
    assert_eq!((&after["status"]["replicas"], &after["metadata"]["generation"]), (&json!(1), &json!(1)));
    let merge = [("content-type", "application/merge-patch+json")];
    let scaled =
        subject.send(Method::PATCH, &format!("{path}/scale"), &merge, r#"{"spec":{"replicas":4}}"#).await;
    assert_eq!(read(scaled).await.1["spec"]["replicas"], 4);
    let (_, now) = subject.json(Method::GET, &path, &Value::Null).await;
    assert_eq!((&now["metadata"]["generation"], &now["status"]["replicas"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn watches_speak_tables_and_refuse_what_they_cannot_do() {
    let subject = Subject::start().await;
    let path = format!("{MAPS}?watch=1&resourceVersion=0&fieldSelector=metadata.name%3Da");
    let mut body = subject.send(Method::GET, &path, &[("accept", TABLE)], "").await.into_body();
    subject.create("a").await;
    let added = frame(&mut body).await;
    assert_eq!((&added["type"], &added["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(added["object"]["rows"][0]["cells"][0], "a");
    let (code, status) =
        subject.json(Method::GET, &format!("{MAPS}?watch=1&sendInitialEvents=true"), &Value::Null).await;
    assert_eq!(code, 422, "{status}");
    let mut old =
        subject.send(Method::GET, &format!("{MAPS}?watch=1&resourceVersion=1"), &[], "").await.into_body();
    let first = frame(&mut old).await;
    // Revision 1 is before the server's own start-up objects, all of which it still remembers, or it says 410.
    assert!(first["type"] == "ADDED" || first["object"]["code"] == 410, "{first}");
}

#[tokio::test]
async fn both_event_groups_show_the_same_object() {
    let subject = Subject::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "note": "it started", "type": "Normal", "action": "Start",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
    });
    let (code, created) =
        subject.json(Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!((code, &created["note"]), (201, &json!("it started")), "{created}");
    let (_, core) = subject.json(Method::GET, "/api/v1/namespaces/default/events/e", &Value::Null).await;
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("it started"), &json!("p")));
    assert_eq!(core["apiVersion"], "v1");
}
