//! Topology spread constraints, and the label keys that they and pod affinity copy from the pod.

use serde_json::Value;

use super::validation::Scope;
use crate::json::{entries, given, list, number, text, texts};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

const NOT_POSITIVE: &str = "must be greater than zero";
const BOTH: &str = "exists in both matchLabelKeys and labelSelector";
const UNSET: &str = "must not be specified when labelSelector is not set";

/// `topologySpreadConstraints`.
pub(super) fn validate(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    let constraints = list(spec, "topologySpreadConstraints");
    let old = scope.old.map_or(&[][..], |old| list(old, "topologySpreadConstraints"));
    let any_selector = old.iter().any(|constraint| has_bad_selector(&constraint["labelSelector"]));
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        let skew = number(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            problems.invalid(at.field("maxSkew"), skew, NOT_POSITIVE);
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            problems.required(at.field("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            problems.unsupported(at.field("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let repeated = constraints[index + 1..]
            .iter()
            .any(|other| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action);
        if repeated {
            let pair = format!("{{{key}, {action}}}");
            problems.duplicate(at.field("{topologyKey, whenUnsatisfiable}"), &pair);
        }
        if let Some(domains) = number(constraint, "minDomains") {
            let at = at.field("minDomains");
            if domains <= 0 {
                problems.invalid(at, domains, NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                problems.invalid(at, domains, &why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = given(constraint, key)
                && !matches!(policy.as_str(), Some("Honor" | "Ignore"))
            {
                problems.unsupported(at.field(key), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(problems, &at, constraint);
        if !any_selector {
            names::selector(problems, &at.field("labelSelector"), &constraint["labelSelector"]);
        }
    }
}

fn has_bad_selector(selector: &Value) -> bool {
    let mut problems = Problems::default();
    names::selector(&mut problems, "", selector);
    !problems.is_empty()
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a selector (upstream's `ValidateMatchLabelKeysAndMismatchLabelKeys`).
pub(super) fn label_keys(problems: &mut Problems, at: &Path<'_>, holder: &Value) {
    let selector = given(holder, "labelSelector");
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = at.field(key);
        if list(holder, key).is_empty() {
            continue;
        }
        if selector.is_none() {
            problems.forbidden(at, UNSET);
            continue;
        }
        for (index, name) in texts(holder, key).enumerate() {
            problems.check(at.index(index), name, names::qualified_name);
        }
    }
    if let Some(selector) = selector {
        let mut seen: Vec<&str> = entries(selector, "matchLabels").map(|(key, _)| key.as_str()).collect();
        for expression in list(selector, "matchExpressions") {
            let key = text(expression, "key");
            // The server itself adds one expression per key; a second mention is the client's.
            let position = texts(holder, "matchLabelKeys").position(|name| name == key);
            if let Some(position) = position
                && seen.contains(&key)
            {
                problems.invalid(at.index(position), key, BOTH);
            }
            seen.push(key);
        }
    }
    for (index, name) in texts(holder, "matchLabelKeys").enumerate() {
        if texts(holder, "mismatchLabelKeys").any(|other| other == name) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            problems.invalid(at.field("matchLabelKeys").index(index), name, why);
        }
    }
}
