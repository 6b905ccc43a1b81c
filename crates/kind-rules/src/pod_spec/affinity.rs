//! Affinity to nodes and pods.

use serde_json::Value;

use super::spread::label_keys;
use super::validation::Scope;
use crate::json::{given, integer, list, text, texts};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `affinity`.
pub(super) fn validate(problems: &mut Problems, at: &Path<'_>, affinity: &Value, scope: Scope<'_>) {
    if !affinity.is_object() {
        return;
    }
    let old = scope.old.map_or(&Value::Null, |old| &old["affinity"]);
    if let Some(nodes) = given(affinity, "nodeAffinity") {
        let at = at.field("nodeAffinity");
        if let Some(selector) = given(nodes, REQUIRED) {
            let tolerated = has_bad_required_value(&old["nodeAffinity"][REQUIRED]);
            node_selector(problems, &at.field(REQUIRED), selector, tolerated);
        }
        let at = at.field(PREFERRED);
        for (index, term) in list(nodes, PREFERRED).iter().enumerate() {
            let at = at.index(index);
            weight(problems, &at, term);
            // A preference with a value that no label has is harmless: never refused upstream.
            node_selector_term(problems, &at.field("preference"), &term["preference"], true);
        }
    }
    let any_value = ["podAffinity", "podAntiAffinity"].iter().any(|key| has_bad_pod_selector(&old[key]));
    for key in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = given(affinity, key) {
            pod_terms(problems, &at.field(key), pods, any_value);
        }
    }
}

fn weight(problems: &mut Problems, at: &Path<'_>, term: &Value) {
    let weight = integer(term, "weight");
    if !(1..=100).contains(&weight) {
        problems.invalid(at.field("weight"), weight, "must be in the range 1-100");
    }
}

fn pod_terms(problems: &mut Problems, at: &Path<'_>, pods: &Value, any_value: bool) {
    let required = at.field(REQUIRED);
    for (index, term) in list(pods, REQUIRED).iter().enumerate() {
        pod_term(problems, &required.index(index), term, any_value);
    }
    let preferred = at.field(PREFERRED);
    for (index, term) in list(pods, PREFERRED).iter().enumerate() {
        let at = preferred.index(index);
        weight(problems, &at, term);
        pod_term(problems, &at.field("podAffinityTerm"), &term["podAffinityTerm"], any_value);
    }
}

fn pod_term(problems: &mut Problems, at: &Path<'_>, term: &Value, any_value: bool) {
    for key in ["labelSelector", "namespaceSelector"] {
        names::selector_with(problems, &at.field(key), &term[key], any_value);
    }
    for name in texts(term, "namespaces") {
        // Upstream's own spelling of the field.
        problems.check(at.field("namespace"), name, names::dns1123_label);
    }
    label_keys(problems, at, term);
    let topology = text(term, "topologyKey");
    if topology.is_empty() {
        problems.required(at.field("topologyKey"), "can not be empty");
    }
    problems.check(at.field("topologyKey"), topology, names::qualified_name);
}

fn has_bad_pod_selector(pods: &Value) -> bool {
    let bad = |term: &Value| {
        ["labelSelector", "namespaceSelector"].iter().any(|key| names::has_bad_selector_value(&term[key]))
    };
    list(pods, REQUIRED).iter().any(bad)
        || list(pods, PREFERRED).iter().any(|term| bad(&term["podAffinityTerm"]))
}

/// Whether a node selector has a label value that no label could have.
#[must_use]
pub fn has_bad_required_value(selector: &Value) -> bool {
    list(selector, "nodeSelectorTerms").iter().any(names::has_bad_selector_value)
}

/// A `NodeSelector` (also of volumes); `any_value`: values are not looked at.
pub fn node_selector(problems: &mut Problems, at: &Path<'_>, selector: &Value, any_value: bool) {
    let at = at.field("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        return problems.required(at, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_selector_term(problems, &at.index(index), term, any_value);
    }
}

/// One of its terms.
pub fn node_selector_term(problems: &mut Problems, at: &Path<'_>, term: &Value, any_value: bool) {
    let expressions = at.field("matchExpressions");
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        node_requirement(problems, &expressions.index(index), requirement, any_value);
    }
    let fields = at.field("matchFields");
    for (index, requirement) in list(term, "matchFields").iter().enumerate() {
        field_requirement(problems, &fields.index(index), requirement);
    }
}

fn node_requirement(problems: &mut Problems, at: &Path<'_>, requirement: &Value, any_value: bool) {
    let values = list(requirement, "values");
    let operator = text(requirement, "operator");
    let field = at.field("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            problems.required(field, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            problems.forbidden(field, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            problems.required(field, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => problems.invalid(at.field("operator"), operator, "not a valid selector operator"),
    }
    problems.check(at.field("key"), text(requirement, "key"), names::qualified_name);
    if !any_value {
        for (index, value) in texts(requirement, "values").enumerate() {
            problems.check(field.index(index), value, names::label_value);
        }
    }
}

fn field_requirement(problems: &mut Problems, at: &Path<'_>, requirement: &Value) {
    let operator = text(requirement, "operator");
    match operator {
        "In" | "NotIn" if list(requirement, "values").len() != 1 => problems.required(
            at.field("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        _ => problems.invalid(at.field("operator"), operator, "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    if key == "metadata.name" {
        for (index, value) in texts(requirement, "values").enumerate() {
            problems.check(at.field("values").index(index), value, names::dns1123_subdomain);
        }
    } else {
        problems.invalid(at.field("key"), key, "not a valid field selector key");
    }
}
