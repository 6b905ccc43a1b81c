//! What is told about assignments: the whole status, when it changed.

use agent_protocol::{AssignmentReport, RecordBody};
use fleet_objects::{
    AssignmentState, AssignmentStatus, ConditionChange, Health, ObjectReference, ObjectStatus, Refusal,
    RefusalReason, condition, set_condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::active::{Active, State};
use super::{Enforcer, same_state};

/// Objects listed in a status.
const MAX_OBJECTS: usize = 200;
/// Held deletions listed in a status.
const MAX_HELD: usize = 50;
/// Bytes of one object's message.
const MAX_MESSAGE: usize = 512;

impl Enforcer {
    /// Sends changed reports. With a full outbox they stay due.
    pub(super) async fn report(&mut self) {
        for (name, active) in &mut self.active {
            if !active.dirty {
                continue;
            }
            let status = status(active);
            if active.reported.as_ref() == Some(&status) {
                active.dirty = false;
                continue;
            }
            let report = AssignmentReport { name: name.clone(), status: status.clone() };
            match self.outbox.append(RecordBody::Assignment(Box::new(report))).await {
                Ok(_) => {
                    active.reported = Some(status);
                    active.dirty = false;
                }
                Err(error) => {
                    tracing::debug!(%error, "a report waits");
                    return;
                }
            }
        }
    }
}

fn status(active: &Active) -> AssignmentStatus {
    let mut states: Vec<_> =
        active.states.iter().map(|(reference, state)| (health(state), reference, state)).collect();
    // Stable: objects of one health stay in the order of their names.
    states.sort_by_key(|(health, ..)| *health);
    let healthy = states.iter().filter(|(health, ..)| *health == Health::Healthy).count();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (object_count, healthy_count) = (count(states.len()), count(healthy));
    let shown = states.into_iter().take(MAX_OBJECTS);
    let objects = shown.map(|(health, reference, state)| object_status(health, reference, state)).collect();
    let held = active.held.as_ref().map(|(held, _)| held.as_slice()).unwrap_or_default();
    let mut status = AssignmentStatus {
        observed_generation: active.accepted.spec.generation,
        conditions: active.reported.as_ref().map(|reported| reported.conditions.clone()).unwrap_or_default(),
        object_count,
        healthy_count,
        objects,
        repairs: active.repairs,
        held_deletions: held.iter().take(MAX_HELD).cloned().collect(),
        held_deletion_count: count(held.len()),
        refusal: forbidden(active).or_else(|| active.accepted.refusal.clone()),
    };
    conditions(active, &mut status);
    status
}

/// The refusal of a generation that the cluster's owner does not allow.
fn forbidden(active: &Active) -> Option<Refusal> {
    let message = active.problem.clone().filter(|_| active.forbidden)?;
    let generation = active.accepted.spec.generation;
    Some(Refusal { reason: RefusalReason::Forbidden, message, generation })
}

/// How an object is told to be.
fn health(state: &State) -> Health {
    match (&state.error, &state.contested) {
        (Some(_), _) => Health::Failed,
        (None, Some(_)) => state.health.min(Health::Progressing),
        (None, None) => state.health,
    }
}

fn object_status(health: Health, reference: &ObjectReference, state: &State) -> ObjectStatus {
    let mut message = match (&state.error, &state.contested, &state.drifted) {
        (Some(error), ..) => error.clone(),
        (None, Some(writer), _) => format!("two writers fight over it: {writer} and this profile"),
        (None, None, Some(how)) => format!("{how}; it is only watched"),
        (None, None, None) => state.message.clone(),
    };
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    ObjectStatus { object: reference.clone(), health, message }
}

fn conditions(active: &Active, status: &mut AssignmentStatus) {
    let now = jiff::Timestamp::now();
    let now = Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now));
    let generation = active.accepted.spec.generation;
    let mut set = |kind, value: Option<bool>, reason, message: String| {
        let change =
            ConditionChange { kind, status: value, reason, message, observed_generation: Some(generation) };
        set_condition(&mut status.conditions, change, &now);
    };
    if active.accepted.spec.state == AssignmentState::Tombstone {
        let pruned = active.progress.pruned == Some(generation);
        let (reason, message) = match (&active.closed, &active.held, &active.problem) {
            _ if pruned => ("Pruned", "everything is removed".to_owned()),
            (Some(closed), ..) => (closed.reason, closed.message.clone()),
            (None, Some((_, reason)), _) => ("DeletionsHeld", reason.clone()),
            (None, None, Some(problem)) => ("Pruning", problem.clone()),
            (None, None, None) => ("Pruning", format!("{} objects are being removed", active.deleting)),
        };
        set("Pruned", Some(pruned), reason, message.clone());
        set("Applied", Some(false), reason, message.clone());
        set("Healthy", Some(false), reason, message.clone());
        set("Ready", Some(false), reason, message);
        return;
    }
    let (applied, reason, message) = applied(active);
    set("Applied", Some(applied), reason, message.clone());
    // Said of whom there is something to say.
    let had_contest = condition(&status.conditions, "Contested").is_some();
    let worst = status.objects.first().filter(|object| object.health != Health::Healthy);
    let (healthy, health_reason, health_message) = match worst {
        None => (true, "AllHealthy", format!("{} objects are healthy", status.object_count)),
        Some(worst) => {
            let reason = if worst.health == Health::Failed { "Failed" } else { "Progressing" };
            let unhealthy = status.object_count - status.healthy_count;
            let (kind, name) = (&worst.object.kind, &worst.object.name);
            (
                false,
                reason,
                format!("{unhealthy} of {} objects: {kind} {name}: {}", status.object_count, worst.message),
            )
        }
    };
    let mut set = |kind, value: Option<bool>, reason, message: String| {
        let change =
            ConditionChange { kind, status: value, reason, message, observed_generation: Some(generation) };
        set_condition(&mut status.conditions, change, &now);
    };
    set("Healthy", Some(healthy), health_reason, health_message.clone());
    match (contested(active), had_contest) {
        (Some(message), _) => set("Contested", Some(true), "TwoWriters", message),
        (None, true) => {
            set("Contested", Some(false), "OneWriter", "nobody else writes its objects".to_owned())
        }
        (None, false) => {}
    }
    let ready = applied && healthy;
    let (reason, message) = if applied { (health_reason, health_message) } else { (reason, message) };
    let refusal = active.accepted.refusal.as_ref();
    match refusal.and_then(|refusal| refusal.not_ready(Some(generation))) {
        None => set("Ready", Some(ready), reason, message),
        Some(change) => {
            set_condition(&mut status.conditions, change, &now);
        }
    }
}

