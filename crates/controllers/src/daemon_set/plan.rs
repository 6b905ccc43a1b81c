//! Which nodes need a pod, which pods must go, and what the status should say. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{
            Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
            PodTemplateSpec, Taint, Toleration,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::objects::{REVISION_HASH, is_active, is_ready, phase, share, until_available};

/// What to do for one DaemonSet.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that need a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// The status to write; none when it stands so already.
    pub(super) status: Option<Value>,
    pub(super) look_again: Option<SignedDuration>,
}

/// Taints that daemons bear whatever their template says (upstream's list).
const BORNE: [(&str, &str); 7] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ("node.kubernetes.io/network-unavailable", "NoSchedule"),
];

/// The template with what a daemon's pod has beside it, for one node (or none, to look at tolerations).
pub(super) fn template_for(set: &DaemonSet, node: Option<&str>, hash: &str) -> PodTemplateSpec {
    let mut template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    let Some(spec) = template.spec.as_mut() else { return template };
    let tolerations = spec.tolerations.get_or_insert_default();
    let host = spec.host_network == Some(true);
    for (key, effect) in BORNE {
        if key.ends_with("network-unavailable") && !host {
            continue;
        }
        tolerations.push(Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        });
    }
    if let Some(node) = node {
        let term = NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        };
        let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
        let own: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
        // The node was chosen by the template's own terms already.
        own.required_during_scheduling_ignored_during_execution =
            Some(NodeSelector { node_selector_terms: vec![term] });
    }
    template
}

/// The node a daemon's pod is for, whether or not it is bound already.
fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields
        .filter(|field| field.key == "metadata.name")
        .filter_map(|field| field.values.as_ref()?.first());
    names.next().map(String::as_str)
}

/// `pods` are those it controls; `hash` is that of the template's revision.
pub(super) fn plan(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    hash: &str,
    now: Timestamp,
) -> Plan {
    let Some(spec) = set.spec.as_ref() else { return Plan::default() };
    let template = template_for(set, None, hash);
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        by_node.entry(node_of(pod).unwrap_or_default()).or_default().push(pod);
    }
    let (mut wanted, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let (run, stay) = fits(&template, node);
        if run {
            wanted.insert(name.clone());
        }
        if stay {
            kept.insert(name);
        }
    }
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_none() {
        place(&mut plan, &wanted, &kept, &by_node);
        roll(&mut plan, set, &wanted, &by_node, hash, now);
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let mut counts = Counts::default();
    for (node, pods) in &by_node {
        let Some(pod) = pods.iter().find(|pod| is_active(pod)) else { continue };
        if !wanted.contains(*node) {
            counts.misplaced += 1;
            continue;
        }
        counts.current += 1;
        counts.ready += i32::from(is_ready(pod));
        counts.updated += i32::from(is_updated(pod, hash));
        match until_available(pod, min_ready, now) {
            Some(wait) if wait.is_zero() => counts.available += 1,
            Some(wait) => plan.look_again = Some(plan.look_again.map_or(wait, |other| other.min(wait))),
            None => {}
        }
    }
    plan.status = counts.changed(set, i32::try_from(wanted.len()).unwrap_or(i32::MAX));
    plan
}

#[derive(Default)]
struct Counts {
    current: i32,
    misplaced: i32,
    ready: i32,
    updated: i32,
    available: i32,
}

impl Counts {
    fn changed(&self, set: &DaemonSet, desired: i32) -> Option<Value> {
        let wanted = json!({
            "currentNumberScheduled": self.current, "numberMisscheduled": self.misplaced,
            "desiredNumberScheduled": desired, "numberReady": self.ready,
            "updatedNumberScheduled": self.updated, "numberAvailable": self.available,
            "numberUnavailable": desired - self.available,
            "observedGeneration": set.metadata.generation.unwrap_or(0),
        });
        let present = set.status.clone().unwrap_or_default();
        let present = json!({
            "currentNumberScheduled": present.current_number_scheduled,
            "numberMisscheduled": present.number_misscheduled,
            "desiredNumberScheduled": present.desired_number_scheduled, "numberReady": present.number_ready,
            "updatedNumberScheduled": present.updated_number_scheduled.unwrap_or(0),
            "numberAvailable": present.number_available.unwrap_or(0),
            "numberUnavailable": present.number_unavailable.unwrap_or(0),
            "observedGeneration": present.observed_generation.unwrap_or(0),
        });
        (wanted != present).then_some(wanted)
    }
}

fn is_updated(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).is_some_and(|own| own == hash)
}

