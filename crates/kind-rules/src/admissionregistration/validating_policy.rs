//! `ValidatingAdmissionPolicy`.

use serde_json::Value;

use super::{matching, policy, static_suffix_warning};
use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{default, existing, list, text};
use crate::meta::conditions;
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;
use crate::storage::keep_metadata;

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ANNOTATIONS_MAX: usize = 20;
/// Greatest length of an audit annotation's expression in bytes: what it makes is usually longer.
const ANNOTATION_EXPRESSION_MAX: usize = 5 * 1024;

/// `admissionregistration.k8s.io/v1.ValidatingAdmissionPolicy`.
pub const VALIDATING_ADMISSION_POLICY: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default(spec, "failurePolicy", "Fail");
        matching::default_resources(spec, "matchConstraints");
    },
    prepare_status: keep_metadata,
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    validate_status: |problems, object, _| {
        let (status, at) = (&object["status"], Path::new("status"));
        let warnings = Path::new("status.typeChecking.expressionWarnings");
        for (index, warning) in list(&status["typeChecking"], "expressionWarnings").iter().enumerate() {
            let here = warnings.index(index);
            if text(warning, "warning").is_empty() {
                problems.required(here.field("warning"), "");
            }
            if text(warning, "fieldRef").trim().is_empty() {
                problems.required(here.field("fieldRef"), "");
            }
        }
        conditions(problems, &at.field("conditions"), list(status, "conditions"));
    },
    warnings: static_suffix_warning,
    unconditional_update: false,
    columns: || columns(&["Validations:integer", "ParamKind", "Age"]),
    cells: |object, now| {
        let validations = list(&object["spec"], "validations").len();
        vec![validations.into(), policy::param_kind_cell(object), age(object, now)]
    },
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    policy::head(problems, &at, spec, false);
    policy::conditions(problems, &at, spec, old);
    policy::variables(problems, &at, spec);
    let (validations, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        problems.required(at.field("validations"), detail);
        return problems.required(at.field("auditAnnotations"), detail);
    }
    for (index, own) in validations.iter().enumerate() {
        let all = at.field("validations");
        validation(problems, &all.index(index), own);
    }
    let annotations_at = at.field("auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        problems.invalid(annotations_at, &spec["auditAnnotations"], &detail);
    }
    let name = text(&object["metadata"], "name");
    for (index, own) in annotations.iter().enumerate() {
        let here = annotations_at.index(index);
        let key = text(own, "key");
        audit_annotation(problems, &here, own, name);
        if annotations[..index].iter().any(|earlier| text(earlier, "key") == key) {
            problems.duplicate(here.field("key"), key);
        }
    }
}

fn validation(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    if text(own, "expression").trim().is_empty() {
        problems.required(at.field("expression"), "expression is not specified");
    }
    for key in ["messageExpression", "message"] {
        let given = text(own, key);
        if !given.is_empty() && given.trim().is_empty() {
            problems.invalid(at.field(key), given, "must be non-empty if specified");
        } else if key == "message" && given.trim().contains(['\n', '\r']) {
            problems.invalid(at.field(key), given, "must not contain line breaks");
        }
    }
    matching::one_of(problems, at.field("reason"), own.get("reason"), &REASONS);
}

fn audit_annotation(problems: &mut Problems, at: &Path<'_>, own: &Value, policy: &str) {
    let key = text(own, "key");
    if policy.is_empty() {
        problems.invalid(at.field("key"), key, "requires metadata.name be non-empty");
    } else {
        let full = format!("{policy}/{key}");
        each(problems, at.field("key"), &full, names::qualified_name(&full));
    }
    let expression = text(own, "valueExpression").trim();
    if expression.is_empty() {
        problems.required(at.field("valueExpression"), "valueExpression is not specified");
    } else if expression.len() > ANNOTATION_EXPRESSION_MAX {
        let detail = format!("must not exceed {ANNOTATION_EXPRESSION_MAX} bytes in length");
        problems.required(at.field("valueExpression"), &detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    pub(crate) fn spec() -> Value {
        json!({"matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods"]}]}, "validations": [{"expression": "true"}]})
    }

    #[test]
    fn bad_policies_are_refused_where_upstream_refuses_them() {
        let check = |pointer: &str, value: Value| {
            let mut object = json!({"metadata": {"name": "p"}, "spec": spec()});
            (VALIDATING_ADMISSION_POLICY.defaults)(&mut object);
            object["spec"][pointer] = value;
            findings(&VALIDATING_ADMISSION_POLICY, &object)
        };
        assert!(check("x", json!(1)).is_empty());
        for (key, value, wanted) in [
            (
                "failurePolicy",
                json!("x"),
                "spec.failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\"",
            ),
            ("matchConstraints", Value::Null, "spec.matchConstraints: Required value"),
            (
                "paramKind",
                json!({"apiVersion": "a/b/c", "kind": "K"}),
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            (
                "variables",
                json!([{"name": "if", "expression": "1"}]),
                "spec.variables[0].name: Invalid value: \"if\": must be a valid CEL identifier",
            ),
            (
                "validations",
                json!([{"expression": " "}]),
                "spec.validations[0].expression: Required value: expression is not specified",
            ),
            (
                "validations",
                json!([{"expression": "true", "reason": "x"}]),
                "spec.validations[0].reason: Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
            ),
            (
                "validations",
                json!([{"expression": "true", "message": "a\nb"}]),
                "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
            ),
            (
                "auditAnnotations",
                json!([{"key": "k"}]),
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            ),
            (
                "matchConditions",
                json!([{"name": "", "expression": "true"}]),
                "spec.matchConditions[0].name: Required value",
            ),
        ] {
            assert_eq!(check(key, value), [wanted]);
        }
    }
}
