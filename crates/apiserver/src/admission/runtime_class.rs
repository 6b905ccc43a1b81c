//! RuntimeClass: a pod takes its class's overhead and scheduling.

use std::sync::Arc;

use async_trait::async_trait;
use kind_rules::json::{child, default, entries, existing, list, present, set, text};
use kind_rules::resource_list::ResourceList;
use kube_objects::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

/// The plug-in.
pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods", None)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        let Some(class) = class_of(attributes, pod).await? else { return Ok(()) };
        let overhead = &class["overhead"]["podFixed"];
        if present(&class, "overhead") {
            let own = &pod["spec"]["overhead"];
            if !is_empty(own) && ResourceList::of(own) != ResourceList::of(overhead) {
                return Err(attributes.forbidden(pod, MISMATCH));
            }
            if let Some(spec) = existing(pod, "spec")
                && !is_empty(overhead)
            {
                set(spec, "overhead", overhead.clone());
            }
        }
        schedule(&class["scheduling"], pod).map_err(|why| attributes.forbidden(pod, &why))
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        let class = class_of(attributes, pod).await?;
        let own = &pod["spec"]["overhead"];
        match class.as_ref().filter(|class| present(class, "overhead")) {
            Some(class) if ResourceList::of(&class["overhead"]["podFixed"]) != ResourceList::of(own) => {
                Err(attributes.forbidden(pod, MISMATCH))
            }
            None if !own.is_null() => {
                let why =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(attributes.forbidden(pod, why))
            }
            _ => Ok(()),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn is_empty(map: &Value) -> bool {
    map.as_object().is_none_or(serde_json::Map::is_empty)
}

async fn class_of(attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
    let name = text(&pod["spec"], "runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    let found = attributes.cx.objects.get("node.k8s.io", "runtimeclasses", "", name).await?;
    let missing = || attributes.forbidden(pod, &format!("pod rejected: RuntimeClass {name:?} not found"));
    Ok(Some(found.ok_or_else(missing)?))
}

/// Adds the class's node selector and tolerations.
fn schedule(scheduling: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(spec) = existing(pod, "spec") else { return Ok(()) };
    for (key, value) in entries(scheduling, "nodeSelector") {
        let value = value.as_str().unwrap_or_default();
        let own = text(&spec["nodeSelector"], key);
        if present(&spec["nodeSelector"], key) && own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        if let Some(selector) = child(spec, "nodeSelector") {
            set(selector, key, value);
        }
    }
    for toleration in list(scheduling, "tolerations") {
        if list(spec, "tolerations").contains(toleration) {
            continue;
        }
        default(spec, "tolerations", json!([]));
        if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
            tolerations.push(toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    async fn create(spec: Value) -> Result<Value, String> {
        let class = json!({"metadata": {"name": "vm"}, "handler": "h", "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let fixture = Fixture::new().with("node.k8s.io", "runtimeclasses", class).with(
            "node.k8s.io",
            "runtimeclasses",
            json!({"metadata": {"name": "plain"}, "handler": "p"}),
        );
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let outcome = fixture.run(&RuntimeClass, Operation::Create, "", "pods", "n", pod).await;
        outcome.map(|pod| pod["spec"].clone()).map_err(|refused| refused.message)
    }

    #[tokio::test]
    async fn a_class_brings_overhead_and_scheduling() {
        let spec = create(json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b"}})).await.unwrap();
        assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
        assert_eq!(spec["nodeSelector"], json!({"a": "b", "vm": "yes"}));
        assert_eq!(spec["tolerations"], json!([{"key": "vm", "operator": "Exists"}]));
        let same = create(json!({"runtimeClassName": "vm", "overhead": {"cpu": "0.25"}})).await.unwrap();
        assert_eq!(same["overhead"]["cpu"], "250m");
        for (spec, wanted) in [
            (json!({"runtimeClassName": "none"}), "pod rejected: RuntimeClass \"none\" not found"),
            (json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}), MISMATCH),
            (
                json!({"overhead": {"cpu": "1"}}),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ] {
            assert_eq!(create(spec).await.unwrap_err(), format!("pods \"p\" is forbidden: {wanted}"));
        }
        assert!(create(json!({"runtimeClassName": "plain"})).await.is_ok());
    }
}