/// Which objects two writers fight over.
fn contested(active: &Active) -> Option<String> {
    let mut contested = active.states.iter().filter_map(|(object, state)| {
        state
            .contested
            .as_ref()
            .map(|writer| format!("{} {}: {writer} and this profile", object.kind, object.name))
    });
    let first = contested.next()?;
    let others = contested.count();
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    Some(format!("two writers fight over {first}{more}"))
}

fn applied(active: &Active) -> (bool, &'static str, String) {
    let current =
        active.progress.enforced.as_ref().is_some_and(|enforced| same_state(enforced, &active.accepted));
    if let Some(problem) = &active.problem {
        let reason = if active.forbidden { "Forbidden" } else { "NotApplied" };
        return (false, reason, problem.clone());
    }
    if let Some(closed) = &active.closed {
        return (false, closed.reason, closed.message.clone());
    }
    if let Some(waits) = &active.waits {
        return (false, "Waiting", waits.clone());
    }
    if !current {
        return (false, "Applying", "the generation is being checked".to_owned());
    }
    let failed = active.states.iter().filter(|(_, state)| state.error.is_some());
    if let Some((reference, state)) = failed.clone().next() {
        let message = format!(
            "{} objects could not be applied: {} {}: {}",
            failed.count(),
            reference.kind,
            reference.name,
            state.error.as_deref().unwrap_or_default()
        );
        return (false, "ApplyFailed", message);
    }
    if active.states.values().any(|state| state.fingerprint.is_none()) {
        return (false, "Applying", "objects are being applied".to_owned());
    }
    if let Some((_, reason)) = &active.held {
        return (true, "DeletionsHeld", reason.clone());
    }
    (true, "Applied", format!("{} objects are applied", active.targets.len()))
}
