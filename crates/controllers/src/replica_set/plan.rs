//! Which pods to adopt, release, create and delete, and what the status should say. Pure.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::objects::{is_active, is_ready, phase, selects, until_available};

/// Pods created or deleted at once at most (upstream's burst).
const BURST: usize = 500;

/// What to do for one ReplicaSet.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// The pods that count as its own: those it keeps and those it adopts.
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// What became of the pods that were to be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub(crate) reason: &'static str,
    /// What the server answered.
    pub(crate) message: String,
}

/// `owned` are the pods it controls, `orphans` those of its namespace that nobody controls.
pub(crate) fn plan(set: &ReplicaSet, owned: &[Arc<Pod>], orphans: &[Arc<Pod>], now: Timestamp) -> Plan {
    let Some(spec) = set.spec.as_ref() else { return Plan::default() };
    let deleting = set.metadata.deletion_timestamp.is_some();
    let matches = |pod: &Arc<Pod>| selects(&spec.selector, pod.metadata.labels.as_ref());
    let (mine, release): (Vec<_>, Vec<_>) = owned.iter().cloned().partition(|pod| matches(pod));
    let adopt: Vec<_> =
        orphans.iter().filter(|pod| !deleting && matches(pod) && is_active(pod)).cloned().collect();
    let pods: Vec<Arc<Pod>> = mine.into_iter().chain(adopt.iter().cloned()).collect();
    let active: Vec<Arc<Pod>> = actives(&pods);
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut plan = Plan { adopt, release, pods, ..Plan::default() };
    if !deleting {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else {
            let surplus = (active.len() - wanted).min(BURST);
            plan.delete = to_delete(active, surplus, now);
        }
    }
    plan
}

fn actives(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    pods.iter().filter(|pod| is_active(pod)).cloned().collect()
}

/// The pods least worth keeping: unassigned, pending, not ready, cheap to delete, on a crowded node, ready for the
/// shortest time, restarted most often, youngest.
fn to_delete(mut pods: Vec<Arc<Pod>>, count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count == 0 {
        return Vec::new();
    }
    let mut per_node: HashMap<String, usize> = HashMap::new();
    for node in pods.iter().filter_map(|pod| node_of(pod)) {
        *per_node.entry(node.to_owned()).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| {
        let phase_rank = match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let crowd = node_of(pod).and_then(|node| per_node.get(node)).copied().unwrap_or(0);
        let ready_since = crate::objects::ready_since(pod).map(|since| since.unwrap_or(now));
        (
            node_of(pod).is_some(),
            phase_rank,
            is_ready(pod),
            deletion_cost(pod),
            Reverse(crowd),
            Reverse(ready_since),
            Reverse(restarts(pod)),
            Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            pod.metadata.name.clone(),
        )
    });
    pods.truncate(count);
    pods
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).max().unwrap_or(0)
}

