//! What to do next with a pod. Pure: a function of the pod's document, what the runtime has, and what the worker
//! remembers. Called again after every step and every change, so it need not look far ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::pod::facts::{self, Kind};
use crate::runtime::{ContainerObservation, ContainerState, PodObservation};

/// How long to wait before starting again.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    /// The first delay.
    pub initial: Duration,
    /// The longest.
    pub max: Duration,
}

impl BackOff {
    /// The delay after attempt number `attempt` of a streak has failed: none after the first, then doubling.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let factor = 2u32.saturating_pow((attempt - 1).min(16));
        self.initial.saturating_mul(factor).min(self.max)
    }
}

/// What a worker remembers of a pod that neither the runtime nor the API knows. Losing it is harmless.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Why a container has not started: waiting reason and message.
    pub waiting: BTreeMap<String, Waiting>,
    /// When a step that failed may be tried again, by container; "" is the sandbox.
    pub retries: BTreeMap<String, Retry>,
    /// The attempt a container's streak of failures began with, after it had once run long enough.
    pub streaks: BTreeMap<String, u32>,
    /// What probes found, by container id.
    pub probes: BTreeMap<String, Probed>,
    /// Containers being stopped, with the grace they were given.
    pub stopping: BTreeMap<String, Duration>,
    /// The pod was ended by the agent: reason and message.
    pub ended: Option<(String, String)>,
    /// The API no longer has the pod.
    pub gone: bool,
}

/// Why a container waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `ErrImagePull`, `CreateContainerConfigError` …
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A step that failed and is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it failed.
    pub failures: u32,
    /// Not before.
    pub at: Timestamp,
}

/// What probes found of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Its startup probe has succeeded, or it has none.
    pub started: bool,
    /// Its readiness probe succeeds, or it has none.
    pub ready: bool,
    /// Its liveness or startup probe failed too often: why it is to be killed.
    pub unhealthy: Option<String>,
}

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod's document.
    pub pod: &'a Pod,
    /// What the runtime has.
    pub observed: &'a PodObservation,
    /// What the worker remembers.
    pub memory: &'a Memory,
    /// The time.
    pub now: Timestamp,
    /// Delays between restarts.
    pub back_off: BackOff,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a sandbox.
    StartSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Start a container.
    StartContainer {
        /// Its name.
        name: String,
        /// Its number.
        attempt: u32,
    },
    /// Stop a container.
    StopContainer {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// From TERM to KILL.
        grace: Duration,
        /// Why, for people.
        why: String,
    },
    /// Forget an attempt nobody can ask for any more.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Give the network back.
    StopSandbox,
    /// End the pod: reason and message.
    End {
        /// `DeadlineExceeded`.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Everything has ended: tell the API and forget the pod.
    Finish,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in order. When there are none, wait.
    pub actions: Vec<Action>,
    /// When to look again although nothing happens.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Decides.
#[must_use]
pub fn decide(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let pod = input.pod;
    if pod.metadata.deletion_timestamp.is_some() || input.memory.gone {
        if stop_everything(input, &mut plan, "the pod is deleted") {
            plan.actions.push(Action::Finish);
        }
        return plan;
    }
    let ended = input.memory.ended.is_some()
        || facts::told_outcome(pod).is_some()
        || facts::outcome(pod, input.observed).is_some();
    if ended {
        stop_everything(input, &mut plan, "the pod has ended");
        return plan;
    }
    if let Some(deadline) = facts::deadline(pod) {
        if deadline <= input.now {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            plan.actions.push(Action::End { reason: "DeadlineExceeded", message });
            return plan;
        }
        plan.wake(deadline);
    }
    if !input.observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) {
        start_sandbox(input, &mut plan);
        return plan;
    }
    start_containers(input, &mut plan);
    for container in facts::ephemeral(pod) {
        step(input, &mut plan, Kind::Ephemeral, &container.name);
    }
    collect_dead(input, &mut plan);
    plan
}

/// Stops containers, the pod's own before sidecars, then the sandbox. `true` when nothing is left to stop.
fn stop_everything(input: &Input<'_>, plan: &mut Plan, why: &str) -> bool {
    let grace = if input.memory.gone { Duration::from_secs(1) } else { facts::grace(input.pod) };
    let alive = |sidecars: bool| {
        input.observed.containers.iter().filter(move |container| {
            let kind = facts::container(input.pod, &container.name).map(|(kind, _)| kind);
            !matches!(container.state, ContainerState::Exited { .. })
                && (kind == Some(Kind::Sidecar)) == sidecars
        })
    };
    for sidecars in [false, true] {
        let mut any = false;
        for container in alive(sidecars) {
            any = true;
            stop(input, plan, container, grace, why);
        }
        if any {
            return false;
        }
    }
    if input.observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) {
        plan.actions.push(Action::StopSandbox);
        return false;
    }
    true
}

