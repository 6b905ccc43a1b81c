//! `policy/v1.PodDisruptionBudget`.

use serde_json::{Value, json};

use crate::columns::{Column, age};
use crate::json::{given, list, set};
use crate::meta;
use crate::names;
use crate::path::Path;
use crate::problems::{Problems, Verbatim};
use crate::rules::{KindRules, number};
use crate::workload::{at_most_all, counts, int_or_percent};

/// What Kubernetes demands of disruption budgets.
pub const RULES: KindRules = KindRules {
    // Upstream's validation of this kind never looks at its metadata.
    names: names::NameRule::PathSegment,
    checks_finalizers: false,
    prepare_create: |object| {
        let none =
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        set(object, "status", none);
    },
    validate: |problems, object| validate_spec(problems, &object["spec"], &Value::Null),
    validates_updates: false,
    validate_update: |problems, object, old| validate_spec(problems, &object["spec"], &old["spec"]),
    validate_status: |problems, object, _| {
        let (status, at) = (&object["status"], Path::new("status"));
        meta::conditions(problems, &at.field("conditions"), list(status, "conditions"));
        counts(
            problems,
            &at,
            status,
            &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
        );
    },
    unconditional_update: false,
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Min Available").saying("The minimum number of pods that must be available."),
            Column::new("Max Unavailable").saying("The maximum number of pods that may be unavailable."),
            Column::new("Allowed Disruptions")
                .of("integer")
                .saying("Calculated number of pods that may be disrupted at this time."),
            Column::age(),
        ]
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

fn validate_spec(problems: &mut Problems, spec: &Value, old: &Value) {
    let at = Path::new("spec");
    let (least, most) = (given(spec, "minAvailable"), given(spec, "maxUnavailable"));
    if let (Some(least), Some(most)) = (least, most) {
        let part = |key: &str| given(spec, key).map_or_else(|| "null".to_owned(), Value::to_string);
        let shown = format!(
            "{{\"MinAvailable\":{least},\"Selector\":{},\"MaxUnavailable\":{most},\"UnhealthyPodEvictionPolicy\":{}}}",
            part("selector"),
            part("unhealthyPodEvictionPolicy")
        );
        problems.invalid(at, Verbatim(&shown), "minAvailable and maxUnavailable cannot be both set");
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = given(spec, key) {
            int_or_percent(problems, at.field(key), value);
            at_most_all(problems, at.field(key), value);
        }
    }
    let tolerated = names::has_bad_selector_value(&old["selector"]);
    names::selector_with(problems, &at.field("selector"), &spec["selector"], tolerated);
    if let Some(policy) = given(spec, "unhealthyPodEvictionPolicy")
        && !matches!(policy.as_str(), Some("IfHealthyBudget" | "AlwaysAllow"))
    {
        let supported = ["AlwaysAllow", "IfHealthyBudget"];
        problems.unsupported(at.field("unhealthyPodEvictionPolicy"), policy, &supported);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_checked_and_shown() {
        let budget = json!({"spec": {"minAvailable": "50%", "maxUnavailable": "150%"}, "status": {"disruptionsAllowed": 1}});
        let mut problems = Problems::default();
        (RULES.validate)(&mut problems, &budget);
        let fields: Vec<String> = problems.into_causes().into_iter().map(|cause| cause.field).collect();
        assert_eq!(fields, ["spec", "spec.maxUnavailable"]);
        let cells = (RULES.cells)(&budget, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..3], [json!("50%"), json!("150%"), json!(1)]);
    }
}
