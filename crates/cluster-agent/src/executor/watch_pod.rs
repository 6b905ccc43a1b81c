//! Follows a pod of steps from its making to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::Outcome;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::watch_object;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::observe::{self, PodState, Stuck};
use workflow::plan::{self, DEFAULT_TIMEOUT, ExecutionPlan};
use workflow::pod;
use workflow::progress::Progress;

use super::journal::PodNote;
use super::log_follow::{self, Followed};
use super::run::{Execution, left};
use super::{Error, pods, results};

/// How long an image may be unavailable before the step is given up: long enough for one retry of a kubelet, short
/// enough for a person who waits.
const IMAGE_TOLERANCE: Duration = Duration::from_secs(20);
/// How long the rest of a log may take to arrive after its container ended.
const LOG_TAIL: Duration = Duration::from_secs(5);
/// The pod's own time beside the steps': runners bound steps, this bounds runners that do not.
const SLACK: Duration = Duration::from_secs(30);
/// Exit code of a runner after which the next container must not run.
const STOP_HERE: i32 = 64;

/// Why a pod is no longer watched.
enum Over {
    /// It ended; whether its files can be read.
    Ended { files: bool },
    /// Something keeps it from going on: reason and message for its first open step.
    Broken(String, String),
    /// The run was cancelled.
    Cancelled,
    /// The agent stops.
    Shutdown,
}

/// A pod that is watched, and which steps of which part of an execution it runs.
struct Watched<'a> {
    execution: &'a Arc<Execution>,
    plan: &'a Arc<ExecutionPlan>,
    part: &'a str,
    parent: &'a str,
    /// From the first to before the last.
    steps: (usize, usize),
    name: &'a str,
    begun: &'a Time,
    logs: Logs,
}

/// The logs that are followed.
#[derive(Default)]
struct Logs {
    tasks: JoinSet<()>,
    followed: BTreeMap<String, (Arc<log_follow::Progress>, CancellationToken)>,
}

impl Execution {
    /// Brings a pod to its end; false when the agent stops first.
    pub(super) async fn pod(
        self: &Arc<Self>,
        plan: &Arc<ExecutionPlan>,
        part: &str,
        parent: &str,
        note: PodNote,
        begun: &Time,
    ) -> Result<bool, Error> {
        let known = self.part_note(part).await;
        let options = self.options(part);
        let name = pod::name(&options, known.number);
        if note.collected {
            self.shared.spool.forget(&name).await;
            self.remove_pod(&name).await;
            self.note_part(part, |own| own.pod = None).await?;
            return Ok(true);
        }
        let (execution, steps, name) = (self, note.steps, name.as_str());
        let mut watched =
            Watched { execution, plan, part, parent, steps, name, begun, logs: Logs::default() };
        let over = match self.there(plan, &known.progress, &options, &note, known.number).await {
            Ok(()) => {
                if !note.made {
                    self.note_part(part, |own| own.pod.get_or_insert_default().made = true).await?;
                }
                Box::pin(watched.watch()).await?
            }
            Err((reason, message)) => Over::Broken(reason, message),
        };
        let finished = !matches!(over, Over::Shutdown);
        self.end_logs(part, watched.logs, finished).await?;
        let collected = match &over {
            Over::Shutdown => return Ok(false),
            Over::Ended { files: true } => {
                match self.shutdown.run_until_cancelled(self.collect(plan, name)).await {
                    Some(collected) => collected,
                    None => return Ok(false),
                }
            }
            _ => Err("the pod ended before its files were read".to_owned()),
        };
        let packed = collected.is_ok();
        self.keep_files(plan, part, note.steps, collected).await?;
        match over {
            Over::Broken(reason, message) => {
                self.first_open(plan, part, parent, note.steps, &reason, &message).await?;
            }
            // Whoever asked for the pod leaves out what a cancelled run has not done.
            Over::Ended { .. } | Over::Cancelled | Over::Shutdown => {}
        }
        self.note_part(part, |own| {
            own.pod.get_or_insert_default().collected = true;
            own.packed |= packed;
        })
        .await?;
        self.shared.spool.forget(name).await;
        self.remove_pod(name).await;
        self.note_part(part, |own| own.pod = None).await?;
        Ok(true)
    }

    async fn there(
        &self,
        plan: &ExecutionPlan,
        progress: &Progress,
        options: &pod::PodOptions,
        note: &PodNote,
        number: u32,
    ) -> Result<(), pods::Refused> {
        let broken = |error: pod::BuildError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            ("InvalidPod".to_owned(), format!("{error}: {cause}"))
        };
        let wanted = pod::steps(options, plan, progress, note.steps, number).map_err(broken)?;
        let name = pod::name(options, number);
        self.read_secrets().await?;
        if note.made {
            return match self.pods().get_opt(&name).await {
                Ok(None) => Err(("PodDeleted".to_owned(), "somebody deleted the test's pod".to_owned())),
                _ => Ok(()),
            };
        }
        self.ensure_pod(&wanted).await
    }

    /// Waits for the rest of the logs and notes how far they are.
    async fn end_logs(&self, part: &str, mut logs: Logs, finished: bool) -> Result<(), Error> {
        for (_, stop) in logs.followed.values() {
            stop.cancel();
        }
        let wait = if finished { LOG_TAIL } else { Duration::ZERO };
        let all = async { while logs.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(wait, all).await;
        if logs.followed.is_empty() {
            return Ok(());
        }
        self.note_part(part, |own| {
            for (step, (progress, _)) in &logs.followed {
                own.logs.insert(step.clone(), progress.get());
            }
        })
        .await
    }
}

