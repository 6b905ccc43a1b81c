//! Who must go so that a more important pod can come. Pure.
//!
//! As upstream's default preemption: on each node that could be made to fit, as few and as unimportant pods as will do;
//! then the node whose loss is least. Disruption budgets are not looked at.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{
    decide::{Demand, NodeState, Surroundings, never_fits, refusals},
    relations::Relations,
};

/// A node and the pods that leave it.
#[derive(Clone, Debug)]
pub struct Victims {
    /// The node's name.
    pub node: String,
    /// Most important first.
    pub pods: Vec<Arc<Pod>>,
}

/// A pod's importance.
#[must_use]
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Whether `pod` may make others go: its class allows it, and it does not already wait for some to leave `nominated`.
#[must_use]
pub fn may_preempt(pod: &Pod, nominated: Option<&NodeState>) -> bool {
    let never = pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never");
    let leaving =
        |other: &Arc<Pod>| other.metadata.deletion_timestamp.is_some() && priority(other) < priority(pod);
    !never && !nominated.is_some_and(|node| node.pods.values().any(leaving))
}

/// The least loss that makes room for `pod`; `None` when nothing would.
#[must_use]
pub fn preempt(pod: &Pod, demand: &Demand, nodes: &[&NodeState], around: &Surroundings) -> Option<Victims> {
    let all = nodes.iter().enumerate().filter_map(|(place, _)| victims(pod, demand, nodes, place, around));
    all.min_by_key(|victims| {
        let first = victims.pods.first();
        let sum: i64 =
            victims.pods.iter().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
        let top = first.map(|pod| priority(pod));
        let since =
            victims.pods.iter().filter(|pod| Some(priority(pod)) == top).map(|pod| started(pod)).min();
        // Of equals, those that began last have the least to lose.
        (top, sum, victims.pods.len(), Reverse(since), victims.node.clone())
    })
}

fn started(pod: &Pod) -> Timestamp {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    start.or(pod.metadata.creation_timestamp.as_ref()).map_or(Timestamp::MAX, |time| time.0)
}

/// Takes all less important pods off a node, then lets back as many as still leave room, the most important first.
fn victims(
    pod: &Pod,
    demand: &Demand,
    nodes: &[&NodeState],
    place: usize,
    around: &Surroundings,
) -> Option<Victims> {
    let node = nodes[place];
    if never_fits(pod, node).is_some() {
        return None;
    }
    let mut candidates: Vec<(&String, &Arc<Pod>)> =
        node.pods.iter().filter(|(_, other)| priority(other) < priority(pod)).collect();
    if candidates.is_empty() {
        return None;
    }
    candidates.sort_by_key(|(uid, other)| (Reverse(priority(other)), started(other), (*uid).clone()));
    let mut left = node.clone();
    for (uid, other) in &candidates {
        left.leave(uid, &Demand::of(other));
    }
    let fits = |left: &NodeState| {
        let mut others = nodes.to_vec();
        others[place] = left;
        refusals(pod, demand, left, around.reserved.get(&left.name)).is_empty()
            && Relations::of(pod, &others, &around.namespaces).refusal(left).is_none()
    };
    if !fits(&left) {
        return None;
    }
    let mut gone = Vec::new();
    for (uid, other) in candidates {
        let demand = Demand::of(other);
        left.settle(uid, other, &demand);
        if !fits(&left) {
            left.leave(uid, &demand);
            gone.push(Arc::clone(other));
        }
    }
    Some(Victims { node: node.name.clone(), pods: gone })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    fn pod(name: &str, priority: i32, cpu: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}),
            )
            .expect("a pod"),
        )
    }

    fn node(name: &str, pods: &[Arc<Pod>]) -> NodeState {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name},
            "status": {"allocatable": {"cpu": "10", "pods": "10"}}}))
        .expect("a node");
        let mut state = NodeState::new(&node);
        for pod in pods {
            state.settle(pod.metadata.uid.as_deref().expect("a uid"), pod, &Demand::of(pod));
        }
        state
    }

    fn gone(pod: &Pod, nodes: &[NodeState]) -> Option<(String, Vec<String>)> {
        let nodes: Vec<&NodeState> = nodes.iter().collect();
        let victims = preempt(pod, &Demand::of(pod), &nodes, &Surroundings::default())?;
        let names = victims.pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        Some((victims.node, names))
    }

    #[test]
    fn only_as_many_go_as_must_and_the_least_important_first() {
        let pods = [pod("low", 1, "4"), pod("mid", 2, "4"), pod("top", 9, "2")];
        assert_eq!(
            gone(&pod("new", 5, "4"), &[node("a", &pods)]),
            Some(("a".to_owned(), vec!["low".to_owned()]))
        );
        assert_eq!(gone(&pod("new", 5, "8"), &[node("a", &pods)]).map(|(_, pods)| pods.len()), Some(2));
        assert_eq!(gone(&pod("new", 1, "4"), &[node("a", &pods)]), None, "equals are left alone");
        assert_eq!(gone(&pod("new", 5, "9"), &[node("a", &pods)]), None, "the more important stay");
    }

    #[test]
    fn the_node_with_the_least_loss_is_chosen() {
        let nodes = [
            node("a", &[pod("a-mid", 3, "10")]),
            node("b", &[pod("b-low", 1, "5"), pod("b-low-too", 1, "5")]),
            node("c", &[pod("c-low", 1, "10")]),
        ];
        assert_eq!(gone(&pod("new", 5, "10"), &nodes).map(|(node, _)| node), Some("c".to_owned()));
    }

    #[test]
    fn who_waits_for_its_victims_takes_no_more() {
        let mut leaving = (*pod("low", 1, "10")).clone();
        leaving.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let node = node("a", &[Arc::new(leaving)]);
        let mut new = (*pod("new", 5, "4")).clone();
        assert!(!may_preempt(&new, Some(&node)) && may_preempt(&new, None));
        new.spec.as_mut().expect("spec").preemption_policy = Some("Never".to_owned());
        assert!(!may_preempt(&new, None));
    }
}
