//! How many of a budget's pods are healthy, must be, and may go. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use serde_json::{Value, json};

use crate::objects::{is_active, is_ready, share};

/// A pod whose eviction was let through but which is still there counts as healthy again after this time (upstream's
/// `DeletionTimeout`).
const EVICTION_PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const CONDITION: &str = "DisruptionAllowed";

/// How many pods there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// The sum of what the pods' controllers want.
    Known(i32),
    /// It cannot be found out; for people.
    Unknown(String),
}

/// Whether the controllers' wishes matter: a plain number of available pods is judged by the pods there are.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// The status to write (none when it stands so already) and when an eviction let through is given up. `pods` are those
/// the budget selects, `scale` what their controllers want.
pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: &Scale,
    now: Timestamp,
) -> (Option<Value>, Option<SignedDuration>) {
    let spec = budget.spec.clone().unwrap_or_default();
    let before = budget.status.clone().unwrap_or_default();
    let there: Vec<&Arc<Pod>> =
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_active(pod)).collect();
    let (disrupted, look_again) =
        still_disrupted(&before.disrupted_pods.clone().unwrap_or_default(), &there, now);
    let healthy = there
        .iter()
        .filter(|pod| {
            is_ready(pod) && !disrupted.contains_key(pod.metadata.name.as_deref().unwrap_or_default())
        })
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let (expected, desired, trouble) = match (&spec.max_unavailable, &spec.min_available, scale) {
        (Some(_), _, Scale::Unknown(why)) | (None, Some(IntOrString::String(_)), Scale::Unknown(why)) => {
            (0, 0, Some(why.clone()))
        }
        (Some(limit), _, Scale::Known(scale)) => {
            (*scale, (scale - share(Some(limit), *scale, true)).max(0), None)
        }
        (None, Some(IntOrString::Int(number)), _) => {
            (i32::try_from(there.len()).unwrap_or(i32::MAX), *number, None)
        }
        (None, Some(limit), Scale::Known(scale)) => (*scale, share(Some(limit), *scale, true), None),
        (None, None, _) => (0, 0, None),
    };
    let allowed = if expected > 0 && trouble.is_none() { (healthy - desired).max(0) } else { 0 };
    let (holds, reason, message) = match trouble {
        Some(why) => (false, "SyncFailed", why),
        None if allowed > 0 => (true, "SufficientPods", String::new()),
        None => (false, "InsufficientPods", String::new()),
    };
    let generation = budget.metadata.generation.unwrap_or(0);
    let condition = condition(before.conditions.as_deref(), holds, reason, message, generation, now);
    let others = before.conditions.iter().flatten().filter(|own| own.type_ != CONDITION).cloned();
    let conditions: Vec<Condition> = others.chain([condition]).collect();
    let wanted = json!({
        "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired,
        "expectedPods": expected, "observedGeneration": generation, "disruptedPods": disrupted,
        "conditions": conditions,
    });
    let present = json!({
        "disruptionsAllowed": before.disruptions_allowed, "currentHealthy": before.current_healthy,
        "desiredHealthy": before.desired_healthy, "expectedPods": before.expected_pods,
        "observedGeneration": before.observed_generation.unwrap_or(0),
        "disruptedPods": before.disrupted_pods.unwrap_or_default(),
        "conditions": before.conditions.unwrap_or_default(),
    });
    ((wanted != present).then_some(wanted), look_again)
}

/// Evictions let through whose pods still stand, and when the oldest of them is given up.
fn still_disrupted(
    before: &BTreeMap<String, Time>,
    there: &[&Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<SignedDuration>) {
    let mut kept = BTreeMap::new();
    let mut look_again: Option<SignedDuration> = None;
    for (name, since) in before {
        let left = EVICTION_PATIENCE - now.duration_since(since.0);
        let stands = there.iter().any(|pod| pod.metadata.name.as_deref() == Some(name));
        if stands && left > SignedDuration::ZERO {
            kept.insert(name.clone(), since.clone());
            look_again = Some(look_again.map_or(left, |other| other.min(left)));
        }
    }
    (kept, look_again)
}

fn condition(
    before: Option<&[Condition]>,
    holds: bool,
    reason: &str,
    message: String,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let before = before.unwrap_or_default().iter().find(|own| own.type_ == CONDITION);
    let since =
        before.filter(|own| own.status == status).map_or(Time(now), |own| own.last_transition_time.clone());
    Condition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: Some(generation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn budget(spec: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 1}, "spec": spec}))
            .expect("a budget")
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let pod = json!({"metadata": {"name": name}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn counts(spec: Value, pods: &[Arc<Pod>], scale: i32) -> Vec<i64> {
        let (status, _) = plan(&budget(spec), pods, &Scale::Known(scale), NOW);
        let status = status.expect("changes");
        ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
            .iter()
            .map(|name| status[*name].as_i64().expect("a number"))
            .collect()
    }

    #[test]
    fn counts_by_each_kind_of_limit() {
        let pods = [pod("a", true), pod("b", true), pod("c", false)];
        assert_eq!(counts(json!({"minAvailable": 1}), &pods, 0), [3, 1, 2, 1]);
        assert_eq!(counts(json!({"minAvailable": "50%"}), &pods, 4), [4, 2, 2, 0]);
        assert_eq!(counts(json!({"maxUnavailable": 2}), &pods, 3), [3, 1, 2, 1]);
        assert_eq!(counts(json!({"maxUnavailable": "10%"}), &pods, 10), [10, 9, 2, 0]);
        assert_eq!(counts(json!({"minAvailable": 0}), &[], 0), [0, 0, 0, 0], "no pods allow no disruption");
    }

    #[test]
    fn an_eviction_under_way_counts_until_it_is_given_up() {
        let mut budget = budget(json!({"minAvailable": 1}));
        budget.status =
            serde_json::from_value(json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0,
                "expectedPods": 0, "disruptedPods": {"a": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z"}}))
            .ok();
        let pods = [pod("a", true), pod("b", true)];
        let (status, again) = plan(&budget, &pods, &Scale::Known(0), NOW + SignedDuration::from_secs(60));
        let status = status.expect("changes");
        assert_eq!((&status["currentHealthy"], &status["disruptionsAllowed"]), (&json!(1), &json!(0)));
        assert_eq!(status["disruptedPods"], json!({"a": "1970-01-01T00:00:00Z"}));
        assert_eq!(again, Some(SignedDuration::from_secs(60)));
        let (later, _) = plan(&budget, &pods, &Scale::Known(0), NOW + SignedDuration::from_mins(3));
        assert_eq!(later.expect("changes")["disruptionsAllowed"], 1);
    }

    #[test]
    fn the_condition_says_why_and_keeps_its_time() {
        let mut budget = budget(json!({"maxUnavailable": 1}));
        let trouble = Scale::Unknown("found no controllers".to_owned());
        let (failed, _) = plan(&budget, &[pod("a", true)], &trouble, NOW);
        let failed = failed.expect("changes");
        assert_eq!(failed["conditions"][0]["reason"], "SyncFailed");
        budget.status = serde_json::from_value(failed).ok();
        let later = NOW + SignedDuration::from_secs(9);
        assert!(plan(&budget, &[pod("a", true)], &trouble, later).0.is_none(), "nothing new");
        let (fine, _) = plan(&budget, &[pod("a", true)], &Scale::Known(1), later);
        let condition = fine.expect("changes")["conditions"][0].clone();
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("SufficientPods")));
        assert_eq!(condition["lastTransitionTime"], json!("1970-01-01T00:00:09Z"));
    }
}
