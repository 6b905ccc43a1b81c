//! The step runner: what `tool step` does around a step's command, in the step's own container.
//!
//! It reads the plan and the record of earlier steps from the pod's state volume, decides whether the step runs, runs it
//! as often as its retries say, keeps its files and outputs, writes the record and tells the agent by the container's
//! termination message. Its exit code is 0 whatever came of the step, so that the pod goes on; see [`STOP_HERE`].

mod container;
mod files;

use std::collections::BTreeSet;
use std::time::Duration;

use fleet_objects::test_run::Outcome;
use serde_json::{Value, json};
use workflow::collect::{Globs, RECORD};
use workflow::expression::{Expression, Template, truthy};
use workflow::plan::{ExecutionPlan, Lists, PlannedStep};
use workflow::pod::{
    CONTROL_FILE, FILES_DIR, PLAN_FILE, PLAN_VARIABLE, PROGRESS_FILE, PROGRESS_VARIABLE, RECEIVED_DIR,
    RESULTS_DIR, TERMINATION_LOG,
};
use workflow::progress::{self, AttemptMessage, Progress, StepMessage, StepScope};
use workflow::words::expand;

use self::container::{Call, Container};
use crate::execute::{Ending, Host, Run, RunEnd};

/// Exit code that ends the pod before the next container: that one has no runner of its own and must not run.
pub const STOP_HERE: u8 = 64;
/// How often a paused step looks whether it may go on.
const PAUSE_LOOK: Duration = Duration::from_millis(500);
/// Files below one directory that are looked at for a glob: as many as a pack may hold; their paths take some 20 MB.
pub const MAX_LOOKED_AT: usize = 200_000;
/// Bytes of what one step finds of lists: thousands of paths. An agent holds them in its notes.
const MAX_LISTS: usize = 256 * 1024;
/// Bytes of a message about one attempt.
const MAX_MESSAGE: usize = 160;

/// Carries out a step of the plan in the state volume. `guards`: the next container has no runner.
pub(crate) fn run(index: usize, guards: bool, host: &mut dyn Host) -> Ending {
    let mut runner = match Runner::open(index, host) {
        Ok(runner) => runner,
        Err(why) => {
            host.err(&format!("fairlead: {why}"));
            return Ending::Code(1);
        }
    };
    let Some(message) = runner.step() else { return Ending::Stopped };
    runner.close(&message);
    let stop = guards && !runner.next_begins();
    Ending::Code(if stop { STOP_HERE } else { 0 })
}

struct Runner<'a> {
    host: &'a mut dyn Host,
    plan: ExecutionPlan,
    progress: Progress,
    index: usize,
    environment: Value,
}

/// Files and globs that one text may ask for.
const MAX_FETCHES: usize = 64;

impl<'a> Runner<'a> {
    fn open(index: usize, host: &'a mut dyn Host) -> Result<Self, String> {
        let plan = host.read(PLAN_FILE).map_err(|error| format!("cannot read the plan: {error}"))?;
        let plan: ExecutionPlan =
            serde_json::from_slice(&plan).map_err(|error| format!("cannot understand the plan: {error}"))?;
        if index >= plan.steps.len() {
            return Err(format!("the plan has no step {index}"));
        }
        let progress = host.read(PROGRESS_FILE).ok();
        let mut progress: Progress =
            progress.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        // A container without a runner that failed would have ended the pod.
        for (place, step) in plan.steps[..index].iter().enumerate() {
            if step.is_bare() {
                progress.ended.entry(place).or_insert(Outcome::Passed);
            }
        }
        let variables = host.variables().into_iter().map(|(name, value)| (name, Value::from(value)));
        let environment = Value::Object(variables.collect());
        Ok(Self { host, plan, progress, index, environment })
    }

    fn planned(&self) -> PlannedStep {
        self.plan.steps[self.index].clone()
    }

    /// Works something out, fetching the files it asks for one after the other.
    fn with_machine<T>(
        &mut self,
        work: impl Fn(&Self, &Container) -> Result<T, String>,
    ) -> Result<T, String> {
        let date = self.host.date();
        let mut machine = Container::new(self.environment.clone(), date);
        loop {
            let why = match work(self, &machine) {
                Ok(done) => return Ok(done),
                Err(why) => why,
            };
            let Some(call) = machine.wanted(MAX_FETCHES) else { return Err(why) };
            let answer = self.fetch(&call);
            machine.learn(call, answer);
        }
    }

