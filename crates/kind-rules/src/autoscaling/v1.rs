//! Between `autoscaling/v1` and the stored `autoscaling/v2`. What v1 has no field for travels in annotations, under
//! upstream's names and in the shape of v1's internal metric types, so that an object read in v1 and written back keeps it.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// v1 field, v2 field of a metric's source; which of them depend on the kind of metric.
type Names = &'static [(&'static str, &'static str)];

const OBJECT: Names = &[
    ("target", "/describedObject"),
    ("metricName", "/metric/name"),
    ("selector", "/metric/selector"),
    ("targetValue", "/target/value"),
    ("averageValue", "/target/averageValue"),
    ("currentValue", "/current/value"),
];
const PODS: Names = &[
    ("metricName", "/metric/name"),
    ("selector", "/metric/selector"),
    ("targetAverageValue", "/target/averageValue"),
    ("currentAverageValue", "/current/averageValue"),
];
const RESOURCE: Names = &[
    ("name", "/name"),
    ("container", "/container"),
    ("targetAverageUtilization", "/target/averageUtilization"),
    ("targetAverageValue", "/target/averageValue"),
    ("currentAverageUtilization", "/current/averageUtilization"),
    ("currentAverageValue", "/current/averageValue"),
];
const EXTERNAL: Names = &[
    ("metricName", "/metric/name"),
    ("metricSelector", "/metric/selector"),
    ("targetValue", "/target/value"),
    ("targetAverageValue", "/target/averageValue"),
    ("currentValue", "/current/value"),
    ("currentAverageValue", "/current/averageValue"),
];

fn names_of(source: &str) -> Names {
    match source {
        "object" => OBJECT,
        "pods" => PODS,
        "external" => EXTERNAL,
        _ => RESOURCE,
    }
}

/// A stored autoscaler as v1 shows it.
#[must_use]
pub fn from_v2(mut object: Value) -> Value {
    object["apiVersion"] = json!("autoscaling/v1");
    let mut told = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let (own, others) = split(spec.remove("metrics"));
        if let Some(share) =
            own.and_then(|metric| metric.pointer("/resource/target/averageUtilization").cloned())
        {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), share);
        }
        tell(&mut told, METRICS, others.iter().map(metric_to_v1).collect());
        if let Some(behavior) = spec.remove("behavior").filter(|behavior| !behavior.is_null()) {
            told.insert(BEHAVIOR.to_owned(), Value::String(behavior.to_string()));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let (own, others) = split(status.remove("currentMetrics"));
        if let Some(share) =
            own.and_then(|metric| metric.pointer("/resource/current/averageUtilization").cloned())
        {
            status.insert("currentCPUUtilizationPercentage".to_owned(), share);
        }
        tell(&mut told, CURRENT_METRICS, others.iter().map(metric_to_v1).collect());
        if let Some(Value::Array(conditions)) = status.remove("conditions") {
            tell(&mut told, CONDITIONS, conditions);
        }
    }
    if !told.is_empty() {
        match object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            Some(annotations) => annotations.extend(told),
            None => object["metadata"]["annotations"] = Value::Object(told),
        }
    }
    object
}

/// An autoscaler written in v1, as it is stored.
#[must_use]
pub fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = json!("autoscaling/v2");
    let mut said = |key: &str| {
        let annotations = object.pointer_mut("/metadata/annotations")?.as_object_mut()?;
        serde_json::from_str::<Value>(annotations.remove(key)?.as_str()?).ok()
    };
    let list = |value: Option<Value>| match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let metrics = list(said(METRICS));
    let current = list(said(CURRENT_METRICS));
    let conditions = list(said(CONDITIONS));
    let behavior = said(BEHAVIOR);
    if object.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let own =
            spec.remove("targetCPUUtilizationPercentage").filter(|share| !share.is_null()).map(|share| {
                json!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
            });
        let all: Vec<Value> =
            metrics.iter().map(|metric| metric_to_v2(metric, "target")).chain(own).collect();
        if !all.is_empty() {
            spec.insert("metrics".to_owned(), Value::Array(all));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let own = status.remove("currentCPUUtilizationPercentage").filter(|share| !share.is_null()).map(|share| {
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": share}}})
        });
        let all: Vec<Value> =
            current.iter().map(|metric| metric_to_v2(metric, "current")).chain(own).collect();
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), Value::Array(all));
        }
        if !conditions.is_empty() {
            status.insert("conditions".to_owned(), Value::Array(conditions));
        }
    }
    object
}

