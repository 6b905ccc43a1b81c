//! `v1.Namespace`: it goes only when its finalizer has gone.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::Status;
use serde_json::{Value, json};

use crate::registry::strategy::{RequestContext, Strategy};
use kind_rules::columns::{Column, age};
use kind_rules::json::{child, list, set, text};
use kind_rules::names::NameRule;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_can_be_chosen_by_name() {
        let mut namespace =
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "forged"}}});
        Namespace.default_fields(&mut namespace);
        assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    }
}
