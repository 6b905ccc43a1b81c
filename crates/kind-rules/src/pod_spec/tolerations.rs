//! Tolerations and the effects of taints.

use std::fmt::Display;

use serde_json::Value;

use crate::json::{given, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint's or toleration's effect.
pub fn taint_effect(problems: &mut Problems, at: impl Display, effect: &str, may_be_empty: bool) {
    if effect.is_empty() && !may_be_empty {
        problems.required(at, "");
    } else if !EFFECTS.contains(&effect) {
        problems.unsupported_of(at, effect, &EFFECTS);
    }
}

/// A list of tolerations at `at`.
pub fn tolerations(problems: &mut Problems, at: &Path<'_>, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        toleration_at(problems, &at.index(index), toleration);
    }
}

fn toleration_at(problems: &mut Problems, at: &Path<'_>, toleration: &Value) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
    problems.check_optional(at.field("key"), key, names::qualified_name);
    if key.is_empty() && operator != "Exists" {
        problems.invalid(
            at.field("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    if given(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
        problems.invalid(
            at.field("effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator {
        "" | "Equal" => {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                problems.invalid(at.field("operator"), value, &wrong.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            problems.invalid(at.field("operator"), value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        // Comparisons are alpha in 1.36 and off.
        "Lt" | "Gt" => {
            problems.unsupported_of(at.field("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]);
        }
        _ => problems.unsupported_of(at.field("operator"), operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        taint_effect(problems, at.field("effect"), effect, true);
    }
}
