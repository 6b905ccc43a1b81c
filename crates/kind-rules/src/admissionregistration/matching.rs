//! Which requests a webhook or policy is asked about.

use std::fmt::Display;

use serde_json::Value;

use crate::checks::{each, selector};
use crate::json::{default, existing, list, list_mut, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// A deletion has nothing to mutate.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const CONDITIONS_MAX: usize = 64;

/// Fills in `MatchResources`.
pub(super) fn default_resources(holder: &mut Value, key: &str) {
    let Some(resources) = existing(holder, key) else { return };
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", serde_json::json!({}));
    default(resources, "objectSelector", serde_json::json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        list_mut(resources, rules).iter_mut().for_each(|rule| default(rule, "scope", "*"));
    }
}

/// `MatchResources`.
pub(super) fn resources(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    match own["matchPolicy"].as_str() {
        None => problems.required(at.field("matchPolicy"), ""),
        Some(policy) if MATCH_POLICIES.contains(&policy) => {}
        Some(other) => problems.unsupported(at.field("matchPolicy"), other, &MATCH_POLICIES),
    }
    for key in ["namespaceSelector", "objectSelector"] {
        if present(own, key) {
            selector(problems, &at.field(key), &own[key], false);
        } else {
            problems.required(at.field(key), "");
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in list(own, key).iter().enumerate() {
            let rules = at.field(key);
            named_rule(problems, &rules.index(index), rule);
        }
    }
}

/// The operations of resource rules that mutate.
pub(super) fn mutating_operations(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let at = at.field("resourceRules");
    for rule in list(own, "resourceRules") {
        for operation in list(rule, "operations") {
            if !MUTATING_OPERATIONS.iter().any(|known| operation == known) {
                problems.unsupported(at.field("operations"), operation, &MUTATING_OPERATIONS);
            }
        }
    }
}

fn named_rule(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let all = list(own, "resourceNames");
    for (index, name) in all.iter().enumerate() {
        let names_at = at.field("resourceNames");
        let name_text = name.as_str().unwrap_or_default();
        each(problems, names_at.index(index), name_text, names::path_segment(name_text));
        if all[..index].contains(name) {
            problems.duplicate(names_at.index(index), name);
        }
    }
    rule(problems, at, own);
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|item| item == "*")
}

/// A rule with operations.
pub(super) fn rule(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let operations = list(own, "operations");
    one_wildcard(problems, at, own, "operations", "if '*' is present, must not specify other operations");
    for (index, operation) in operations.iter().enumerate() {
        if !OPERATIONS.iter().any(|known| operation == known) {
            problems.unsupported(at.field("operations").index(index), operation, &OPERATIONS);
        }
    }
    one_wildcard(problems, at, own, "apiGroups", "if '*' is present, must not specify other API groups");
    one_wildcard(problems, at, own, "apiVersions", "if '*' is present, must not specify other API versions");
    for (index, version) in list(own, "apiVersions").iter().enumerate() {
        if version == "" {
            problems.required(at.field("apiVersions").index(index), "");
        }
    }
    resource_patterns(problems, &at.field("resources"), own);
    if let Some(scope) = own["scope"].as_str().filter(|scope| !SCOPES.contains(scope)) {
        problems.unsupported(at.field("scope"), scope, &SCOPES);
    }
}

fn one_wildcard(problems: &mut Problems, at: &Path<'_>, own: &Value, key: &str, detail: &str) {
    let all = list(own, key);
    if all.is_empty() {
        problems.required(at.field(key), "");
    }
    if all.len() > 1 && has_wildcard(all) {
        problems.invalid(at.field(key), &own[key], detail);
    }
}

fn resource_patterns(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let all = list(own, "resources");
    if all.is_empty() {
        problems.required(at, "");
    }
    let (mut any_subresource_of, mut subresources_of_any) = (Vec::new(), Vec::new());
    let mut whole_resource = false;
    for (index, pattern) in all.iter().enumerate() {
        let pattern = pattern.as_str().unwrap_or_default();
        if pattern.is_empty() {
            problems.required(at.index(index), "");
            continue;
        }
        let Some((resource, subresource)) = pattern.split_once('/') else {
            // The last one counts, as upstream has it.
            whole_resource = pattern != "*";
            continue;
        };
        if any_subresource_of.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {pattern}");
            problems.invalid(at.index(index), pattern, &detail);
        }
        if subresources_of_any.contains(&subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {pattern}");
            problems.invalid(at.index(index), pattern, &detail);
        }
        if subresource == "*" {
            any_subresource_of.push(resource);
        }
        if resource == "*" {
            subresources_of_any.push(subresource);
        }
    }
    if all.len() > 1 && all.iter().any(|pattern| pattern == "*/*") {
        problems.invalid(at, &own["resources"], "if '*/*' is present, must not specify other resources");
    }
    if has_wildcard(all) && whole_resource {
        let detail = "if '*' is present, must not specify other resources without subresources";
        problems.invalid(at, &own["resources"], detail);
    }
}

/// Match conditions, but for whether their expressions compile.
pub(super) fn conditions(problems: &mut Problems, at: &Path<'_>, all: &[Value]) {
    if all.len() > CONDITIONS_MAX {
        problems.too_many(at, all.len(), CONDITIONS_MAX);
    }
    for (index, own) in all.iter().enumerate() {
        let here = at.index(index);
        if text(own, "expression").trim().is_empty() {
            problems.required(here.field("expression"), "");
        }
        let name = text(own, "name");
        if name.is_empty() {
            problems.required(here.field("name"), "");
            continue;
        }
        each(problems, here.field("name"), name, names::qualified_name(name));
        if all[..index].iter().any(|earlier| text(earlier, "name") == name) {
            problems.duplicate(here.field("name"), name);
        }
    }
}

/// A field that must be one of a few when it is there.
pub(super) fn one_of(problems: &mut Problems, field: impl Display, value: Option<&Value>, known: &[&str]) {
    if let Some(other) = value.and_then(Value::as_str).filter(|value| !known.contains(value)) {
        problems.unsupported(field, other, known);
    }
}
