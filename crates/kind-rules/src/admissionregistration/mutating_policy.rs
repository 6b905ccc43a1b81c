//! `MutatingAdmissionPolicy`.

use serde_json::Value;

use super::matching::REINVOCATION_POLICIES;
use super::{COUNTED, matching, policy};
use crate::checks::columns;
use crate::columns::age;
use crate::json::{default, existing, list, present, text};
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// `admissionregistration.k8s.io/v1.MutatingAdmissionPolicy`.
pub const MUTATING_ADMISSION_POLICY: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default(spec, "failurePolicy", "Fail");
        matching::default_resources(spec, "matchConstraints");
    },
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    columns: || columns(&["Mutations:integer", "ParamKind", "Age"]),
    cells: |object, now| {
        let mutations = list(&object["spec"], "mutations").len();
        vec![mutations.into(), policy::param_kind_cell(object), age(object, now)]
    },
    ..COUNTED
};

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    policy::head(problems, &at, spec, true);
    policy::conditions(problems, &at, spec, old);
    policy::variables(problems, &at, spec);
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        problems.required(at.field("mutations"), "mutations must contain at least one item");
    }
    for (index, own) in mutations.iter().enumerate() {
        let all = at.field("mutations");
        mutation(problems, &all.index(index), own);
    }
    match text(spec, "reinvocationPolicy") {
        "" => problems.required(at.field("reinvocationPolicy"), ""),
        policy if REINVOCATION_POLICIES.contains(&policy) => {}
        other => problems.unsupported(at.field("reinvocationPolicy"), other, &REINVOCATION_POLICIES),
    }
}

fn mutation(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let (wanted, other) = match text(own, "patchType") {
        "" => return problems.required(at.field("patchType"), ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        kind => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            return problems.unsupported(at.field("patchType"), kind, &known);
        }
    };
    let kind = text(own, "patchType");
    if !present(own, wanted) {
        problems.required(at.field(wanted), &format!("must be specified when patchType is {kind}"));
    } else if text(&own[wanted], "expression").trim().is_empty() {
        problems.required(at.field(wanted).field("expression"), "");
    }
    if present(own, other) {
        let detail = format!("must not be specified when patchType is {kind}");
        problems.invalid(at.field(other), format!("{{{other}}}"), &detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_policies_are_refused_where_upstream_refuses_them() {
        let check = |key: &str, value: Value| {
            let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
            let mut object = json!({"metadata": {"name": "p"}, "spec": {"reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": rules},
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}});
            (MUTATING_ADMISSION_POLICY.defaults)(&mut object);
            object["spec"][key] = value;
            findings(&MUTATING_ADMISSION_POLICY, &object)
        };
        assert!(check("x", json!(1)).is_empty());
        for (key, value, wanted) in [
            (
                "mutations",
                json!([]),
                "spec.mutations: Required value: mutations must contain at least one item",
            ),
            (
                "mutations",
                json!([{"patchType": "JSONPatch"}]),
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ),
            (
                "mutations",
                json!([{"patchType": "x"}]),
                "spec.mutations[0].patchType: Unsupported value: \"x\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
            ),
            ("reinvocationPolicy", json!(""), "spec.reinvocationPolicy: Required value"),
        ] {
            assert_eq!(check(key, value), [wanted]);
        }
    }
}
