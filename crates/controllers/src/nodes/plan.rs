//! A node's readiness, taints and evictions. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Pod, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::objects::phase;

/// A node that has not been heard of for this long counts as unreachable (upstream: 50 s; its kubelets renew every 10).
pub(super) const GRACE: SignedDuration = SignedDuration::from_secs(50);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Taints that stand for conditions of the node, where the condition is true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// What to do for one node.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Conditions to write, when the node went silent.
    pub(super) conditions: Option<Vec<NodeCondition>>,
    /// All taints to write.
    pub(super) taints: Option<Vec<Taint>>,
    pub(super) evict: Vec<Arc<Pod>>,
    /// Whether pods should be marked as not ready (nobody answers for them).
    pub(super) silent: bool,
    pub(super) look_again: Option<SignedDuration>,
}

/// `heard` is when the node last gave a sign; `any_ready` whether some node of the cluster is ready: where none is,
/// the fault is more likely here than there, and nothing is evicted.
pub(super) fn plan(
    node: &Node,
    heard: Timestamp,
    pods: &[Arc<Pod>],
    any_ready: bool,
    now: Timestamp,
) -> Plan {
    let left = GRACE - now.duration_since(heard);
    let silent = left <= SignedDuration::ZERO;
    let mut plan = Plan { silent, look_again: (!silent).then_some(left), ..Plan::default() };
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = if silent {
        let unknown = silenced(&conditions, now);
        if unknown != conditions {
            plan.conditions = Some(unknown.clone());
        }
        unknown
    } else {
        conditions
    };
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let wanted = taints(&present, &conditions, unschedulable, now);
    if wanted != present {
        plan.taints = Some(wanted.clone());
    }
    if any_ready {
        evictions(&mut plan, &wanted, pods, now);
    }
    plan
}

fn silenced(conditions: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = conditions.to_vec();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let reason = "NodeStatusUnknown";
        let message = "Kubelet stopped posting node status.";
        match conditions.iter_mut().find(|own| own.type_ == kind) {
            Some(own) if own.status == "Unknown" => {}
            Some(own) => {
                own.status = "Unknown".to_owned();
                own.reason = Some(reason.to_owned());
                own.message = Some(message.to_owned());
                own.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_transition_time: Some(Time(now)),
                last_heartbeat_time: None,
            }),
        }
    }
    conditions
}

/// The present taints, with those that stand for conditions brought up to date.
fn taints(
    present: &[Taint],
    conditions: &[NodeCondition],
    unschedulable: bool,
    now: Timestamp,
) -> Vec<Taint> {
    let status = |kind: &str| conditions.iter().find(|own| own.type_ == kind).map(|own| own.status.as_str());
    let ready = status("Ready");
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    if unschedulable {
        wanted.push(("node.kubernetes.io/unschedulable", "NoSchedule"));
    }
    let pressed = PRESSURES.iter().filter(|(kind, _)| status(kind) == Some("True"));
    wanted.extend(pressed.map(|(_, key)| (*key, "NoSchedule")));
    let ours = |key: &str| {
        [NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable"].contains(&key)
            || PRESSURES.iter().any(|(_, own)| *own == key)
    };
    let mut result: Vec<Taint> = present
        .iter()
        .filter(|taint| !ours(&taint.key) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !result.iter().any(|taint| taint.key == key && taint.effect == effect) {
            result.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: (effect == "NoExecute").then_some(Time(now)),
            });
        }
    }
    result
}

fn evictions(plan: &mut Plan, taints: &[Taint], pods: &[Arc<Pod>], now: Timestamp) {
    let executing: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    if executing.is_empty() {
        return;
    }
    for pod in pods {
        let ended = matches!(phase(pod), "Succeeded" | "Failed");
        if pod.metadata.deletion_timestamp.is_some() || ended {
            continue;
        }
        let Some(wait) = executing.iter().filter_map(|taint| stays(pod, taint, now)).min() else { continue };
        if wait <= SignedDuration::ZERO {
            plan.evict.push(Arc::clone(pod));
        } else {
            plan.look_again = Some(plan.look_again.map_or(wait, |other| other.min(wait)));
        }
    }
}

/// How much longer `taint` lets the pod stay; `None` for as long as it likes.
fn stays(pod: &Pod, taint: &Taint, now: Timestamp) -> Option<SignedDuration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let matching = tolerations.iter().filter(|own| {
        let key = own.key.as_deref().unwrap_or_default();
        let effect = own.effect.as_deref().unwrap_or_default();
        let exists = own.operator.as_deref() == Some("Exists");
        let value =
            exists || own.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        (key == taint.key || key.is_empty() && exists)
            && (effect.is_empty() || effect == taint.effect)
            && value
    });
    let times: Vec<Option<i64>> = matching.map(|own| own.toleration_seconds).collect();
    if times.is_empty() {
        return Some(SignedDuration::ZERO);
    }
    // The shortest limit among those that match counts; none of them limited means for ever.
    let limit = times.into_iter().flatten().min()?;
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    Some(SignedDuration::from_secs(limit.max(0)) - now.duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a node")
    }

    fn pod(name: &str, tolerations: serde_json::Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
                "spec": {"containers": [], "nodeName": "n", "tolerations": tolerations}, "status": {"phase": "Running"}}))
            .expect("a pod"),
        )
    }

    fn later(seconds: i64) -> Timestamp {
        START + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_node_that_is_heard_of_is_left_alone_until_its_grace_ends() {
        let plan = plan(&node(), START, &[pod("p", json!([]))], true, later(20));
        assert!(plan.conditions.is_none() && plan.taints.is_none() && plan.evict.is_empty());
        assert_eq!(plan.look_again, Some(SignedDuration::from_secs(30)));
    }

    #[test]
    fn a_silent_node_is_tainted_and_pods_go_when_their_toleration_ends() {
        let tolerant = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        let forever = json!([{"operator": "Exists"}]);
        let pods = [pod("none", json!([])), pod("some", tolerant), pod("all", forever)];
        let mut node = node();
        let first = plan(&node, START, &pods, true, later(60));
        let taints = first.taints.expect("tainted");
        assert!(taints.iter().any(|taint| taint.key == "mine"), "other taints stay");
        assert_eq!(
            first.evict.iter().map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(),
            [Some("none")]
        );
        node.spec.as_mut().expect("spec").taints = Some(taints);
        node.status.as_mut().expect("status").conditions = first.conditions;
        let second = plan(&node, START, &pods[1..], true, later(361));
        assert_eq!(second.evict.len(), 1);
        assert!(second.taints.is_none() && second.conditions.is_none());
    }

    #[test]
    fn nothing_is_evicted_when_no_node_is_ready() {
        let plan = plan(&node(), START, &[pod("p", json!([]))], false, later(60));
        assert!(plan.taints.is_some() && plan.evict.is_empty());
    }

    #[test]
    fn a_node_that_comes_back_loses_its_taints() {
        let mut node = node();
        node.spec.as_mut().expect("spec").taints = Some(vec![Taint {
            key: UNREACHABLE.to_owned(),
            effect: "NoExecute".to_owned(),
            ..Taint::default()
        }]);
        assert_eq!(plan(&node, later(60), &[], true, later(61)).taints, Some(Vec::new()));
    }
}
