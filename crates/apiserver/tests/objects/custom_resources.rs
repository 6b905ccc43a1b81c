//! Custom resource definitions and the resources that come with them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::*;

/// One request; the answer's code and document, whatever they are.
pub(crate) async fn ask(handle: &Handle, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    ask_as(handle, method, path, kind, "application/json", body).await
}

pub(crate) async fn ask_as(
    handle: &Handle,
    method: Method,
    path: &str,
    content: &str,
    accept: &str,
    body: &Value,
) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .header("accept", accept)
        .body(http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
            http_body_util::Full::new(bytes::Bytes::from(bytes)),
            |never| match never {},
        )))
        .unwrap();
    let answer = handle.request(UserInfo::new("tester", &["system:masters"]), request).await;
    let code = answer.status().as_u16();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub(crate) fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": { "size": { "type": "integer" }, "color": { "type": "string" } } },
                    "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } } } }],
        },
    })
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

#[tokio::test]
async fn a_definition_is_served_when_its_creation_is_answered() {
    let (handle, _client, _stop) = start().await;
    assert_eq!(ask(&handle, Method::GET, WIDGETS, &Value::Null).await.0, 404);
    let (code, created) = ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    assert_eq!(code, 201, "{created}");
    let established = created["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    assert!(established && created["status"]["storedVersions"] == json!(["v1"]), "{created}");
    let (code, object) =
        ask(&handle, Method::POST, WIDGETS, &widget("a", &json!({ "size": 1, "x": 2 }))).await;
    assert_eq!((code, &object["spec"]), (201, &json!({ "size": 1 })), "{object}");
    for path in [
        "/apis",
        "/apis/example.com",
        "/apis/example.com/v1",
        "/openapi/v2",
        "/openapi/v3/apis/example.com/v1",
    ] {
        let (code, document) = ask(&handle, Method::GET, path, &Value::Null).await;
        assert!(code == 200 && document.to_string().contains("example.com"), "{path}");
    }
    let (_, table) = ask_as(
        &handle,
        Method::GET,
        DEFINITIONS,
        "",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        &Value::Null,
    )
    .await;
    assert_eq!(table["columnDefinitions"][1]["name"], "Created At");
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_with_it() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let mut held = widget("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    ask(&handle, Method::POST, WIDGETS, &held).await;
    ask(&handle, Method::POST, WIDGETS, &widget("free", &json!({}))).await;
    let one = format!("{DEFINITIONS}/widgets.example.com");
    let (code, ending) = ask(&handle, Method::DELETE, &one, &Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(ending["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    until(async || {
        let (code, list) = ask(&handle, Method::GET, WIDGETS, &Value::Null).await;
        let held = list["items"]
            .as_array()
            .is_some_and(|items| items.len() == 1 && !items[0]["metadata"]["deletionTimestamp"].is_null());
        code == 200 && held
    })
    .await;
    let release = json!({ "metadata": { "finalizers": null } });
    let (code, _) = ask(&handle, Method::PATCH, &format!("{WIDGETS}/held"), &release).await;
    assert_eq!(code, 200);
    until(async || ask(&handle, Method::GET, &one, &Value::Null).await.0 == 404).await;
    assert_eq!(ask(&handle, Method::GET, WIDGETS, &Value::Null).await.0, 404);
    let (code, again) = ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    assert_eq!(code, 201, "{again}");
    let (_, list) = ask(&handle, Method::GET, WIDGETS, &Value::Null).await;
    assert_eq!(list["items"], json!([]));
}

/// Asks again until it holds; fails after ten seconds.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
}

fn yaml_files(directory: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn definitions_of_real_projects_are_accepted_and_served() {
    let (handle, _client, _stop) = start().await;
    let mut files = Vec::new();
    for part in ["crds", "manifests/gateway-api/crd-standard"] {
        if let Some(directory) = fixtures::samples::find(part) {
            yaml_files(&directory, &mut files);
        }
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in text.split("\n---").filter(|text| text.contains("kind: CustomResourceDefinition")) {
            let mut definition: Value = serde_saphyr::from_str(document).unwrap();
            if definition["metadata"]["annotations"]["api-approved.kubernetes.io"].is_null() {
                // Some leave the approval of their protected group to who installs them.
                definition["metadata"]["annotations"]["api-approved.kubernetes.io"] =
                    json!("unapproved, a test");
            }
            let (code, created) = ask(&handle, Method::POST, DEFINITIONS, &definition).await;
            assert_eq!(code, 201, "{}: {created:#}", file.display());
            let spec = &created["spec"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            for version in
                spec["versions"].as_array().unwrap().iter().filter(|version| version["served"] == true)
            {
                let path = format!(
                    "/apis/{}/{}/{}",
                    text(&spec["group"]),
                    text(&version["name"]),
                    text(&spec["names"]["plural"])
                );
                let (code, list) = ask(&handle, Method::GET, &path, &Value::Null).await;
                assert_eq!((code, &list["kind"]), (200, &spec["names"]["listKind"]), "{path}");
            }
        }
    }
    let (code, document) = ask(&handle, Method::GET, "/openapi/v2", &Value::Null).await;
    assert!(code == 200 && document["definitions"].is_object());
}
