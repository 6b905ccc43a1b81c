//! Health by rules that people write, in the caller's expression language.

use std::fmt;

use fleet_objects::{Health, HealthRule, ProfileSpec};
use serde_json::Value;

/// Rules of a profile at most, its layers' included.
pub const MAX_RULES: usize = 200;

/// Evaluates expressions (CEL) over one variable, `object`.
pub trait ObjectExpressions: fmt::Debug + Send + Sync {
    /// Checks an expression without an object: `text` of a text, else of a boolean.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn check(&self, expression: &str, text: bool) -> Result<(), String>;

    /// Whether a boolean expression holds for an object.
    ///
    /// # Errors
    /// Why it has no value for this object.
    fn holds(&self, expression: &str, object: &Value) -> Result<bool, String>;

    /// The text that an expression makes of an object.
    ///
    /// # Errors
    /// As [`ObjectExpressions::holds`].
    fn text(&self, expression: &str, object: &Value) -> Result<String, String>;
}

/// For callers without a language: every expression is an error that says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjectExpressions;

const NONE: &str = "this program evaluates no expressions";

impl ObjectExpressions for NoObjectExpressions {
    fn check(&self, _: &str, _: bool) -> Result<(), String> {
        Err(NONE.to_owned())
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err(NONE.to_owned())
    }

    fn text(&self, _: &str, _: &Value) -> Result<String, String> {
        Err(NONE.to_owned())
    }
}

/// Checks every rule of a profile.
///
/// # Errors
/// The first that is wrong, with its path and the place in the expression.
pub fn check(spec: &ProfileSpec, expressions: &dyn ObjectExpressions) -> Result<(), String> {
    match problems(spec, expressions).into_iter().next() {
        Some((place, problem)) => Err(format!("{place}: {problem}")),
        None => Ok(()),
    }
}

/// What is wrong with the rules of a profile: the path within its `spec`, and why.
#[must_use]
pub fn problems(spec: &ProfileSpec, expressions: &dyn ObjectExpressions) -> Vec<(String, String)> {
    let layers = spec.layers.iter().enumerate().map(|(index, layer)| {
        let place = format!("layers[{index}].health");
        (place, layer.health.as_slice())
    });
    let mut found = Vec::new();
    let mut count = 0;
    for (place, rules) in std::iter::once(("health".to_owned(), spec.health.as_slice())).chain(layers) {
        count += rules.len();
        for (index, rule) in rules.iter().enumerate() {
            check_rule(rule, &format!("{place}[{index}]"), expressions, &mut found);
        }
    }
    if count > MAX_RULES {
        let problem = format!("{count} health rules are more than the {MAX_RULES} a profile may have");
        found.push(("health".to_owned(), problem));
    }
    found
}

fn check_rule(
    rule: &HealthRule,
    place: &str,
    expressions: &dyn ObjectExpressions,
    found: &mut Vec<(String, String)>,
) {
    let mut wrong = |problem: &str| found.push((place.to_owned(), problem.to_owned()));
    if rule.api_version.is_empty() || rule.kind.is_empty() {
        wrong("apiVersion and kind must not be empty");
    }
    if rule.current.is_none() && rule.progressing.is_none() && rule.failed.is_none() {
        wrong("one of current, progressing and failed must be given");
    }
    for (name, expression, text) in [
        ("current", &rule.current, false),
        ("progressing", &rule.progressing, false),
        ("failed", &rule.failed, false),
        ("message", &rule.message, true),
    ] {
        let Some(expression) = expression else { continue };
        if let Err(problem) = expressions.check(expression, text) {
            found.push((format!("{place}.{name}"), problem));
        }
    }
}

/// Whether a rule is for objects of this kind.
#[must_use]
pub fn is_for(rule: &HealthRule, api_version: &str, kind: &str) -> bool {
    rule.api_version == api_version && rule.kind == kind
}

