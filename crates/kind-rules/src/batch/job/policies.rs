//! When a job counts as failed or done before all its pods are.

use serde_json::Value;

use super::indexes;
use crate::json::{given, integer, list, number, text};
use crate::names::qualified_name;
use crate::path::Path;
use crate::problems::{Problems, Verbatim};

const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const PATTERNS: usize = 20;
const INDEXES_BYTES: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// `valid values: ["a" "b"]`, as Go prints a list of texts.
fn valid_values(values: &[&str]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("valid values: [{}]", each.join(" "))
}

fn required_choice(problems: &mut Problems, at: Path<'_>, value: &str, supported: &[&str]) {
    if value.is_empty() {
        problems.required(at, &valid_values(supported));
    } else if !supported.contains(&value) {
        problems.unsupported(at, value, supported);
    }
}

/// `podFailurePolicy`.
pub(super) fn failure(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(policy) = given(spec, "podFailurePolicy") else { return };
    let at = at.field("rules");
    let rules = list(policy, "rules");
    if rules.len() > RULES {
        problems.too_many(at, rules.len(), RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(problems, &at.index(index), rule, spec);
    }
}

fn failure_rule(problems: &mut Problems, at: &Path<'_>, rule: &Value, spec: &Value) {
    let action = text(rule, "action");
    if action == "FailIndex" {
        if given(spec, "backoffLimitPerIndex").is_none() {
            problems.invalid(at.field("action"), action, "requires the backoffLimitPerIndex to be set");
        }
    } else {
        required_choice(problems, at.field("action"), action, &ACTIONS);
    }
    let codes = given(rule, "onExitCodes");
    let conditions = list(rule, "onPodConditions");
    if let Some(codes) = codes {
        exit_codes(problems, &at.field("onExitCodes"), codes, spec);
    }
    let patterns = at.field("onPodConditions");
    if conditions.len() > PATTERNS {
        problems.too_many(patterns, conditions.len(), PATTERNS);
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let at = patterns.index(index);
        problems.check(at.field("type"), text(pattern, "type"), qualified_name);
        required_choice(problems, at.field("status"), text(pattern, "status"), &["False", "True", "Unknown"]);
    }
    match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            problems.invalid_omitted(at, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            problems.invalid_omitted(at, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn exit_codes(problems: &mut Problems, at: &Path<'_>, codes: &Value, spec: &Value) {
    let operator = text(codes, "operator");
    required_choice(problems, at.field("operator"), operator, &["In", "NotIn"]);
    if let Some(name) = given(codes, "containerName").and_then(Value::as_str) {
        let template = &spec["template"]["spec"];
        let known = list(template, "containers")
            .iter()
            .chain(list(template, "initContainers"))
            .any(|container| text(container, "name") == name);
        if !known {
            let why = "must be one of the container or initContainer names in the pod template";
            problems.invalid(at.field("containerName"), name, why);
        }
    }
    let values = list(codes, "values");
    let field = at.field("values");
    if values.is_empty() {
        problems.invalid(field, codes.get("values"), "at least one value is required");
    } else if values.len() > EXIT_CODES {
        problems.too_many(field, values.len(), EXIT_CODES);
    }
    let numbers: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap_or_default()).collect();
    for (index, code) in numbers.iter().enumerate() {
        if operator == "In" && *code == 0 {
            problems.invalid(field.index(index), *code, "must not be 0 for the In operator");
        }
        if numbers[..index].contains(code) {
            problems.duplicate(field.index(index), *code);
        }
    }
    if numbers.windows(2).any(|pair| pair[0] > pair[1]) {
        problems.invalid(field, codes.get("values"), "must be ordered");
    }
}

/// `successPolicy`.
pub(super) fn success(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(policy) = given(spec, "successPolicy") else { return };
    if text(spec, "completionMode") != "Indexed" {
        let rules: Vec<String> = list(policy, "rules")
            .iter()
            .map(|rule| {
                let part = |key: &str| given(rule, key).map_or_else(|| "null".to_owned(), Value::to_string);
                format!(
                    "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
                    part("succeededIndexes"),
                    part("succeededCount")
                )
            })
            .collect();
        let shown = format!("{{\"Rules\":[{}]}}", rules.join(","));
        return problems.invalid(at, Verbatim(&shown), "requires indexed completion mode");
    }
    let at = at.field("rules");
    let rules = list(policy, "rules");
    if rules.is_empty() {
        problems.required(at, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > RULES {
        problems.too_many(at, rules.len(), RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        success_rule(problems, &at.index(index), rule, integer(spec, "completions"));
    }
}

fn success_rule(problems: &mut Problems, at: &Path<'_>, rule: &Value, completions: i64) {
    let indexes = given(rule, "succeededIndexes").and_then(Value::as_str);
    let count = number(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        problems.required(at, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let at = at.field("succeededIndexes");
        if indexes.len() > INDEXES_BYTES {
            problems.too_many_bytes(at, INDEXES_BYTES);
        }
        match indexes::count(indexes, completions) {
            Ok(count) => total = count,
            Err(why) => problems.invalid(at, indexes, &format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = count else { return };
    let at = at.field("succeededCount");
    if count < 0 {
        problems.invalid(at, count, crate::problems::NOT_NEGATIVE);
    }
    if count > completions {
        let why =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        problems.invalid(at, count, &why);
    }
    if indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        problems.invalid(at, count, &why);
    }
}

/// `podReplacementPolicy`.
pub(super) fn replacement(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(policy) = given(spec, "podReplacementPolicy").and_then(Value::as_str) else { return };
    let supported: &[&str] = if given(spec, "podFailurePolicy").is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !supported.contains(&policy) {
        problems.unsupported(at, policy, supported);
    }
}
