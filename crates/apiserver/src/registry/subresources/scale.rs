//! `scale`: the replicas of a workload as an `autoscaling/v1.Scale`.

use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use kind_rules::json::{child, entries, integer, set};
use kind_rules::names;

/// The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
#[must_use]
pub fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let (spec, status) = (&object["spec"], &object["status"]);
    let selector = &spec["selector"];
    // A ReplicationController's selector is a bare map.
    let selector = if selector.get("matchLabels").is_some_and(Value::is_object)
        || selector.get("matchExpressions").is_some()
    {
        names::shown_selector(selector)
    } else if entries(spec, "selector").next().is_some() {
        names::shown_labels(spec, "selector")
    } else {
        String::new()
    };
    let mut scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {},
        "spec": {"replicas": integer(spec, "replicas")},
        "status": {"replicas": integer(status, "replicas"), "selector": selector},
    });
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(key) {
            scale["metadata"][key] = value.clone();
        }
    }
    scale
}

/// Writes a Scale's replicas into `object`, which keeps the resourceVersion the Scale came with as its precondition.
///
/// # Errors
/// 422 for a negative or missing number.
pub fn apply_scale(object: &mut Value, scale: &Value) -> Result<(), Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if replicas < 0 {
        let cause = StatusCause {
            reason: "FieldValueInvalid".to_owned(),
            field: "spec.replicas".to_owned(),
            message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        };
        return Err(Status::invalid("autoscaling", "Scale", &name, vec![cause]));
    }
    if let Some(spec) = child(object, "spec") {
        set(spec, "replicas", replicas);
    }
    if let Some(version) = scale["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty())
        && let Some(metadata) = child(object, "metadata")
    {
        set(metadata, "resourceVersion", version);
    }
    Ok(())
}