fn stop(input: &Input<'_>, plan: &mut Plan, container: &ContainerObservation, grace: Duration, why: &str) {
    // A shorter grace overrides one under way; anything else would repeat a stop already being carried out.
    if input.memory.stopping.get(&container.id).is_none_or(|given| grace < *given) {
        plan.actions.push(Action::StopContainer {
            id: container.id.clone(),
            name: container.name.clone(),
            grace,
            why: why.to_owned(),
        });
    }
}

fn start_sandbox(input: &Input<'_>, plan: &mut Plan) {
    if let Some(retry) = input.memory.retries.get("").filter(|retry| retry.at > input.now) {
        plan.wake(retry.at);
        return;
    }
    let attempt = input.observed.sandbox.as_ref().map_or(0, |sandbox| sandbox.attempt.saturating_add(1));
    plan.actions.push(Action::StartSandbox { attempt });
}

fn start_containers(input: &Input<'_>, plan: &mut Plan) {
    // Once an own container was started, init containers are history, whatever became of them.
    let past_init = facts::spec(input.pod)
        .containers
        .iter()
        .any(|container| input.observed.latest(&container.name).is_some());
    for (kind, container) in facts::containers(input.pod) {
        let name = &container.name;
        match kind {
            Kind::Init if past_init || facts::init_done(input.pod, input.observed, name) => {}
            Kind::Init => {
                step(input, plan, kind, name);
                return;
            }
            Kind::Sidecar => {
                step(input, plan, kind, name);
                if !past_init && !started(input, name) {
                    return;
                }
            }
            Kind::App | Kind::Ephemeral => step(input, plan, kind, name),
        }
    }
}

/// Whether a container runs and its startup probe has succeeded.
fn started(input: &Input<'_>, name: &str) -> bool {
    input.observed.latest(name).is_some_and(|container| {
        container.state.is_running()
            && input.memory.probes.get(&container.id).is_none_or(|probed| probed.started)
    })
}

/// What one container needs.
fn step(input: &Input<'_>, plan: &mut Plan, kind: Kind, name: &str) {
    let start = |attempt| Action::StartContainer { name: name.to_owned(), attempt };
    if let Some(retry) = input.memory.retries.get(name).filter(|retry| retry.at > input.now) {
        plan.wake(retry.at);
        return;
    }
    let Some(latest) = input.observed.latest(name) else {
        // What ran once under a runtime that has forgotten it is not run again.
        let ran = facts::told(input.pod, name).is_some_and(|status| status.container_id.is_some());
        if kind == Kind::Ephemeral && ran {
            return;
        }
        plan.actions.push(start(facts::first_attempt(input.pod, name)));
        return;
    };
    match &latest.state {
        // Starting it was interrupted: try once more under the next number.
        ContainerState::Created => plan.actions.push(start(latest.attempt.saturating_add(1))),
        ContainerState::Running { .. } => {
            let probed = input.memory.probes.get(&latest.id);
            if let Some(why) = probed.and_then(|probed| probed.unhealthy.as_ref()) {
                stop(input, plan, latest, facts::grace(input.pod), why);
            }
        }
        ContainerState::Exited { exit_code, .. } => {
            if facts::restarts(input.pod, kind, *exit_code) {
                match restart_at(input, latest) {
                    Some(at) if at > input.now => plan.wake(at),
                    _ => plan.actions.push(start(latest.attempt.saturating_add(1))),
                }
            }
        }
    }
}

/// When an ended container may be started again.
#[must_use]
pub fn restart_at(input: &Input<'_>, container: &ContainerObservation) -> Option<Timestamp> {
    let ContainerState::Exited { finished_at, .. } = container.state else { return None };
    finished_at.checked_add(SignedDuration::try_from(restart_delay(input, container)).ok()?).ok()
}

/// How long to wait between the end of this attempt and the next.
#[must_use]
pub fn restart_delay(input: &Input<'_>, container: &ContainerObservation) -> Duration {
    let begin = input.memory.streaks.get(&container.name).copied().unwrap_or(0);
    if ran_long_enough(container, input.back_off) {
        return Duration::ZERO;
    }
    input.back_off.delay(container.attempt.saturating_sub(begin))
}

/// Whether an attempt ran so long (twice the longest delay) that earlier failures no longer count.
#[must_use]
pub fn ran_long_enough(container: &ContainerObservation, back_off: BackOff) -> bool {
    let ContainerState::Exited { started_at, finished_at, .. } = container.state else { return false };
    let ran = finished_at.duration_since(started_at).unsigned_abs();
    ran >= back_off.max.saturating_mul(2)
}

/// Forgets attempts older than the one before the newest: `logs --previous` reaches no further.
fn collect_dead(input: &Input<'_>, plan: &mut Plan) {
    for container in &input.observed.containers {
        let newest = input.observed.latest(&container.name).map_or(0, |latest| latest.attempt);
        let dead = matches!(container.state, ContainerState::Exited { .. });
        if dead && container.attempt.saturating_add(1) < newest {
            plan.actions.push(Action::RemoveContainer { id: container.id.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