    fn fetch(&mut self, (name, arguments): &Call) -> Result<Value, String> {
        let dir = self.planned().working_dir;
        let arguments: Vec<Value> = serde_json::from_str(arguments).map_err(|error| error.to_string())?;
        let texts: Vec<String> = arguments.iter().map(workflow::expression::render).collect();
        if *name == "file" {
            let path = texts.first().ok_or("file wants a path")?;
            let path = workflow::expression::absolute_path(path, &dir);
            let content = self.host.read(&path).map_err(|error| format!("{path}: {error}"))?;
            return Ok(Value::from(String::from_utf8_lossy(&content).into_owned()));
        }
        Ok(json!(self.matching(&dir, &texts)?))
    }

    /// Files whose paths below `dir` match one of the globs, in order. Nothing is left out unsaid: tests that a list does not
    /// have would not run.
    fn matching(&mut self, dir: &str, globs: &[String]) -> Result<Vec<String>, String> {
        let mut found = BTreeSet::new();
        for glob in globs {
            let glob = glob.trim_start_matches("./");
            let (root, pattern) = split_glob(glob);
            let matcher = Globs::anywhere(&[pattern.to_owned()])?;
            let below = if root.is_empty() {
                dir.to_owned()
            } else {
                format!("{}/{root}", dir.trim_end_matches('/'))
            };
            // A star stays in its directory: what lies deeper than the pattern need not be looked at.
            let levels = if pattern.contains("**") { usize::MAX } else { 1 + pattern.matches('/').count() };
            let listed = self.host.list(&below, levels, MAX_LOOKED_AT);
            if listed.more {
                return Err(format!(
                    "there are more than {MAX_LOOKED_AT} files below {below}: {glob} must name directories in it"
                ));
            }
            let paths = listed.files.into_iter().map(|(path, _)| path).filter(|path| matcher.is_match(path));
            found.extend(paths.map(|path| if root.is_empty() { path } else { format!("{root}/{path}") }));
        }
        Ok(found.into_iter().collect())
    }

