//! Admission policies: ValidatingAdmissionPolicy, MutatingAdmissionPolicy, and match conditions of webhooks.
//!
//! Tasks: say what is wrong with the expressions of a policy when it is written; compile a policy once; choose the
//! policies that want a request ([`select`]), for which the caller reads what stands around it ([`Surroundings`]);
//! evaluate them, within upstream's budgets.
//!
//! Must never: take an expression that failed for one that holds.

use kube_objects::StatusCause;
use serde_json::Value as Json;

mod conditions;
mod context;
mod expression;
mod matching;
mod mutating;
mod parameters;
mod rules;
mod select;
mod surroundings;
mod type_check;
mod types;
mod validating;
mod view;

#[cfg(test)]
mod tests;

pub use conditions::{Conditions, Match, check_conditions};
pub use context::Inputs;
pub use matching::Request;
pub use mutating::{MutatingPolicy, Mutation, check_mutating};
pub use rules::{Asked, Rule, wanted_as};
pub use select::{Binding, GROUP, Invocation, Misconfigured, Policy, Wanted, is_exempt, select};
pub use surroundings::{ParamKind, Surroundings};
pub use type_check::{CheckedKind, TypeWarning, type_warnings};
pub(crate) use types::user;
pub use validating::{Annotation, Decision, Evaluated, ValidatingPolicy, check_validating};
pub use view::{namespace_document, request_document};

/// What one policy may cost on one request (upstream `RuntimeCELCostBudget`).
pub(crate) const POLICY_BUDGET: u64 = 10_000_000;
/// What the match conditions of one policy or webhook may cost (`RuntimeCELCostBudgetMatchConditions`).
pub(crate) const CONDITIONS_BUDGET: u64 = 2_500_000;

/// What happens when something about a policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The request is refused.
    #[default]
    Fail,
    /// The policy is left out.
    Ignore,
}

impl FailurePolicy {
    /// As a policy's or webhook's `failurePolicy` says.
    #[must_use]
    pub fn read(json: &Json) -> Self {
        if json.as_str() == Some("Ignore") { Self::Ignore } else { Self::Fail }
    }
}

fn items<'j>(json: &'j Json, key: &str) -> &'j [Json] {
    json.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn text<'j>(json: &'j Json, key: &str) -> &'j str {
    json.get(key).and_then(Json::as_str).unwrap_or_default()
}

/// A problem with an expression, or none.
fn problem(
    field: &str,
    source: &str,
    compiled: &Result<expression::Expression, String>,
) -> Option<StatusCause> {
    let error = compiled.as_ref().err()?;
    Some(crate::problems::invalid_text(field, source, error))
}
