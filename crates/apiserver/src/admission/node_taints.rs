//! TaintNodesByCondition: a new node takes no pods until the node controller has seen it ready.

use async_trait::async_trait;
use kind_rules::json::{child, default, list, text};
use kube_objects::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plug-in.
pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "nodes", None)
    }

    async fn mutate(&self, _: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(spec) = child(object, "spec") else { return Ok(()) };
        let tainted =
            |taint: &Value| text(taint, "key") == NOT_READY && text(taint, "effect") == "NoSchedule";
        if list(spec, "taints").iter().any(tainted) {
            return Ok(());
        }
        default(spec, "taints", json!([]));
        if let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[tokio::test]
    async fn a_node_is_tainted_once() {
        let node = json!({"metadata": {"name": "n"}});
        let run = |node| async {
            Fixture::new()
                .run(&TaintNodesByCondition, Operation::Create, "", "nodes", "", node)
                .await
                .unwrap()
        };
        let once = run(node).await;
        assert_eq!(once["spec"]["taints"], json!([{"key": NOT_READY, "effect": "NoSchedule"}]));
        assert_eq!(run(once.clone()).await, once);
    }
}
