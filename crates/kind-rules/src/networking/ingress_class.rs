//! `IngressClass`.

use serde_json::Value;

use crate::checks::{columns, count_generation, each, first_generation, path_segment};
use crate::columns::age;
use crate::json::{default, existing, present, text};
use crate::names::{self, domain_prefixed_path};
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// Greatest length of a controller's name in bytes.
const CONTROLLER_MAX: usize = 250;

/// `networking.k8s.io/v1.IngressClass`.
pub const INGRESS_CLASS: KindRules = KindRules {
    defaults: |object| {
        if let Some(parameters) = existing(object, "spec").and_then(|spec| existing(spec, "parameters")) {
            default(parameters, "scope", "Cluster");
        }
    },
    prepare_create: first_generation,
    prepare_update: |object, old| count_generation(object, old, "spec"),
    validate: |problems, object| {
        let (spec, at) = (&object["spec"], Path::new("spec"));
        let controller = text(spec, "controller");
        if controller.len() > CONTROLLER_MAX {
            problems.too_many_bytes(at.field("controller"), CONTROLLER_MAX);
        }
        domain_prefixed_path(problems, at.field("controller"), controller);
        if present(spec, "parameters") {
            parameters(problems, &at.field("parameters"), &spec["parameters"]);
        }
    },
    validate_update: |problems, object, old| {
        let controller = |object: &Value| object["spec"].get("controller").cloned();
        problems.immutable("spec.controller", controller(object).as_ref(), controller(old).as_ref());
    },
    shown_name: |object| {
        crate::rules::name_with_default(object, "ingressclass.kubernetes.io/is-default-class")
    },
    columns: || columns(&["Controller", "Parameters", "Age"]),
    cells: |object, now| {
        let spec = &object["spec"];
        let shown = if present(spec, "parameters") {
            let own = &spec["parameters"];
            let group = own["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", text(own, "kind"), text(own, "name"))
        } else {
            "<none>".to_owned()
        };
        vec![text(spec, "controller").into(), shown.into(), age(object, now)]
    },
    ..KindRules::NEW
};

fn parameters(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    if let Some(group) = own["apiGroup"].as_str() {
        each(problems, at.field("apiGroup"), group, names::dns1123_subdomain(group));
    }
    path_segment(problems, at.field("kind"), text(own, "kind"));
    path_segment(problems, at.field("name"), text(own, "name"));
    let namespace = own["namespace"].as_str();
    match own["scope"].as_str() {
        None => problems.required(at.field("scope"), ""),
        Some("Namespace") => match namespace {
            None => problems.required(at.field("namespace"), "`parameters.scope` is set to 'Namespace'"),
            Some(namespace) => {
                each(problems, at.field("namespace"), namespace, names::dns1123_label(namespace));
            }
        },
        Some("Cluster") => {
            if namespace.is_some() {
                problems.forbidden(at.field("namespace"), "`parameters.scope` is set to 'Cluster'");
            }
        }
        Some(other) => problems.unsupported(at.field("scope"), other, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn bad_classes_are_refused_where_upstream_refuses_them() {
        let with = |parameters: Value| json!({"spec": {"controller": "a.b/c", "parameters": parameters}});
        for (object, wanted) in [
            (json!({"spec": {}}), "spec.controller: Required value"),
            (
                json!({"spec": {"controller": "a"}}),
                "spec.controller: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                with(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                with(json!({"kind": "K", "name": "n", "scope": "Cluster", "namespace": "x"})),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (
                with(json!({"kind": "", "name": "n", "scope": "Cluster"})),
                "spec.parameters.kind: Required value",
            ),
        ] {
            assert_eq!(findings(&INGRESS_CLASS, &object), [wanted]);
        }
        let (old, new) = (json!({"spec": {"controller": "a.b/c"}}), json!({"spec": {"controller": "a.b/d"}}));
        assert_eq!(
            update_findings(&INGRESS_CLASS, &new, &old),
            ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
        );
    }
}
