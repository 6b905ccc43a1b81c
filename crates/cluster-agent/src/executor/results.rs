//! What came of steps, into the notes and to the hub.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::{AttemptResult, Outcome, RunReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tracing::{info, warn};
use workflow::fold;
use workflow::observe;
use workflow::plan::{ExecutionPlan, PlannedStep};
use workflow::progress::{self, StepMessage};

use super::content::{Losses, Owner};
use super::run::{Execution, now};
use super::{Error, Shared};

/// An attempt that did not run.
pub(super) fn not_run(reason: &str, message: &str) -> AttemptResult {
    AttemptResult {
        attempt: 1,
        outcome: Outcome::NotRun,
        reason: reason.to_owned(),
        message: message.to_owned(),
        exit_code: None,
        started_at: None,
        finished_at: Some(now()),
        junit: None,
        artifacts: Vec::new(),
        warnings: Vec::new(),
    }
}

/// What a step's container says of it: by its runner's message, or by its own end when it had no runner or the runner was
/// ended before it could say anything.
pub(super) fn of_container(step: &PlannedStep, ended: &observe::Ended) -> (Outcome, Vec<AttemptResult>) {
    if let Ok(message) = serde_json::from_str::<StepMessage>(&ended.message)
        && let Some(outcome) = message.outcome
    {
        return (outcome, of_message(step, &message, ended));
    }
    let mut outcome = ended.outcome();
    let mut attempt = not_run(&ended.reason, &exit_message(ended));
    if outcome != Outcome::Passed && matches!(ended.reason.as_str(), "" | "Error") {
        "ExitCode".clone_into(&mut attempt.reason);
    }
    if step.is_bare() && step.negative {
        outcome = progress::inverted(outcome);
        if outcome == Outcome::Passed {
            "FailedAsExpected".clone_into(&mut attempt.reason);
        }
    } else if !step.is_bare() && outcome == Outcome::Passed {
        // A runner that says nothing has not done its work.
        outcome = Outcome::NotRun;
        attempt.message = "the step runner ended without a word".to_owned();
    }
    attempt.outcome = outcome;
    attempt.exit_code = Some(ended.exit_code);
    attempt.started_at.clone_from(&ended.started_at);
    attempt.finished_at = ended.finished_at.clone().or_else(|| Some(now()));
    (outcome, vec![attempt])
}

fn exit_message(ended: &observe::Ended) -> String {
    match (ended.exit_code, ended.message.trim()) {
        (0, _) => String::new(),
        (code, "") => format!("exit code {code}"),
        (code, message) => format!("exit code {code}: {message}"),
    }
}

fn of_message(step: &PlannedStep, message: &StepMessage, ended: &observe::Ended) -> Vec<AttemptResult> {
    let at = |millis: u64| {
        let begun = ended.started_at.as_ref()?.0;
        begun.checked_add(Duration::from_millis(millis)).ok().map(Time)
    };
    let mut attempts = Vec::new();
    for (number, told) in (1 + message.dropped..).zip(&message.attempts) {
        let mut attempt = not_run(&told.reason, &told.message);
        attempt.attempt = number;
        attempt.outcome = told.outcome;
        attempt.exit_code = told.code;
        attempt.started_at = at(told.start);
        attempt.finished_at = at(told.start.saturating_add(told.duration)).or_else(|| Some(now()));
        if attempt.reason.is_empty() {
            attempt.reason = match told.outcome {
                Outcome::Passed => "Completed",
                Outcome::TimedOut => "TimedOut",
                Outcome::Failed => "ExitCode",
                Outcome::Skipped | Outcome::NotRun => "NotRun",
            }
            .to_owned();
        }
        if attempt.message.is_empty() {
            attempt.message = match (told.outcome, told.code) {
                (Outcome::TimedOut, _) => {
                    format!("ran longer than {}", workflow::duration::display(step.timeout))
                }
                (Outcome::Failed, Some(code)) => format!("exit code {code}"),
                _ => String::new(),
            };
        }
        attempts.push(attempt);
    }
    match attempts.last_mut() {
        Some(last) if !message.why.is_empty() => last.warnings.push(message.why.clone()),
        None if !message.why.is_empty() => attempts.push(not_run("InvalidExpression", &message.why)),
        _ => {}
    }
    attempts
}

/// Lost files, told by records.
pub(super) struct ByRecords(pub(super) Arc<Shared>);

#[async_trait]
impl Losses for ByRecords {
    /// After the result that names it: that is the last record of an execution.
    async fn tell(&self, owner: &Owner, sha256: &str, reason: &str) -> bool {
        match self.0.journal.get(&owner.uid).await {
            Ok(note) if note.as_ref().is_none_or(|note| note.finished) => {}
            Ok(_) => return false,
            Err(error) => {
                warn!(%error, "cannot see whether a test execution has ended");
                return false;
            }
        }
        let record = TestRecord {
            run: RunReference::default(),
            execution_uid: owner.uid.clone(),
            execution: owner.execution.clone(),
            news: TestNews::Lost { sha256: sha256.to_owned(), reason: reason.to_owned() },
        };
        self.0.records.append(record).await.is_ok()
    }
}

impl Execution {
    /// Tells and notes how a step ended; what is known already stays.
    pub(super) async fn ended(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        parent: &str,
        index: usize,
        outcome: Outcome,
        attempts: Vec<AttemptResult>,
    ) -> Result<(), Error> {
        if self.part_note(part).await.progress.ended.contains_key(&index) {
            return Ok(());
        }
        let step = &plan.steps[index];
        let mut result = progress::empty_result(plan, step, parent);
        result.outcome = Some(outcome);
        result.attempts = attempts;
        self.mask_step(&mut result);
        info!(execution = %self.uid, step = %step.name, ?outcome, "a test step ended");
        if !self.tell(TestNews::Step { result: result.clone() }).await {
            return Ok(());
        }
        let mut note = self.note.lock().await;
        note.parts.entry(part.to_owned()).or_default().progress.ended.insert(index, outcome);
        note.result.steps.retain(|known| known.name != result.name);
        note.result.steps.push(result);
        fold::cluster(&mut note.result, false);
        self.shared.journal.save(&note).await
    }

    /// Ends every step that has not: the first did not run, the others are left out.
    pub(super) async fn abandon(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        parent: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let known = self.part_note(part).await.progress;
        let open: Vec<usize> =
            (0..plan.steps.len()).filter(|index| !known.ended.contains_key(index)).collect();
        for (place, index) in open.into_iter().enumerate() {
            if place == 0 {
                let mut attempt = not_run(reason, message);
                if reason == "TimedOut" {
                    attempt.outcome = Outcome::TimedOut;
                }
                let outcome = attempt.outcome;
                self.ended(plan, part, parent, index, outcome, vec![attempt]).await?;
            } else {
                self.ended(plan, part, parent, index, Outcome::Skipped, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// Notes and tells what the groups of a plan came to.
    pub(super) async fn groups(&self, plan: &ExecutionPlan, part: &str, parent: &str) -> Result<(), Error> {
        let known = self.part_note(part).await.progress;
        for mut result in progress::group_results(plan, &known, parent) {
            self.mask_step(&mut result);
            if !self.tell(TestNews::Step { result: result.clone() }).await {
                return Ok(());
            }
            let mut note = self.note.lock().await;
            note.result.steps.retain(|known| known.name != result.name);
            note.result.steps.push(result);
        }
        let note = self.note.lock().await;
        self.shared.journal.save(&note).await
    }
}
