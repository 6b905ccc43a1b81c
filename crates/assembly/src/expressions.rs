//! Expressions about clusters and objects, in CEL: what planner and agent ask and the policy engine answers.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_planner::expressions::Expressions;
use fleet_planner::health::ObjectExpressions;
use fleet_planner::validation::Languages;
use parking_lot::Mutex;
use policy_engines::expression::{Expected, Expression};
use serde_json::Value;

/// Compiled expressions kept; beyond that all are forgotten and compiled again. A few kB each.
const MAX_COMPILED: usize = 1000;

type Compiled = Arc<Result<Expression, String>>;

/// CEL with one variable: `cluster` of a cluster, `object` of an object.
#[derive(Debug, Default)]
pub struct Cel {
    compiled: Mutex<HashMap<(String, &'static str, Expected), Compiled>>,
}

impl Cel {
    /// As what documents of the fleet are judged by.
    #[must_use]
    pub fn languages(&self) -> Languages<'_> {
        Languages { clusters: self, objects: self }
    }

    fn compile(&self, expression: &str, variable: &'static str, expected: Expected) -> Compiled {
        let key = (expression.to_owned(), variable, expected);
        let mut known = self.compiled.lock();
        if known.len() >= MAX_COMPILED && !known.contains_key(&key) {
            known.clear();
        }
        let compile = || Arc::new(Expression::compile(expression, &[variable], expected));
        known.entry(key).or_insert_with(compile).clone()
    }

    fn compiles(&self, expression: &str, variable: &'static str, expected: Expected) -> Result<(), String> {
        (*self.compile(expression, variable, expected)).as_ref().map(drop).map_err(Clone::clone)
    }

    fn evaluate(
        &self,
        expression: &str,
        variable: &'static str,
        expected: Expected,
        data: &Value,
    ) -> Result<Value, String> {
        match &*self.compile(expression, variable, expected) {
            Ok(expression) => expression.evaluate(&[(variable, data)]),
            Err(problem) => Err(problem.clone()),
        }
    }
}

impl Expressions for Cel {
    fn check_condition(&self, expression: &str) -> Result<(), String> {
        self.compiles(expression, "cluster", Expected::Bool)
    }

    fn check_score(&self, expression: &str) -> Result<(), String> {
        self.compiles(expression, "cluster", Expected::Int)
    }

    fn check_value(&self, expression: &str) -> Result<(), String> {
        self.compiles(expression, "cluster", Expected::Any)
    }

    fn holds(&self, expression: &str, cluster: &Value) -> Result<bool, String> {
        Ok(self.evaluate(expression, "cluster", Expected::Bool, cluster)? == Value::Bool(true))
    }

    fn score(&self, expression: &str, cluster: &Value) -> Result<i64, String> {
        let value = self.evaluate(expression, "cluster", Expected::Int, cluster)?;
        value.as_i64().ok_or_else(|| format!("{value} is no whole number"))
    }

    fn value(&self, expression: &str, cluster: &Value) -> Result<Value, String> {
        self.evaluate(expression, "cluster", Expected::Any, cluster)
    }
}

impl ObjectExpressions for Cel {
    fn check(&self, expression: &str, text: bool) -> Result<(), String> {
        let expected = if text { Expected::Text } else { Expected::Bool };
        self.compiles(expression, "object", expected)
    }

    fn holds(&self, expression: &str, object: &Value) -> Result<bool, String> {
        Ok(self.evaluate(expression, "object", Expected::Bool, object)? == Value::Bool(true))
    }

    fn text(&self, expression: &str, object: &Value) -> Result<String, String> {
        let value = self.evaluate(expression, "object", Expected::Text, object)?;
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"))
    }
}
