//! Tables of expressions with the values, errors and costs that upstream gives them.

use serde_json::{Value as Json, json};

use super::environment::Environment;
use super::evaluate::{Activation, run};
use super::types::Type;
use super::value::{self, Value, from_json, to_json};
use super::*;

mod properties;
mod tables;

/// One variable, `object`, of any type.
struct Data<'a>(&'a Json);

impl<'a> Activation<'a> for Data<'a> {
    fn variable(&self, name: &str) -> Option<value::Result<'a>> {
        (name == "object").then(|| from_json(self.0, None))
    }
}

fn environment() -> Environment {
    Environment::default().with("object", Type::Dyn)
}

/// What an expression comes to: its value as JSON (or its type, when it is none), or why there is none; and its cost.
fn evaluated(source: &str, data: &Json) -> (Result<Json, String>, u64) {
    let program = match compile(source, &environment()) {
        Ok(program) => program,
        Err(error) => return (Err(error.to_string()), 0),
    };
    let outcome = run(&program.node, &Data(data), CALL_LIMIT);
    let value = outcome.value.and_then(|value| match value {
        Value::Library(_) => Ok(json!(format!("<{}>", value.type_name()))),
        Value::Type(name) => Ok(json!(format!("<type {name}>"))),
        value => to_json(&value),
    });
    (value.map_err(|error| error.to_string()), outcome.cost)
}
