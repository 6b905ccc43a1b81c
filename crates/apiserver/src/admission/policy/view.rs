//! What expressions see of a request.

use kube_objects::Status;
use serde_json::{Value, json};

use crate::admission::Attributes;
use crate::handlers::conversion;

/// The documents of a request, made once for all policies.
pub(super) struct View {
    /// `oldObject`.
    pub(super) old: Value,
    /// `request`.
    pub(super) request: Value,
    /// `namespaceObject`.
    pub(super) namespace: Value,
}

/// An object in the version of the request. Only what differs from the stored form is copied at another place.
pub(super) fn shown(attributes: &Attributes<'_>, object: &Value) -> Value {
    let resource = attributes.cx.resource;
    if object.is_null() || conversion::is_identity(resource) {
        return object.clone();
    }
    conversion::served(resource, object.clone())
}

impl View {
    /// # Errors
    /// 404 for a namespace that is not there.
    pub(super) async fn of(attributes: &Attributes<'_>) -> Result<Self, Status> {
        let namespace = attributes.cx.namespace;
        let namespace = if namespace.is_empty() || attributes.is_resource("", "namespaces") {
            Value::Null
        } else {
            let found = attributes.cx.objects.get("", "namespaces", "", namespace).await?;
            namespace_document(&found.ok_or_else(|| Status::not_found("", "namespaces", namespace))?)
        };
        let old = attributes.old.map_or(Value::Null, |old| shown(attributes, old));
        Ok(Self { old, request: request_document(attributes), namespace })
    }
}

/// What policies may know of a namespace (upstream `CreateNamespaceObject`).
fn namespace_document(namespace: &Value) -> Value {
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

/// The AdmissionRequest, without its objects.
fn request_document(attributes: &Attributes<'_>) -> Value {
    let cx = &attributes.cx;
    let (own, kind) = (&cx.resource.gvr, &attributes.kind);
    let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let resource = json!({"group": own.group, "version": own.version, "resource": own.resource});
    let mut request = json!({
        "uid": "",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "operation": attributes.operation.as_str(),
        "userInfo": cx.user,
        "dryRun": cx.dry_run,
        "options": attributes.options_document(),
    });
    let sub = cx.subresource.unwrap_or_default();
    let texts = [
        ("subResource", sub),
        ("requestSubResource", sub),
        ("name", cx.name),
        ("namespace", attributes.namespace()),
    ];
    for (key, value) in texts {
        if !value.is_empty() {
            request[key] = json!(value);
        }
    }
    request
}