    fn text(&mut self, text: &str) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let template = Template::parse(text).map_err(|error| error.to_string())?;
        self.with_machine(|own, machine| {
            let scope = StepScope::new(&own.plan, &own.progress, own.index, machine);
            template.evaluate(&scope).map_err(|error| error.to_string())
        })
    }

    /// The whole step; `None` when told to stop.
    fn step(&mut self) -> Option<StepMessage> {
        let begins = self.with_machine(|own, machine| {
            progress::begins(&own.plan, &own.progress, own.index, machine).map_err(|error| error.to_string())
        });
        match begins {
            Ok(true) => {}
            Ok(false) => return Some(ended(Outcome::Skipped, String::new())),
            Err(why) => return Some(ended(Outcome::NotRun, format!("its condition: {why}"))),
        }
        while self.held() {
            if !self.host.sleep(PAUSE_LOOK) {
                return None;
            }
        }
        let step = self.planned();
        if let Some(delay) = step.delay
            && !self.host.sleep(delay)
        {
            return None;
        }
        let bound = self.bound_of_groups();
        let results = format!("{RESULTS_DIR}/{}", if step.id.is_empty() { &step.name } else { &step.id });
        if let Err(error) = self.host.make_dirs(&[&results]) {
            self.host.err(&format!("fairlead: cannot make {results}: {error}"));
        }
        let mut message = StepMessage::default();
        for number in 1..=step.attempts.max(1) {
            if number > 1 {
                self.host.out(&format!("--- attempt {number} of {} ---", step.attempts));
            }
            let attempt = self.attempt(&step, bound, number)?;
            let outcome = attempt.outcome;
            let code = attempt.code;
            message.attempts.push(attempt);
            message.outcome = Some(outcome);
            if number == step.attempts || self.done(&step, outcome, number, code) {
                break;
            }
        }
        if step.collects() {
            self.keep_files(&step, &mut message);
        }
        self.take_outputs(&step);
        Some(message)
    }

    fn held(&mut self) -> bool {
        self.host.read(CONTROL_FILE).is_ok_and(|text| text.trim_ascii() == b"pause")
    }

    /// What is left of the time of every group around the step.
    fn bound_of_groups(&mut self) -> Option<Duration> {
        let now = self.host.clock_millis();
        let mut left: Option<Duration> = None;
        for group in progress::chain(&self.plan, self.plan.steps[self.index].group) {
            let Some(timeout) = self.plan.groups[group].timeout else { continue };
            let begun = *self.progress.begun.entry(group).or_insert(now);
            let rest = timeout.saturating_sub(Duration::from_millis(now.saturating_sub(begun)));
            left = Some(left.map_or(rest, |left| left.min(rest)));
        }
        left
    }

    fn attempt(
        &mut self,
        step: &PlannedStep,
        bound: Option<Duration>,
        number: u32,
    ) -> Option<AttemptMessage> {
        let start = self.host.elapsed_millis();
        let mut attempt = AttemptMessage {
            outcome: Outcome::Passed,
            code: None,
            start,
            duration: 0,
            reason: String::new(),
            message: String::new(),
        };
        match self.command(step, bound, number) {
            Ok(None) => {}
            Ok(Some(RunEnd::Stopped)) => return None,
            Ok(Some(RunEnd::Code(code))) => {
                attempt.code = Some(code);
                attempt.outcome = if code == 0 { Outcome::Passed } else { Outcome::Failed };
            }
            Ok(Some(RunEnd::TimedOut)) => attempt.outcome = Outcome::TimedOut,
            Ok(Some(RunEnd::CannotStart(why))) => {
                attempt.outcome = Outcome::NotRun;
                "StartError".clone_into(&mut attempt.reason);
                attempt.message = short(&why);
            }
            Err(why) => {
                attempt.outcome = Outcome::NotRun;
                "InvalidExpression".clone_into(&mut attempt.reason);
                attempt.message = short(&why);
            }
        }
        if !attempt.message.is_empty() {
            self.host.err(&format!("fairlead: {}", attempt.message));
        }
        self.read_reports(step, &mut attempt);
        if step.negative {
            let inverted = progress::inverted(attempt.outcome);
            if inverted != attempt.outcome {
                let reason =
                    if inverted == Outcome::Passed { "FailedAsExpected" } else { "PassedUnexpectedly" };
                reason.clone_into(&mut attempt.reason);
                attempt.outcome = inverted;
            }
        }
        attempt.duration = self.host.elapsed_millis().saturating_sub(start);
        Some(attempt)
    }

    /// `Ok(None)`: there is nothing to run.
    fn command(
        &mut self,
        step: &PlannedStep,
        bound: Option<Duration>,
        number: u32,
    ) -> Result<Option<RunEnd>, String> {
        for file in &step.files {
            let content = self.text(&file.content)?;
            let written = self.host.write(&file.path, content.as_bytes());
            let written = written.and_then(|()| self.host.set_mode(&file.path, file.mode));
            written.map_err(|error| format!("cannot write {}: {error}", file.path))?;
        }
        let timeout = bound.map_or(step.timeout, |bound| bound.min(step.timeout));
        if timeout.is_zero() {
            return Ok(Some(RunEnd::TimedOut));
        }
        if step.command.is_empty() && step.lists.is_none() {
            return Ok(None);
        }
        let mut env = vec![("FAIRLEAD_ATTEMPT".to_owned(), number.to_string())];
        for variable in step.env.iter().filter(|variable| variable.value.contains("{{")) {
            env.push((variable.name.clone(), self.text(&variable.value)?));
            self.environment[&variable.name] = Value::from(env.last().map(|(_, value)| value.clone()));
        }
        if let Some(lists) = &step.lists {
            return self.find(lists).map(|()| None);
        }
        let mut command = Vec::new();
        for word in step.command.iter().chain(&step.args) {
            let word = self.text(word)?;
            let find = |name: &str| {
                let own = env.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
                own.or_else(|| self.host.variable(name))
            };
            command.push(expand(&word, &find));
        }
        let dir = self.text(&step.working_dir)?;
        Ok(Some(self.host.run(&Run { command, dir, env, timeout })))
    }

    /// Finds out what instances of another step are told by.
    fn find(&mut self, lists: &Lists) -> Result<(), String> {
        let found = self.with_machine(|own, machine| {
            lists.find(&StepScope::new(&own.plan, &own.progress, own.index, machine))
        })?;
        let bytes = serde_json::to_vec(&found).map_or(usize::MAX, |text| text.len());
        if bytes > MAX_LISTS {
            return Err(format!("the lists have {bytes} bytes; at most {MAX_LISTS}"));
        }
        self.host.out(&found.told());
        self.progress.lists.insert(lists.name.clone(), found);
        Ok(())
    }

    /// Whether no further attempt is wanted.
    fn done(&mut self, step: &PlannedStep, outcome: Outcome, number: u32, code: Option<i32>) -> bool {
        if step.until.is_empty() {
            return !progress::is_failure(outcome);
        }
        let until = step.until.clone();
        let told = self.with_machine(|own, machine| {
            let scope = StepScope::new(&own.plan, &own.progress, own.index, machine);
            let scope = scope.after_attempt(outcome, number, code);
            let value = Expression::parse(&until).and_then(|expression| expression.evaluate(&scope));
            value.map(|value| truthy(&value)).map_err(|error| error.to_string())
        });
        told.unwrap_or_else(|why| {
            self.host.err(&format!("fairlead: retry.until: {why}"));
            true
        })
    }

    /// Writes the record and tells the agent.
    fn close(&mut self, message: &StepMessage) {
        if let Some(outcome) = message.outcome {
            self.progress.ended.insert(self.index, outcome);
        }
        let record = serde_json::to_vec(&self.progress).expect("maps of texts and numbers always serialise");
        // The steps, the installation and the collector share what a pod has for messages.
        let told = message.clone().fitted(self.plan.steps.len() + 2).into_bytes();
        let others = self.progress.for_others();
        let others =
            others.map(|own| serde_json::to_vec(&own).expect("maps of texts and numbers always serialise"));
        let for_others = format!("{FILES_DIR}/{RECORD}");
        // A step of another user may have written them.
        self.host.remove(PROGRESS_FILE);
        self.host.remove(&for_others);
        let others = others.as_ref().map(|content| (for_others.as_str(), content));
        for (path, content) in [(PROGRESS_FILE, &record), (TERMINATION_LOG, &told)].into_iter().chain(others)
        {
            if let Err(error) = self.host.write(path, content) {
                self.host.err(&format!("fairlead: cannot write {path}: {error}"));
            }
        }
    }

    fn next_begins(&mut self) -> bool {
        let next = self.index + 1;
        next < self.plan.steps.len()
            && self
                .with_machine(|own, machine| {
                    progress::begins(&own.plan, &own.progress, next, machine)
                        .map_err(|error| error.to_string())
                })
                .unwrap_or(false)
    }
}

