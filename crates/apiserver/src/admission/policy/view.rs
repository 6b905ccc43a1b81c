//! What expressions see of a request.

use kube_objects::Status;
use policy_engines::admission_policy::{namespace_document, request_document};
use serde_json::Value;

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
        let cx = &attributes.cx;
        let request = request_document(
            &attributes.asked(&Value::Null),
            &attributes.kind,
            cx.user,
            cx.dry_run,
            attributes.options_document(),
        );
        Ok(Self { old, request, namespace })
    }
}
