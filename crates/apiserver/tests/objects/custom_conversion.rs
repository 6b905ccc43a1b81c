//! Conversion by a webhook that is a real HTTPS server: `hostPort` of v1 is `host` and `port` of v2.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::custom_resources::{DEFINITIONS, ask};
use super::https::Https;
use super::*;

pub(super) const V1: &str = "/apis/example.com/v1/namespaces/default/servers";
const V2: &str = "/apis/example.com/v2/namespaces/default/servers";
const ONE: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servers.example.com";

pub(super) struct Webhook {
    server: Https,
    asked: Arc<AtomicUsize>,
}

pub(super) async fn webhook() -> Webhook {
    let asked: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&asked);
    let server = Https::start(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let answer = convert(&serde_json::from_slice(&bytes).unwrap());
            http::Response::new(Full::new(bytes::Bytes::from(answer.to_string())))
        }
    });
    Webhook { server: server.await, asked }
}

fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = request["desiredAPIVersion"].clone();
        let spec = object["spec"].as_object_mut().unwrap();
        if request["desiredAPIVersion"] == "example.com/v2" {
            let both = spec.remove("hostPort").unwrap_or_default();
            if let Some((host, port)) = both.as_str().and_then(|text| text.split_once(':')) {
                spec.insert("host".into(), json!(host));
                spec.insert("port".into(), json!(port));
            }
        } else if let (Some(host), Some(port)) = (spec.remove("host"), spec.remove("port")) {
            spec.insert(
                "hostPort".into(),
                json!(format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap())),
            );
        }
        if object["metadata"]["name"] == "renamed" {
            object["metadata"]["name"] = json!("other");
        }
        object["metadata"]["annotations"] = json!({ "converted": request["desiredAPIVersion"] });
        object["metadata"]["finalizers"] = json!(["example.com/never"]);
        object
    });
    let objects: Vec<Value> = objects.collect();
    json!({ "kind": "ConversionReview", "apiVersion": review["apiVersion"],
        "response": { "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": objects } })
}

pub(super) fn definition(webhook: &Webhook) -> Value {
    let version = |name: &str, storage: bool, fields: &[&str], selectable: &str| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({ "type": "string" }))).collect();
        json!({ "name": name, "served": true, "storage": storage, "selectableFields": [{ "jsonPath": selectable }],
            "schema": { "openAPIV3Schema": { "type": "object",
                "properties": { "spec": { "type": "object", "properties": fields } } } } })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "servers.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "kind": "Server", "plural": "servers" },
            "versions": [version("v1", true, &["hostPort"], ".spec.hostPort"), version("v2", false, &["host", "port"], ".spec.host")],
            "conversion": { "strategy": "Webhook", "webhook": { "conversionReviewVersions": ["v1"],
                "clientConfig": { "url": format!("https://{}/convert", webhook.server.address), "caBundle": webhook.server.ca } } },
        },
    })
}

pub(super) fn server(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

#[tokio::test]
async fn a_webhook_converts_on_every_way_in_and_out() {
    let (handle, client, _stop) = start().await;
    let webhook = webhook().await;
    let (code, made) = ask(&handle, Method::POST, DEFINITIONS, &definition(&webhook)).await;
    assert_eq!(code, 201, "{made}");
    // Written in the storage version, nobody is asked.
    ask(&handle, Method::POST, V1, &server("a", &json!({ "hostPort": "h:1" }))).await;
    assert_eq!(webhook.asked.load(Ordering::Relaxed), 0);
    let (code, second) = ask(&handle, Method::GET, &format!("{V2}/a"), &Value::Null).await;
    assert_eq!((code, &second["spec"]), (200, &json!({ "host": "h", "port": "1" })), "{second}");
    assert_eq!(second["metadata"]["annotations"], json!({ "converted": "example.com/v2" }));
    assert!(second["metadata"].get("finalizers").is_none(), "only labels and annotations are the webhook's");
    // What was converted once is kept.
    ask(&handle, Method::GET, &format!("{V2}/a"), &Value::Null).await;
    assert_eq!(webhook.asked.load(Ordering::Relaxed), 1);
    let (code, made) =
        ask(&handle, Method::POST, V2, &server("b", &json!({ "host": "i", "port": "2" }))).await;
    assert_eq!((code, &made["spec"]), (201, &json!({ "host": "i", "port": "2" })), "{made}");
    let (_, stored) = ask(&handle, Method::GET, &format!("{V1}/b"), &Value::Null).await;
    assert_eq!(stored["spec"], json!({ "hostPort": "i:2" }));
    let (_, list) = ask(&handle, Method::GET, V2, &Value::Null).await;
    assert_eq!(
        list["items"].as_array().unwrap().iter().map(|item| &item["spec"]["host"]).collect::<Vec<_>>(),
        ["h", "i"]
    );
    let selected = format!("{V2}?fieldSelector=spec.host%3Di");
    let (_, list) = ask(&handle, Method::GET, &selected, &Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    // A watch sees an object come and go by a field that only exists in its version.
    let resource = kube::discovery::ApiResource {
        group: "example.com".into(),
        version: "v2".into(),
        api_version: "example.com/v2".into(),
        kind: "Server".into(),
        plural: "servers".into(),
    };
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let mut watch = api.watch(&WatchParams::default().fields("spec.host=h"), "0").await.unwrap().boxed();
    let first = watch.try_next().await.unwrap().unwrap();
    assert!(matches!(&first, WatchEvent::Added(object) if object.data["spec"]["port"] == "1"), "{first:?}");
    ask(&handle, Method::PATCH, &format!("{V1}/a"), &json!({ "spec": { "hostPort": "h:3" } })).await;
    ask(&handle, Method::PATCH, &format!("{V1}/a"), &json!({ "spec": { "hostPort": "j:3" } })).await;
    let second = watch.try_next().await.unwrap().unwrap();
    assert!(
        matches!(&second, WatchEvent::Modified(object) if object.data["spec"]["port"] == "3"),
        "{second:?}"
    );
    let third = watch.try_next().await.unwrap().unwrap();
    assert!(matches!(&third, WatchEvent::Deleted(object) if object.data["spec"]["host"] == "h"), "{third:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_an_error_and_nothing_is_written() {
    let (handle, _client, _stop) = start().await;
    let webhook = webhook().await;
    ask(&handle, Method::POST, DEFINITIONS, &definition(&webhook)).await;
    let (code, refused) =
        ask(&handle, Method::POST, V2, &server("renamed", &json!({ "host": "h", "port": "1" }))).await;
    assert_eq!(code, 500);
    assert_eq!(
        refused["message"],
        "conversion webhook for example.com/v2, Kind=Server returned invalid object: must have the same name: renamed != other"
    );
    let (_, list) = ask(&handle, Method::GET, V1, &Value::Null).await;
    assert_eq!(list["items"], json!([]));
    // A webhook that is not there: the other version is not served, the storage version is.
    ask(&handle, Method::POST, V1, &server("a", &json!({ "hostPort": "h:1" }))).await;
    let gone = json!({ "spec": { "conversion": { "webhook": { "clientConfig": { "url": "https://127.0.0.1:1/convert" } } } } });
    assert_eq!(ask(&handle, Method::PATCH, ONE, &gone).await.0, 200);
    let (code, refused) = ask(&handle, Method::GET, &format!("{V2}/a"), &Value::Null).await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        code == 500 && message.contains("conversion webhook for example.com/v1, Kind=Server failed: Post"),
        "{message}"
    );
    assert_eq!(ask(&handle, Method::GET, &format!("{V1}/a"), &Value::Null).await.0, 200);
}
