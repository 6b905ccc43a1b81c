//! Expands a workflow into the steps of one execution, with every default filled in and every bound known.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::test_run::{ClusterResult, Outcome, StepResult, TestExecutionSpec};
use fleet_objects::test_workflow::{EnvironmentVariable, TestStep};

use crate::validate::{self, Invalid};
use crate::{collect, duration};

/// How long an attempt may take when the step does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// What one execution does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionPlan {
    /// In the order they run.
    pub steps: Vec<PlannedStep>,
}

/// A step with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// As in the workflow.
    pub name: String,
    /// The container image.
    pub image: String,
    /// Entry point; empty: the image's.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables, then the step's own, then Fairlead's, without repetitions: later ones may refer to earlier ones.
    pub env: Vec<EnvironmentVariable>,
    /// Absolute.
    pub working_dir: String,
    /// Bound of one attempt.
    pub timeout: Duration,
    /// At least 1.
    pub attempts: u32,
    /// A failure does not fail the execution.
    pub optional: bool,
    /// Runs although an earlier step failed.
    pub always: bool,
    /// Globs of files to keep.
    pub artifacts: Vec<String>,
    /// Globs of JUnit reports.
    pub junit: Vec<String>,
}

impl PlannedStep {
    /// Whether files are taken out of its pods.
    #[must_use]
    pub fn collects(&self) -> bool {
        !self.artifacts.is_empty() || !self.junit.is_empty()
    }
}

/// Plans an execution.
///
/// # Errors
/// When the workflow or the variables are not valid; the agent reports that as "could not run".
pub fn execution(spec: &TestExecutionSpec) -> Result<ExecutionPlan, Invalid> {
    validate::workflow(&spec.workflow, "spec.workflow")?;
    validate::variables(&spec.workflow, &spec.variables)?;
    let mut variables = spec.workflow.variables.clone();
    variables.extend(spec.variables.clone());
    Ok(ExecutionPlan {
        steps: spec.workflow.steps.iter().map(|step| plan_step(step, &variables, spec)).collect(),
    })
}

fn plan_step(step: &TestStep, variables: &BTreeMap<String, String>, spec: &TestExecutionSpec) -> PlannedStep {
    let timeout = step.timeout.as_deref().and_then(|text| duration::parse(text).ok());
    PlannedStep {
        name: step.name.clone(),
        image: step.image.clone(),
        command: step.command.clone(),
        args: step.args.clone(),
        env: environment(step, variables, spec),
        working_dir: step.working_dir.clone().unwrap_or_else(|| collect::WORKSPACE.to_owned()),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        attempts: 1 + step.retry.as_ref().map_or(0, |retry| retry.count),
        optional: step.optional,
        always: step.always,
        artifacts: step.artifacts.clone(),
        junit: step.junit.clone(),
    }
}

fn environment(
    step: &TestStep,
    variables: &BTreeMap<String, String>,
    spec: &TestExecutionSpec,
) -> Vec<EnvironmentVariable> {
    let pair =
        |name: &str, value: &str| EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
    let own = [
        pair("FAIRLEAD_CLUSTER", &spec.cluster),
        pair("FAIRLEAD_RUN", &spec.run.name),
        pair("FAIRLEAD_STEP", &step.name),
    ];
    let taken = |name: &str, by: &[EnvironmentVariable]| by.iter().any(|other| other.name == name);
    let mut all: Vec<EnvironmentVariable> = variables
        .iter()
        .filter(|(name, _)| !taken(name, &step.env))
        .map(|(name, value)| pair(name, value))
        .collect();
    for variable in &step.env {
        if !taken(&variable.name, &own) && !taken(&variable.name, &all) {
            all.push(variable.clone());
        }
    }
    all.extend(own);
    all
}

/// What to do next in an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry out this attempt at this step (index into the plan; attempts count from 1).
    Attempt(usize, u32),
    /// Record this step as left out.
    Skip(usize),
    /// Every step has ended.
    Finish,
}

/// Decides what follows from the results so far. `done.steps` holds the plan's first steps, in order; the last may be
/// between two attempts.
#[must_use]
pub fn next(plan: &ExecutionPlan, done: &[StepResult]) -> Next {
    if let Some(last) = done.last()
        && last.outcome.is_none()
    {
        let made = u32::try_from(last.attempts.len()).unwrap_or(u32::MAX);
        return Next::Attempt(done.len() - 1, made.saturating_add(1));
    }
    let Some(step) = plan.steps.get(done.len()) else { return Next::Finish };
    if !step.always && done.iter().any(blocks) {
        return Next::Skip(done.len());
    }
    Next::Attempt(done.len(), 1)
}

/// Whether a step that ended so keeps later ones from running.
fn blocks(step: &StepResult) -> bool {
    !step.optional && !matches!(step.outcome, None | Some(Outcome::Passed | Outcome::Skipped))
}