impl Watched<'_> {
    async fn watch(&mut self) -> Result<Over, Error> {
        let Self { execution, plan, steps, name, begun, .. } = *self;
        let mut events = std::pin::pin!(watch_object(execution.pods(), name));
        let mut pause = execution.pause.clone();
        let total = Instant::now() + left(plan, begun);
        let mut stuck: Option<(Stuck, Instant)> = None;
        let mut served = String::new();
        let (mut seen, mut ran, mut bound) = (false, false, not_started(plan, steps).min(total));
        loop {
            let wake = match &stuck {
                Some((reason, since)) if is_image(reason) => bound.min(*since + IMAGE_TOLERANCE),
                _ => bound,
            };
            let event = tokio::select! {
                event = timeout_at(wake, events.next()) => event,
                _ = pause.changed() => {
                    let held = *pause.borrow_and_update() == Some(true);
                    execution.control(name, held).await;
                    continue;
                }
                () = execution.cancel.cancelled() => return Ok(Over::Cancelled),
                () = execution.shutdown.cancelled() => return Ok(Over::Shutdown),
            };
            let Ok(event) = event else {
                return Ok(match stuck {
                    Some((reason, _)) => Over::Broken(reason.reason, reason.message),
                    None if ran => Over::Broken("TimedOut".to_owned(), "ran longer than its time".to_owned()),
                    None => Over::Broken("NotStarted".to_owned(), "the pod did not start in time".to_owned()),
                });
            };
            let pod = match event {
                Some(Ok(Some(pod))) => pod,
                Some(Ok(None)) if seen => {
                    return Ok(Over::Broken(
                        "PodDeleted".to_owned(),
                        "somebody deleted the test's pod".to_owned(),
                    ));
                }
                Some(Ok(None)) => continue,
                Some(Err(error)) => {
                    warn!(%error, pod = name, "cannot watch a test pod; trying again");
                    tokio::time::sleep(pods::RETRY).await;
                    continue;
                }
                None => {
                    return Ok(Over::Broken("WatchEnded".to_owned(), "the pod's watch ended".to_owned()));
                }
            };
            seen = true;
            let state = observe::steps(&pod);
            if let Some(over) = self.serve(&state, total, &mut served).await {
                return Ok(over);
            }
            if let Some(over) = self.take(&state).await? {
                return Ok(over);
            }
            match state.stuck.clone() {
                Some(now) if now.forever => return Ok(Over::Broken(now.reason, now.message)),
                Some(now) => {
                    let since = stuck.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                    stuck = Some((now, since));
                }
                // Between two tries of a pull the reason may vanish for a moment; the clock goes on.
                None if state.current.as_ref().is_some_and(|(_, runs)| *runs) => stuck = None,
                None => {}
            }
            ran = state.current.as_ref().is_some_and(|(_, runs)| *runs);
            bound = total.min(bound_of(plan, steps, &pod, &state).unwrap_or(total));
        }
    }

    /// Does what a container of ours waits for, once; why the pod is over, when that cannot be done.
    async fn serve(&self, state: &PodState, until: Instant, served: &mut String) -> Option<Over> {
        let (waits, _) = state.current.as_ref().filter(|(_, runs)| *runs)?;
        if ![pod::RECEIVE, pod::START].contains(&waits.as_str()) || served == waits {
            return None;
        }
        let told = tokio::select! {
            told = self.give_what(waits) => told,
            () = self.execution.cancel.cancelled() => return Some(Over::Cancelled),
            () = self.execution.shutdown.cancelled() => return Some(Over::Shutdown),
            () = tokio::time::sleep_until(until) => Err(("TimedOut", "ran longer than its time".to_owned())),
        };
        waits.clone_into(served);
        told.err().map(|(reason, why)| Over::Broken(reason.to_owned(), why))
    }

    async fn give_what(&self, container: &str) -> Result<(), (&'static str, String)> {
        let Self { execution, plan, part, steps, name, .. } = *self;
        if container == pod::START {
            return execution.start_together(part, name).await.map_err(|why| ("NotStarted", why));
        }
        let known = execution.part_note(part).await;
        let mut received = plan.received(part, steps.0, known.number);
        if !known.packed {
            // Each pod before it ended by a failure of an image's own entry point, or ran nothing.
            let own = plan::workspace_pack(part);
            received.iter_mut().filter(|wanted| wanted.pack == own).for_each(|wanted| wanted.optional = true);
        }
        let given = execution.give(name, &received).await;
        given.map_err(|why| ("FilesLost", why))
    }

    /// Takes in what a pod's status says.
    async fn take(&mut self, state: &PodState) -> Result<Option<Over>, Error> {
        let Self { execution, plan, part, parent, steps, .. } = *self;
        let place = |own: &str| (steps.0..steps.1).find(|index| plan.steps[*index].name == own);
        if let Some((current, true)) = &state.current
            && place(current).is_some()
        {
            self.follow(current).await;
        }
        for (container, ended) in &state.ended {
            if container == pod::START
                && let Some(together) = self.execution.together.lock().get(self.part)
            {
                together.here(self.part);
            }
            let Some(index) = place(container) else { continue };
            if ended.exit_code == STOP_HERE && !plan.steps[index].is_bare() && ended.message.is_empty() {
                continue;
            }
            let (outcome, attempts) = results::of_container(&plan.steps[index], ended);
            if outcome != Outcome::Skipped {
                self.follow(container).await;
            }
            if let Some((_, stop)) = self.logs.followed.get(container) {
                stop.cancel();
            }
            execution.ended(plan, part, parent, index, outcome, attempts).await?;
        }
        // It comes after all steps, and may hold files until they are taken.
        if state.current.as_ref().is_some_and(|(current, runs)| current == pod::COLLECTOR && *runs) {
            return Ok(Some(Over::Ended { files: true }));
        }
        let Some((reason, message)) = &state.over else { return Ok(None) };
        let files = state.ended.iter().any(|(own, ended)| own == pod::COLLECTOR && ended.exit_code == 0);
        let stopped = state.ended.iter().any(|(_, ended)| ended.exit_code == STOP_HERE);
        let installed = state.ended.iter().find(|(own, _)| own == pod::INSTALL);
        if let Some((_, ended)) = installed.filter(|(_, ended)| ended.exit_code != 0) {
            let message = format!("the step runner cannot be installed: exit code {}", ended.exit_code);
            return Ok(Some(Over::Broken("RunnerUnavailable".to_owned(), message)));
        }
        // A step that failed without a runner ended the pod and was told; what is left goes into another pod.
        let told =
            stopped || state.ended.iter().any(|(own, ended)| place(own).is_some() && ended.exit_code != 0);
        if files || told {
            return Ok(Some(Over::Ended { files }));
        }
        let reason = if reason.is_empty() { "PodEnded" } else { reason };
        let message = if message.is_empty() { "the pod ended before its steps did" } else { message };
        Ok(Some(Over::Broken(reason.to_owned(), message.to_owned())))
    }

    async fn follow(&mut self, step: &str) {
        if self.logs.followed.contains_key(step) {
            return;
        }
        let Self { execution, part, name, .. } = *self;
        let known = execution.part_note(part).await.logs.get(step).copied().unwrap_or(0);
        let progress = Arc::new(log_follow::Progress::from(known));
        let stop = CancellationToken::new();
        let followed = Followed {
            execution: Arc::clone(execution),
            pods: execution.pods(),
            pod: name.to_owned(),
            step: step.to_owned(),
            container: step.to_owned(),
            progress: Arc::clone(&progress),
            stop: stop.clone(),
        };
        self.logs.tasks.spawn(followed.follow());
        self.logs.followed.insert(step.to_owned(), (progress, stop));
    }
}

