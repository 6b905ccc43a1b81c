//! `v1.Namespace`: it goes only when its finalizer has gone.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use crate::registry::json::{child, list, set, text};
use crate::registry::strategy::{Column, NameRule, RequestContext, Strategy, age};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The strategy.
#[derive(Debug)]
pub(crate) struct Namespace;

/// The label that lets selectors choose namespaces by name.
fn label(object: &mut Value, name: &str) {
    if !name.is_empty()
        && let Some(labels) = child(object, "metadata").and_then(|metadata| child(metadata, "labels"))
    {
        set(labels, "kubernetes.io/metadata.name", name);
    }
}

#[async_trait]
impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::DnsLabel
    }

    fn default_fields(&self, object: &mut Value) {
        let name = text(&object["metadata"], "name").to_owned();
        label(object, &name);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        label(object, cx.name);
        set(object, "status", json!({"phase": "Active"}));
        let Some(spec) = child(object, "spec") else { return Ok(()) };
        let mut finalizers = list(spec, "finalizers").to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push(json!("kubernetes"));
        }
        set(spec, "finalizers", finalizers);
        Ok(())
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if cx.subresource != Some("finalize") {
            set(object, "spec", old["spec"].clone());
        }
        set(object, "status", old["status"].clone());
        Ok(())
    }

    async fn check_delete(&self, _: &RequestContext<'_>, object: &Value) -> Result<(), Status> {
        let name = text(&object["metadata"], "name");
        if IMMORTAL.contains(&name) {
            let why = "this namespace may not be deleted";
            return Err(access::authorization::forbidden("", "namespaces", name, why));
        }
        Ok(())
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.phase"]
    }

    fn counts_generation(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::object_name(), Column::new("Status"), Column::age()]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), object["status"]["phase"].clone(), age(object, now)]
    }
}

/// What a deletion makes of a namespace that still has finalizers: the engine sets deletionTimestamp, this the phase.
pub(crate) fn terminating(object: &mut Value) {
    if let Some(status) = child(object, "status") {
        set(status, "phase", "Terminating");
    }
}

/// Whether content may be created in the namespace.
///
/// # Errors
/// 403 with the cause upstream's clients look for, when it is terminating; 404 when there is none.
pub(crate) fn check_open(
    namespace: Option<&Value>,
    name: &str,
    resource: &str,
    object: &str,
) -> Result<(), Status> {
    let Some(namespace) = namespace else {
        return Err(Status::not_found("", "namespaces", name));
    };
    if namespace["metadata"]["deletionTimestamp"].is_null()
        && text(&namespace["status"], "phase") != "Terminating"
    {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = access::authorization::forbidden("", resource, object, &why);
    debug_assert_eq!(status.reason, Some(Reason::Forbidden));
    if let Some(details) = &mut status.details {
        details.causes.push(kube_objects::StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_created_in_a_namespace_that_goes() {
        let active = json!({"status": {"phase": "Active"}});
        assert!(check_open(Some(&active), "n", "pods", "p").is_ok());
        let going = json!({"status": {"phase": "Terminating"}});
        let refused = check_open(Some(&going), "n", "pods", "p").unwrap_err();
        assert_eq!(refused.code, 403);
        assert_eq!(refused.details.unwrap().causes[0].reason, "NamespaceTerminating");
        assert_eq!(check_open(None, "n", "pods", "p").unwrap_err().code, 404);
    }
}