/// Records the result of an attempt: the step ends when it passed, when no attempt is left, or when trying again
/// cannot help (an attempt that could not run is not repeated unless attempts are left).
pub fn record_attempt(
    plan: &ExecutionPlan,
    result: &mut ClusterResult,
    index: usize,
    attempt: fleet_objects::test_run::AttemptResult,
) {
    let Some(step) = plan.steps.get(index) else { return };
    if result.steps.len() == index {
        result.steps.push(StepResult {
            name: step.name.clone(),
            optional: step.optional,
            ..Default::default()
        });
    }
    let Some(entry) = result.steps.get_mut(index) else { return };
    if entry.attempts.iter().any(|known| known.attempt == attempt.attempt) {
        return;
    }
    let last = attempt.attempt >= step.attempts || attempt.reason == CANCELLED;
    if last || attempt.outcome == Outcome::Passed {
        entry.outcome = Some(attempt.outcome);
    }
    entry.attempts.push(attempt);
}

/// Reason of an attempt that was ended because the run was cancelled.
pub const CANCELLED: &str = "Cancelled";

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::{AttemptResult, RunReference};
    use fleet_objects::test_workflow::{RetryPolicy, TestWorkflowSpec};

    use super::*;

    fn spec(steps: Vec<TestStep>) -> TestExecutionSpec {
        TestExecutionSpec {
            run: RunReference { namespace: "default".into(), name: "smoke".into(), uid: "u".into() },
            cluster: "dev".into(),
            workflow: TestWorkflowSpec {
                variables: [("URL".to_owned(), "http://a".to_owned())].into(),
                steps,
                ..Default::default()
            },
            variables: [("URL".to_owned(), "http://b".to_owned())].into(),
            cancel: false,
        }
    }

    fn step(name: &str) -> TestStep {
        TestStep { name: name.into(), image: "i".into(), ..TestStep::default() }
    }

    fn attempt(number: u32, outcome: Outcome) -> AttemptResult {
        AttemptResult {
            attempt: number,
            outcome,
            reason: String::new(),
            message: String::new(),
            exit_code: None,
            started_at: None,
            finished_at: None,
            junit: None,
            artifacts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_run_s_value_replaces_the_workflow_s_and_a_step_s_replaces_both() {
        let mut own = step("b");
        own.env = vec![EnvironmentVariable { name: "URL".into(), value: "mine".into() }];
        let plan = execution(&spec(vec![step("a"), own])).expect("valid");
        let url = |index: usize| {
            let found: Vec<_> =
                plan.steps[index].env.iter().filter(|variable| variable.name == "URL").collect();
            assert_eq!(found.len(), 1);
            found[0].value.clone()
        };
        assert_eq!(url(0), "http://b");
        assert_eq!(url(1), "mine");
        assert!(
            plan.steps[0]
                .env
                .iter()
                .any(|variable| variable.name == "FAIRLEAD_CLUSTER" && variable.value == "dev")
        );
    }

    #[test]
    fn retries_then_skips_then_runs_what_always_runs() {
        let mut flaky = step("a");
        flaky.retry = Some(RetryPolicy { count: 1 });
        let mut last = step("c");
        last.always = true;
        let plan = execution(&spec(vec![flaky, step("b"), last])).expect("valid");
        let mut result = ClusterResult::default();
        assert_eq!(next(&plan, &result.steps), Next::Attempt(0, 1));
        record_attempt(&plan, &mut result, 0, attempt(1, Outcome::Failed));
        assert_eq!(next(&plan, &result.steps), Next::Attempt(0, 2));
        record_attempt(&plan, &mut result, 0, attempt(2, Outcome::Failed));
        record_attempt(&plan, &mut result, 0, attempt(2, Outcome::Passed));
        assert_eq!(result.steps[0].outcome, Some(Outcome::Failed), "the first result of an attempt counts");
        assert_eq!(next(&plan, &result.steps), Next::Skip(1));
        result.steps.push(StepResult {
            name: "b".into(),
            outcome: Some(Outcome::Skipped),
            ..Default::default()
        });
        assert_eq!(next(&plan, &result.steps), Next::Attempt(2, 1));
        record_attempt(&plan, &mut result, 2, attempt(1, Outcome::Passed));
        assert_eq!(next(&plan, &result.steps), Next::Finish);
    }

    #[test]
    fn an_optional_failure_blocks_nothing() {
        let mut optional = step("a");
        optional.optional = true;
        let plan = execution(&spec(vec![optional, step("b")])).expect("valid");
        let mut result = ClusterResult::default();
        record_attempt(&plan, &mut result, 0, attempt(1, Outcome::TimedOut));
        assert_eq!(next(&plan, &result.steps), Next::Attempt(1, 1));
    }
}