/// What a rule says of an object, and why when it is not healthy; `None`: nothing, the built-in rules decide.
#[must_use]
pub fn judge(
    rule: &HealthRule,
    object: &Value,
    expressions: &dyn ObjectExpressions,
) -> Option<(Health, String)> {
    let mut problem = None;
    let mut holds = |name: &str, expression: &Option<String>| {
        let expression = expression.as_deref()?;
        let value = expressions.holds(expression, object);
        Some(value.unwrap_or_else(|why| {
            problem.get_or_insert(format!("{name}: {why}"));
            false
        }))
    };
    let why = |otherwise: String| {
        let told = rule.message.as_deref().and_then(|message| expressions.text(message, object).ok());
        told.filter(|told| !told.is_empty()).unwrap_or(otherwise)
    };
    if holds("failed", &rule.failed) == Some(true) {
        return Some((Health::Failed, why("its health rule says that it failed".to_owned())));
    }
    if holds("progressing", &rule.progressing) == Some(true) {
        return Some((Health::Progressing, why("its health rule says that it is on its way".to_owned())));
    }
    match holds("current", &rule.current)? {
        true => Some((Health::Healthy, String::new())),
        false => {
            let otherwise = "its health rule does not call it current yet".to_owned();
            Some((Health::Progressing, why(problem.unwrap_or(otherwise))))
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::ProfileLayer;
    use serde_json::json;

    use super::*;

    /// Stands for a language: an expression is the name of a field of the object.
    #[derive(Debug)]
    struct Fields;

    impl ObjectExpressions for Fields {
        fn check(&self, expression: &str, _: bool) -> Result<(), String> {
            if expression.contains(' ') { Err("1:1: not a name".to_owned()) } else { Ok(()) }
        }

        fn holds(&self, expression: &str, object: &Value) -> Result<bool, String> {
            object[expression].as_bool().ok_or_else(|| format!("no such key: {expression}"))
        }

        fn text(&self, expression: &str, object: &Value) -> Result<String, String> {
            object[expression].as_str().map(str::to_owned).ok_or_else(|| format!("no such key: {expression}"))
        }
    }

    fn rule() -> HealthRule {
        HealthRule {
            api_version: "db.example.com/v1".into(),
            kind: "Database".into(),
            current: Some("up".into()),
            progressing: Some("moving".into()),
            failed: Some("broken".into()),
            message: Some("why".into()),
        }
    }

    #[test]
    fn the_worst_that_holds_decides() {
        for (object, health, message) in [
            (json!({"up": true, "broken": true, "why": "disk"}), Health::Failed, "disk"),
            (
                json!({"up": true, "moving": true, "broken": false}),
                Health::Progressing,
                "its health rule says",
            ),
            (json!({"up": true}), Health::Healthy, ""),
            (json!({"up": false, "moving": false, "broken": false}), Health::Progressing, "does not call it"),
            (json!({}), Health::Progressing, "failed: no such key: broken"),
        ] {
            let (found, said) = judge(&rule(), &object, &Fields).unwrap();
            assert_eq!(found, health, "{object}");
            assert!(said.starts_with(message) || said.contains(message), "{said}");
        }
        let only_failed = HealthRule { current: None, progressing: None, ..rule() };
        assert_eq!(judge(&only_failed, &json!({"broken": false}), &Fields), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let spec = |rule: HealthRule| ProfileSpec {
            layers: vec![ProfileLayer { health: vec![rule], ..ProfileLayer::default() }],
            ..ProfileSpec::default()
        };
        assert_eq!(check(&spec(rule()), &Fields), Ok(()));
        let wrong = HealthRule { failed: Some("a b".into()), ..rule() };
        assert_eq!(check(&spec(wrong), &Fields).unwrap_err(), "layers[0].health[0].failed: 1:1: not a name");
        let empty = HealthRule { current: None, progressing: None, failed: None, ..rule() };
        assert!(check(&spec(empty), &Fields).unwrap_err().contains("one of current"));
        let many = ProfileSpec { health: vec![rule(); MAX_RULES + 1], ..ProfileSpec::default() };
        assert!(check(&many, &Fields).unwrap_err().contains("201 health rules"));
        assert!(check(&spec(rule()), &NoObjectExpressions).is_err());
    }
}
