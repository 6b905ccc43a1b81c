//! `FlowSchema`.

use api_machinery::names;
use serde_json::Value;

use super::{conditions, mandatory_spec};
use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{existing, integer, list, present, set, text, truth};
use crate::path::Path;
use crate::problems::{Problems, Verbatim, go_form};
use crate::rules::{KindRules, number};
use crate::storage::keep_metadata;

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PRECEDENCE_MAX: i64 = 10_000;

/// `flowcontrol.apiserver.k8s.io/v1.FlowSchema`.
pub const FLOW_SCHEMA: KindRules = KindRules {
    defaults: |object| {
        if let Some(spec) = existing(object, "spec")
            && integer(spec, "matchingPrecedence") == 0
        {
            set(spec, "matchingPrecedence", 1000);
        }
    },
    prepare_status: keep_metadata,
    validate: |problems, object| {
        let name = text(&object["metadata"], "name");
        validate_spec(problems, &object["spec"], name);
        if mandatory_spec("FlowSchema", name).is_some_and(|fixed| *fixed != object["spec"]) {
            let shown = object["spec"].to_string();
            problems.invalid(
                "spec",
                Verbatim(&shown),
                &format!("spec of '{name}' must equal the fixed value"),
            );
        }
        conditions(problems, object);
    },
    validate_status: |problems, object, _| conditions(problems, object),
    columns: || columns(&["PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"]),
    cells: |object, now| {
        let spec = &object["spec"];
        let dangling = |condition: &&Value| text(condition, "type") == "Dangling";
        let missing = list(&object["status"], "conditions").iter().find(dangling);
        vec![
            text(&spec["priorityLevelConfiguration"], "name").into(),
            number(spec, "matchingPrecedence"),
            spec["distinguisherMethod"]["type"].as_str().unwrap_or("<none>").into(),
            age(object, now),
            missing.map_or("?", |condition| text(condition, "status")).into(),
        ]
    },
    ..KindRules::NEW
};

