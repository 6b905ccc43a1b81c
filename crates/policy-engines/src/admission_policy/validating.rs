//! ValidatingAdmissionPolicy.

use kube_objects::StatusCause;
use serde_json::Value as Json;

use super::conditions::{self, Conditions, Match};
use super::context::{Context, Evaluation, Inputs, OUT_OF_BUDGET};
use super::expression::{self, BOOL, Expression, STRING, STRING_OR_NULL, Scope, Variables};
use super::{FailurePolicy, POLICY_BUDGET, items, problem, text};
use crate::cel::value::Value;

/// The longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// A compiled policy.
#[derive(Debug)]
pub struct ValidatingPolicy {
    failure_policy: FailurePolicy,
    conditions: Conditions,
    variables: Variables,
    validations: Vec<Validation>,
    annotations: Vec<(String, Result<Expression, String>)>,
}

#[derive(Debug)]
struct Validation {
    source: String,
    message: String,
    reason: Option<String>,
    expression: Result<Expression, String>,
    message_expression: Option<Result<Expression, String>>,
}

/// What one validation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It holds, or failed where failures are left out.
    Admit,
    /// It does not hold.
    Deny {
        /// For the client.
        message: String,
        /// The reason of the refusal, or `None` for upstream's default, `Invalid`.
        reason: Option<String>,
    },
    /// It failed where failures refuse: whether it holds is not known.
    Failed {
        /// Why, for the client.
        message: String,
    },
}

/// What an audit annotation came to; those that are left out do not appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// To be published under the policy's name and this key.
    Publish {
        /// The annotation's key.
        key: String,
        /// Its value.
        value: String,
    },
    /// It failed where failures refuse.
    Error(String),
}

/// What a policy said of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// One per validation, in order; empty when the policy's conditions do not hold.
    pub decisions: Vec<Decision>,
    /// Audit annotations.
    pub annotations: Vec<Annotation>,
}

fn scope(policy: &Json, authorizer: bool) -> Scope {
    Scope { params: policy["spec"]["paramKind"].is_object(), authorizer, patches: false }
}

/// What is wrong with the expressions of a ValidatingAdmissionPolicy.
#[must_use]
pub fn check_validating(policy: &Json) -> Vec<StatusCause> {
    let (spec, full, reduced) = (&policy["spec"], scope(policy, true), scope(policy, false));
    let variables = Variables::compile(items(spec, "variables"), full);
    let mut causes = variables.check(spec);
    let (full, reduced) = (variables.environment(full), variables.environment(reduced));
    causes.extend(conditions::check(items(spec, "matchConditions"), "spec.matchConditions", &full));
    for (index, json) in items(spec, "validations").iter().enumerate() {
        let source = text(json, "expression").trim();
        if !source.is_empty() {
            let compiled = expression::compile(source, &full, Some(BOOL));
            causes.extend(problem(&format!("spec.validations[{index}].expression"), source, &compiled));
        }
        let source = text(json, "messageExpression").trim();
        if !source.is_empty() {
            let compiled = expression::compile(source, &reduced, Some(STRING));
            causes.extend(problem(
                &format!("spec.validations[{index}].messageExpression"),
                source,
                &compiled,
            ));
        }
    }
    for (index, json) in items(spec, "auditAnnotations").iter().enumerate() {
        let source = text(json, "valueExpression").trim();
        if !source.is_empty() {
            let compiled = expression::compile(source, &reduced, Some(STRING_OR_NULL));
            causes.extend(problem(
                &format!("spec.auditAnnotations[{index}].valueExpression"),
                source,
                &compiled,
            ));
        }
    }
    causes
}

