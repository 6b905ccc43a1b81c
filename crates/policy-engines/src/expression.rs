//! Single expressions outside admission: CEL over named data, compiled once.
//!
//! Must never: accept an expression whose type is certainly wrong, or run one beyond [`crate::cel::CALL_LIMIT`].

use serde_json::Value as Json;

use crate::cel::environment::Environment;
use crate::cel::evaluate::{self, Activation};
use crate::cel::types::Type;
use crate::cel::value::{self, Value, from_json, to_json};
use crate::cel::{self, CALL_LIMIT, Program};

/// The longest expression (upstream's limit for a rule in a CustomResourceDefinition is of the same order).
const MAX_LENGTH: usize = 16 << 10;

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// true or false.
    Bool,
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// Anything that JSON can say.
    Any,
}

impl Expected {
    /// As CEL calls the type.
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
            Self::Any => "dyn",
        }
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    expected: Expected,
}

impl Expression {
    /// Compiles an expression that may refer to these variables.
    ///
    /// # Errors
    /// What is wrong with its text or types, in cel-go's words.
    pub fn compile(source: &str, variables: &[&str], expected: Expected) -> Result<Self, String> {
        if source.len() > MAX_LENGTH {
            return Err(format!("the expression is longer than {MAX_LENGTH} bytes"));
        }
        let environment = variables
            .iter()
            .fold(Environment::default(), |environment, name| environment.with(name, Type::Dyn));
        let program = cel::compile(source.trim(), &environment).map_err(|error| error.to_string())?;
        let output = program.checked.output();
        let fits = match (expected, output) {
            (Expected::Any, _) | (_, Type::Dyn) => true,
            (Expected::Bool, found) => matches!(found, Type::Bool),
            (Expected::Int, found) => matches!(found, Type::Int),
            (Expected::Text, found) => matches!(found, Type::String),
        };
        if !fits {
            let name = expected.name();
            return Err(format!("must evaluate to {name} but got {output}"));
        }
        Ok(Self { program, expected })
    }

    /// Its value for data by variable name.
    ///
    /// # Errors
    /// Why it has none, or that it is not of the expected type.
    pub fn evaluate(&self, data: &[(&str, &Json)]) -> Result<Json, String> {
        let outcome = evaluate::run(&self.program.node, &Data(data), CALL_LIMIT);
        let value = outcome.value.map_err(|error| error.to_string())?;
        match (self.expected, &value) {
            (Expected::Any, _)
            | (Expected::Bool, Value::Bool(_))
            | (Expected::Int, Value::Int(_))
            | (Expected::Text, Value::String(_)) => {}
            (expected, other) => {
                return Err(format!("evaluated to {}, not {}", other.type_name(), expected.name()));
            }
        }
        to_json(&value).map_err(|error| error.to_string())
    }
}

struct Data<'a, 'd>(&'d [(&'d str, &'a Json)]);

impl<'a> Activation<'a> for Data<'a, '_> {
    fn variable(&self, name: &str) -> Option<value::Result<'a>> {
        let (_, json) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(from_json(json, None))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_types_and_problems() {
        let cluster = json!({"labels": {"env": "prod"}, "nodes": {"ready": 3, "total": 3}});
        let of = |source: &str, expected| {
            Expression::compile(source, &["cluster"], expected)?.evaluate(&[("cluster", &cluster)])
        };
        assert_eq!(of("cluster.nodes.ready == cluster.nodes.total", Expected::Bool), Ok(json!(true)));
        assert_eq!(of("cluster.nodes.ready * 10", Expected::Int), Ok(json!(30)));
        assert_eq!(of("{'a': [cluster.labels.env]}", Expected::Any), Ok(json!({"a": ["prod"]})));
        assert_eq!(of("1 + 1", Expected::Bool), Err("must evaluate to bool but got int".to_owned()));
        assert_eq!(of("cluster.labels.env", Expected::Bool), Err("evaluated to string, not bool".to_owned()));
        assert!(of("cluster.labels.nope == 'x'", Expected::Bool).unwrap_err().contains("nope"));
        assert!(of("clusters.labels", Expected::Any).unwrap_err().contains("undeclared reference"));
        assert!(of(&" ".repeat(20_000), Expected::Any).unwrap_err().contains("longer"));
    }
}
