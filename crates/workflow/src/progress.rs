//! How far an execution is: which steps ended and how, which groups that makes pass or fail, what runs next.
//!
//! The step runner in the pod and the agent hold the same plan and the same record, and ask the same questions here: the
//! runner before each step, the agent when a pod has ended and steps are left.

use std::collections::BTreeMap;

use fleet_objects::test_run::{AttemptResult, Outcome, StepResult};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::expression::{Expression, ExpressionError, Lookup, Scope, truthy};
use crate::plan::{ExecutionPlan, Found, PlannedStep};

/// What is known of an execution under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The steps that ended, by their place in the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ended: BTreeMap<usize, Outcome>,
    /// What steps left for others: by id, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, BTreeMap<String, String>>,
    /// When groups with a timeout began, in milliseconds of the pod's clock.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<usize, u64>,
    /// What steps found of lists that others are told by, by the names of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, Found>,
}

impl Progress {
    /// What others than a pod's own steps need of what its steps noted; nothing where they noted nothing of the sort.
    #[must_use]
    pub fn for_others(&self) -> Option<Self> {
        let (outputs, lists) = (self.outputs.clone(), self.lists.clone());
        let some = !outputs.is_empty() || !lists.is_empty();
        some.then(|| Self { outputs, lists, ..Self::default() })
    }

    /// Takes in what the steps of a pod noted for others.
    pub fn take_in(&mut self, noted: Self) {
        self.outputs.extend(noted.outputs);
        self.lists.extend(noted.lists);
    }
}

/// How a step ended, as its runner tells it: short enough for a container's termination message, which a pod with many
/// containers cuts at some hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMessage {
    /// One per attempt.
    #[serde(rename = "a", default)]
    pub attempts: Vec<AttemptMessage>,
    /// How many attempts before those there was no room for.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub dropped: u32,
    /// What came of it; absent when the runner was stopped.
    #[serde(rename = "o", default)]
    pub outcome: Option<Outcome>,
    /// Why it was left out or could not run.
    #[serde(rename = "w", default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Bytes of all termination messages of a pod together, as a kubelet bounds them.
const MESSAGES: usize = 12 * 1024;
/// Bytes of one at most.
const MESSAGE: usize = 4096;

impl StepMessage {
    /// As text that fits among `containers` of a pod: earlier attempts go first, then what is said for people.
    #[must_use]
    pub fn fitted(mut self, containers: usize) -> String {
        let most = (MESSAGES / containers.max(1)).min(MESSAGE);
        loop {
            let text = serde_json::to_string(&self).expect("a struct of texts and numbers always serialises");
            if text.len() <= most {
                return text;
            }
            if self.attempts.len() > 1 {
                self.attempts.remove(0);
                self.dropped += 1;
            } else if !self.why.is_empty() {
                self.why.clear();
            } else if let Some(last) = self.attempts.last_mut().filter(|last| !last.message.is_empty()) {
                last.message.clear();
            } else {
                return text;
            }
        }
    }
}

/// One attempt, as its runner tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptMessage {
    /// What came of it.
    #[serde(rename = "o")]
    pub outcome: Outcome,
    /// Exit code of the command, where there was one.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Milliseconds from the container's start to the attempt's.
    #[serde(rename = "s")]
    pub start: u64,
    /// How long it took, in milliseconds.
    #[serde(rename = "d")]
    pub duration: u64,
    /// Why, in one word; absent: what the outcome and the exit code say.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether a step that ended so counts as a failure.
#[must_use]
pub fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::NotRun)
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These steps, from the first up to but not with the second, in one pod.
    Pod(usize, usize),
    /// The plans of this step.
    Parallel(usize),
    /// The services that this step starts.
    Services(usize),
    /// This step waits until the run is let go on.
    Wait(usize),
    /// This step is left out.
    Skip(usize),
    /// Whether this step runs cannot be told.
    Broken(usize, String),
    /// Every step has ended.
    Finish,
}

