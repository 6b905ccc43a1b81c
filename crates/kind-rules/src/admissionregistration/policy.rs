//! What both kinds of policies share.

use serde_json::Value;

use super::matching::{self, FAILURE_POLICIES};
use crate::json::{list, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// Failure policy, parameter kind and constraints.
pub(super) fn head(problems: &mut Problems, at: &Path<'_>, spec: &Value, mutating: bool) {
    match spec["failurePolicy"].as_str() {
        None => problems.required(at.field("failurePolicy"), ""),
        Some(policy) if FAILURE_POLICIES.contains(&policy) => {}
        Some(other) => problems.unsupported(at.field("failurePolicy"), other, &FAILURE_POLICIES),
    }
    if present(spec, "paramKind") {
        param_kind(problems, &at.field("paramKind"), &spec["paramKind"]);
    }
    let constraints_at = at.field("matchConstraints");
    if !present(spec, "matchConstraints") {
        return problems.required(constraints_at, "");
    }
    let constraints = &spec["matchConstraints"];
    matching::resources(problems, &constraints_at, constraints);
    if list(constraints, "resourceRules").is_empty() {
        problems.required(constraints_at.field("resourceRules"), "");
    }
    if mutating {
        matching::mutating_operations(problems, &constraints_at, constraints);
    }
}

/// Match conditions, which are looked at again only when they or what they can name changed.
pub(super) fn conditions(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let unchanged = old.is_some_and(|old| {
        ["paramKind", "matchConditions"].iter().all(|key| old["spec"].get(*key) == spec.get(*key))
    });
    if !unchanged {
        matching::conditions(problems, &at.field("matchConditions"), list(spec, "matchConditions"));
    }
}

/// Variables, but for whether their expressions compile.
pub(super) fn variables(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        let all = at.field("variables");
        let here = all.index(index);
        let name = text(variable, "name");
        if name.trim().is_empty() {
            problems.required(here.field("name"), "name is not specified");
        } else if !api_machinery::names::is_cel_identifier(name) {
            problems.invalid(here.field("name"), name, "must be a valid CEL identifier");
        }
        if text(variable, "expression").trim().is_empty() {
            problems.required(here.field("expression"), "expression is not specified");
        }
    }
}

fn param_kind(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let (version_at, api) = (at.field("apiVersion"), text(own, "apiVersion"));
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    if api.is_empty() {
        problems.required(version_at, "");
    } else if version.contains('/') {
        problems.invalid(version_at, api, &format!("unexpected GroupVersion string: {api}"));
    } else {
        joined(
            problems,
            &version_at,
            group,
            if group.is_empty() { Vec::new() } else { names::dns1123_subdomain(group) },
        );
        if version.is_empty() {
            problems.invalid(version_at, api, "version must be specified");
        } else {
            joined(problems, &version_at, version, names::dns1035_label(version));
        }
    }
    let kind = text(own, "kind");
    if kind.is_empty() {
        return problems.required(at.field("kind"), "");
    }
    let why = names::dns1035_label(&kind.to_lowercase());
    if !why.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", why.join(","));
        problems.invalid(at.field("kind"), kind, &detail);
    }
}

fn joined(problems: &mut Problems, at: &Path<'_>, value: &str, why: Vec<String>) {
    if !why.is_empty() {
        problems.invalid(at, value, &why.join(","));
    }
}

/// The cell that names the kind of parameters.
pub(super) fn param_kind_cell(object: &Value) -> Value {
    let own = &object["spec"]["paramKind"];
    if own.is_object() {
        format!("{}/{}", text(own, "apiVersion"), text(own, "kind")).into()
    } else {
        "<unset>".into()
    }
}
