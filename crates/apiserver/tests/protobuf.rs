//! Bodies that typed clients write as protobuf.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use api_machinery::protobuf;
use apiserver::{Body, Catalogue, Handle, Options, Service};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use kube_objects::UserInfo;
use serde_json::{Value, json};
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

async fn start(options: Options) -> (Handle, DropGuard) {
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    (handle, stop.drop_guard())
}

fn options() -> Options {
    Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster())
}

/// Sends protobuf and reads the JSON answer.
async fn send(handle: &Handle, method: &str, path: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
    let body: Body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, protobuf::MEDIA_TYPE)
        .header(header::ACCEPT, "application/vnd.kubernetes.protobuf,application/json")
        .body(body)
        .unwrap();
    let answer = handle.request(UserInfo::new("tester", &["system:masters"]), request).await;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value = if bytes.starts_with(protobuf::MAGIC) {
        protobuf::decode(&bytes).unwrap().value
    } else {
        serde_json::from_slice(&bytes).unwrap()
    };
    (status, value)
}

#[tokio::test]
async fn protobuf_bodies_are_read() {
    let (handle, _stop) = start(options()).await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"key": "value"}, "binaryData": {"raw": "AAEC"},
    });
    let path = "/api/v1/namespaces/default/configmaps";
    let (status, created) = send(&handle, "POST", path, protobuf::encode(&map).unwrap()).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    assert_eq!((&created["data"], &created["binaryData"]), (&map["data"], &map["binaryData"]));
    let mut changed = created.clone();
    changed["data"]["key"] = json!("other");
    let one = format!("{path}/a");
    let (status, updated) = send(&handle, "PUT", &one, protobuf::encode(&changed).unwrap()).await;
    assert_eq!((status, &updated["data"]["key"]), (StatusCode::OK, &json!("other")), "{updated}");
    let wrong = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"},
    });
    let (status, refused) = send(&handle, "DELETE", &one, protobuf::encode(&wrong).unwrap()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (status, answer) = send(&handle, "POST", path, protobuf::encode(&review).unwrap()).await;
    let name = &answer["status"]["userInfo"]["username"];
    assert_eq!((status, name), (StatusCode::CREATED, &json!("tester")), "{answer}");
    let (status, refused) = send(&handle, "POST", path, b"k8s\0\x0a\xff".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
}
