//! Whether a workflow makes sense, told field by field.

mod fields;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fleet_objects::test_run::{RunReference, TestExecutionSpec, TestRunSpec};
use fleet_objects::test_workflow::{Concurrency, ConcurrencyMode, TemplateUse, TestStep, TestWorkflowSpec};
use serde_json::Value;

use self::fields::{
    check_duration, check_expression, check_globs, check_template, check_texts, check_variables,
    is_dns_label, is_variable_name,
};
use self::pods::{check_cluster, check_container, check_pod, check_services};

/// Steps a workflow may have. Each attempt's result takes up to some 20 KiB in the run's status per cluster; 64 keeps a
/// status of several clusters well under the 1.5 MiB an object may have in the usual case.
pub const MAX_STEPS: usize = 64;
/// Attempts after the first.
pub const MAX_RETRIES: u32 = 20;
/// Globs per step and kind.
pub const MAX_GLOBS: usize = 32;
/// The longest timeout of one attempt.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Characters in a step's name: the pod's name adds the attempt and part of a uid and must stay below 63.
pub const MAX_STEP_NAME: usize = 40;

/// Characters of a value that is masked: a shorter one would mask half a log.
pub const MIN_MASKED: usize = 4;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field, like `spec.steps[1].timeout`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a workflow; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<FieldError>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Collects errors under a path.
struct Checker {
    errors: Vec<FieldError>,
}

impl Checker {
    fn fail(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
    }

    fn finish(self) -> Result<(), Invalid> {
        if self.errors.is_empty() { Ok(()) } else { Err(Invalid(self.errors)) }
    }
}

/// Checks a workflow; `at` is where it stands, usually `spec`.
///
/// # Errors
/// Everything that is wrong, in the order of the document.
pub fn workflow(spec: &TestWorkflowSpec, at: &str) -> Result<(), Invalid> {
    let mut checker = Checker { errors: Vec::new() };
    for name in spec.variables.keys() {
        if !is_variable_name(name) {
            checker.fail(format!("{at}.variables.{name}"), "not a variable name; use letters, digits and _");
        }
        if name.starts_with("FAIRLEAD_") {
            checker.fail(
                format!("{at}.variables.{name}"),
                "names that begin with FAIRLEAD_ are set by Fairlead",
            );
        }
    }
    inner_workflow(&mut checker, spec, at, 0);
    checker.finish()
}

/// Checks that a run sets only variables its workflow declares.
///
/// # Errors
/// One per undeclared name.
pub fn variables(spec: &TestWorkflowSpec, values: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let mut checker = Checker { errors: Vec::new() };
    for name in values.keys().filter(|name| !spec.variables.contains_key(*name)) {
        let declared: Vec<_> = spec.variables.keys().map(String::as_str).collect();
        let known = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        checker.fail(
            format!("spec.variables.{name}"),
            format!("the workflow does not declare it; declared: {known}"),
        );
    }
    checker.finish()
}

/// Checks a workflow whose templates are applied, with the values a run sets, by planning it: nothing is left for a cluster
/// to find out that can be known before.
///
/// # Errors
/// Everything that is wrong.
pub fn resolved(spec: &TestWorkflowSpec, run: &TestRunSpec) -> Result<(), Invalid> {
    let execution = TestExecutionSpec {
        run: RunReference::default(),
        cluster: "cluster".to_owned(),
        workflow: spec.clone(),
        variables: run.variables.clone(),
        config: run.config.clone(),
        cancel: false,
        pause: None,
    };
    crate::plan::execution(&execution).map(drop)
}

/// Checks a run, with its workflow when that stands in it.
///
/// # Errors
/// Everything that is wrong.
pub fn run(spec: &TestRunSpec) -> Result<(), Invalid> {
    let mut checker = Checker { errors: Vec::new() };
    match (&spec.workflow, &spec.workflow_ref) {
        (None, None) => checker.fail("spec", "one of workflow and workflowRef is required"),
        (Some(_), Some(_)) => checker.fail("spec", "workflow and workflowRef exclude each other"),
        (None, Some(reference)) if reference.name.is_empty() => {
            checker.fail("spec.workflowRef.name", "required");
        }
        (None, Some(_)) => {}
        (Some(inline), None) => {
            for result in [workflow(inline, "spec.workflow"), variables(inline, &spec.variables)] {
                checker.errors.extend(result.err().map(|invalid| invalid.0).unwrap_or_default());
            }
        }
    }
    let targets = &spec.targets;
    if targets.clusters.is_empty() && targets.selector.is_none() && !targets.all {
        checker.fail("spec.targets", "one of clusters, selector and all is required");
    }
    checker.finish()
}