/// What the agent does next. `resumed`: steps that are paused need not wait.
#[must_use]
pub fn next(plan: &ExecutionPlan, progress: &Progress, resumed: &dyn Fn(usize) -> bool) -> Next {
    let Some(first) = (0..plan.steps.len()).find(|index| !progress.ended.contains_key(index)) else {
        return Next::Finish;
    };
    let step = &plan.steps[first];
    // A container of its own cannot ask; every other step asks where its environment and files are.
    let known = step.is_bare() || step.is_apart() || step.paused || certain(plan, progress, first);
    if known {
        match begins(plan, progress, first, &NoMachine) {
            Ok(true) => {}
            Ok(false) => return Next::Skip(first),
            Err(error) => return Next::Broken(first, error.to_string()),
        }
    }
    if step.paused && !resumed(first) {
        return Next::Wait(first);
    }
    if step.parallel.is_some() {
        return Next::Parallel(first);
    }
    if step.starts.is_some() {
        return Next::Services(first);
    }
    let mut end = first + 1;
    while let Some(step) = plan.steps.get(end)
        && !step.is_apart()
        && !step.begins_pod
        && (!step.paused || resumed(end))
        && !progress.ended.contains_key(&end)
    {
        end += 1;
    }
    Next::Pod(first, end)
}

/// Whether all conditions of a step can be told without its machine: no pod is made to find out that nothing runs.
fn certain(plan: &ExecutionPlan, progress: &Progress, index: usize) -> bool {
    begins(plan, progress, index, &NoMachine).is_ok()
}

/// What a container knows beside the progress.
pub trait Machine {
    /// The environment, as `env`; `None` where there is none.
    fn environment(&self) -> Option<Value>;
    /// `file`, `glob`, `date`; `None` for every other function.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>>;
    /// Where a step keeps its results; `None` where there is no such place.
    fn results_dir(&self, id: &str) -> Option<String>;
}

/// No container.
struct NoMachine;

impl Machine for NoMachine {
    fn environment(&self) -> Option<Value> {
        None
    }

    fn call(&self, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn results_dir(&self, _: &str) -> Option<String> {
        None
    }
}

/// What expressions of a step see.
pub struct StepScope<'a> {
    plan: &'a ExecutionPlan,
    progress: &'a Progress,
    machine: &'a dyn Machine,
    index: usize,
    /// Whether nothing before it has failed.
    passed: bool,
    own: Option<Value>,
}

impl<'a> StepScope<'a> {
    /// For the texts of the step at `index`.
    #[must_use]
    pub fn new(
        plan: &'a ExecutionPlan,
        progress: &'a Progress,
        index: usize,
        machine: &'a dyn Machine,
    ) -> Self {
        let passed = !failed_before(plan, progress, index, plan.steps[index].group);
        Self { plan, progress, machine, index, passed, own: None }
    }

    /// With `self`: how the step's last attempt ended.
    #[must_use]
    pub fn after_attempt(mut self, outcome: Outcome, attempt: u32, code: Option<i32>) -> Self {
        self.own = Some(json!({
            "passed": !is_failure(outcome), "failed": is_failure(outcome),
            "status": word(outcome), "attempt": attempt, "exitCode": code,
        }));
        self
    }

    fn steps(&self) -> Value {
        let mut all = Map::new();
        for (place, step) in self.plan.steps.iter().enumerate().filter(|(_, step)| !step.id.is_empty()) {
            let outcome = self.progress.ended.get(&place);
            let outputs = self.progress.outputs.get(&step.id).cloned().unwrap_or_default();
            let mut entry = json!({ "outputs": outputs });
            if let Some(outcome) = outcome {
                entry["status"] = json!(word(*outcome));
                entry["passed"] = json!(!is_failure(*outcome));
                entry["failed"] = json!(is_failure(*outcome));
            }
            if let Some(dir) = self.machine.results_dir(&step.id) {
                entry["results"] = json!(dir);
            }
            all.insert(step.id.clone(), entry);
        }
        let own = &self.plan.steps[self.index];
        if let Some(dir) = self.machine.results_dir(if own.id.is_empty() { &own.name } else { &own.id }) {
            all.insert("results".to_owned(), json!(dir));
        }
        Value::Object(all)
    }
}

