//! Warnings about types: what a policy's expressions would say of objects of the kinds that it is for (upstream
//! `validating/typechecking.go`). They change nothing about how the policy is evaluated.

use api_machinery::schema::SchemaRef;
use serde_json::Value as Json;

use super::expression::{self, Scope, Variables};
use super::{items, text};
use crate::cel::declared;
use crate::cel::types::Type;

/// A kind that a policy is for.
#[derive(Clone, Debug)]
pub struct CheckedKind {
    /// As warnings call it: `apps/v1, Kind=Deployment`.
    pub shown: String,
    /// `Deployment`.
    pub kind: String,
    /// What its objects look like.
    pub schema: SchemaRef,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeWarning {
    /// Which expression: `spec.validations[0].expression`.
    pub field: String,
    /// What is wrong with it, for each kind that it is wrong for.
    pub warning: String,
}

fn type_of(kind: &CheckedKind) -> Option<Type> {
    declared::object_type(&kind.schema, &kind.kind)
}

/// The warnings about a ValidatingAdmissionPolicy. `params`: the kind of its parameters, if it is known.
#[must_use]
pub fn type_warnings(policy: &Json, kinds: &[CheckedKind], params: Option<&CheckedKind>) -> Vec<TypeWarning> {
    let spec = &policy["spec"];
    let mut warnings = Vec::new();
    for (index, validation) in items(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, field);
            if source.is_empty() {
                continue;
            }
            let found = check(policy, source, kinds, params);
            if !found.is_empty() {
                let field = format!("spec.validations[{index}].{field}");
                warnings.push(TypeWarning { field, warning: found.join("\n") });
            }
        }
    }
    warnings
}

fn check(policy: &Json, source: &str, kinds: &[CheckedKind], params: Option<&CheckedKind>) -> Vec<String> {
    let spec = &policy["spec"];
    let scope = Scope { params: spec["paramKind"].is_object(), authorizer: true, patches: false };
    let one = |kind: &CheckedKind| {
        let object = type_of(kind)?;
        let mut base =
            expression::environment(scope).with("object", object.clone()).with("oldObject", object);
        if let Some(params) = params.and_then(type_of) {
            base = base.with("params", params);
        }
        let variables = Variables::compile_in(items(spec, "variables"), &base);
        let error = expression::compile(source, &variables.over(base), None).err()?;
        Some(format!("{}: {error}\n", kind.shown))
    };
    kinds.iter().filter_map(one).collect()
}
