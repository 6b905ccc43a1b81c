//! Checks of single fields: names, texts, expressions, times, globs.

use fleet_objects::test_workflow::EnvironmentVariable;

use super::{Checker, MAX_GLOBS, MAX_TIMEOUT};
use crate::duration;
use crate::expression::{Expression, Template};

pub(super) fn check_variables(checker: &mut Checker, variables: &[EnvironmentVariable], at: &str) {
    for (index, variable) in variables.iter().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            checker.fail(format!("{at}[{index}].name"), "required, without '='");
        }
        check_template(checker, Some(&variable.value), &format!("{at}[{index}].value"));
    }
}

pub(super) fn check_texts(checker: &mut Checker, texts: &[String], at: &str) {
    for (index, text) in texts.iter().enumerate() {
        check_template(checker, Some(text), &format!("{at}[{index}]"));
    }
}

pub(super) fn check_template(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text.filter(|text| text.contains("{{")) else { return };
    match Template::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(template) => check_names(checker, template.names(), at),
    }
}

pub(super) fn check_expression(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text else { return };
    match Expression::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(expression) => check_names(checker, expression.names(), at),
    }
}

pub(super) fn check_names(checker: &mut Checker, names: Vec<(usize, String)>, at: &str) {
    for (place, name) in names {
        if !NAMES.contains(&name.as_str()) {
            let known = NAMES.join(", ");
            checker.fail(
                at,
                format!("there is nothing called {name:?} (at character {}); known: {known}", place + 1),
            );
        }
    }
}

/// Every name of the language.
const NAMES: [&str; 20] = [
    "always",
    "cluster",
    "config",
    "count",
    "env",
    "execution",
    "failed",
    "index",
    "matrix",
    "never",
    "passed",
    "pvcs",
    "run",
    "self",
    "services",
    "shard",
    "status",
    "step",
    "workflow",
    "_",
];

pub(super) fn check_duration(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text.filter(|text| !text.contains("{{")) else { return };
    match duration::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(value) if value.is_zero() || value > MAX_TIMEOUT => {
            checker.fail(at, "must be above 0 and at most 24h");
        }
        Ok(_) => {}
    }
}

pub(super) fn check_globs(checker: &mut Checker, globs: &[String], at: &str) {
    if globs.len() > MAX_GLOBS {
        checker.fail(at, format!("{} globs; at most {MAX_GLOBS}", globs.len()));
    }
    for (index, glob) in globs.iter().enumerate() {
        if let Err(error) = crate::collect::check_kept(glob) {
            checker.fail(format!("{at}[{index}]"), error);
        }
    }
}

pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// RFC 1123 label.
pub(super) fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
