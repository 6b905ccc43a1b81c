//! Kinds of the smaller groups: networking, policy, autoscaling, certificates, coordination, scheduling.

use serde_json::{Value, json};

use kind_rules::columns::{Column, age};
use kind_rules::json::{default, existing, integer, list, present, set, text};
use kind_rules::names;
use kind_rules::rules::{KindRules, number, or};

fn named(columns: &[&str]) -> Vec<Column> {
    let mut all = vec![Column::object_name()];
    all.extend(columns.iter().map(|name| if *name == "Age" { Column::age() } else { Column::new(name) }));
    all
}

/// `policy/v1.PodDisruptionBudget`.
pub(crate) const DISRUPTION_BUDGET: KindRules = KindRules {
    validate: |problems, object| {
        let spec = &object["spec"];
        if present(spec, "minAvailable") && present(spec, "maxUnavailable") {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            problems.invalid("spec", &Value::from(""), detail);
        }
        names::selector(problems, "spec.selector", &spec["selector"]);
    },
    columns: || {
        let mut columns = named(&["Min Available", "Max Unavailable"]);
        columns.extend([Column::new("Allowed Disruptions").of("integer"), Column::age()]);
        columns
    },
    cells: |object, now| {
        let amount = |key: &str| match &object["spec"][key] {
            Value::Null => Value::from("N/A"),
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        };
        let allowed = number(&object["status"], "disruptionsAllowed");
        vec![amount("minAvailable"), amount("maxUnavailable"), allowed, age(object, now)]
    },
    ..KindRules::NEW
};

/// `autoscaling/v2.HorizontalPodAutoscaler`.
pub(crate) const AUTOSCALER: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default(spec, "minReplicas", 1);
        if list(spec, "metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            set(
                spec,
                "metrics",
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
            );
        }
    },
    validate: |problems, object| {
        let spec = &object["spec"];
        let (low, high) = (integer(spec, "minReplicas"), integer(spec, "maxReplicas"));
        if high < 1 {
            problems.invalid("spec.maxReplicas", &spec["maxReplicas"], "must be greater than 0");
        } else if high < low {
            let detail = "must be greater than or equal to `minReplicas`";
            problems.invalid("spec.maxReplicas", &spec["maxReplicas"], detail);
        }
        for key in ["kind", "name"] {
            if text(&spec["scaleTargetRef"], key).is_empty() {
                problems.required(&format!("spec.scaleTargetRef.{key}"), "");
            }
        }
    },
    columns: || named(&["Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"]),
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let target = &spec["scaleTargetRef"];
        let metrics: Vec<String> = list(spec, "metrics")
            .iter()
            .enumerate()
            .map(|(index, metric)| autoscaler_metric(metric, list(status, "currentMetrics").get(index)))
            .collect();
        vec![
            format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
            or(&metrics.join(", "), "<none>"),
            spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |low| low.to_string()).into(),
            number(spec, "maxReplicas"),
            number(status, "currentReplicas"),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

fn autoscaler_metric(metric: &Value, current: Option<&Value>) -> String {
    let resource = &metric["resource"];
    if !resource.is_object() {
        return "<unknown>/<auto>".to_owned();
    }
    let name = text(resource, "name");
    let current = current.map_or(&Value::Null, |current| &current["resource"]["current"]);
    match resource["target"]["averageUtilization"].as_i64() {
        Some(target) => {
            let now = current["averageUtilization"]
                .as_i64()
                .map_or("<unknown>".to_owned(), |now| format!("{now}%"));
            format!("{name}: {now}/{target}%")
        }
        None => {
            let now = text(current, "averageValue");
            let now = if now.is_empty() { "<unknown>" } else { now };
            format!("{name}: {now}/{}", text(&resource["target"], "averageValue"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let budget = json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}});
        let cells = (DISRUPTION_BUDGET.cells)(&budget, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..3], [json!("50%"), json!("N/A"), json!(1)]);
    }
}
