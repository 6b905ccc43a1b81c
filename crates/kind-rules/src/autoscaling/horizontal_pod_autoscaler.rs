//! `autoscaling/v2.HorizontalPodAutoscaler`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::columns::{Column, age};
use crate::json::{default, existing, given, integer, list, present, set, text};
use crate::names::{self, path_segment};
use crate::path::Path;
use crate::pod_spec::{amount, container_resource};
use crate::problems::Problems;
use crate::rules::{KindRules, number, or};
use crate::workload::counts;

/// How long a recommendation may be looked back on, in seconds.
const LONGEST_WINDOW: i64 = 3600;
/// How long the period of a scaling policy may be, in seconds.
const LONGEST_PERIOD: i64 = 1800;

/// What Kubernetes demands of autoscalers.
pub const RULES: KindRules = KindRules {
    defaults,
    prepare_create: |object| set(object, "status", json!({"desiredReplicas": 0})),
    validate: |problems, object| validate_spec(problems, &object["spec"], &Value::Null),
    validates_updates: false,
    validate_update: |problems, object, old| validate_spec(problems, &object["spec"], &old["spec"]),
    validate_status: |problems, object, _| {
        counts(problems, &Path::new("status"), &object["status"], &["currentReplicas", "desiredReplicas"]);
    },
    columns: || {
        let spec = |name, field| Column::described(name, "HorizontalPodAutoscalerSpec", field);
        vec![
            Column::object_name(),
            spec("Reference", "scaleTargetRef"),
            spec("Targets", "metrics"),
            spec("MinPods", "minReplicas"),
            spec("MaxPods", "maxReplicas"),
            Column::described("Replicas", "HorizontalPodAutoscalerStatus", "currentReplicas"),
            Column::age(),
        ]
    },
    cells,
    counts_generation: false,
    ..KindRules::NEW
};