fn validate_spec(problems: &mut Problems, spec: &Value, name: &str) {
    let at = Path::new("spec");
    let precedence = integer(spec, "matchingPrecedence");
    let precedence_at = at.field("matchingPrecedence");
    if precedence <= 0 {
        problems.invalid(precedence_at, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        let detail = format!("must not be greater than {PRECEDENCE_MAX}");
        problems.invalid(precedence_at, precedence, &detail);
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        problems.invalid(precedence_at, precedence, detail);
    }
    if present(spec, "distinguisherMethod") {
        let method = &spec["distinguisherMethod"];
        if !matches!(text(method, "type"), "ByUser" | "ByNamespace") {
            let at = at.field("distinguisherMethod");
            let shown = go_form(method, &[("type", "Type", "\"\"")]);
            problems.unsupported(at.field("type"), Verbatim(&shown), &["ByNamespace", "ByUser"]);
        }
    }
    let level = text(&spec["priorityLevelConfiguration"], "name");
    let level_at = at.field("priorityLevelConfiguration");
    if level.is_empty() {
        problems.required(level_at.field("name"), "must reference a priority level");
    } else {
        each(problems, level_at.field("name"), level, names::dns1123_subdomain(level));
    }
    for (index, own) in list(spec, "rules").iter().enumerate() {
        let rules = at.field("rules");
        rule(problems, &rules.index(index), own);
    }
}

fn rule(problems: &mut Problems, at: &Path<'_>, rule: &Value) {
    let subjects = list(rule, "subjects");
    if subjects.is_empty() {
        problems.required(at.field("subjects"), "subjects must contain at least one value");
    }
    for (index, own) in subjects.iter().enumerate() {
        subject(problems, &at.field("subjects").index(index), own);
    }
    let (resources, paths) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        problems.required(at, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (index, own) in resources.iter().enumerate() {
        resource_rule(problems, &at.field("resourceRules").index(index), own);
    }
    for (index, own) in paths.iter().enumerate() {
        path_rule(problems, &at.field("nonResourceRules").index(index), own);
    }
}

fn subject(problems: &mut Problems, at: &Path<'_>, subject: &Value) {
    let kinds = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, own_key)) = kinds.iter().find(|(name, _)| *name == kind) else {
        return problems.unsupported(at.field("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let (own, own_at) = (&subject[*own_key], at.field(own_key));
    if present(subject, own_key) {
        named(problems, &own_at, own, kind == "ServiceAccount");
    } else {
        problems.required(own_at, &format!("{own_key} is required when subject kind is '{kind}'"));
    }
    for (other, key) in kinds.iter().filter(|(name, _)| *name != kind) {
        if present(subject, key) {
            let detail = format!("{key} is forbidden when subject kind is not '{other}'");
            problems.forbidden(at.field(key), &detail);
        }
    }
}

fn named(problems: &mut Problems, at: &Path<'_>, own: &Value, service_account: bool) {
    let name = text(own, "name");
    if name.is_empty() {
        problems.required(at.field("name"), "");
    } else if service_account && name != "*" {
        each(problems, at.field("name"), name, names::dns1123_subdomain(name));
    }
    if service_account {
        let namespace = text(own, "namespace");
        if namespace.is_empty() {
            problems.required(at.field("namespace"), "must specify namespace for service account");
        } else {
            each(problems, at.field("namespace"), namespace, names::dns1123_label(namespace));
        }
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|item| item == "*")
}

fn verbs(problems: &mut Problems, at: &Path<'_>, rule: &Value) {
    let verbs = list(rule, "verbs");
    let at = at.field("verbs");
    if verbs.is_empty() {
        problems.required(at, "verbs must contain at least one value");
    } else if has_wildcard(verbs) {
        if verbs.len() > 1 {
            problems.invalid(at, &rule["verbs"], "if '*' is present, must not specify other verbs");
        }
    } else if verbs.iter().any(|verb| !VERBS.iter().any(|known| verb == known)) {
        problems.unsupported(at, &rule["verbs"], &VERBS);
    }
}

fn path_rule(problems: &mut Problems, at: &Path<'_>, rule: &Value) {
    verbs(problems, at, rule);
    let paths = list(rule, "nonResourceURLs");
    let at = at.field("nonResourceURLs");
    if paths.is_empty() {
        problems.required(at, "nonResourceURLs must contain at least one value");
    } else if has_wildcard(paths) {
        if paths.len() > 1 {
            let detail = "if '*' is present, must not specify other non-resource URLs";
            problems.invalid(at, &rule["nonResourceURLs"], detail);
        }
    } else {
        for (index, path) in paths.iter().enumerate() {
            let path = path.as_str().unwrap_or_default();
            if let Some(why) = path_problem(path) {
                problems.invalid(at.index(index), path, why);
            }
        }
    }
}

fn path_problem(path: &str) -> Option<&'static str> {
    let wildcards = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if wildcards > 1 || (wildcards == 1 && !path.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn resource_rule(problems: &mut Problems, at: &Path<'_>, rule: &Value) {
    verbs(problems, at, rule);
    for (key, required, detail) in [
        (
            "apiGroups",
            "resource rules must supply at least one api group",
            "if '*' is present, must not specify other api groups",
        ),
        (
            "resources",
            "resource rules must supply at least one resource",
            "if '*' is present, must not specify other resources",
        ),
    ] {
        let own = list(rule, key);
        if own.is_empty() {
            problems.required(at.field(key), required);
        } else if own.len() > 1 && has_wildcard(own) {
            problems.invalid(at.field(key), &rule[key], detail);
        }
    }
    let namespaces = list(rule, "namespaces");
    let at = at.field("namespaces");
    if namespaces.is_empty() && !truth(rule, "clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        problems.required(at, detail);
    } else if has_wildcard(namespaces) {
        if namespaces.len() > 1 {
            let detail = "if '*' is present, must not specify other namespaces";
            problems.invalid(at, &rule["namespaces"], detail);
        }
    } else {
        for (index, own) in namespaces.iter().enumerate() {
            let own = own.as_str().unwrap_or_default();
            for why in names::dns1123_label(own) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                problems.invalid(at.index(index), own, &detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    fn schema() -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 9, "priorityLevelConfiguration": {"name": "p"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "u"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/a/*"]}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}]}]}})
    }

    #[test]
    fn bad_schemas_are_refused_where_upstream_refuses_them() {
        assert!(findings(&FLOW_SCHEMA, &schema()).is_empty());
        for (pointer, value, wanted) in [
            (
                "/spec/matchingPrecedence",
                json!(0),
                "spec.matchingPrecedence: Invalid value: 0: must be a positive value",
            ),
            (
                "/spec/matchingPrecedence",
                json!(1),
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            (
                "/spec/priorityLevelConfiguration/name",
                json!(""),
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ),
            (
                "/spec/rules/0/subjects/0/kind",
                json!("X"),
                "spec.rules[0].subjects[0].kind: Unsupported value: \"X\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
            ),
            (
                "/spec/rules/0/subjects/0",
                json!({"kind": "Group"}),
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
            ),
            (
                "/spec/rules/0/nonResourceRules/0/nonResourceURLs/0",
                json!("a"),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
            ),
            (
                "/spec/rules/0/resourceRules/0/verbs",
                json!(["get", "*"]),
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify other verbs",
            ),
            (
                "/spec/rules/0/resourceRules/0/namespaces",
                json!([]),
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ),
        ] {
            let mut object = schema();
            *object.pointer_mut(pointer).unwrap() = value;
            assert_eq!(findings(&FLOW_SCHEMA, &object), [wanted]);
        }
    }
}
