//! A Deployment's status and conditions. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use super::plan::limits;

/// The status to write (none when it stands so already) and when the progress deadline comes.
pub(super) fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    creating: Option<&ReplicaSet>,
    now: Timestamp,
) -> (Option<Value>, Option<SignedDuration>) {
    let present = deployment.status.clone().unwrap_or_default();
    let mut wanted = count(deployment, new, old);
    let name = new.or(creating).and_then(|set| set.metadata.name.clone()).unwrap_or_default();
    let available = available_condition(deployment, &wanted);
    let (progressing, look_again) =
        progressing_condition(deployment, &present, &wanted, &name, new.is_some(), now);
    let merged = [Some(available), progressing].into_iter().flatten().map(|condition| {
        let before = present.conditions.iter().flatten().find(|before| before.type_ == condition.type_);
        keep_times(condition, before, moved(&present, &wanted), now)
    });
    wanted.conditions = Some(merged.collect());
    wanted.collision_count = present.collision_count;
    let same = shape(&present) == shape(&wanted);
    ((!same).then(|| shape(&wanted)), look_again)
}

fn count(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[Arc<ReplicaSet>]) -> DeploymentStatus {
    let all = || new.into_iter().chain(old.iter().map(|set| &**set)).filter_map(|set| set.status.as_ref());
    let replicas: i32 = all().map(|status| status.replicas).sum();
    let available: i32 = all().filter_map(|status| status.available_replicas).sum();
    let desired: i32 = new
        .into_iter()
        .chain(old.iter().map(|set| &**set))
        .filter_map(|set| set.spec.as_ref()?.replicas)
        .sum();
    DeploymentStatus {
        replicas: Some(replicas),
        updated_replicas: Some(new.and_then(|new| new.status.as_ref()).map_or(0, |status| status.replicas)),
        ready_replicas: Some(all().filter_map(|status| status.ready_replicas).sum()),
        available_replicas: Some(available),
        unavailable_replicas: Some((desired.max(replicas) - available).max(0)),
        terminating_replicas: Some(all().filter_map(|status| status.terminating_replicas).sum()),
        observed_generation: deployment.metadata.generation,
        ..DeploymentStatus::default()
    }
}

fn available_condition(deployment: &Deployment, status: &DeploymentStatus) -> DeploymentCondition {
    let limits = limits(deployment);
    let enough = status.available_replicas.unwrap_or(0) >= limits.desired - limits.unavailable;
    if enough {
        condition("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        condition(
            "Available",
            false,
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    }
}

fn progressing_condition(
    deployment: &Deployment,
    present: &DeploymentStatus,
    wanted: &DeploymentStatus,
    name: &str,
    exists: bool,
    now: Timestamp,
) -> (Option<DeploymentCondition>, Option<SignedDuration>) {
    let spec = deployment.spec.as_ref();
    let before = present.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    if spec.and_then(|spec| spec.paused) == Some(true) {
        let paused = DeploymentCondition {
            status: "Unknown".to_owned(),
            ..condition("Progressing", false, "DeploymentPaused", "Deployment is paused")
        };
        return (Some(paused), None);
    }
    let desired = limits(deployment).desired;
    let complete = exists
        && wanted.updated_replicas == Some(desired)
        && wanted.replicas == Some(desired)
        && wanted.available_replicas == Some(desired);
    if complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return (Some(condition("Progressing", true, "NewReplicaSetAvailable", &message)), None);
    }
    let deadline = spec.and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
    let limit = SignedDuration::from_secs(i64::from(deadline));
    let same_template = before.is_some_and(|before| {
        before.message.as_deref().is_some_and(|text| text.contains(&format!("\"{name}\"")))
    });
    let was_done = before.is_some_and(|before| before.reason.as_deref() == Some("NewReplicaSetAvailable"));
    let since = before.and_then(|before| before.last_update_time.as_ref()).map_or(now, |time| time.0);
    let waited = now.duration_since(since);
    let stuck = before.is_some() && same_template && !was_done && !moved(present, wanted) && waited >= limit;
    // No deadline (the largest number) means never.
    if stuck && deadline != i32::MAX {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return (Some(condition("Progressing", false, "ProgressDeadlineExceeded", &message)), None);
    }
    let (reason, message) = if exists {
        ("ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
    } else {
        ("NewReplicaSetCreated", format!("Created new replica set \"{name}\""))
    };
    let wait = if same_template && !was_done { limit - waited } else { limit };
    let look_again = (deadline != i32::MAX).then(|| wait.max(SignedDuration::from_secs(1)));
    (Some(condition("Progressing", true, reason, &message)), look_again)
}

/// Whether the counts show progress.
fn moved(present: &DeploymentStatus, wanted: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    wanted.updated_replicas.unwrap_or(0) > present.updated_replicas.unwrap_or(0)
        || wanted.ready_replicas.unwrap_or(0) > present.ready_replicas.unwrap_or(0)
        || wanted.available_replicas.unwrap_or(0) > present.available_replicas.unwrap_or(0)
        || old(wanted) < old(present)
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..DeploymentCondition::default()
    }
}

fn keep_times(
    mut condition: DeploymentCondition,
    before: Option<&DeploymentCondition>,
    progress: bool,
    now: Timestamp,
) -> DeploymentCondition {
    let same_status = before.filter(|before| before.status == condition.status);
    let unchanged =
        same_status.filter(|before| before.reason == condition.reason && before.message == condition.message);
    let still = unchanged.filter(|_| !progress || condition.type_ != "Progressing");
    condition.last_transition_time =
        same_status.and_then(|before| before.last_transition_time.clone()).or(Some(Time(now)));
    condition.last_update_time = still.and_then(|before| before.last_update_time.clone()).or(Some(Time(now)));
    condition
}

/// As written; also what is compared.
fn shape(status: &DeploymentStatus) -> Value {
    let mut conditions: Vec<Value> =
        status.conditions.iter().flatten().map(|condition| json!(condition)).collect();
    conditions.sort_by_key(|condition| condition["type"].as_str().map(str::to_owned));
    json!({
        "replicas": status.replicas.unwrap_or(0), "updatedReplicas": status.updated_replicas.unwrap_or(0),
        "readyReplicas": status.ready_replicas.unwrap_or(0),
        "availableReplicas": status.available_replicas.unwrap_or(0),
        "unavailableReplicas": status.unavailable_replicas.unwrap_or(0),
        "terminatingReplicas": status.terminating_replicas.unwrap_or(0),
        "observedGeneration": status.observed_generation.unwrap_or(0), "conditions": conditions,
        "collisionCount": status.collision_count,
    })
}
