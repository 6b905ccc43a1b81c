//! `v1.Pod`: its rules, and its subresources besides `status`.

use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::columns::Column;
use kind_rules::core::pod::{
    RULES, grace, prepare_ephemeral, prepare_resize, validate_ephemeral, validate_resize,
};
use kind_rules::problems::Problems;
use kube_objects::{Status, StatusCause};
use serde_json::Value;

use crate::registry::plain::Plain;
use crate::registry::strategy::{RequestContext, Strategy};

/// Pods: status by its subresource alone, graceful deletion, a spec that hardly changes.
#[derive(Debug)]
pub(crate) struct Pod;

const PLAIN: Plain = Plain(RULES);

#[async_trait]
impl Strategy for Pod {
    fn default_fields(&self, object: &mut Value) {
        PLAIN.default_fields(object);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        PLAIN.prepare_for_create(cx, object).await
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        PLAIN.prepare_for_update(cx, object, old).await
    }

    async fn prepare_for_status_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match cx.subresource {
            Some("ephemeralcontainers") => prepare_ephemeral(object, old),
            Some("resize") => prepare_resize(object, old),
            _ => return PLAIN.prepare_for_status_update(cx, object, old).await,
        }
        Ok(())
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        PLAIN.validate(cx, object)
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        match cx.subresource {
            Some("ephemeralcontainers") => validate_ephemeral(&mut problems, object, old),
            Some("resize") => validate_resize(&mut problems, object, old),
            _ => return PLAIN.validate_update(cx, object, old),
        }
        problems.into_causes()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        PLAIN.warnings(object)
    }

    fn update_warnings(&self, object: &Value, old: &Value) -> Vec<String> {
        PLAIN.update_warnings(object, old)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        RULES.selectable
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        PLAIN.field_value(object, path)
    }

    fn columns(&self) -> Vec<Column> {
        PLAIN.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        PLAIN.cells(object, now)
    }

    fn graceful_deletion(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        grace(object, requested)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_running_pods_on_nodes_are_deleted_gracefully() {
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 5}, "status": {"phase": phase}});
        assert_eq!(Pod.graceful_deletion(&pod("n", "Running"), None), Some(5));
        assert_eq!(Pod.graceful_deletion(&pod("n", "Running"), Some(60)), Some(60));
        assert_eq!(Pod.graceful_deletion(&pod("n", "Running"), Some(0)), None);
        assert_eq!(Pod.graceful_deletion(&pod("", "Pending"), None), None);
        assert_eq!(Pod.graceful_deletion(&pod("n", "Succeeded"), None), None);
    }
}