/// Steps within steps and workflows within steps.
const MAX_DEPTH: usize = 12;

fn inner_workflow(checker: &mut Checker, spec: &TestWorkflowSpec, at: &str, depth: usize) {
    if spec.setup.is_empty() && spec.steps.is_empty() && spec.after.is_empty() {
        checker.fail(format!("{at}.steps"), "at least one step is required");
    }
    let count = count(&spec.setup) + count(&spec.steps) + count(&spec.after);
    if count > MAX_STEPS {
        checker.fail(format!("{at}.steps"), format!("{count} steps; at most {MAX_STEPS}"));
    }
    unknown(checker, &spec.unknown, at);
    unused_templates(checker, &spec.uses, at);
    for (name, parameter) in &spec.config {
        if let Some(pattern) = &parameter.pattern
            && let Err(error) = regex::Regex::new(pattern)
        {
            checker.fail(format!("{at}.config.{name}.pattern"), error.to_string());
        }
    }
    if let Some(container) = &spec.container {
        check_container(checker, container, &format!("{at}.container"));
    }
    check_pod(checker, spec.pod.as_ref(), &format!("{at}.pod"));
    check_duration(checker, spec.timeout.as_deref(), &format!("{at}.timeout"));
    if spec.workspace.as_ref().is_some_and(|path| !path.starts_with('/') || path.len() < 2) {
        checker.fail(format!("{at}.workspace"), "must be an absolute path below /");
    }
    let other = |own: &Concurrency| own.mode.is_some_and(|mode| mode != ConcurrencyMode::CancelRunning);
    if spec.concurrency.as_ref().is_some_and(|own| own.cancel_in_progress && other(own)) {
        checker.fail(format!("{at}.concurrency.cancelInProgress"), "mode says something else");
    }
    if spec.concurrency.as_ref().is_some_and(|own| own.max == Some(0)) {
        checker.fail(format!("{at}.concurrency.max"), "must be at least 1");
    }
    if spec.concurrency.as_ref().is_some_and(|own| own.group.as_deref().unwrap_or_default().is_empty()) {
        checker.fail(format!("{at}.concurrency.group"), "required");
    }
    if let Some(cluster) = &spec.ephemeral_cluster {
        check_cluster(checker, cluster, &format!("{at}.ephemeralCluster"));
    }
    check_services(checker, &spec.services, at);
    let mut ids = BTreeMap::new();
    for (list, steps) in [("setup", &spec.setup), ("steps", &spec.steps), ("after", &spec.after)] {
        check_steps(checker, steps, &format!("{at}.{list}"), depth, &mut ids);
    }
}

/// The containers that steps come to, before iterations are written out.
fn count(steps: &[TestStep]) -> usize {
    steps.iter().map(|step| 1 + count(&step.setup) + count(&step.steps)).sum()
}

fn unknown(checker: &mut Checker, unknown: &BTreeMap<String, Value>, at: &str) {
    for name in unknown.keys() {
        checker.fail(format!("{at}.{name}"), "there is no such field");
    }
}

fn unused_templates(checker: &mut Checker, uses: &[TemplateUse], at: &str) {
    for (index, wanted) in uses.iter().enumerate() {
        if wanted.name.is_empty() {
            checker.fail(format!("{at}.use[{index}].name"), "required");
        }
    }
}

