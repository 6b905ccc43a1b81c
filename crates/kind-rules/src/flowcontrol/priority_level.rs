//! `PriorityLevelConfiguration`.

use serde_json::Value;

use super::{conditions, mandatory_spec};
use crate::checks::columns;
use crate::columns::age;
use crate::json::{default, existing, integer, present, set, text};
use crate::path::Path;
use crate::problems::{Problems, Verbatim};
use crate::rules::{KindRules, number};
use crate::storage::keep_metadata;

const QUEUES_MAX: i64 = 10_000_000;
/// How many bits of a hash upstream deals hands with.
const HASH_BITS: u32 = 60;
const ZERO_SHARES_ANNOTATION: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// `flowcontrol.apiserver.k8s.io/v1.PriorityLevelConfiguration`.
pub const PRIORITY_LEVEL_CONFIGURATION: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        if let Some(exempt) = existing(spec, "exempt") {
            default(exempt, "nominalConcurrencyShares", 0);
            default(exempt, "lendablePercent", 0);
        }
        let Some(limited) = existing(spec, "limited") else { return };
        default(limited, "nominalConcurrencyShares", 30);
        default(limited, "lendablePercent", 0);
        let queuing = existing(limited, "limitResponse").and_then(|response| existing(response, "queuing"));
        if let Some(queuing) = queuing {
            for (key, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if integer(queuing, key) == 0 {
                    set(queuing, key, value);
                }
            }
        }
    },
    prepare_status: keep_metadata,
    validate: |problems, object| {
        if object["metadata"]["annotations"].get(ZERO_SHARES_ANNOTATION).is_some() {
            let detail = format!("annotation '{ZERO_SHARES_ANNOTATION}' is forbidden");
            problems.forbidden("metadata.annotations", &detail);
        }
        let name = text(&object["metadata"], "name");
        validate_spec(problems, &object["spec"], name);
        mandatory(problems, object, name);
        conditions(problems, object);
    },
    validate_status: |problems, object, _| conditions(problems, object),
    columns: || {
        columns(&["Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"])
    },
    cells: |object, now| {
        let limited = &object["spec"]["limited"];
        let queuing = &limited["limitResponse"]["queuing"];
        let or_none = |holder: &Value, key: &str| {
            if holder.is_object() { number(holder, key) } else { "<none>".into() }
        };
        vec![
            text(&object["spec"], "type").into(),
            or_none(limited, "nominalConcurrencyShares"),
            or_none(queuing, "queues"),
            or_none(queuing, "handSize"),
            or_none(queuing, "queueLengthLimit"),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

fn mandatory(problems: &mut Problems, object: &Value, name: &str) {
    let Some(fixed) = mandatory_spec("PriorityLevelConfiguration", name) else { return };
    let shown = object["spec"].to_string();
    if name == "exempt" {
        let mut spec = object["spec"].clone();
        set(&mut spec, "exempt", fixed["exempt"].clone());
        if spec != *fixed {
            let detail = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value";
            problems.invalid("spec", Verbatim(&shown), detail);
        }
    } else if object["spec"] != *fixed {
        problems.invalid("spec", Verbatim(&shown), &format!("spec of '{name}' must equal the fixed value"));
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, name: &str) {
    let at = Path::new("spec");
    let kind = text(spec, "type");
    if (name == "exempt") != (kind == "Exempt") {
        problems.invalid(at.field("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if present(spec, "limited") {
                problems.forbidden(at.field("limited"), "must be nil if the type is not Limited");
            }
            if present(spec, "exempt") {
                shares(problems, &at.field("exempt"), &spec["exempt"]);
                lendable(problems, &at.field("exempt"), &spec["exempt"]);
            }
        }
        "Limited" => {
            if present(spec, "exempt") {
                problems.forbidden(at.field("exempt"), "must be nil if the type is Limited");
            }
            if present(spec, "limited") {
                limited(problems, &at.field("limited"), &spec["limited"]);
            } else {
                problems.required(at.field("limited"), "must not be empty when type is Limited");
            }
        }
        other => problems.unsupported(at.field("type"), other, &["Exempt", "Limited"]),
    }
}

fn shares(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let shares = integer(own, "nominalConcurrencyShares");
    if shares < 0 {
        problems.invalid(at.field("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn lendable(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let percent = integer(own, "lendablePercent");
    if !(0..=100).contains(&percent) {
        problems.invalid(at.field("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    shares(problems, at, own);
    let response_at = at.field("limitResponse");
    let response = &own["limitResponse"];
    let queuing_at = response_at.field("queuing");
    match (text(response, "type"), present(response, "queuing")) {
        ("Reject", true) => {
            problems.forbidden(queuing_at, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", false) => {
            problems.required(queuing_at, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", true) => queuing(problems, &queuing_at, &response["queuing"]),
        ("Reject", false) => {}
        (other, _) => problems.unsupported(response_at.field("type"), other, &["Queue", "Reject"]),
    }
    lendable(problems, at, own);
    let limit = integer(own, "borrowingLimitPercent");
    if limit < 0 {
        let detail = "if specified, must be a non-negative integer";
        problems.invalid(at.field("borrowingLimitPercent"), limit, detail);
    }
}

fn queuing(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let (length, queues, hand) =
        (integer(own, "queueLengthLimit"), integer(own, "queues"), integer(own, "handSize"));
    if length <= 0 {
        problems.invalid(at.field("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        problems.invalid(at.field("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        let detail = format!("must not be greater than {QUEUES_MAX}");
        problems.invalid(at.field("queues"), queues, &detail);
    }
    let at = at.field("handSize");
    if hand <= 0 {
        problems.invalid(at, hand, "must be positive");
    } else if hand > queues {
        problems.invalid(at, hand, &format!("should not be greater than queues ({queues})"));
    } else if !can_be_dealt(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        problems.invalid(at, hand, &detail);
    }
}

/// Whether a hash has bits enough to deal `hand` of `deck` cards: log2(deck * (deck - 1) * …), rounded up.
fn can_be_dealt(deck: i64, hand: i64) -> bool {
    let mut ways: u128 = 1;
    for card in 0..hand {
        let choices = u128::try_from(deck - card).unwrap_or(1);
        ways = ways.saturating_mul(choices);
        if ways > 1 << HASH_BITS {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    fn level() -> Value {
        let queuing = json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50});
        json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1,
            "limitResponse": {"type": "Queue", "queuing": queuing}}}})
    }

    #[test]
    fn bad_levels_are_refused_where_upstream_refuses_them() {
        assert!(findings(&PRIORITY_LEVEL_CONFIGURATION, &level()).is_empty());
        for (pointer, value, wanted) in [
            (
                "/metadata/name",
                json!("exempt"),
                "spec.type: Invalid value: \"Limited\": must be 'Exempt' if and only if `name` is 'exempt'",
            ),
            (
                "/spec/limited/nominalConcurrencyShares",
                json!(-1),
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            ),
            (
                "/spec/limited/limitResponse/type",
                json!("Reject"),
                "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
            ),
            (
                "/spec/limited/limitResponse/queuing/handSize",
                json!(65),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
            ),
            (
                "/spec/limited/limitResponse/queuing/handSize",
                json!(30),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 30: required entropy bits of deckSize 64 and handSize 30 should not be greater than 60",
            ),
        ] {
            let mut object = level();
            *object.pointer_mut(pointer).unwrap() = value;
            assert_eq!(findings(&PRIORITY_LEVEL_CONFIGURATION, &object)[0], wanted);
        }
    }
}
