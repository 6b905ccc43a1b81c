//! Tests of policies as `gator verify` reads them (`Suite`, `test.gatekeeper.sh/v1alpha1`).

use kind_rules::json::{child, list, text, truth};
use kube_objects::{GroupVersion, GroupVersionKind};
use regex::Regex;
use serde_json::Value;

use super::template::Preferred;
use super::{CONSTRAINTS, Gatekeeper, Reviewed, TEMPLATES, TRIAL_POINTS, Template, group_of};

/// The group of suites.
pub const GROUP: &str = "test.gatekeeper.sh";

/// What became of a case, or of a test that did not come to its cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was expected came true.
    Passed,
    /// Something else came out.
    Failed(String),
    /// It could not be tried.
    Error(String),
    /// It says that it is not to be tried.
    Skipped,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// The test.
    pub test: String,
    /// The case; "" for what is said of the whole test.
    pub case: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Reads a file that a suite names, relative to the suite.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<Vec<Value>, String> + 'a;

/// Whether a document is a suite.
#[must_use]
pub fn is_suite(document: &Value) -> bool {
    group_of(document) == GROUP && text(document, "kind") == "Suite"
}

/// Runs a suite.
#[must_use]
pub fn run(suite: &Value, preferred: Preferred, read: &ReadFile<'_>) -> Vec<CaseResult> {
    let mut results = Vec::new();
    for test in list(suite, "tests") {
        let name = text(test, "name").to_owned();
        let whole = |outcome| CaseResult { test: name.clone(), case: String::new(), outcome };
        if truth(suite, "skip") || truth(test, "skip") {
            results.push(whole(Outcome::Skipped));
            continue;
        }
        let set = load(test, preferred, read);
        match (set, truth(test, "invalid")) {
            (Err(Wrong::Constraint(_)), true) => results.push(whole(Outcome::Passed)),
            (Ok(_), true) => {
                results.push(whole(Outcome::Failed("the constraint is valid, and should not be".to_owned())));
            }
            (Err(Wrong::Constraint(why) | Wrong::Other(why)), _) => results.push(whole(Outcome::Error(why))),
            (Ok(set), false) => results.extend(list(test, "cases").iter().map(|case| {
                let outcome = if truth(case, "skip") {
                    Outcome::Skipped
                } else {
                    try_case(&set, case, read).unwrap_or_else(Outcome::Error)
                };
                CaseResult { test: name.clone(), case: text(case, "name").to_owned(), outcome }
            })),
        }
    }
    results
}

enum Wrong {
    /// The constraint does not fit its template.
    Constraint(String),
    Other(String),
}

fn only(path: &str, read: &ReadFile<'_>, group: &str) -> Result<Value, Wrong> {
    let all = read(path).map_err(Wrong::Other)?;
    let mut found = all.into_iter().filter(|document| group_of(document) == group);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Wrong::Other(format!("{path} does not hold exactly one object of {group}"))),
    }
}

/// The template and the constraint of a test.
fn load(test: &Value, preferred: Preferred, read: &ReadFile<'_>) -> Result<Gatekeeper, Wrong> {
    let template = only(text(test, "template"), read, TEMPLATES)?;
    let constraint = only(text(test, "constraint"), read, CONSTRAINTS)?;
    let (kind, compiled) = Template::compile_for(&template, preferred);
    let compiled = compiled.map_err(|problem| {
        Wrong::Other(format!("template {}: {}: {}", problem.policy, problem.field, problem.message))
    })?;
    if text(&constraint, "kind") != kind {
        let other = text(&constraint, "kind");
        return Err(Wrong::Other(format!("the constraint is of kind {other}, the template makes {kind}")));
    }
    let set = Gatekeeper::of(compiled, &constraint, &TRIAL_POINTS);
    match set.constraints().first().and_then(|constraint| constraint.problem.clone()) {
        Some(problem) => Err(Wrong::Constraint(format!("{}: {}", problem.field, problem.message))),
        None => Ok(set),
    }
}

