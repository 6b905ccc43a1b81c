//! `RoleBinding` and `ClusterRoleBinding`.

use api_machinery::names;
use serde_json::Value;

use super::GROUP;
use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{default_text, existing, list, list_mut, text};
use crate::names::NameRule;
use crate::path::Path;
use crate::problems::{Problems, Verbatim, go_form};
use crate::rules::KindRules;

/// `rbac.authorization.k8s.io/v1.RoleBinding`.
pub const ROLE_BINDING: KindRules = KindRules {
    names: NameRule::PathSegment,
    defaults: |object| {
        if let Some(role) = existing(object, "roleRef") {
            default_text(role, "apiGroup", GROUP);
        }
        for subject in list_mut(object, "subjects") {
            if matches!(text(subject, "kind"), "User" | "Group") {
                default_text(subject, "apiGroup", GROUP);
            }
        }
    },
    validate: |problems, object| validate(problems, object, true),
    validate_update: |problems, object, old| {
        if object["roleRef"] != old["roleRef"] {
            let role = &object["roleRef"];
            let none = "\"\"";
            let shown = go_form(
                role,
                &[("apiGroup", "APIGroup", none), ("kind", "Kind", none), ("name", "Name", none)],
            );
            problems.invalid("roleRef", Verbatim(&shown), "cannot change roleRef");
        }
    },
    columns: || columns(&["Role", "Age", "*Users", "*Groups", "*ServiceAccounts"]),
    cells: |object, now| {
        let role = &object["roleRef"];
        vec![
            format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
            age(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    },
    ..KindRules::NEW
};

/// `rbac.authorization.k8s.io/v1.ClusterRoleBinding`.
pub const CLUSTER_ROLE_BINDING: KindRules =
    KindRules { validate: |problems, object| validate(problems, object, false), ..ROLE_BINDING };

fn subjects(object: &Value, kind: &str) -> String {
    let shown = |subject: &Value| match (kind, text(subject, "namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => {
            format!("{namespace}/{}", text(subject, "name"))
        }
        _ => text(subject, "name").to_owned(),
    };
    let of_kind = list(object, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
    of_kind.map(shown).collect::<Vec<_>>().join(", ")
}

fn validate(problems: &mut Problems, object: &Value, namespaced: bool) {
    let (role, at) = (&object["roleRef"], Path::new("roleRef"));
    let group = text(role, "apiGroup");
    if group != GROUP {
        problems.unsupported_of(at.field("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        problems.unsupported_of(at.field("kind"), kind, kinds);
    }
    let name = text(role, "name");
    if name.is_empty() {
        problems.required(at.field("name"), "");
    } else {
        each(problems, at.field("name"), name, names::path_segment(name));
    }
    let at = Path::new("subjects");
    for (index, own) in list(object, "subjects").iter().enumerate() {
        subject(problems, &at.index(index), own, namespaced);
    }
}

fn subject(problems: &mut Problems, at: &Path<'_>, subject: &Value, namespaced: bool) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        problems.required(at.field("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                each(problems, at.field("name"), name, names::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                problems.unsupported_of(at.field("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                problems.required(at.field("namespace"), "");
            }
        }
        "User" | "Group" if group == GROUP => {}
        "User" | "Group" => problems.unsupported_of(at.field("apiGroup"), group, &[GROUP]),
        other => {
            problems.unsupported_of(at.field("kind"), other, &["ServiceAccount", "User", "Group"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn bindings_are_completed_and_shown() {
        let mut binding = json!({"roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        (ROLE_BINDING.defaults)(&mut binding);
        assert_eq!(binding["roleRef"]["apiGroup"], GROUP);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert!(binding["subjects"][1].get("apiGroup").is_none());
        let cells = (ROLE_BINDING.cells)(&binding, Timestamp::UNIX_EPOCH);
        assert_eq!((&cells[0], &cells[4]), (&json!("Role/r"), &json!("n/s")));
        assert!(findings(&ROLE_BINDING, &binding).is_empty());
        assert_eq!(
            findings(&CLUSTER_ROLE_BINDING, &binding),
            ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
        let mut other = binding.clone();
        other["roleRef"]["name"] = "x".into();
        assert_eq!(
            update_findings(&ROLE_BINDING, &other, &binding),
            [
                "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"x\"}: cannot change roleRef"
            ]
        );
    }
}