/// The share of CPU that v1 has a field for, and the other metrics.
fn split(metrics: Option<Value>) -> (Option<Value>, Vec<Value>) {
    let Some(Value::Array(mut all)) = metrics else { return (None, Vec::new()) };
    let own = all.iter().position(|metric| {
        let share = ["/resource/target/averageUtilization", "/resource/current/averageUtilization"];
        metric["type"] == "Resource"
            && metric.pointer("/resource/name").is_some_and(|name| name == "cpu")
            && share.into_iter().any(|at| metric.pointer(at).is_some_and(Value::is_number))
    });
    (own.map(|at| all.remove(at)), all)
}

fn tell(told: &mut Map<String, Value>, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        told.insert(key.to_owned(), Value::String(Value::Array(list).to_string()));
    }
}

/// The key under which a metric has its source: `resource` for type `Resource`.
fn source_of(metric: &Value) -> Option<String> {
    let kind = metric["type"].as_str()?;
    let mut letters = kind.chars();
    let first = letters.next()?;
    Some(format!("{}{}", first.to_ascii_lowercase(), letters.as_str()))
}

fn metric_to_v1(metric: &Value) -> Value {
    let Some(source) = source_of(metric) else { return metric.clone() };
    let fields: Map<String, Value> = names_of(&source)
        .iter()
        .filter_map(|(own, at)| Some(((*own).to_owned(), metric[&source].pointer(at)?.clone())))
        .collect();
    json!({"type": metric["type"], source: fields})
}

/// `side`: `target` of a wanted metric, `current` of a seen one.
fn metric_to_v2(metric: &Value, side: &str) -> Value {
    let Some(source) = source_of(metric) else { return metric.clone() };
    let mut made = json!({});
    for (own, at) in names_of(&source) {
        let Some(value) = metric[&source].get(own) else { continue };
        let mut place = &mut made;
        for key in at.trim_start_matches('/').split('/') {
            place = &mut place[key];
        }
        *place = value.clone();
    }
    if side == "target" && made["target"].is_object() {
        let kind = if made["target"].get("averageUtilization").is_some() {
            "Utilization"
        } else if made["target"].get("averageValue").is_some() {
            "AverageValue"
        } else {
            "Value"
        };
        made["target"]["type"] = json!(kind);
    }
    json!({"type": metric["type"], source: made})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_cannot_say_travels_in_annotations() {
        let stored = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            ]},
            "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}], "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "1"}}}]},
        });
        let shown = from_v2(stored.clone());
        assert_eq!(shown["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], 40);
        let metrics = shown["metadata"]["annotations"][METRICS].as_str().expect("told");
        assert_eq!(
            serde_json::from_str::<Value>(metrics).expect("JSON"),
            json!([{"type": "Pods", "pods": {"metricName": "hits", "targetAverageValue": "5"}}])
        );
        let back = to_v2(shown);
        assert_eq!((&back["spec"], &back["metadata"]), (&stored["spec"], &stored["metadata"]));
        assert_eq!(back["status"]["conditions"], stored["status"]["conditions"]);
    }

    #[test]
    fn a_plain_v1_object_gets_one_metric() {
        let object =
            json!({"metadata": {}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let stored = to_v2(object.clone());
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!(from_v2(stored)["spec"], object["spec"]);
        for odd in [
            json!({}),
            json!({"spec": 1, "metadata": {"annotations": {METRICS: "["}}}),
            json!({"spec": {"metrics": [1]}}),
        ] {
            let _ = from_v2(to_v2(odd));
        }
    }
}
