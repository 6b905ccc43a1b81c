//! What the suite's webhooks answer: a path is a behaviour.

use std::time::Duration;

use serde_json::{Value, json};

use crate::extension::{Call, Reply};

/// How long `/slow` takes: longer than the shortest timeout a webhook may have, which is one second.
pub(super) const SLOW: Duration = Duration::from_millis(1500);

/// The answer of the webhook at the call's path.
pub(super) async fn answer(call: Call) -> Reply {
    let request = &call.body["request"];
    let response = match call.path.as_str() {
        "/pods" => {
            if request["object"]["metadata"]["labels"]["unwanted"] == "hang" {
                tokio::time::sleep(SLOW).await;
            }
            pods(&request["object"])
        }
        "/config-maps" => match request["object"]["data"]["unwanted"].is_null() {
            true => allowed(),
            false => denied("the configmap contains unwanted key and value"),
        },
        "/attach" => denied(&format!("attaching to pod '{}' is not allowed", name_of(request))),
        "/custom" => custom(request),
        "/deny" => denied("this webhook denies all"),
        "/silently-deny" => json!({"allowed": false}),
        "/teapot" => {
            json!({"allowed": false, "status": {"code": 418, "reason": "Teapot", "message": "short and stout"}})
        }
        "/warn" => json!({"allowed": true, "warnings": ["this is a warning"]}),
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            allowed()
        }
        "/stage-1" => stage(request, "start", "stage-1"),
        "/stage-2" => stage(request, "stage-1", "stage-2"),
        "/start" => stage(request, "given", "start"),
        "/init-container" => patched(json!([{
            "op": "add", "path": "/spec/initContainers",
            "value": [{"name": "added", "image": "example.com/added:1", "resources": {}}],
        }])),
        "/label" => patched(json!([{"op": "add", "path": "/metadata/labels/added", "value": "yes"}])),
        _ => allowed(),
    };
    let mut response = response;
    response["uid"] = request["uid"].clone();
    (200, json!({"apiVersion": call.body["apiVersion"], "kind": "AdmissionReview", "response": response}))
}

fn name_of(request: &Value) -> &str {
    request["name"].as_str().unwrap_or_default()
}

fn allowed() -> Value {
    json!({"allowed": true})
}

fn denied(message: &str) -> Value {
    json!({"allowed": false, "status": {"message": message}})
}

fn patched(patch: Value) -> Value {
    use base64::Engine as _;
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

fn pods(pod: &Value) -> Value {
    let mut faults = Vec::new();
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    if containers.clone().any(|container| container["name"] == "unwanted") {
        faults.push("the pod contains unwanted container name");
    }
    if pod["metadata"]["labels"]["unwanted"] == "yes" {
        faults.push("the pod contains unwanted label");
    }
    if faults.is_empty() { allowed() } else { denied(&faults.join("; ")) }
}

/// Denies unwanted data, and the deletion of what is not marked as deletable.
fn custom(request: &Value) -> Value {
    let unwanted = |object: &Value| object["data"]["key"] == "unwanted";
    if unwanted(&request["object"]) {
        return denied("the custom resource contains unwanted data");
    }
    if request["operation"] == "DELETE" && request["oldObject"]["data"]["key"] == "kept" {
        return denied("the custom resource cannot be deleted because it contains unwanted key and value");
    }
    allowed()
}

/// Adds `data.then` when there is `data.given`, once.
fn stage(request: &Value, given: &str, then: &str) -> Value {
    let data = &request["object"]["data"];
    if data[given].is_null() || !data[then].is_null() {
        return allowed();
    }
    patched(json!([{"op": "add", "path": format!("/data/{then}"), "value": "yes"}]))
}