/// A glob as the directory down to where its first wildcard may stand, and what is left of it.
fn split_glob(glob: &str) -> (&str, &str) {
    let end = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    match glob[..end].rfind('/') {
        Some(at) => (&glob[..at], &glob[at + 1..]),
        None => ("", glob),
    }
}

fn ended(outcome: Outcome, why: String) -> StepMessage {
    StepMessage { outcome: Some(outcome), why: short(&why), ..StepMessage::default() }
}

fn short(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(MAX_MESSAGE).collect();
    line
}

/// A text that comes in as many variables as it needs.
fn pieces(name: &str, host: &dyn Host) -> String {
    (0..).map_while(|number| host.variable(&format!("{name}{number}"))).collect()
}

/// Writes the plan, which comes in pieces through the environment, into the state volume.
pub(crate) fn install(dir: &str, host: &mut dyn Host) -> Result<(), String> {
    let plan = pieces(PLAN_VARIABLE, host);
    let write = |host: &mut dyn Host, path: &str, text: &str| {
        host.write(path, text.as_bytes()).map_err(|error| format!("cannot write {path}: {error}"))
    };
    write(host, PLAN_FILE, &plan)?;
    let progress = pieces(PROGRESS_VARIABLE, host);
    if !progress.is_empty() {
        write(host, PROGRESS_FILE, &progress)?;
    }
    host.install(dir).map_err(|error| format!("cannot install the step runner in {dir}: {error}"))?;
    let (files, reports) = (format!("{FILES_DIR}/file"), format!("{FILES_DIR}/junit"));
    // Steps may run as different users.
    let packs = format!("{FILES_DIR}/{}", workflow::collect::PACKS.trim_end_matches('/'));
    let record = format!("{FILES_DIR}/record");
    host.make_dirs(&[FILES_DIR, &files, &reports, &packs, &record, RESULTS_DIR, RECEIVED_DIR])
        .map_err(|error| format!("cannot make directories: {error}"))
}

#[cfg(test)]
mod tests;