impl Scope for StepScope<'_> {
    fn name(&self, name: &str) -> Lookup {
        match name {
            "passed" => Lookup::Known(json!(self.passed)),
            "failed" => Lookup::Known(json!(!self.passed)),
            "status" => Lookup::Known(json!(if self.passed { "passed" } else { "failed" })),
            "always" => Lookup::Known(json!(true)),
            "never" => Lookup::Known(json!(false)),
            "step" => Lookup::Known(self.steps()),
            "self" => self.own.clone().map_or(Lookup::Unknown, Lookup::Known),
            "env" => self.machine.environment().map_or(Lookup::Later, Lookup::Known),
            "services" => Lookup::Later,
            _ => Lookup::Unknown,
        }
    }

    fn missing(&self, root: &str, _: &str) -> Option<Value> {
        (root == "env").then(|| Value::from(""))
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Expression, String>> {
        self.machine.call(name, arguments).map(|result| result.map(Expression::literal))
    }

    fn calls_later(&self, name: &str) -> bool {
        self.machine.environment().is_none() && matches!(name, "file" | "glob" | "date")
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timeout",
        Outcome::Skipped => "skipped",
        Outcome::NotRun => "aborted",
    }
}

/// Whether a step runs: the conditions of every group it is in, then its own.
///
/// # Errors
/// When a condition cannot be worked out here.
pub fn begins(
    plan: &ExecutionPlan,
    progress: &Progress,
    index: usize,
    machine: &dyn Machine,
) -> Result<bool, ExpressionError> {
    let chain = chain(plan, plan.steps[index].group);
    for group in &chain {
        let first = first_of(plan, *group);
        if !iterates(plan, progress, *group, machine)? {
            return Ok(false);
        }
        let holder = plan.groups[*group].parent;
        if !holds(plan, progress, first, holder, &plan.groups[*group].condition, machine)? {
            return Ok(false);
        }
    }
    let step = &plan.steps[index];
    holds(plan, progress, index, step.group, &step.condition, machine)
}

/// Whether a condition is true for what stands at `index` in `holder`.
fn holds(
    plan: &ExecutionPlan,
    progress: &Progress,
    index: usize,
    holder: Option<usize>,
    condition: &str,
    machine: &dyn Machine,
) -> Result<bool, ExpressionError> {
    let passed = !failed_before(plan, progress, index, holder);
    if condition.is_empty() {
        return Ok(passed);
    }
    let scope = StepScope { plan, progress, machine, index, passed, own: None };
    Expression::parse(condition)?.evaluate(&scope).map(|value| truthy(&value))
}

/// Whether an iteration takes place: the first does, a later one when the one before ended and `until` is not true yet.
fn iterates(
    plan: &ExecutionPlan,
    progress: &Progress,
    group: usize,
    machine: &dyn Machine,
) -> Result<bool, ExpressionError> {
    let Some(parent) = plan.groups[group].parent else { return Ok(true) };
    let Some(until) = &plan.groups[parent].until else { return Ok(true) };
    let before = (0..group).rev().find(|other| plan.groups[*other].parent == Some(parent));
    let Some(before) = before else { return Ok(true) };
    let Some(outcome) = group_outcome(plan, progress, before) else { return Ok(false) };
    if outcome == Outcome::Skipped {
        return Ok(false);
    }
    let index = first_of(plan, group);
    let passed = !is_failure(outcome);
    let scope =
        StepScope { plan, progress, machine, index, passed, own: None }.after_attempt(outcome, 0, None);
    Expression::parse(until)?.evaluate(&scope).map(|value| !truthy(&value))
}

/// From the outermost group to the innermost.
#[must_use]
pub fn chain(plan: &ExecutionPlan, mut group: Option<usize>) -> Vec<usize> {
    let mut chain = Vec::new();
    while let Some(index) = group {
        chain.push(index);
        group = plan.groups[index].parent;
    }
    chain.reverse();
    chain
}

/// The first step of a group.
fn first_of(plan: &ExecutionPlan, group: usize) -> usize {
    let found = plan.steps.iter().position(|step| chain(plan, step.group).contains(&group));
    found.unwrap_or(plan.steps.len().saturating_sub(1))
}