fn defaults(object: &mut Value) {
    let Some(spec) = existing(object, "spec") else { return };
    default(spec, "minReplicas", 1);
    if list(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        set(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    let Some(behavior) = existing(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]});
    let down = json!({"selectPolicy": "Max", "policies": [percent]});
    for (key, rules) in [("scaleUp", up), ("scaleDown", down)] {
        match existing(behavior, key) {
            None => set(behavior, key, rules),
            Some(own) => {
                for (field, value) in rules.as_object().into_iter().flatten() {
                    default(own, field, value.clone());
                }
            }
        }
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, old: &Value) {
    let at = Path::new("spec");
    let least = crate::json::number(spec, "minReplicas");
    // The feature HPAScaleToZero is off; who has zero already keeps it.
    let bound = i64::from(old["minReplicas"] != 0);
    if let Some(least) = least.filter(|least| *least < bound) {
        problems.invalid(
            at.field("minReplicas"),
            least,
            &format!("must be greater than or equal to {bound}"),
        );
    }
    let most = integer(spec, "maxReplicas");
    match most {
        0 => problems.required(at.field("maxReplicas"), "must be set and greater than 0"),
        ..0 => problems.invalid(at.field("maxReplicas"), most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        problems.invalid(at.field("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    let (target, before) = (&spec["scaleTargetRef"], &old["scaleTargetRef"]);
    reference(problems, &at.field("scaleTargetRef"), target);
    if before.is_null() || text(target, "apiVersion") != text(before, "apiVersion") {
        target_version(problems, &at.field("scaleTargetRef"), target);
    }
    let metrics = at.field("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        validate_metric(problems, &metrics.index(index), metric);
    }
    let reaches_zero = |metric: &Value| matches!(text(metric, "type"), "Object" | "External");
    if least == Some(0) && !list(spec, "metrics").iter().any(reaches_zero) {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        problems.forbidden(metrics, detail);
    }
    let behavior = at.field("behavior");
    for key in ["scaleUp", "scaleDown"] {
        if let Some(rules) = given(&spec["behavior"], key) {
            scaling_rules(problems, &behavior.field(key), rules);
        }
    }
}

fn reference(problems: &mut Problems, at: &Path<'_>, target: &Value) {
    for key in ["kind", "name"] {
        problems.check_required(at.field(key), text(target, key), path_segment);
    }
}

/// What is scaled has to be named with its group; replication controllers have none.
fn target_version(problems: &mut Problems, at: &Path<'_>, target: &Value) {
    let version = text(target, "apiVersion");
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        problems.invalid(at.field("apiVersion"), version, &why);
    } else if text(target, "kind") != "ReplicationController"
        && version.split_once('/').is_none_or(|(group, _)| group.is_empty())
    {
        problems.invalid(at.field("apiVersion"), version, "apiVersion must specify API group");
    }
}

fn scaling_rules(problems: &mut Problems, at: &Path<'_>, rules: &Value) {
    if let Some(window) = crate::json::number(rules, "stabilizationWindowSeconds") {
        let field = at.field("stabilizationWindowSeconds");
        if window < 0 {
            problems.invalid(field, window, "must be greater than or equal to zero");
        } else if window > LONGEST_WINDOW {
            problems.invalid(field, window, &format!("must be less than or equal to {LONGEST_WINDOW}"));
        }
    }
    problems.choice(
        at.field("selectPolicy"),
        given(rules, "selectPolicy"),
        &["Disabled", "Max", "Min"],
        true,
    );
    let (policies, field) = (list(rules, "policies"), at.field("policies"));
    if policies.is_empty() {
        problems.required(field, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = field.index(index);
        if !matches!(text(policy, "type"), "Pods" | "Percent") {
            problems.unsupported(at.field("type"), text(policy, "type"), &["Percent", "Pods"]);
        }
        let (value, period) = (integer(policy, "value"), integer(policy, "periodSeconds"));
        if value <= 0 {
            problems.invalid(at.field("value"), value, "must be greater than zero");
        }
        if period <= 0 {
            problems.invalid(at.field("periodSeconds"), period, "must be greater than zero");
        } else if period > LONGEST_PERIOD {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
            problems.invalid(at.field("periodSeconds"), period, &detail);
        }
    }
    if let Some(tolerance) = given(rules, "tolerance")
        && amount(tolerance).is_some_and(|amount| amount.is_negative())
    {
        problems.invalid(at.field("tolerance"), tolerance, "must be greater than or equal to 0");
    }
}

/// The sources of a metric, by their type, in the order upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn validate_metric(problems: &mut Problems, at: &Path<'_>, metric: &Value) {
    let kind = text(metric, "type");
    let types = SOURCES.map(|(name, _)| name);
    if kind.is_empty() {
        problems.required(at.field("type"), "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, key)| *key);
    if expected.is_none() {
        problems.unsupported(at.field("type"), kind, &types);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, key)| *key).filter(|key| given(metric, key).is_some()).collect();
    if let Some(first) = present.first() {
        validate_source(problems, &at.field(first), first, &metric[*first]);
    }
    match expected {
        Some(key) if given(metric, key).is_none() => {
            problems.required(at.field(key), "must populate information for the given metric source");
        }
        Some(_) => {}
        // Upstream says so twice.
        None => problems.unsupported(at.field("type"), kind, &types),
    }
    if present.len() != 1 {
        for key in present.into_iter().filter(|key| Some(*key) != expected) {
            problems.forbidden(at.field(key), "must populate the given metric source only");
        }
    }
}

fn validate_source(problems: &mut Problems, at: &Path<'_>, key: &str, source: &Value) {
    match key {
        "object" | "external" | "pods" => {
            if key == "object" {
                reference(problems, &at.field("describedObject"), &source["describedObject"]);
            }
            let (metric, name) = (at.field("metric"), text(&source["metric"], "name"));
            if name.is_empty() {
                problems.required(metric.field("name"), "must specify a metric name");
            } else {
                problems.check(metric.field("name"), name, path_segment);
            }
        }
        _ => {
            let name = text(source, "name");
            if name.is_empty() {
                problems.required(at.field("name"), "must specify a resource name");
            } else if key == "containerResource" {
                container_resource(problems, at.field("name"), name);
            }
            if key == "containerResource" {
                match text(source, "container") {
                    "" => problems.required(at.field("container"), "must specify a container"),
                    name => problems.check(at.field("container"), name, names::dns1123_label),
                }
            }
        }
    }
    validate_target(problems, &at.field("target"), key, &source["target"]);
}

fn validate_target(problems: &mut Problems, at: &Path<'_>, source: &str, target: &Value) {
    let kind = text(target, "type");
    if kind.is_empty() {
        problems.required(at.field("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        problems.invalid(at.field("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for key in ["value", "averageValue"] {
        if let Some(value) = given(target, key)
            && amount(value).is_some_and(|amount| amount.millis() <= 0)
        {
            problems.invalid(at.field(key), value, "must be positive");
        }
    }
    if let Some(share) = crate::json::number(target, "averageUtilization").filter(|share| *share < 1) {
        problems.invalid(at.field("averageUtilization"), share, "must be greater than 0");
    }
    let has = |key: &str| present(target, key);
    match source {
        "object" if !has("value") && !has("averageValue") => {
            problems.required(at.field("averageValue"), "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value for metric or a per-pod target";
            problems.required(at.field("averageValue"), detail);
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            problems.forbidden(at.field("value"), detail);
        }
        "pods" if !has("averageValue") => {
            problems.required(at.field("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                let detail = "must set either a target raw value or a target utilization";
                problems.required(at.field("averageUtilization"), detail);
            }
            (true, true) => {
                let detail = "may not set both a target raw value and a target utilization";
                problems.forbidden(at.field("averageValue"), detail);
            }
            _ => {}
        },
        _ => {}
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    vec![
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        or(&shown_metrics(spec, status), "<none>"),
        spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |low| low.to_string()).into(),
        number(spec, "maxReplicas"),
        number(status, "currentReplicas"),
        age(object, now),
    ]
}

/// The first two metrics, and how many more there are.
fn shown_metrics(spec: &Value, status: &Value) -> String {
    let (metrics, current) = (list(spec, "metrics"), list(status, "currentMetrics"));
    let each: Vec<String> = metrics
        .iter()
        .take(2)
        .enumerate()
        .map(|(index, metric)| shown_metric(metric, current.get(index)))
        .collect();
    match metrics.len() {
        more @ 3.. => format!("{} + {} more...", each.join(", "), more - 2),
        _ => each.join(", "),
    }
}

fn shown_metric(metric: &Value, current: Option<&Value>) -> String {
    let kind = text(metric, "type");
    let Some((_, key)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        return "<unknown type>".to_owned();
    };
    let (source, current) = (&metric[*key], current.map_or(&Value::Null, |current| &current[*key]));
    let (target, current) = (&source["target"], &current["current"]);
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let now = |field: &str| given(current, field).map_or_else(|| "<unknown>".to_owned(), shown);
    let average = given(target, "averageValue").map(shown);
    match *key {
        "pods" => format!("{}/{}", now("averageValue"), average.unwrap_or_default()),
        "object" | "external" => match (average, given(target, "value")) {
            (Some(average), _) => format!("{}/{average} (avg)", now("averageValue")),
            (None, Some(value)) => format!("{}/{}", now("value"), shown(value)),
            (None, None) => "<unknown>/<auto>".to_owned(),
        },
        _ => {
            let name = text(source, "name");
            match (average, target["averageUtilization"].as_i64()) {
                (Some(average), _) => format!("{name}: {}/{average}", now("averageValue")),
                (None, Some(target)) => {
                    let now = current["averageUtilization"]
                        .as_i64()
                        .map_or_else(|| "<unknown>".to_owned(), |now| format!("{now}%"));
                    format!("{name}: {now}/{target}%")
                }
                (None, None) => format!("{name}: <unknown>/<auto>"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(mut spec: Value) -> Vec<(String, String)> {
        default(
            &mut spec,
            "scaleTargetRef",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}),
        );
        let mut object = json!({"spec": spec});
        defaults(&mut object);
        let mut problems = Problems::default();
        (RULES.validate)(&mut problems, &object);
        problems.into_causes().into_iter().map(|cause| (cause.field, cause.message)).collect()
    }

    #[test]
    fn autoscalers_are_completed_and_checked() {
        assert_eq!(causes(json!({"maxReplicas": 3})), []);
        assert_eq!(causes(json!({"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Min"}}})), []);
        let fields =
            |spec: Value| -> Vec<String> { causes(spec).into_iter().map(|(field, _)| field).collect() };
        assert_eq!(fields(json!({"minReplicas": 4, "maxReplicas": 3})), ["spec.maxReplicas"]);
        let metric = json!({"type": "Pods", "pods": {"metric": {"name": "a/b"}, "target": {"type": "Value", "value": "0"}}});
        assert_eq!(
            fields(json!({"maxReplicas": 3, "metrics": [metric]})),
            [
                "spec.metrics[0].pods.metric.name",
                "spec.metrics[0].pods.target.value",
                "spec.metrics[0].pods.target.averageValue"
            ]
        );
        let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 3601, "policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]}});
        assert_eq!(
            fields(json!({"maxReplicas": 3, "behavior": behavior})),
            [
                "spec.behavior.scaleDown.stabilizationWindowSeconds",
                "spec.behavior.scaleDown.policies[0].value",
                "spec.behavior.scaleDown.policies[0].periodSeconds"
            ]
        );
    }
}
