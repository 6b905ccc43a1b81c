//! A language for tests.

use serde_json::Value;

use crate::expressions::Expressions;
use crate::health::ObjectExpressions;

/// Stands for a language: every expression is right but `odd`.
#[derive(Debug)]
pub(crate) struct Odd;

fn judge(expression: &str, problem: &str) -> Result<(), String> {
    if expression == "odd" { Err(problem.to_owned()) } else { Ok(()) }
}

impl Expressions for Odd {
    fn check_condition(&self, expression: &str) -> Result<(), String> {
        judge(expression, "no condition")
    }

    fn check_score(&self, expression: &str) -> Result<(), String> {
        judge(expression, "no number")
    }

    fn check_value(&self, expression: &str) -> Result<(), String> {
        judge(expression, "no value")
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err("nothing is evaluated".to_owned())
    }

    fn score(&self, _: &str, _: &Value) -> Result<i64, String> {
        Err("nothing is evaluated".to_owned())
    }

    fn value(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err("nothing is evaluated".to_owned())
    }
}

impl ObjectExpressions for Odd {
    fn check(&self, expression: &str, _: bool) -> Result<(), String> {
        judge(expression, "no rule")
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err("nothing is evaluated".to_owned())
    }

    fn text(&self, _: &str, _: &Value) -> Result<String, String> {
        Err("nothing is evaluated".to_owned())
    }
}
