//! Expressions of an `AuthenticationConfiguration`: CEL over a token's claims or over the user that came of it, compiled once
//! (upstream `pkg/authentication/cel`).
//!
//! Must never: run an expression beyond [`crate::cel::CALL_LIMIT`], or take a value for what it is not.

use serde_json::Value as Json;

use crate::admission_policy;
use crate::cel::environment::Environment;
use crate::cel::evaluate::{self, Activation};
use crate::cel::types::Type;
use crate::cel::value::{self, List, Value, from_claims};
use crate::cel::{self, CALL_LIMIT, Program};

/// What an expression is about: the one variable that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `claims`: those of a token, of any type.
    Claims,
    /// `user`: a `UserInfo` of `authentication.k8s.io/v1`.
    User,
}

impl Subject {
    fn variable(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
        }
    }

    fn environment(self) -> Environment {
        let t = match self {
            Self::Claims => Type::map(Type::String, Type::Any),
            Self::User => admission_policy::user(),
        };
        Environment::default().with(self.variable(), t)
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    subject: Subject,
}

impl Expression {
    /// Compiles an expression. `condition`: it must be known to be true or false before it runs.
    ///
    /// # Errors
    /// What is wrong with its text or type, in upstream's words.
    pub fn compile(source: &str, subject: Subject, condition: bool) -> Result<Self, String> {
        let program = cel::compile(source, &subject.environment()).map_err(|error| error.to_string())?;
        if condition && !matches!(program.checked.output(), Type::Bool) {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self { program, subject })
    }

    /// Whether it selects a field of its variable by name.
    #[must_use]
    pub fn selects(&self, field: &str) -> bool {
        self.program.checked.selects(self.subject.variable(), field)
    }

    /// Its value for a token's claims, or for a user: null, true or false, a text, or a list of texts.
    ///
    /// # Errors
    /// Why it has none, or that it is anything else.
    pub fn evaluate(&self, data: &Json) -> Result<Json, String> {
        let activation = Data { variable: self.subject.variable(), data };
        let outcome = evaluate::run(&self.program.node, &activation, CALL_LIMIT);
        let value = outcome.value.map_err(|error| error.to_string())?;
        match &value {
            Value::Null => Ok(Json::Null),
            Value::Bool(value) => Ok(Json::Bool(*value)),
            Value::String(text) => Ok(text.as_str().into()),
            Value::List(list) => texts(list),
            other => Err(unfit(&other.type_name())),
        }
    }
}

fn texts(list: &List<'_>) -> Result<Json, String> {
    let text = |item: value::Result<'_>| {
        let item = item.map_err(|error| error.to_string())?;
        item.as_str().map(Json::from).ok_or_else(|| unfit(&format!("a list with {}", item.type_name())))
    };
    list.iter().map(text).collect::<Result<Vec<_>, _>>().map(Json::Array)
}

fn unfit(found: &str) -> String {
    format!("it must be a string or a list of strings, and is {found}")
}

struct Data<'a> {
    variable: &'static str,
    data: &'a Json,
}

impl<'a> Activation<'a> for Data<'a> {
    fn variable(&self, name: &str) -> Option<value::Result<'a>> {
        (name == self.variable).then(|| Ok(from_claims(self.data)))
    }
}

#[cfg(test)]
mod tests;
