//! Typed parameters of workflows and templates: which values are allowed, and what `config` is in expressions.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{Parameter, ParameterType};
use serde_json::{Map, Value};

use crate::expression::{Expression, Lookup, Scope, render};
use crate::validate::FieldError;

/// The value of every parameter: what is given, else the default. Texts are read as what the parameter is, as values from
/// command lines are texts.
///
/// # Errors
/// One per parameter that has no value or a wrong one, and per value that no parameter asks for. `at` is where the values
/// stand.
pub fn values(
    parameters: &BTreeMap<String, Parameter>,
    given: &BTreeMap<String, Value>,
    at: &str,
) -> Result<Value, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut fail =
        |name: &str, message: String| errors.push(FieldError { field: format!("{at}.{name}"), message });
    for name in given.keys().filter(|name| !parameters.contains_key(*name)) {
        let declared: Vec<_> = parameters.keys().map(String::as_str).collect();
        let known = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        fail(name, format!("the workflow does not declare it; declared: {known}"));
    }
    let mut out = Map::new();
    for (name, parameter) in parameters {
        match given.get(name).or(parameter.default.as_ref()) {
            None => fail(name, "required: it has no default".to_owned()),
            Some(value) => match typed(parameter, value) {
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(message) => fail(name, message),
            },
        }
    }
    if errors.is_empty() { Ok(Value::Object(out)) } else { Err(errors) }
}

fn typed(parameter: &Parameter, value: &Value) -> Result<Value, String> {
    let text = render(value);
    // A default may be an expression over what is known when the run starts.
    if text.contains("{{") {
        return Ok(value.clone());
    }
    let wrong = |what: &str| format!("{text:?} is not {what}");
    let typed = match parameter.type_ {
        ParameterType::String => Value::String(text.clone()),
        ParameterType::Boolean => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(wrong("true or false")),
        },
        ParameterType::Integer => text.trim().parse::<i64>().map_err(|_| wrong("a whole number"))?.into(),
        ParameterType::Number => {
            let number = text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            match text.trim().parse::<i64>() {
                Ok(whole) => whole.into(),
                Err(_) => Value::Number(number.ok_or_else(|| wrong("a number"))?),
            }
        }
    };
    if !parameter.allowed.is_empty() && !parameter.allowed.contains(&text) {
        return Err(format!("{text:?} is none of {}", parameter.allowed.join(", ")));
    }
    if parameter.type_ == ParameterType::String {
        check_text(parameter, &text)?
    } else {
        check_number(parameter, &typed)?
    }
    Ok(typed)
}

fn check_text(parameter: &Parameter, text: &str) -> Result<(), String> {
    let length = text.chars().count() as u64;
    if let Some(minimum) = parameter.min_length.filter(|minimum| length < *minimum) {
        return Err(format!("{length} characters; at least {minimum}"));
    }
    if let Some(maximum) = parameter.max_length.filter(|maximum| length > *maximum) {
        return Err(format!("{length} characters; at most {maximum}"));
    }
    if let Some(pattern) = &parameter.pattern {
        let compiled = regex::Regex::new(pattern).map_err(|error| format!("the pattern: {error}"))?;
        if !compiled.is_match(text) {
            return Err(format!("{text:?} does not match {pattern}"));
        }
    }
    Ok(())
}

fn check_number(parameter: &Parameter, value: &Value) -> Result<(), String> {
    let Some(number) = value.as_f64() else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "bounds of tests' parameters are small")]
    let bound = |bound: Option<i64>| bound.map(|bound| bound as f64);
    let outside = [
        (bound(parameter.minimum).is_some_and(|least| number < least), "at least", parameter.minimum),
        (bound(parameter.maximum).is_some_and(|most| number > most), "at most", parameter.maximum),
        (
            bound(parameter.exclusive_minimum).is_some_and(|b| number <= b),
            "above",
            parameter.exclusive_minimum,
        ),
        (
            bound(parameter.exclusive_maximum).is_some_and(|b| number >= b),
            "below",
            parameter.exclusive_maximum,
        ),
        (
            bound(parameter.multiple_of).is_some_and(|of| of != 0.0 && number % of != 0.0),
            "a multiple of",
            parameter.multiple_of,
        ),
    ];
    match outside.into_iter().find(|(wrong, ..)| *wrong) {
        Some((_, word, bound)) => Err(format!("{value}; must be {word} {}", bound.unwrap_or_default())),
        None => Ok(()),
    }
}

