//! `matchConditions` of policies and webhooks.

use kube_objects::StatusCause;
use serde_json::Value as Json;

use super::context::{Context, Evaluation, Inputs, OUT_OF_BUDGET};
use super::expression::{self, BOOL, Expression, Scope, Variables};
use super::{CONDITIONS_BUDGET, FailurePolicy, problem, text};
use crate::cel::value::Value;

/// Compiled match conditions.
#[derive(Debug, Default)]
pub struct Conditions {
    list: Vec<(String, Result<Expression, String>)>,
}

/// Whether conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// All of them, or there are none.
    Yes,
    /// This one does not, or one failed and the failure policy is to leave out.
    No(String),
    /// One failed, and the failure policy is to refuse.
    Error(String),
}

/// What is wrong with the expressions of a list of conditions that stands at `path`. `params`: they can refer to
/// parameters.
#[must_use]
pub fn check_conditions(list: &[Json], path: &str, params: bool) -> Vec<StatusCause> {
    let scope = Scope { params, authorizer: true, patches: false };
    check(list, path, &expression::environment(scope))
}

pub(super) fn check(
    list: &[Json],
    path: &str,
    environment: &crate::cel::environment::Environment,
) -> Vec<StatusCause> {
    let one = |(index, json): (usize, &Json)| {
        let source = text(json, "expression").trim();
        if source.is_empty() {
            return None;
        }
        let compiled = expression::compile(source, environment, Some(BOOL));
        problem(&format!("{path}[{index}].expression"), source, &compiled)
    };
    list.iter().enumerate().filter_map(one).collect()
}

impl Conditions {
    /// Compiles the conditions of a webhook.
    #[must_use]
    pub fn compile(list: &[Json]) -> Self {
        Self::new(list, &expression::environment(Scope { authorizer: true, ..Scope::default() }))
    }

    pub(super) fn of_policy(list: &[Json], scope: Scope, variables: &Variables) -> Self {
        Self::new(list, &variables.environment(scope))
    }

    fn new(list: &[Json], environment: &crate::cel::environment::Environment) -> Self {
        let one = |json: &Json| {
            let source = text(json, "expression").trim();
            (text(json, "name").to_owned(), expression::compile(source, environment, Some(BOOL)))
        };
        Self { list: list.iter().map(one).collect() }
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether they hold. One that is false decides, whatever the others come to.
    #[must_use]
    pub fn evaluate(&self, inputs: &Inputs<'_>, failure_policy: FailurePolicy) -> Match {
        self.evaluate_with(inputs, None, failure_policy)
    }

    pub(super) fn evaluate_with<'a>(
        &'a self,
        inputs: &Inputs<'a>,
        variables: Option<&'a Variables>,
        failure_policy: FailurePolicy,
    ) -> Match {
        // Conditions see no namespace object.
        let inputs = Inputs { namespace_object: &Json::Null, ..inputs.clone() };
        let mut context = Context::new(&inputs, variables, true, CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for (name, condition) in &self.list {
            match context.evaluate(condition) {
                Evaluation::Value(Value::Bool(false)) => return Match::No(name.clone()),
                Evaluation::Value(_) => {}
                Evaluation::Failed(error) => errors.push(error),
                Evaluation::OutOfBudget => {
                    errors = vec![OUT_OF_BUDGET.to_owned()];
                    break;
                }
            }
        }
        match (&errors[..], failure_policy) {
            ([], _) => Match::Yes,
            (_, FailurePolicy::Ignore) => Match::No(String::new()),
            ([one], FailurePolicy::Fail) => Match::Error(one.clone()),
            (several, FailurePolicy::Fail) => Match::Error(format!("[{}]", several.join(", "))),
        }
    }
}
