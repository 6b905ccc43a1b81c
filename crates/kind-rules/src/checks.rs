//! Checks that kinds of several groups share, with upstream's findings.

use std::fmt::Display;

use api_machinery::names as rules;
use serde_json::Value;

use crate::json::text;
use crate::path::Path;
use crate::problems::{Problems, quoted};

/// One finding for each explanation of why `value` will not do.
pub fn each(problems: &mut Problems, field: impl Display, value: &str, explanations: Vec<String>) {
    for explanation in explanations {
        problems.invalid(&field, value, &explanation);
    }
}

/// A label selector; `lenient`: values may be anything (an older version held such ones).
pub fn selector(problems: &mut Problems, at: &Path<'_>, selector: &Value, lenient: bool) {
    crate::names::selector_with(problems, at, selector, lenient);
}

/// Labels in the map `key` of `object`; findings name the whole map.
pub fn labels(problems: &mut Problems, field: impl Display, object: &Value, key: &str) {
    crate::names::labels(problems, &field, object, key);
}

/// A port number.
pub fn port_number(problems: &mut Problems, field: impl Display, port: i64) {
    problems.in_range(field, port, 1, 65_535);
}

/// What is said of a node label that has a successor; `None` for one in good standing.
#[must_use]
pub fn deprecated_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Whether a label selector has nothing wrong with it.
#[must_use]
pub fn selector_is_sound(selector_value: &Value) -> bool {
    let mut problems = Problems::default();
    selector(&mut problems, &Path::new("selector"), selector_value, false);
    problems.is_empty()
}

/// A text that must be one segment of a path; required.
pub fn path_segment(problems: &mut Problems, field: impl Display, value: &str) {
    if value.is_empty() {
        problems.required(field, "");
    } else {
        each(problems, field, value, rules::path_segment(value));
    }
}

/// A host name with a domain; may end in a dot (upstream's `IsFullyQualifiedDomainName`).
pub fn fully_qualified_domain_name(problems: &mut Problems, field: impl Display, name: &str) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let why = rules::dns1123_subdomain(name);
    if !why.is_empty() {
        return problems.invalid(field, name, &why.join(","));
    }
    if name.split('.').count() < 2 {
        return problems.invalid(
            field,
            name,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for label in name.split('.') {
        let why = rules::dns1123_label(label);
        if !why.is_empty() {
            return problems.invalid(field, label, &why.join(","));
        }
    }
}

/// The name of a certificate signer, `example.com/name`.
pub fn signer_name(problems: &mut Problems, field: impl Display, name: &str) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    let (domain, path) = match name.split('/').collect::<Vec<_>>()[..] {
        [domain, path] => (domain, path),
        _ => {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return problems.invalid(field, name, detail);
        }
    };
    if domain.len() > rules::SUBDOMAIN_MAX {
        problems.too_many_bytes(&field, rules::SUBDOMAIN_MAX);
    }
    if let Some((label, why)) = first_bad(domain, rules::dns1123_label) {
        for why in why {
            problems.invalid(&field, domain, &format!("validating label {}: {why}", quoted(label)));
        }
    }
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        problems.invalid(&field, domain, detail);
    }
    if let Some((label, why)) = first_bad(path, rules::dns1123_subdomain) {
        for why in why {
            problems.invalid(&field, path, &format!("validating label {}: {why}", quoted(label)));
        }
    }
    // Room for a resource's full name: a label, a dot and a subdomain.
    let most = 2 * rules::SUBDOMAIN_MAX + rules::LABEL_MAX + 2;
    if name.len() > most {
        problems.too_many_bytes(field, most);
    }
}

fn first_bad(dotted: &str, rule: fn(&str) -> Vec<String>) -> Option<(&str, Vec<String>)> {
    dotted.split('.').map(|label| (label, rule(label))).find(|(_, why)| !why.is_empty())
}

/// Tolerations.
pub fn tolerations(problems: &mut Problems, at: &Path<'_>, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let here = at.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if key.is_empty() {
            if operator != "Exists" {
                let detail = "operator must be Exists when `key` is empty, which means \"match all values and all \
                              keys\"";
                problems.invalid(here.field("operator"), operator, detail);
            }
        } else {
            each(problems, here.field("key"), key, rules::qualified_name(key));
        }
        if crate::json::present(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            problems.invalid(here.field("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let why = rules::label_value(value);
                if !why.is_empty() {
                    problems.invalid(here.field("operator"), value, &why.join(";"));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => problems.invalid(
                here.field("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            ),
            other => {
                let known: &[&str] = if matches!(other, "Lt" | "Gt") {
                    &["Equal", "Exists", "Lt", "Gt"]
                } else {
                    &["Equal", "Exists"]
                };
                problems.unsupported_of(here.field("operator"), other, known);
            }
        }
        if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            problems.unsupported_of(here.field("effect"), effect, &known);
        }
    }
}

/// Sets `metadata.generation` to 1: for kinds without a status, whose generation the engine does not count.
pub fn first_generation(object: &mut Value) {
    if let Some(metadata) = crate::json::existing(object, "metadata") {
        crate::json::set(metadata, "generation", 1);
    }
}

/// Counts a change of `key` in `metadata.generation`.
pub fn count_generation(object: &mut Value, old: &Value, key: &str) {
    if object.get(key) == old.get(key) {
        return;
    }
    let next = crate::json::integer(&old["metadata"], "generation") + 1;
    if let Some(metadata) = crate::json::existing(object, "metadata") {
        crate::json::set(metadata, "generation", next);
    }
}

/// Columns by their heads after the name: `*Head` is shown in wide output only, `Head:integer` has another type.
#[must_use]
pub fn columns(heads: &[&str]) -> Vec<crate::columns::Column> {
    use crate::columns::Column;
    let mut all = vec![Column::object_name()];
    all.extend(heads.iter().map(|head| {
        let (head, kind) = head.split_once(':').unwrap_or((head, "string"));
        match head.strip_prefix('*') {
            Some(head) => Column::wide(head).of(kind),
            None => Column::new(head).of(kind),
        }
    }));
    all
}

/// Up to three of many, and how many more there are.
#[must_use]
pub fn at_most_three(all: &[String]) -> String {
    match all.len() {
        0 => "<unset>".to_owned(),
        1..=3 => all.join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    }
}
