//! `ValidatingAdmissionPolicyBinding` and `MutatingAdmissionPolicyBinding`.

use serde_json::Value;

use super::{COUNTED, matching};
use crate::checks::{columns, each, selector};
use crate::columns::age;
use crate::json::{existing, list, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

/// `admissionregistration.k8s.io/v1.MutatingAdmissionPolicyBinding`.
pub const MUTATING_ADMISSION_POLICY_BINDING: KindRules = KindRules {
    defaults: |object| {
        if let Some(spec) = existing(object, "spec") {
            matching::default_resources(spec, "matchResources");
        }
    },
    validate: |problems, object| {
        validate(problems, &object["spec"]);
        let at = Path::new("spec.matchResources");
        matching::mutating_operations(problems, &at, &object["spec"]["matchResources"]);
    },
    columns: || columns(&["PolicyName", "ParamRef", "Age"]),
    cells: |object, now| {
        vec![text(&object["spec"], "policyName").into(), param_cell(object), age(object, now)]
    },
    ..COUNTED
};

/// `admissionregistration.k8s.io/v1.ValidatingAdmissionPolicyBinding`.
pub const VALIDATING_ADMISSION_POLICY_BINDING: KindRules = KindRules {
    validate: |problems, object| {
        validate(problems, &object["spec"]);
        actions(problems, &object["spec"]);
    },
    ..MUTATING_ADMISSION_POLICY_BINDING
};

fn param_cell(object: &Value) -> Value {
    let own = &object["spec"]["paramRef"];
    let (name, namespace) = (text(own, "name"), text(own, "namespace"));
    if !name.is_empty() {
        let namespace = if namespace.is_empty() { "*" } else { namespace };
        return format!("{namespace}/{name}").into();
    }
    if present(own, "selector") {
        return names::selector_text(&own["selector"]).into();
    }
    "<unset>".into()
}

fn validate(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec");
    let policy = text(spec, "policyName");
    if policy.is_empty() {
        problems.required(at.field("policyName"), "");
    } else {
        each(problems, at.field("policyName"), policy, names::dns1123_subdomain(policy));
    }
    if present(spec, "paramRef") {
        param_ref(problems, &at.field("paramRef"), &spec["paramRef"]);
    }
    if present(spec, "matchResources") {
        matching::resources(problems, &at.field("matchResources"), &spec["matchResources"]);
    }
}

fn param_ref(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let (name, selects) = (text(own, "name"), present(own, "selector"));
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        each(problems, at.field("name"), name, names::path_segment(name));
        if selects {
            problems.forbidden(at.field("name"), exclusive);
        }
    }
    if selects {
        selector(problems, &at.field("selector"), &own["selector"], false);
        if !name.is_empty() {
            problems.forbidden(at.field("selector"), exclusive);
        }
    }
    if name.is_empty() && !selects {
        problems.required(at, "one of name or selector must be specified");
    }
    match text(own, "parameterNotFoundAction") {
        "" => problems.required(at.field("parameterNotFoundAction"), ""),
        "Deny" | "Allow" => {}
        other => problems.unsupported_of(at.field("parameterNotFoundAction"), other, &["Deny", "Allow"]),
    }
}

fn actions(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec.validationActions");
    let all = list(spec, "validationActions");
    for (index, action) in all.iter().enumerate() {
        if !ACTIONS.iter().any(|known| action == known) {
            problems.unsupported(at.index(index), action, &ACTIONS);
        }
        if all[..index].contains(action) {
            problems.duplicate(at.index(index), action);
        }
    }
    if all.iter().any(|action| action == "Deny") && all.iter().any(|action| action == "Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        problems.invalid(at, &spec["validationActions"], detail);
    }
    if all.is_empty() {
        problems.required(at, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_bindings_are_refused_where_upstream_refuses_them() {
        let of = |key: &str, value: Value| {
            let mut object = json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}});
            object["spec"][key] = value;
            findings(&VALIDATING_ADMISSION_POLICY_BINDING, &object)
        };
        for (key, value, wanted) in [
            ("policyName", json!(""), "spec.policyName: Required value"),
            (
                "validationActions",
                json!([]),
                "spec.validationActions: Required value: at least one validation action is required",
            ),
            (
                "validationActions",
                json!(["x"]),
                "spec.validationActions[0]: Unsupported value: \"x\": supported values: \"Audit\", \"Deny\", \"Warn\"",
            ),
            (
                "paramRef",
                json!({"parameterNotFoundAction": "Deny"}),
                "spec.paramRef: Required value: one of name or selector must be specified",
            ),
            ("paramRef", json!({"name": "n"}), "spec.paramRef.parameterNotFoundAction: Required value"),
        ] {
            assert_eq!(of(key, value), [wanted]);
        }
    }
}