impl ValidatingPolicy {
    /// Compiles a policy. Expressions that do not compile fail when they are evaluated.
    #[must_use]
    pub fn compile(policy: &Json) -> Self {
        let (spec, full) = (&policy["spec"], scope(policy, true));
        let variables = Variables::compile(items(spec, "variables"), full);
        let reduced = variables.environment(scope(policy, false));
        let environment = variables.environment(full);
        let validation = |json: &Json| {
            let message = text(json, "messageExpression").trim();
            let source = text(json, "expression").trim();
            Validation {
                source: source.to_owned(),
                message: text(json, "message").trim().to_owned(),
                reason: json.get("reason").and_then(Json::as_str).map(ToOwned::to_owned),
                expression: expression::compile(source, &environment, Some(BOOL)),
                message_expression: (!message.is_empty())
                    .then(|| expression::compile(message, &reduced, Some(STRING))),
            }
        };
        let annotation = |json: &Json| {
            let source = text(json, "valueExpression").trim();
            let compiled = expression::compile(source, &reduced, Some(STRING_OR_NULL));
            (text(json, "key").to_owned(), compiled)
        };
        Self {
            failure_policy: FailurePolicy::read(&spec["failurePolicy"]),
            conditions: Conditions::of_policy(items(spec, "matchConditions"), full, &variables),
            validations: items(spec, "validations").iter().map(validation).collect(),
            annotations: items(spec, "auditAnnotations").iter().map(annotation).collect(),
            variables,
        }
    }

    /// What happens when something about the policy fails.
    #[must_use]
    pub fn failure_policy(&self) -> FailurePolicy {
        self.failure_policy
    }

    fn failure(&self, message: String) -> Decision {
        match self.failure_policy {
            FailurePolicy::Ignore => Decision::Admit,
            FailurePolicy::Fail => Decision::Failed { message },
        }
    }

    fn failed(&self, message: String) -> Evaluated {
        Evaluated { decisions: vec![self.failure(message)], annotations: Vec::new() }
    }

    /// What the policy says of a request.
    #[must_use]
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluated {
        match self.conditions.evaluate_with(inputs, Some(&self.variables), self.failure_policy) {
            Match::Yes => {}
            Match::No(_) => return Evaluated::default(),
            Match::Error(error) => return self.failed(error),
        }
        let mut context = Context::new(inputs, Some(&self.variables), true, POLICY_BUDGET);
        let mut results = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            match context.evaluate(&validation.expression) {
                Evaluation::OutOfBudget => return self.failed(OUT_OF_BUDGET.to_owned()),
                result => results.push(result),
            }
        }
        let mut messages = Context::new(inputs, Some(&self.variables), false, context.left());
        let mut decisions = Vec::with_capacity(results.len());
        for (validation, result) in self.validations.iter().zip(results) {
            decisions.push(match result {
                Evaluation::Value(Value::Bool(true)) => Decision::Admit,
                Evaluation::Failed(error) => self.failure(error),
                _ => match message(validation, &mut messages) {
                    Some(message) => Decision::Deny { message, reason: validation.reason.clone() },
                    None => self.failure(format!("failed messageExpression: {OUT_OF_BUDGET}")),
                },
            });
        }
        match self.audit(inputs) {
            Some(annotations) => Evaluated { decisions, annotations },
            None => self.failed(OUT_OF_BUDGET.to_owned()),
        }
    }

    fn audit(&self, inputs: &Inputs<'_>) -> Option<Vec<Annotation>> {
        let mut context = Context::new(inputs, Some(&self.variables), false, POLICY_BUDGET);
        let mut out = Vec::new();
        for (key, expression) in &self.annotations {
            match context.evaluate(expression) {
                Evaluation::OutOfBudget => return None,
                Evaluation::Value(Value::String(text)) if !text.as_str().trim().is_empty() => {
                    out.push(Annotation::Publish {
                        key: key.clone(),
                        value: text.as_str().trim().to_owned(),
                    });
                }
                Evaluation::Value(_) => {}
                Evaluation::Failed(error) if self.failure_policy == FailurePolicy::Fail => {
                    out.push(Annotation::Error(error));
                }
                Evaluation::Failed(_) => {}
            }
        }
        Some(out)
    }
}

/// The message of a validation that does not hold; `None` when the budget is gone.
fn message<'a>(validation: &'a Validation, context: &mut Context<'a, '_>) -> Option<String> {
    if let Some(expression) = &validation.message_expression {
        match context.evaluate(expression) {
            Evaluation::OutOfBudget => return None,
            Evaluation::Value(Value::String(text)) => {
                let text = text.as_str().trim();
                if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
                    return Some(text.to_owned());
                }
            }
            _ => {}
        }
    }
    if !validation.message.is_empty() {
        return Some(validation.message.clone());
    }
    Some(format!("failed expression: {}", validation.source))
}