/// When a pod that shows no sign of life is given up: what its first step may take is for its image and node as well.
fn not_started(plan: &ExecutionPlan, steps: (usize, usize)) -> Instant {
    Instant::now() + plan.steps.get(steps.0).map_or(DEFAULT_TIMEOUT, |step| step.timeout)
}

/// When the running step must have ended; `None` while people hold it. Runners bound their steps themselves; a bare
/// container has only this.
fn bound_of(plan: &ExecutionPlan, steps: (usize, usize), pod: &Pod, state: &PodState) -> Option<Instant> {
    let held = pod.metadata.annotations.as_ref().and_then(|own| own.get(pod::CONTROL_ANNOTATION));
    if held.is_some_and(|value| value == "pause") {
        return None;
    }
    let Some((current, _)) = &state.current else { return Some(not_started(plan, steps)) };
    let Some(step) = plan.steps.iter().find(|step| step.name == *current) else {
        return Some(not_started(plan, steps));
    };
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    let status = statuses.and_then(|statuses| statuses.iter().find(|own| own.name == *current));
    let running = status.and_then(|status| status.state.as_ref()?.running.as_ref());
    let Some(started) = running.and_then(|running| running.started_at.as_ref()) else {
        // Not started: its image takes its time; that counts as the step's.
        return Some(Instant::now() + step.timeout);
    };
    let spent = jiff::Timestamp::now().duration_since(started.0).unsigned_abs();
    let whole = if step.is_bare() {
        step.timeout
    } else {
        step.timeout.saturating_mul(step.attempts).saturating_add(step.delay.unwrap_or_default()) + SLACK
    };
    Some(Instant::now() + whole.saturating_sub(spent))
}

fn is_image(stuck: &Stuck) -> bool {
    matches!(stuck.reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable")
}
