//! Documents that expressions see of a request.

use kube_objects::{GroupVersionKind, UserInfo};
use serde_json::{Value, json};

use super::matching::Request;

/// What policies may know of a namespace (upstream `CreateNamespaceObject`).
#[must_use]
pub fn namespace_document(namespace: &Value) -> Value {
    const SHOWN: [&str; 11] = [
        "name",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let mut metadata = json!({});
    for key in SHOWN {
        if let Some(value) = namespace["metadata"].get(key).filter(|value| !value.is_null()) {
            metadata[key] = value.clone();
        }
    }
    json!({"metadata": metadata, "spec": namespace["spec"], "status": namespace["status"]})
}

/// The AdmissionRequest, without its objects. `options`: the document of its options, or null.
#[must_use]
pub fn request_document(
    request: &Request<'_>,
    kind: &GroupVersionKind,
    user: &UserInfo,
    dry_run: bool,
    options: Value,
) -> Value {
    let own = request.resource;
    let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let resource = json!({"group": own.group, "version": own.version, "resource": own.resource});
    let mut document = json!({
        "uid": "",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "operation": request.operation,
        "userInfo": user,
        "dryRun": dry_run,
        "options": options,
    });
    let texts = [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", request.namespace()),
    ];
    for (key, value) in texts {
        if !value.is_empty() {
            document[key] = json!(value);
        }
    }
    document
}
