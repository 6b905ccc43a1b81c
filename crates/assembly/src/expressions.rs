//! Expressions about clusters, in CEL: what the planner asks and the policy engine answers.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_planner::expressions::Expressions;
use parking_lot::Mutex;
use policy_engines::expression::{Expected, Expression};
use serde_json::Value;

/// Compiled expressions kept; beyond that all are forgotten and compiled again. A few kB each.
const MAX_COMPILED: usize = 1000;

type Compiled = Arc<Result<Expression, String>>;

/// CEL with one variable, `cluster`.
#[derive(Debug, Default)]
pub struct Cel {
    compiled: Mutex<HashMap<(String, Expected), Compiled>>,
}

impl Cel {
    fn evaluate(&self, expression: &str, expected: Expected, cluster: &Value) -> Result<Value, String> {
        let key = (expression.to_owned(), expected);
        let compiled = {
            let mut known = self.compiled.lock();
            if known.len() >= MAX_COMPILED && !known.contains_key(&key) {
                known.clear();
            }
            let compile = || Arc::new(Expression::compile(expression, &["cluster"], expected));
            known.entry(key).or_insert_with(compile).clone()
        };
        match &*compiled {
            Ok(expression) => expression.evaluate(&[("cluster", cluster)]),
            Err(problem) => Err(problem.clone()),
        }
    }
}

impl Expressions for Cel {
    fn holds(&self, expression: &str, cluster: &Value) -> Result<bool, String> {
        Ok(self.evaluate(expression, Expected::Bool, cluster)? == Value::Bool(true))
    }

    fn score(&self, expression: &str, cluster: &Value) -> Result<i64, String> {
        let value = self.evaluate(expression, Expected::Int, cluster)?;
        value.as_i64().ok_or_else(|| format!("{value} is no whole number"))
    }

    fn value(&self, expression: &str, cluster: &Value) -> Result<Value, String> {
        self.evaluate(expression, Expected::Any, cluster)
    }
}