/// The status to write (none when it stands so already) and when the next pod becomes available by standing long
/// enough. `counts_terminating` is false for kinds whose status has no such count.
pub(crate) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    counts_terminating: bool,
    now: Timestamp,
) -> (Option<Value>, Option<SignedDuration>) {
    let active = actives(pods);
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template_labels = spec
        .and_then(|spec| spec.template.as_ref())
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default();
    let fully_labelled = active
        .iter()
        .filter(|pod| {
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            template_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
        .count();
    let ready = active.iter().filter(|pod| is_ready(pod)).count();
    let waits: Vec<SignedDuration> =
        active.iter().filter_map(|pod| until_available(pod, min_ready, now)).collect();
    let available = waits.iter().filter(|wait| wait.is_zero()).count();
    let look_again = waits.iter().filter(|wait| !wait.is_zero()).min().copied();
    let terminating = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
    let before = set.status.clone().unwrap_or_default();
    let old_conditions = before.conditions.clone().unwrap_or_default();
    let conditions = conditions(&old_conditions, failure, now);
    let mut wanted = json!({
        "replicas": active.len(), "fullyLabeledReplicas": fully_labelled, "readyReplicas": ready,
        "availableReplicas": available, "observedGeneration": set.metadata.generation.unwrap_or(0),
    });
    let mut present = json!({
        "replicas": before.replicas, "fullyLabeledReplicas": before.fully_labeled_replicas.unwrap_or(0),
        "readyReplicas": before.ready_replicas.unwrap_or(0),
        "availableReplicas": before.available_replicas.unwrap_or(0),
        "observedGeneration": before.observed_generation.unwrap_or(0),
    });
    if counts_terminating {
        wanted["terminatingReplicas"] = json!(terminating);
        present["terminatingReplicas"] = json!(before.terminating_replicas.unwrap_or(0));
    }
    let same = wanted == present && conditions == old_conditions;
    // A set that never failed has no conditions at all.
    wanted["conditions"] = if conditions.is_empty() { Value::Null } else { json!(conditions) };
    ((!same).then_some(wanted), look_again)
}

/// `ReplicaFailure` stands from the first failure until pods can be created and deleted again (upstream keeps the first
/// reason as long).
fn conditions(
    before: &[ReplicaSetCondition],
    failure: Option<&Failure>,
    now: Timestamp,
) -> Vec<ReplicaSetCondition> {
    const FAILURE: &str = "ReplicaFailure";
    let stands = before.iter().any(|condition| condition.type_ == FAILURE);
    let mut after = before.to_vec();
    match failure {
        Some(failure) if !stands => after.push(ReplicaSetCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => after.retain(|condition| condition.type_ != FAILURE),
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .expect("a ReplicaSet")
    }

    fn pod(name: &str, node: &str, ready: bool, phase: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": phase, "conditions": [
                    {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .expect("a pod"),
        )
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn creates_what_is_missing_and_counts_no_ended_pod() {
        let pods = [pod("a", "n", true, "Running"), pod("b", "n", false, "Failed")];
        let plan = plan(&set(3), &pods, &[], Timestamp::UNIX_EPOCH);
        assert_eq!((plan.create, plan.delete.len()), (2, 0));
        let (status, _) = status(&set(3), &plan.pods, None, true, Timestamp::UNIX_EPOCH);
        assert_eq!(status.expect("changes")["readyReplicas"], 1);
    }

    #[test]
    fn a_failure_stands_in_the_status_until_it_is_over() {
        let mut set = set(3);
        let failure = Failure { reason: "FailedCreate", message: "exceeded quota".to_owned() };
        let (failed, _) = status(&set, &[], Some(&failure), true, Timestamp::UNIX_EPOCH);
        let failed = failed.expect("changes");
        assert_eq!(failed["conditions"][0]["reason"], "FailedCreate");
        set.status = serde_json::from_value(failed).ok();
        let (again, _) = status(&set, &[], Some(&failure), true, Timestamp::UNIX_EPOCH);
        assert!(again.is_none(), "the same failure is written once");
        let (over, _) = status(&set, &[], None, true, Timestamp::UNIX_EPOCH);
        assert_eq!(over.expect("changes")["conditions"], Value::Null);
    }

    #[test]
    fn deletes_the_least_worthy_first() {
        let pods = [
            pod("ready", "n1", true, "Running"),
            pod("unready", "n2", false, "Running"),
            pod("pending", "n3", false, "Pending"),
            pod("unassigned", "", false, "Pending"),
        ];
        assert_eq!(
            names(&plan(&set(1), &pods, &[], Timestamp::UNIX_EPOCH).delete),
            ["unassigned", "pending", "unready"]
        );
    }

    #[test]
    fn adopts_matching_orphans_before_it_creates() {
        let orphan = [pod("stray", "n", true, "Running")];
        let plan = plan(&set(1), &[], &orphan, Timestamp::UNIX_EPOCH);
        assert_eq!((names(&plan.adopt), plan.create), (vec!["stray"], 0));
    }

    #[test]
    fn a_set_on_its_way_out_touches_nothing() {
        let mut set = set(3);
        set.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let plan = plan(&set, &[], &[pod("stray", "n", true, "Running")], Timestamp::UNIX_EPOCH);
        assert_eq!((plan.create, plan.adopt.len()), (0, 0));
    }
}