fn check_steps<'a>(
    checker: &mut Checker,
    steps: &'a [TestStep],
    at: &str,
    depth: usize,
    ids: &mut BTreeMap<&'a str, String>,
) {
    if depth > MAX_DEPTH {
        checker.fail(at, format!("steps within steps go no deeper than {MAX_DEPTH}"));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}[{index}]");
        check_step(checker, step, &at);
        if !step.name.is_empty() && !names.insert(step.name.as_str()) {
            checker.fail(format!("{at}.name"), format!("another step is already called {:?}", step.name));
        }
        if let Some(id) = &step.id
            && let Some(other) = ids.insert(id, at.clone())
        {
            checker.fail(format!("{at}.id"), format!("{other} has the same id"));
        }
        check_steps(checker, &step.setup, &format!("{at}.setup"), depth + 1, ids);
        check_steps(checker, &step.steps, &format!("{at}.steps"), depth + 1, ids);
        if let Some(parallel) = &step.parallel {
            let at = format!("{at}.parallel");
            inner_workflow(checker, &parallel.workflow, &at, depth + 1);
        }
        check_services(checker, &step.services, &at);
    }
}

fn check_step(checker: &mut Checker, step: &TestStep, at: &str) {
    if !step.name.is_empty() && (!is_dns_label(&step.name) || step.name.len() > MAX_STEP_NAME) {
        checker.fail(
            format!("{at}.name"),
            format!(
                "{:?} is not a step name; use at most {MAX_STEP_NAME} lower-case letters, digits and '-'",
                step.name
            ),
        );
    }
    unknown(checker, &step.unknown, at);
    unused_templates(checker, &step.uses, at);
    let works = step.runs_a_container()
        || step.parallel.is_some()
        || step.execute.is_some()
        || step.template.is_some()
        || step.paused
        || step.delay.is_some()
        || step.content.is_some()
        || step.keeps_files()
        || !step.uses.is_empty()
        || !step.setup.is_empty()
        || !step.steps.is_empty();
    if !works {
        checker
            .fail(at, "nothing to do; give it an image, a shell script, steps, a template or files to keep");
    }
    if step.image.trim() != step.image
        || (!step.image.contains("{{") && step.image.contains(char::is_whitespace))
    {
        checker.fail(format!("{at}.image"), "an image reference without spaces is required");
    }
    if step.shell.is_some() && !(step.command.is_empty() && step.args.is_empty()) {
        checker.fail(format!("{at}.shell"), "a script takes the place of command and args; drop one of them");
    }
    if step.parallel.is_some() && step.execute.is_some() {
        checker.fail(format!("{at}.execute"), "parallel and execute need a step each");
    }
    check_expression(checker, step.condition.as_deref(), &format!("{at}.condition"));
    if step.always && step.condition.is_some() {
        checker.fail(format!("{at}.always"), "stands for a condition; there is one already");
    }
    check_texts(checker, &step.command, &format!("{at}.command"));
    check_texts(checker, &step.args, &format!("{at}.args"));
    check_template(checker, step.shell.as_deref(), &format!("{at}.shell"));
    check_template(checker, Some(&step.image), &format!("{at}.image"));
    check_template(checker, step.title.as_deref(), &format!("{at}.title"));
    check_variables(checker, &step.env, &format!("{at}.env"));
    if let Some(container) = &step.container {
        check_container(checker, container, &format!("{at}.container"));
    }
    check_duration(checker, step.timeout.as_deref(), &format!("{at}.timeout"));
    check_duration(checker, step.delay.as_deref(), &format!("{at}.delay"));
    if let Some(retry) = &step.retry {
        if retry.count > MAX_RETRIES {
            checker.fail(format!("{at}.retry.count"), format!("{}; at most {MAX_RETRIES}", retry.count));
        }
        check_expression(checker, retry.until.as_deref(), &format!("{at}.retry.until"));
    }
    check_globs(checker, &step.artifacts, &format!("{at}.artifacts"));
    check_globs(checker, &step.junit, &format!("{at}.junit"));
    if let Some(name) = step.artifact_options.as_ref().and_then(|options| options.archive.as_ref()) {
        let at = format!("{at}.artifactOptions.archive");
        if name.contains("{{") {
            check_template(checker, Some(name), &at);
        } else if let Err(why) = crate::collect::check_archive(name) {
            checker.fail(at, why);
        }
    }
}

#[cfg(test)]
mod tests;