/// Whether something that counts has failed before `index` among what stands in `holder`, or before that, up to a group
/// that runs whatever happened before it.
fn failed_before(plan: &ExecutionPlan, progress: &Progress, index: usize, holder: Option<usize>) -> bool {
    let steps = plan.steps[..index].iter().enumerate().filter(|(_, step)| step.group == holder);
    let mut failed = steps
        .filter(|(_, step)| !step.optional)
        .any(|(place, _)| progress.ended.get(&place).is_some_and(|outcome| is_failure(*outcome)));
    let ours = chain(plan, plan.steps[index].group);
    let iterations = holder.is_some_and(|holder| plan.groups[holder].until.is_some());
    for (place, group) in plan.groups.iter().enumerate() {
        let before = group.parent == holder && !ours.contains(&place) && first_of(plan, place) < index;
        if before && !group.optional && !iterations {
            failed |= group_outcome(plan, progress, place).is_some_and(is_failure);
        }
    }
    match holder {
        Some(holder) if !failed && plan.groups[holder].condition.is_empty() => {
            failed_before(plan, progress, first_of(plan, holder), plan.groups[holder].parent)
        }
        _ => failed,
    }
}

/// How a group ended; `None` while a step in it has not.
#[must_use]
pub fn group_outcome(plan: &ExecutionPlan, progress: &Progress, group: usize) -> Option<Outcome> {
    let mut parts: Vec<(bool, Outcome)> = Vec::new();
    for (place, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.group == Some(group)) {
        parts.push((step.optional, *progress.ended.get(&place)?));
    }
    for (place, part) in plan.groups.iter().enumerate().filter(|(_, part)| part.parent == Some(group)) {
        parts.push((part.optional, group_outcome(plan, progress, place)?));
    }
    let own = &plan.groups[group];
    let outcome = if own.until.is_some() {
        let ran = parts.iter().rev().find(|(_, outcome)| *outcome != Outcome::Skipped);
        ran.map_or(Outcome::Skipped, |(_, outcome)| *outcome)
    } else {
        summed(&parts)
    };
    Some(if own.negative { inverted(outcome) } else { outcome })
}

/// What parts come to: the worst that counts; left out when all were.
fn summed(parts: &[(bool, Outcome)]) -> Outcome {
    if parts.iter().all(|(_, outcome)| *outcome == Outcome::Skipped) {
        return Outcome::Skipped;
    }
    let counting = parts.iter().filter(|(optional, _)| !optional).map(|(_, outcome)| *outcome);
    counting
        .filter(|outcome| is_failure(*outcome))
        .max_by_key(|outcome| severity(*outcome))
        .unwrap_or(Outcome::Passed)
}

fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Passed | Outcome::Skipped => 0,
        Outcome::NotRun => 1,
        Outcome::TimedOut => 2,
        Outcome::Failed => 3,
    }
}

/// What `negative` makes of an outcome: what could not run stays so.
#[must_use]
pub fn inverted(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Passed => Outcome::Failed,
        Outcome::Failed | Outcome::TimedOut => Outcome::Passed,
        other => other,
    }
}

/// How the whole plan ended; `None` while a step has not.
#[must_use]
pub fn outcome(plan: &ExecutionPlan, progress: &Progress) -> Option<Outcome> {
    let mut parts = Vec::new();
    for (place, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.group.is_none()) {
        parts.push((step.optional, *progress.ended.get(&place)?));
    }
    for (place, group) in plan.groups.iter().enumerate().filter(|(_, group)| group.parent.is_none()) {
        parts.push((group.optional, group_outcome(plan, progress, place)?));
    }
    let worst = summed(&parts);
    Some(if worst == Outcome::Skipped { Outcome::Passed } else { worst })
}

/// The results of all groups, so far as they have one; under `parent` where they have no group of their own.
#[must_use]
pub fn group_results(plan: &ExecutionPlan, progress: &Progress, parent: &str) -> Vec<StepResult> {
    let results = plan.groups.iter().enumerate().map(|(place, group)| StepResult {
        name: group.name.clone(),
        title: group.title.clone(),
        parent: group.parent.map_or(parent, |parent| plan.groups[parent].name.as_str()).to_owned(),
        outcome: group_outcome(plan, progress, place),
        optional: group.optional,
        attempts: Vec::new(),
    });
    results.collect()
}

/// A step's result without anything in it yet.
#[must_use]
pub fn empty_result(plan: &ExecutionPlan, step: &PlannedStep, parent: &str) -> StepResult {
    StepResult {
        name: step.name.clone(),
        title: step.title.clone(),
        parent: step.group.map_or(parent, |group| plan.groups[group].name.as_str()).to_owned(),
        optional: step.optional,
        outcome: None,
        attempts: Vec::<AttemptResult>::new(),
    }
}

#[cfg(test)]
mod tests;
