//! Whether a workflow makes sense, told field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fleet_objects::test_run::TestRunSpec;
use fleet_objects::test_workflow::{TestStep, TestWorkflowSpec};

use crate::{collect, duration};

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
    if spec.steps.is_empty() {
        checker.fail(format!("{at}.steps"), "at least one step is required");
    }
    if spec.steps.len() > MAX_STEPS {
        checker.fail(format!("{at}.steps"), format!("{} steps; at most {MAX_STEPS}", spec.steps.len()));
    }
    let mut names = BTreeSet::new();
    for (index, step) in spec.steps.iter().enumerate() {
        let at = format!("{at}.steps[{index}]");
        check_step(&mut checker, step, &at);
        if !names.insert(step.name.as_str()) {
            checker.fail(format!("{at}.name"), format!("another step is already called {:?}", step.name));
        }
    }
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

fn check_step(checker: &mut Checker, step: &TestStep, at: &str) {
    if !is_dns_label(&step.name) || step.name.len() > MAX_STEP_NAME {
        checker.fail(
            format!("{at}.name"),
            format!(
                "{:?} is not a step name; use at most {MAX_STEP_NAME} lower-case letters, digits and '-'",
                step.name
            ),
        );
    }
    if step.image.trim().is_empty() || step.image.chars().any(char::is_whitespace) {
        checker.fail(format!("{at}.image"), "an image reference without spaces is required");
    }
    for (index, variable) in step.env.iter().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            checker.fail(format!("{at}.env[{index}].name"), "required, without '='");
        }
    }
    if let Some(directory) = &step.working_dir
        && !directory.starts_with('/')
    {
        checker.fail(format!("{at}.workingDir"), "must be an absolute path");
    }
    if let Some(text) = &step.timeout {
        match duration::parse(text) {
            Err(error) => checker.fail(format!("{at}.timeout"), error.to_string()),
            Ok(value) if value.is_zero() || value > MAX_TIMEOUT => {
                checker.fail(format!("{at}.timeout"), "must be above 0 and at most 24h");
            }
            Ok(_) => {}
        }
    }
    if let Some(retry) = &step.retry
        && retry.count > MAX_RETRIES
    {
        checker.fail(format!("{at}.retry.count"), format!("{}; at most {MAX_RETRIES}", retry.count));
    }
    check_globs(checker, &step.artifacts, &format!("{at}.artifacts"));
    check_globs(checker, &step.junit, &format!("{at}.junit"));
}

fn check_globs(checker: &mut Checker, globs: &[String], at: &str) {
    if globs.len() > MAX_GLOBS {
        checker.fail(at, format!("{} globs; at most {MAX_GLOBS}", globs.len()));
    }
    for (index, glob) in globs.iter().enumerate() {
        if let Err(error) = collect::check_glob(glob) {
            checker.fail(format!("{at}[{index}]"), error);
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// RFC 1123 label.
fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::TestTargets;
    use fleet_objects::test_workflow::RetryPolicy;

    use super::*;

    fn step(name: &str) -> TestStep {
        TestStep { name: name.into(), image: "busybox".into(), ..TestStep::default() }
    }

    #[test]
    fn a_plain_workflow_is_valid() {
        let spec = TestWorkflowSpec { steps: vec![step("unit"), step("load")], ..Default::default() };
        assert_eq!(workflow(&spec, "spec"), Ok(()));
    }

    #[test]
    fn every_mistake_is_named_with_its_field() {
        let bad = TestStep {
            name: "Not A Name".into(),
            image: String::new(),
            working_dir: Some("relative".into()),
            timeout: Some("10".into()),
            retry: Some(RetryPolicy { count: 99 }),
            artifacts: vec!["../secrets".into(), "a[".into()],
            ..TestStep::default()
        };
        let spec = TestWorkflowSpec {
            variables: [("1x".to_owned(), String::new()), ("FAIRLEAD_RUN".to_owned(), String::new())].into(),
            steps: vec![step("a"), step("a"), bad],
            ..Default::default()
        };
        let Err(Invalid(errors)) = workflow(&spec, "spec") else { panic!("must be invalid") };
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.variables.1x",
                "spec.variables.FAIRLEAD_RUN",
                "spec.steps[1].name",
                "spec.steps[2].name",
                "spec.steps[2].image",
                "spec.steps[2].workingDir",
                "spec.steps[2].timeout",
                "spec.steps[2].retry.count",
                "spec.steps[2].artifacts[0]",
                "spec.steps[2].artifacts[1]",
            ]
        );
    }

    #[test]
    fn a_run_needs_one_workflow_and_a_target() {
        let Err(Invalid(errors)) = run(&TestRunSpec::default()) else { panic!("must be invalid") };
        assert_eq!(errors.len(), 2, "{errors:?}");
        let good = TestRunSpec {
            workflow: Some(TestWorkflowSpec { steps: vec![step("a")], ..Default::default() }),
            targets: TestTargets { all: true, ..Default::default() },
            ..Default::default()
        };
        assert_eq!(run(&good), Ok(()));
        let typo = TestRunSpec { variables: [("URl".to_owned(), String::new())].into(), ..good };
        assert!(run(&typo).is_err());
    }
}
