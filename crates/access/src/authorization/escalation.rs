//! Nobody may grant what they do not hold (upstream `pkg/registry/rbac/validation`).

use std::collections::{BTreeMap, BTreeSet};

use kube_objects::UserInfo;

use super::rule::{PolicyRule, quoted};

/// What of `wanted` the rules `held` do not cover, broken down; `None` when they cover it all. Broken down that far, a
/// part is covered by one rule or by none.
pub(super) fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> Option<Vec<PolicyRule>> {
    let uncovered: Vec<PolicyRule> = wanted
        .iter()
        .flat_map(PolicyRule::broken_down)
        .filter(|part| !held.iter().any(|rule| rule.covers(part)))
        .collect();
    (!uncovered.is_empty()).then_some(uncovered)
}

/// The text of the refusal.
pub(super) fn message(user: &UserInfo, missing: &[PolicyRule], errors: &[String]) -> String {
    let lines: Vec<String> =
        compacted(missing).iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect();
    let mut message = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.username,
        quoted(&user.groups),
        lines.join("\n")
    );
    if !errors.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
    }
    message
}

/// Joins the verbs of parts that differ in nothing else.
fn compacted(parts: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut whole = Vec::new();
    let mut simple: BTreeMap<(&str, &str, Option<&str>), PolicyRule> = BTreeMap::new();
    for part in parts {
        match (part.api_groups.as_slice(), part.resources.as_slice(), part.resource_names.as_slice()) {
            ([group], [resource], names) if names.len() < 2 => {
                let key = (group.as_str(), resource.as_str(), names.first().map(String::as_str));
                let rule = simple.entry(key).or_insert_with(|| PolicyRule { verbs: vec![], ..part.clone() });
                rule.verbs.extend(part.verbs.iter().cloned());
            }
            _ => whole.push(part.clone()),
        }
    }
    whole.extend(simple.into_values());
    whole
}