/// One active pod where one is wanted, none where none may stay; ended pods make room for new ones.
fn place(
    plan: &mut Plan,
    wanted: &BTreeSet<String>,
    kept: &BTreeSet<String>,
    by_node: &BTreeMap<&str, Vec<&Arc<Pod>>>,
) {
    for (node, pods) in by_node {
        let mut active: Vec<&Arc<Pod>> = pods.iter().copied().filter(|pod| is_active(pod)).collect();
        if !kept.contains(*node) {
            plan.delete.extend(active.into_iter().cloned());
            continue;
        }
        active
            .sort_by_key(|pod| (!is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        plan.delete.extend(active.into_iter().skip(1).cloned());
        let ended = pods.iter().filter(|pod| {
            pod.metadata.deletion_timestamp.is_none() && matches!(phase(pod), "Failed" | "Succeeded")
        });
        plan.delete.extend(ended.map(|pod| Arc::clone(pod)));
    }
    // A pod on its way out still holds its node's place: its ports and files.
    let free = wanted.iter().filter(|node| by_node.get(node.as_str()).is_none_or(Vec::is_empty));
    plan.create = free.cloned().collect();
}

/// Replaces outdated pods, as many at a time as may be missing; those that serve nobody first.
fn roll(
    plan: &mut Plan,
    set: &DaemonSet,
    wanted: &BTreeSet<String>,
    by_node: &BTreeMap<&str, Vec<&Arc<Pod>>>,
    hash: &str,
    now: Timestamp,
) {
    let spec = set.spec.as_ref();
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    if strategy.and_then(|own| own.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let total = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let one = IntOrString::Int(1);
    let limit =
        strategy.and_then(|own| own.rolling_update.as_ref()).and_then(|own| own.max_unavailable.as_ref());
    let limit = usize::try_from(share(Some(limit.unwrap_or(&one)), total, true)).unwrap_or(0).max(1);
    let available =
        |pod: &Pod| is_active(pod) && until_available(pod, min_ready, now).is_some_and(|wait| wait.is_zero());
    let (mut missing, mut outdated) = (0, Vec::new());
    for node in wanted {
        let pods = by_node.get(node.as_str()).map(Vec::as_slice).unwrap_or_default();
        let serving = pods.iter().any(|pod| available(pod));
        missing += usize::from(!serving);
        outdated.extend(pods.iter().copied().filter(|pod| is_active(pod) && !is_updated(pod, hash)));
    }
    for pod in outdated {
        if plan.delete.iter().any(|other| Arc::ptr_eq(other, pod)) {
            continue;
        }
        if !available(pod) {
            plan.delete.push(Arc::clone(pod));
        } else if missing < limit {
            missing += 1;
            plan.delete.push(Arc::clone(pod));
        }
    }
}

/// Whether a pod of the template should run on the node, and whether one that runs there may stay.
fn fits(template: &PodTemplateSpec, node: &Node) -> (bool, bool) {
    let Some(spec) = template.spec.as_ref() else { return (false, false) };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let name = node.metadata.name.clone().unwrap_or_default();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|own| own.node_affinity.as_ref());
    let required = affinity.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
    let liked = required.is_none_or(|own| {
        own.node_selector_terms.iter().any(|term| {
            let expressions = term.match_expressions.as_deref().unwrap_or_default();
            let fields = term.match_fields.as_deref().unwrap_or_default();
            (!expressions.is_empty() || !fields.is_empty())
                && expressions.iter().all(|own| holds(own, labels.get(&own.key)))
                && fields.iter().all(|own| own.key == "metadata.name" && holds(own, Some(&name)))
        })
    });
    if !selected || !liked {
        return (false, false);
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let refused =
        |effect: &str| taints.iter().any(|taint| taint.effect == effect && !tolerates(tolerations, taint));
    let (schedule, execute) = (refused("NoSchedule"), refused("NoExecute"));
    (!schedule && !execute, !execute)
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|own| {
        let key = own.key.as_deref().unwrap_or_default();
        let effect = own.effect.as_deref().unwrap_or_default();
        let exists = own.operator.as_deref() == Some("Exists");
        let value =
            exists || own.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        (key == taint.key || key.is_empty() && exists)
            && (effect.is_empty() || effect == taint.effect)
            && value
    })
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let both = value.and_then(number).zip(values.first().and_then(number));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => both.is_some_and(|(value, limit)| value > limit),
        "Lt" => both.is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn hash(set: &DaemonSet) -> String {
        set.spec.as_ref().map(|spec| crate::objects::template_hash(&spec.template, 0)).expect("a template")
    }

    fn plan(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp) -> Plan {
        super::plan(set, nodes, pods, &hash(set), now)
    }

    fn set(image: &str) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "ns", "uid": "d", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
                "spec": {"nodeSelector": {"os": "linux"}, "containers": [{"name": "c", "image": image}]}}},
        }))
        .expect("a DaemonSet")
    }

    fn node(name: &str, os: &str, taint: Option<&str>) -> Arc<Node> {
        let taints: Vec<Value> =
            taint.iter().map(|effect| json!({"key": "mine", "effect": effect})).collect();
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}}),
            )
            .expect("a node"),
        )
    }

    fn pod(set: &DaemonSet, node: &str, ready: bool) -> Arc<Pod> {
        let template = template_for(set, Some(node), &hash(set));
        let mut pod =
            Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        pod.metadata.name = Some(format!("d-{node}"));
        let status = if ready { "True" } else { "False" };
        pod.status = serde_json::from_value(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}),
        )
        .ok();
        Arc::new(pod)
    }

    #[test]
    fn one_pod_for_each_node_that_fits() {
        let nodes =
            [node("a", "linux", None), node("b", "windows", None), node("c", "linux", Some("NoSchedule"))];
        assert_eq!(plan(&set("x"), &nodes, &[], NOW).create, ["a"]);
        let pods = [pod(&set("x"), "a", true), pod(&set("x"), "b", true), pod(&set("x"), "c", true)];
        let plan = plan(&set("x"), &nodes, &pods, NOW);
        assert!(plan.create.is_empty());
        assert_eq!(
            plan.delete.iter().map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(),
            [Some("d-b")]
        );
        assert_eq!(plan.status.expect("changes")["numberMisscheduled"], 2);
    }

    #[test]
    fn a_new_template_replaces_one_pod_at_a_time() {
        let nodes = [node("a", "linux", None), node("b", "linux", None)];
        let pods = [pod(&set("x"), "a", true), pod(&set("x"), "b", true)];
        assert_eq!(plan(&set("y"), &nodes, &pods, NOW).delete.len(), 1);
        let half = [pod(&set("y"), "a", false), pod(&set("x"), "b", true)];
        assert!(
            plan(&set("y"), &nodes, &half, NOW).delete.is_empty(),
            "the first must be ready before the next goes"
        );
    }
}
