//! What expressions see of a request.

use access::authorization::{Attributes as AccessAttributes, Authorizer};
use kube_objects::{Status, UserInfo};
use policy_engines::cel::authorizer::{Answer, Authorizer as Asked, Question};
use serde_json::{Value, json};

use crate::admission::Attributes;
use crate::handlers::conversion;

/// Answers `authorizer`'s questions by RBAC; without any authorization, everything is allowed.
pub(super) struct ByRbac<'a>(pub(super) Option<&'a Authorizer>);

impl Asked for ByRbac<'_> {
    fn authorize(&self, user: &UserInfo, question: &Question) -> Answer {
        let Some(authorizer) = self.0 else {
            return Answer { allowed: true, reason: String::new(), error: None };
        };
        let asked = match &question.path {
            Some(path) => AccessAttributes::path(&question.verb, path),
            None => {
                let Question { verb, group, resource, namespace, name, .. } = question;
                AccessAttributes::resource(verb, group, resource, namespace, name)
                    .with_subresource(&question.subresource)
            }
        };
        let decision = authorizer.authorize(user, &asked);
        Answer { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}

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

/// What `authorizer.requestResource` asks about.
pub(super) fn question(attributes: &Attributes<'_>) -> Question {
    let own = &attributes.cx.resource.gvr;
    Question {
        group: own.group.clone(),
        resource: own.resource.clone(),
        subresource: attributes.cx.subresource.unwrap_or_default().to_owned(),
        namespace: attributes.namespace().to_owned(),
        name: attributes.cx.name.to_owned(),
        ..Question::default()
    }
}
