//! Kinds of the smaller groups: networking, policy, autoscaling, certificates, coordination, scheduling.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use super::strategy::{RequestContext, Strategy};
use kind_rules::columns::{Column, age, human_duration};
use kind_rules::json::{default, existing, integer, list, present, set, text};
use kind_rules::names;
use kind_rules::problems::Problems;
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

/// `certificates.k8s.io/v1.CertificateSigningRequest`: says who asked, which only the server can know.
#[derive(Debug)]
pub(crate) struct SigningRequest;

#[async_trait]
impl Strategy for SigningRequest {
    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(spec) = existing(object, "spec") {
            let user = cx.user;
            set(spec, "username", user.username.as_str());
            set(spec, "uid", user.uid.as_str());
            set(spec, "groups", user.groups.clone());
            set(spec, "extra", json!(user.extra));
        }
        set(object, "status", json!({}));
        Ok(())
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        set(object, "spec", old["spec"].clone());
        match cx.subresource {
            // Approval writes conditions and nothing else.
            Some("approval") => {
                let conditions = object["status"]["conditions"].clone();
                set(object, "status", old["status"].clone());
                if let Some(status) = kind_rules::json::child(object, "status") {
                    set(status, "conditions", stamped(conditions, cx.now));
                }
            }
            _ => set(object, "status", old["status"].clone()),
        }
        Ok(())
    }

    async fn prepare_for_status_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if cx.subresource == Some("approval") {
            return self.prepare_for_update(cx, object, old).await;
        }
        // Approval and denial are not for status writers.
        let decided = |object: &Value| {
            list(&object["status"], "conditions")
                .iter()
                .filter(|c| matches!(text(c, "type"), "Approved" | "Denied"))
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut conditions = decided(old);
        conditions.extend(
            list(&object["status"], "conditions")
                .iter()
                .filter(|c| !matches!(text(c, "type"), "Approved" | "Denied"))
                .cloned(),
        );
        if let Some(status) = existing(object, "status")
            && !conditions.is_empty()
        {
            set(status, "conditions", conditions);
        }
        Ok(())
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        let spec = &object["spec"];
        if text(spec, "request").is_empty() {
            problems.required("spec.request", "");
        }
        if !text(spec, "signerName").contains('/') {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            problems.invalid("spec.signerName", &spec["signerName"], detail);
        }
        if list(spec, "usages").is_empty() {
            problems.required("spec.usages", "usages must contain at least one value");
        }
        if spec["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
            problems.invalid(
                "spec.expirationSeconds",
                &spec["expirationSeconds"],
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
        problems.into_causes()
    }

    fn validate_update(&self, _: &RequestContext<'_>, object: &Value, _: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        let holds = |kind: &str| {
            list(&object["status"], "conditions").iter().any(|condition| text(condition, "type") == kind)
        };
        if holds("Approved") && holds("Denied") {
            let detail = "Approved and Denied conditions are mutually exclusive";
            problems.invalid("status.conditions", &Value::from("Denied"), detail);
        }
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> Vec<Column> {
        named(&["Age", "SignerName", "Requestor", "RequestedDuration", "Condition"])
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let asked =
            spec["expirationSeconds"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let asked = asked.map_or("<none>".to_owned(), |end| human_duration(Timestamp::UNIX_EPOCH, end));
        vec![
            object["metadata"]["name"].clone(),
            age(object, now),
            or(text(spec, "signerName"), "<none>"),
            text(spec, "username").into(),
            asked.into(),
            request_state(object).into(),
        ]
    }
}

/// Conditions without a time get this one.
fn stamped(mut conditions: Value, now: Timestamp) -> Value {
    for condition in conditions.as_array_mut().into_iter().flatten() {
        for key in ["lastUpdateTime", "lastTransitionTime"] {
            default(condition, key, format!("{:.0}", now));
        }
    }
    conditions
}

fn request_state(object: &Value) -> String {
    let status = &object["status"];
    let holds =
        |kind: &str| list(status, "conditions").iter().any(|condition| text(condition, "type") == kind);
    let mut state = match (holds("Denied"), holds("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if holds("Failed") {
        state.push_str(",Failed");
    }
    if !text(status, "certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let request = json!({"status": {"conditions": [{"type": "Approved"}], "certificate": "x"}});
        assert_eq!(request_state(&request), "Approved,Issued");
        let budget = json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}});
        let cells = (DISRUPTION_BUDGET.cells)(&budget, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..3], [json!("50%"), json!("N/A"), json!(1)]);
    }
}
