//! Evaluates expressions on one request: variables when they are first used, all within one budget.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use kube_objects::UserInfo;
use serde_json::Value as Json;

use super::expression::{Expression, Variables};
use crate::cel::CALL_LIMIT;
use crate::cel::authorizer::{Authorizer, AuthorizerValue, Question, State};
use crate::cel::error::EvalError;
use crate::cel::evaluate::{self, Activation};
use crate::cel::value::{self, Value, from_json};

/// A request, as expressions see it. JSON null where there is nothing.
#[derive(Clone)]
pub struct Inputs<'a> {
    /// `object`; null on DELETE.
    pub object: &'a Json,
    /// `oldObject`; null on CREATE.
    pub old_object: &'a Json,
    /// `request`: an AdmissionRequest without its objects.
    pub request: &'a Json,
    /// `namespaceObject`; null for what is in no namespace.
    pub namespace_object: &'a Json,
    /// `params`; `None` is null too.
    pub params: Option<&'a Json>,
    /// Who answers `authorizer`'s questions, and about whom. `None`: questions are errors.
    pub authorizer: Option<(&'a dyn Authorizer, &'a UserInfo)>,
    /// What `authorizer.requestResource` asks about.
    pub request_resource: Question,
}

/// The chain of variables that need one another may not be longer: evaluation recurses along it.
const MAX_CHAIN: usize = 32;
/// What upstream says when the budget is gone.
pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What evaluating an expression came to.
pub(super) enum Evaluation<'a> {
    Value(Value<'a>),
    Failed(String),
    /// Nothing more is evaluated.
    OutOfBudget,
}

/// Expressions of one policy on one request.
pub(super) struct Context<'a, 'i> {
    inputs: &'i Inputs<'a>,
    variables: Option<&'a Variables>,
    scope_authorizer: bool,
    found: RefCell<BTreeMap<String, value::Result<'a>>>,
    spent: Cell<u64>,
    chain: Cell<usize>,
    budget: u64,
    null: &'a Json,
}

static NULL: Json = Json::Null;

impl<'a, 'i> Context<'a, 'i> {
    pub(super) fn new(
        inputs: &'i Inputs<'a>,
        variables: Option<&'a Variables>,
        scope_authorizer: bool,
        budget: u64,
    ) -> Self {
        Self {
            inputs,
            variables,
            scope_authorizer,
            found: RefCell::default(),
            spent: Cell::new(0),
            chain: Cell::new(0),
            budget,
            null: &NULL,
        }
    }

    /// What may still be spent.
    pub(super) fn left(&self) -> u64 {
        self.budget
    }

    /// Evaluates one expression. One that does not compile fails when it is its turn.
    pub(super) fn evaluate(&mut self, expression: &'a Result<Expression, String>) -> Evaluation<'a> {
        let expression = match expression {
            Ok(expression) => expression,
            Err(error) => return Evaluation::Failed(format!("compilation error: {error}")),
        };
        let outcome = evaluate::run(&expression.program.node, &*self, CALL_LIMIT);
        let cost = self.spent.replace(0).saturating_add(outcome.cost);
        let Some(left) = self.budget.checked_sub(cost) else { return Evaluation::OutOfBudget };
        self.budget = left;
        match outcome.value {
            Ok(value) => Evaluation::Value(value),
            Err(error) => {
                Evaluation::Failed(format!("expression '{}' resulted in error: {error}", expression.source))
            }
        }
    }

    fn authorizer(&self, about_request: bool) -> Option<value::Result<'a>> {
        let (by, user) = self.inputs.authorizer.filter(|_| self.scope_authorizer)?;
        let root = AuthorizerValue::new(by, user.clone());
        let state = State::Resource(self.inputs.request_resource.clone());
        let value = if about_request { root.with(state) } else { root };
        Some(Ok(Value::Authorizer(Arc::new(value))))
    }

    fn compute(&self, name: &str) -> Option<value::Result<'a>> {
        let variable = self.variables?.list.iter().find(|variable| variable.name == name)?;
        let expression = match &variable.expression {
            Ok(expression) => expression,
            Err(error) => {
                let why = format!("composited variable \"{name}\" fails to compile: {error}");
                return Some(Err(EvalError::new(why)));
            }
        };
        if self.chain.get() >= MAX_CHAIN {
            return Some(Err(EvalError::new(format!("composited variable \"{name}\" is nested too deeply"))));
        }
        self.chain.set(self.chain.get() + 1);
        let outcome = evaluate::run(&expression.program.node, self, CALL_LIMIT);
        self.chain.set(self.chain.get() - 1);
        self.spent.set(self.spent.get().saturating_add(outcome.cost));
        Some(outcome.value.map_err(|error| {
            EvalError::new(format!("composited variable \"{name}\" fails to evaluate: {error}"))
        }))
    }
}

impl<'a> Activation<'a> for Context<'a, '_> {
    fn variable(&self, name: &str) -> Option<value::Result<'a>> {
        let json = match name {
            "object" => self.inputs.object,
            "oldObject" => self.inputs.old_object,
            "request" => self.inputs.request,
            "namespaceObject" => self.inputs.namespace_object,
            "params" => self.inputs.params.unwrap_or(self.null),
            "authorizer" => return self.authorizer(false),
            "authorizer.requestResource" => return self.authorizer(true),
            _ => return None,
        };
        Some(from_json(json, None))
    }

    fn member(&self, variable: &str, field: &str) -> Option<value::Result<'a>> {
        if variable != "variables" {
            return None;
        }
        if let Some(found) = self.found.borrow().get(field) {
            return Some(found.clone());
        }
        let computed = self.compute(field)?;
        self.found.borrow_mut().insert(field.to_owned(), computed.clone());
        Some(computed)
    }
}
