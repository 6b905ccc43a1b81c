//! `PriorityClass`.

use serde_json::Value;

use crate::checks::{columns, first_generation};
use crate::columns::age;
use crate::json::{default, integer, text, truth};
use crate::rules::{KindRules, number};

/// Above this are the system's own.
const USER_MAX: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// `scheduling.k8s.io/v1.PriorityClass`.
pub const PRIORITY_CLASS: KindRules = KindRules {
    defaults: |object| default(object, "preemptionPolicy", "PreemptLowerPriority"),
    prepare_create: first_generation,
    validate: |problems, object| {
        let name = text(&object["metadata"], "name");
        if name.starts_with("system-") {
            if let Some(why) = system_problem(name, object) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                problems.forbidden("metadata.name", &detail);
            }
        } else if integer(object, "value") > USER_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            problems.forbidden("value", &detail);
        }
        match object["preemptionPolicy"].as_str() {
            None | Some("PreemptLowerPriority" | "Never") => {}
            Some("") => problems.required("preemptionPolicy", ""),
            Some(other) => {
                problems.unsupported_of("preemptionPolicy", other, &["PreemptLowerPriority", "Never"]);
            }
        }
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        if integer(object, "value") != integer(old, "value") {
            problems.forbidden("value", "may not be changed in an update.");
        }
        problems.immutable("preemptionPolicy", object.get("preemptionPolicy"), old.get("preemptionPolicy"));
    },
    columns: || columns(&["Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"]),
    cells: |object, now| {
        vec![
            number(object, "value"),
            truth(object, "globalDefault").into(),
            age(object, now),
            text(object, "preemptionPolicy").into(),
        ]
    },
    ..KindRules::NEW
};

fn system_problem(name: &str, object: &Value) -> Option<String> {
    let Some((_, value)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if integer(object, "value") != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    truth(object, "globalDefault").then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn the_systems_own_classes_are_fixed() {
        let of = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        for (object, wanted) in [
            (
                of("system-x", 1),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
            ),
            (
                of("system-node-critical", 1),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                of("a", USER_MAX + 1),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
        ] {
            assert_eq!(findings(&PRIORITY_CLASS, &object), [wanted]);
        }
        assert!(findings(&PRIORITY_CLASS, &of("system-node-critical", 2_000_001_000)).is_empty());
        assert_eq!(
            update_findings(&PRIORITY_CLASS, &of("a", 2), &of("a", 1)),
            ["value: Forbidden: may not be changed in an update."]
        );
    }
}