/// Names with fixed values; every other name of the language is left for later.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: BTreeMap<String, Value>,
    /// Names that are known to nobody here but will be.
    later: &'static [&'static str],
    /// What known objects do not have may be known later.
    open: bool,
}

/// Names that only a container, or whoever starts it, knows.
pub(crate) const LATER: &[&str] = &[
    "env",
    "step",
    "services",
    "passed",
    "failed",
    "always",
    "never",
    "status",
    "self",
    "execution",
    "workflow",
    "matrix",
    "shard",
    "index",
    "count",
    "config",
    "labels",
    "resource",
    "organization",
    "environment",
    "dashboard",
    "cluster",
    "run",
];

impl Names {
    /// These names; all others of the language come later.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let known = known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { known, later: LATER, open: false }
    }

    /// With members of known objects that come later, or without.
    #[must_use]
    pub(crate) fn open(self, open: bool) -> Self {
        Self { open, ..self }
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.known.insert(name.to_owned(), value);
        self
    }
}

impl Scope for Names {
    fn name(&self, name: &str) -> Lookup {
        match self.known.get(name) {
            Some(value) => Lookup::Known(value.clone()),
            None if self.later.contains(&name) => Lookup::Later,
            None => Lookup::Unknown,
        }
    }

    fn comes_later(&self, _: &str, _: &str) -> bool {
        self.open
    }

    fn calls_later(&self, name: &str) -> bool {
        matches!(name, "file" | "glob" | "date" | "secret" | "credential")
    }

    fn call(&self, _: &str, _: &[Value]) -> Option<Result<Expression, String>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(text: &str) -> BTreeMap<String, Parameter> {
        serde_saphyr::from_str(text).expect("parameters")
    }

    #[test]
    fn values_are_read_as_what_they_are_to_be() {
        let parameters = parameters(
            "workers: {type: integer, default: '2', maximum: 5}\nversion: {default: 1.1}\non: {type: boolean, default: false}\nratio: {type: number}\n",
        );
        let given = BTreeMap::from([
            ("workers".to_owned(), Value::from("4")),
            ("ratio".to_owned(), Value::from("0.5")),
        ]);
        let values = values(&parameters, &given, "spec.config").expect("valid");
        assert_eq!(values, serde_json::json!({"workers": 4, "version": "1.1", "on": false, "ratio": 0.5}));
    }

    #[test]
    fn every_wrong_value_is_named() {
        let parameters = parameters(
            "a: {type: integer}\nb: {type: integer, maximum: 5}\nc: {enum: [x, y]}\nd: {pattern: '^v[0-9]+$'}\ne: {minLength: 2}\nf: {type: boolean}\ng: {type: integer, multipleOf: 3}\n",
        );
        let given = [("b", "6"), ("c", "z"), ("d", "1"), ("e", "x"), ("f", "yes"), ("g", "4"), ("h", "1")];
        let given = given.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
        let errors = values(&parameters, &given, "spec.config").expect_err("wrong");
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.config.h: the workflow does not declare it; declared: a, b, c, d, e, f, g",
                "spec.config.a: required: it has no default",
                "spec.config.b: 6; must be at most 5",
                "spec.config.c: \"z\" is none of x, y",
                "spec.config.d: \"1\" does not match ^v[0-9]+$",
                "spec.config.e: 1 characters; at least 2",
                "spec.config.f: \"yes\" is not true or false",
                "spec.config.g: 4; must be a multiple of 3",
            ]
        );
    }
}
