//! Carries out one execution: asks the plan what is next, does it, notes it, tells the hub.

use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::{Outcome, StepResult};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workflow::{fold, plan};

use super::journal::{Current, Note};
use super::{Error, Shared, attempt};

/// Between tries to append to an outbox that is full.
const OUTBOX_RETRY: Duration = Duration::from_secs(1);

/// Runs to the end, or until `shutdown`.
pub(super) async fn execution(
    shared: Arc<Shared>,
    mut note: Note,
    cancel: CancellationToken,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let _slot = tokio::select! {
        slot = shared.slots.acquire() => slot,
        () = shutdown.cancelled() => return Ok(()),
    };
    let plan = match plan::execution(&note.spec) {
        Ok(plan) => plan,
        Err(invalid) => {
            note.result = fold::not_run(&note.spec.cluster, "InvalidWorkflow", &invalid.to_string());
            return finish(&shared, note, &shutdown).await;
        }
    };
    note.result.started_at.get_or_insert_with(now);
    loop {
        match plan::next(&plan, &note.result.steps) {
            plan::Next::Finish => {
                note.result.finished_at = Some(now());
                fold::cluster(&mut note.result, true);
                return finish(&shared, note, &shutdown).await;
            }
            plan::Next::Skip(index) => {
                let step = &plan.steps[index];
                note.result.steps.push(StepResult {
                    name: step.name.clone(),
                    outcome: Some(Outcome::Skipped),
                    optional: step.optional,
                    attempts: Vec::new(),
                });
                shared.journal.save(&note).await?;
            }
            plan::Next::Attempt(index, number) => {
                let same = |current: &Current| current.step == index && current.attempt == number;
                if !note.current.as_ref().is_some_and(same) {
                    let started_at = now();
                    note.current = Some(Current {
                        step: index,
                        attempt: number,
                        started_at,
                        log_offset: 0,
                        ended: None,
                    });
                    shared.journal.save(&note).await?;
                }
                let step = &plan.steps[index];
                let made = attempt::carry_out(&shared, &mut note, step, number, &cancel, &shutdown).await?;
                let Some(result) = made else { return Ok(()) };
                info!(execution = %note.name, step = %step.name, attempt = number, outcome = ?result.outcome, "attempt ended");
                let news = TestNews::Attempt { step: step.name.clone(), result: result.clone() };
                if !tell(&shared, &note, news, &shutdown).await {
                    return Ok(());
                }
                plan::record_attempt(&plan, &mut note.result, index, result);
                note.current = None;
                fold::cluster(&mut note.result, false);
                shared.journal.save(&note).await?;
            }
        }
    }
}

async fn finish(shared: &Shared, mut note: Note, shutdown: &CancellationToken) -> Result<(), Error> {
    let news = TestNews::Finished { result: note.result.clone() };
    if tell(shared, &note, news, shutdown).await {
        note.finished = true;
        shared.journal.save(&note).await?;
    }
    Ok(())
}

/// Appends a result to the outbox, however long that takes; false when the agent stops first.
async fn tell(shared: &Shared, note: &Note, news: TestNews, shutdown: &CancellationToken) -> bool {
    let record = record(note, news);
    loop {
        match shared.records.append(record.clone()).await {
            Ok(()) => return true,
            Err(error) => warn!(execution = %note.name, %error, "a test result waits for the outbox"),
        }
        tokio::select! {
            () = tokio::time::sleep(OUTBOX_RETRY) => {}
            () = shutdown.cancelled() => return false,
        }
    }
}

pub(super) fn record(note: &Note, news: TestNews) -> TestRecord {
    TestRecord {
        run: note.spec.run.clone(),
        execution_uid: note.uid.clone(),
        execution: note.name.clone(),
        news,
    }
}

pub(super) fn now() -> Time {
    Time(jiff::Timestamp::now())
}
