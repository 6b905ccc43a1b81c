//! Which pods to adopt, release, create and delete, and what the status should say. Pure.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
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
    /// The status to write; none when it stands so already.
    pub(crate) status: Option<Value>,
    /// When the next pod becomes available by standing long enough.
    pub(crate) look_again: Option<SignedDuration>,
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
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut plan = Plan { adopt, release, ..Plan::default() };
    if !deleting {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else {
            plan.delete = to_delete(active.clone(), (active.len() - wanted).min(BURST), now);
        }
    }
    let (status, look_again) = status(set, &pods, &active, now);
    plan.status = status;
    plan.look_again = look_again;
    plan
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

fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    now: Timestamp,
) -> (Option<Value>, Option<SignedDuration>) {
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
    let wanted = json!({
        "replicas": active.len(), "fullyLabeledReplicas": fully_labelled, "readyReplicas": ready,
        "availableReplicas": available, "terminatingReplicas": terminating,
        "observedGeneration": set.metadata.generation.unwrap_or(0),
    });
    let present = set.status.clone().unwrap_or_default();
    let present = json!({
        "replicas": present.replicas, "fullyLabeledReplicas": present.fully_labeled_replicas.unwrap_or(0),
        "readyReplicas": present.ready_replicas.unwrap_or(0),
        "availableReplicas": present.available_replicas.unwrap_or(0),
        "terminatingReplicas": present.terminating_replicas.unwrap_or(0),
        "observedGeneration": present.observed_generation.unwrap_or(0),
    });
    ((wanted != present).then_some(wanted), look_again)
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
        assert_eq!(plan.status.expect("changes")["readyReplicas"], 1);
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