fn kind_of(object: &Value) -> GroupVersionKind {
    let version = text(object, "apiVersion");
    let parsed = GroupVersion::parse(version).unwrap_or_else(|| GroupVersion::new("", version));
    parsed.kind(text(object, "kind"))
}

fn try_case(set: &Gatekeeper, case: &Value, read: &ReadFile<'_>) -> Result<Outcome, String> {
    let path = text(case, "object");
    if path.is_empty() {
        return Err("it names no object".to_owned());
    }
    let assertions = list(case, "assertions");
    if assertions.is_empty() {
        return Err("it asserts nothing".to_owned());
    }
    let mut inventory = Vec::new();
    for path in list(case, "inventory").iter().filter_map(Value::as_str) {
        inventory.extend(read(path)?);
    }
    set.set_inventory(&inventory)?;
    let mut objects = read(path)?;
    let (Some(mut object), true) = (objects.pop(), objects.is_empty()) else {
        return Err(format!("{path} does not hold exactly one object"));
    };
    let mut request = None;
    if group_of(&object) == "admission.k8s.io" && text(&object, "kind") == "AdmissionReview" {
        let mut asked = child(&mut object, "request").map(std::mem::take).unwrap_or_default();
        // As Gatekeeper shows what is deleted to policies that look at `object`.
        if !asked["object"].is_object() {
            asked["object"] = asked["oldObject"].clone();
        }
        object = asked["object"].clone();
        if !object.is_object() {
            return Err(format!("{path} asks about no object"));
        }
        request = Some(asked);
    }
    let kind = kind_of(&object);
    let within = text(&object["metadata"], "namespace");
    let namespace = inventory.iter().find(|one| {
        kind_of(one) == GroupVersionKind::new("", "v1", "Namespace")
            && !within.is_empty()
            && text(&one["metadata"], "name") == within
    });
    let reviewed = Reviewed { kind: &kind, object: &object, namespace, request: request.as_ref() };
    let mut messages = Vec::new();
    for (_, said) in set.review(&reviewed) {
        if let Some(error) = said.errors.into_iter().next() {
            return Err(error);
        }
        messages.extend(said.violations);
    }
    for assertion in assertions {
        if let Some(why) = contradiction(assertion, &messages)? {
            return Ok(Outcome::Failed(why));
        }
    }
    Ok(Outcome::Passed)
}

/// Why what came out is not what was expected.
fn contradiction(assertion: &Value, messages: &[String]) -> Result<Option<String>, String> {
    let pattern = match assertion["message"].as_str() {
        None => None,
        Some(text) => {
            Some(Regex::new(text).map_err(|error| format!("{text:?} is no regular expression: {error}"))?)
        }
    };
    let matching = messages
        .iter()
        .filter(|message| pattern.as_ref().is_none_or(|pattern| pattern.is_match(message)))
        .count();
    let (fits, wanted) = match &assertion["violations"] {
        Value::Null => (matching > 0, "at least one".to_owned()),
        Value::String(word) if word == "yes" => (matching > 0, "at least one".to_owned()),
        // YAML 1.1 reads the bare words as truths.
        Value::Bool(true) => (matching > 0, "at least one".to_owned()),
        Value::String(word) if word == "no" => (matching == 0, "none".to_owned()),
        Value::Bool(false) => (matching == 0, "none".to_owned()),
        other => match other.as_u64() {
            Some(count) => (u64::try_from(matching) == Ok(count), format!("exactly {count}")),
            None => return Err(format!("violations is yes, no or a number, not {other}")),
        },
    };
    let like = pattern.map(|pattern| format!(" like {:?}", pattern.as_str())).unwrap_or_default();
    Ok((!fits).then(|| format!("{matching} violations{like}, expected {wanted}: {messages:?}")))
}
