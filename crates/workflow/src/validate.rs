//! Whether a workflow makes sense, told field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fleet_objects::test_run::{RunReference, TestExecutionSpec, TestRunSpec};
use fleet_objects::test_workflow::{
    Concurrency, ConcurrencyMode, ContainerDefaults, EnvironmentVariable, EphemeralCluster, Service,
    TemplateUse, TestStep, TestWorkflowSpec,
};
use serde_json::Value;

use crate::duration;
use crate::expression::{Expression, Template};
use crate::plan::{EPHEMERAL_VERSION, MAX_EPHEMERAL_NODES};

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

fn check_cluster(checker: &mut Checker, cluster: &EphemeralCluster, at: &str) {
    unknown(checker, &cluster.unknown, at);
    let version = cluster.version.as_deref().map(|version| version.trim_start_matches('v'));
    if version.is_some_and(|version| version != EPHEMERAL_VERSION) {
        checker
            .fail(format!("{at}.version"), format!("ephemeral clusters are of version {EPHEMERAL_VERSION}"));
    }
    if cluster.nodes.is_some_and(|nodes| nodes > MAX_EPHEMERAL_NODES) {
        checker.fail(format!("{at}.nodes"), format!("at most {MAX_EPHEMERAL_NODES}"));
    }
    for (index, object) in cluster.seed.iter().enumerate() {
        let named = object["metadata"]["name"].is_string();
        if !object["apiVersion"].is_string() || !object["kind"].is_string() || !named {
            checker.fail(format!("{at}.seed[{index}]"), "an object has apiVersion, kind and metadata.name");
        }
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
            for (field, transfers) in [("transfer", &parallel.transfer), ("fetch", &parallel.fetch)] {
                if !transfers.is_empty() {
                    checker.fail(
                        format!("{at}.{field}"),
                        "files do not go between pods yet; let the instances fetch them with content",
                    );
                }
            }
            if parallel.together {
                checker.fail(format!("{at}.together"), "a common start is not built yet");
            }
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
}

fn check_container(checker: &mut Checker, container: &ContainerDefaults, at: &str) {
    unknown(checker, &container.unknown, at);
    check_texts(checker, &container.command, &format!("{at}.command"));
    check_texts(checker, &container.args, &format!("{at}.args"));
    check_template(checker, Some(&container.image), &format!("{at}.image"));
    check_variables(checker, &container.env, &format!("{at}.env"));
}

/// Fields of a pod that would give a test rights which test pods never have.
const REFUSED: [&str; 5] =
    ["serviceAccountName", "serviceAccount", "automountServiceAccountToken", "containers", "initContainers"];

fn check_pod(checker: &mut Checker, pod: Option<&Value>, at: &str) {
    for name in REFUSED {
        if pod.is_some_and(|pod| pod.get(name).is_some()) {
            checker.fail(
                format!("{at}.{name}"),
                "pods of tests have no rights and no containers but their steps",
            );
        }
    }
}

fn check_services(checker: &mut Checker, services: &BTreeMap<String, Service>, at: &str) {
    for (name, service) in services {
        let at = format!("{at}.services.{name}");
        if !is_dns_label(&name.to_lowercase()) || name.len() > MAX_STEP_NAME {
            checker
                .fail(&at, format!("a name of at most {MAX_STEP_NAME} letters, digits and '-' is required"));
        }
        unknown(checker, &service.unknown, &at);
        check_texts(checker, &service.command, &format!("{at}.command"));
        check_texts(checker, &service.args, &format!("{at}.args"));
        check_template(checker, service.shell.as_deref(), &format!("{at}.shell"));
        check_variables(checker, &service.env, &format!("{at}.env"));
        check_duration(checker, service.timeout.as_deref(), &format!("{at}.timeout"));
        check_pod(checker, service.pod.as_ref(), &format!("{at}.pod"));
        if let Some(policy) = &service.restart_policy
            && !matches!(policy.as_str(), "OnFailure" | "Never")
        {
            checker.fail(format!("{at}.restartPolicy"), "OnFailure or Never");
        }
    }
}

fn check_variables(checker: &mut Checker, variables: &[EnvironmentVariable], at: &str) {
    for (index, variable) in variables.iter().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            checker.fail(format!("{at}[{index}].name"), "required, without '='");
        }
        check_template(checker, Some(&variable.value), &format!("{at}[{index}].value"));
    }
}

fn check_texts(checker: &mut Checker, texts: &[String], at: &str) {
    for (index, text) in texts.iter().enumerate() {
        check_template(checker, Some(text), &format!("{at}[{index}]"));
    }
}

fn check_template(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text.filter(|text| text.contains("{{")) else { return };
    match Template::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(template) => check_names(checker, template.names(), at),
    }
}

fn check_expression(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text else { return };
    match Expression::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(expression) => check_names(checker, expression.names(), at),
    }
}

fn check_names(checker: &mut Checker, names: Vec<(usize, String)>, at: &str) {
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

fn check_duration(checker: &mut Checker, text: Option<&str>, at: &str) {
    let Some(text) = text.filter(|text| !text.contains("{{")) else { return };
    match duration::parse(text) {
        Err(error) => checker.fail(at, error.to_string()),
        Ok(value) if value.is_zero() || value > MAX_TIMEOUT => {
            checker.fail(at, "must be above 0 and at most 24h");
        }
        Ok(_) => {}
    }
}

fn check_globs(checker: &mut Checker, globs: &[String], at: &str) {
    if globs.len() > MAX_GLOBS {
        checker.fail(at, format!("{} globs; at most {MAX_GLOBS}", globs.len()));
    }
    for (index, glob) in globs.iter().enumerate() {
        if let Err(error) = crate::collect::check_kept(glob) {
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
            image: "a b".into(),
            condition: Some("passd".into()),
            timeout: Some("10".into()),
            retry: Some(RetryPolicy { count: 99, until: None }),
            artifacts: vec!["".into(), "a[".into()],
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
                "spec.steps[2].condition",
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
