//! PodTopologyLabels: a pod carries the zone and region of its node.

use async_trait::async_trait;
use kind_rules::json::{child, set, text};
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plug-in.
pub(super) struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && (attributes.is("", "pods", None)
                || attributes.is("", "pods", Some("binding"))
                || attributes.is("", "bindings", None))
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        // Binding a pod copies the binding's labels to it.
        let node = match attributes.kind.kind.as_str() {
            "Binding" if text(&object["target"], "kind") != "Node" => return Ok(()),
            "Binding" => text(&object["target"], "name"),
            _ => text(&object["spec"], "nodeName"),
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = attributes.cx.objects.get("", "nodes", "", node).await? else { return Ok(()) };
        for label in LABELS {
            let value = text(&node["metadata"]["labels"], label);
            if !value.is_empty()
                && let Some(labels) = child(object, "metadata").and_then(|metadata| child(metadata, "labels"))
            {
                set(labels, label, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    #[tokio::test]
    async fn pods_and_bindings_get_their_nodes_topology() {
        let node =
            json!({"metadata": {"name": "n1", "labels": {LABELS[0]: "z", LABELS[1]: "r", "other": "x"}}});
        let wanted = json!({LABELS[0]: "z", LABELS[1]: "r"});
        let fixture = Fixture::new().with("", "nodes", node.clone());
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}});
        let pod = fixture.run(&PodTopologyLabels, Operation::Create, "", "pods", "n", pod).await.unwrap();
        assert_eq!(pod["metadata"]["labels"], wanted);
        let fixture = Fixture::new().with("", "nodes", node).at("binding");
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
        let binding =
            fixture.run(&PodTopologyLabels, Operation::Create, "", "pods", "n", binding).await.unwrap();
        assert_eq!(binding["metadata"]["labels"], wanted);
    }
}
