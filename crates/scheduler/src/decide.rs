//! Where a pod should run. Pure: no clock, no chance; equal nodes are told apart by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Toleration,
};

use crate::{
    quantity::milli,
    relations::{Namespaces, Relations, keeps_others_away},
};

/// Amounts by resource name, in thousandths.
pub type Amounts = BTreeMap<String, i128>;

const PODS: &str = "pods";
const NO_SCHEDULE: [&str; 2] = ["NoSchedule", "NoExecute"];

/// What a pod asks for, worked out once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// Requests, with 1 pod among them.
    pub requests: Amounts,
    /// Ports on the node: protocol, address, port.
    pub ports: BTreeSet<(String, String, i32)>,
}

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Key, value and effect of each taint.
    pub taints: Vec<(String, String, String)>,
    /// Nobody new, by order.
    pub unschedulable: bool,
    /// What it has.
    pub allocatable: Amounts,
    /// What its pods asked for.
    pub used: Amounts,
    /// How many of its pods want each port.
    pub ports: BTreeMap<(String, String, i32), usize>,
    /// Its pods by uid.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// How many of its pods keep others away (required anti-affinity).
    pub averse: usize,
}

/// What a decision looks at beside the pod and the nodes.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// By node, what is held back for pods at least as important that wait for room made for them.
    pub reserved: BTreeMap<String, Demand>,
    /// Labels of namespaces, which pod affinity may select by.
    pub namespaces: Arc<Namespaces>,
}

impl NodeState {
    /// A node with nothing on it.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let allocatable =
            node.status.as_ref().and_then(|status| status.allocatable.clone()).unwrap_or_default();
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec
                .iter()
                .flat_map(|spec| spec.taints.iter().flatten())
                .map(|taint| {
                    (taint.key.clone(), taint.value.clone().unwrap_or_default(), taint.effect.clone())
                })
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable) == Some(true),
            allocatable: allocatable
                .iter()
                .filter_map(|(name, amount)| Some((name.clone(), milli(&amount.0)?)))
                .collect(),
            used: Amounts::new(),
            ports: BTreeMap::new(),
            pods: BTreeMap::new(),
            averse: 0,
        }
    }

    /// A pod that was not there came.
    pub fn settle(&mut self, uid: &str, pod: &Arc<Pod>, demand: &Demand) {
        self.add(demand);
        self.averse += usize::from(keeps_others_away(pod));
        self.pods.insert(uid.to_owned(), Arc::clone(pod));
    }

    /// A pod that had settled with this demand went.
    pub fn leave(&mut self, uid: &str, demand: &Demand) {
        if let Some(pod) = self.pods.remove(uid) {
            self.averse -= usize::from(keeps_others_away(&pod));
            self.remove(demand);
        }
    }

    /// A pod came.
    pub fn add(&mut self, demand: &Demand) {
        for (name, amount) in &demand.requests {
            *self.used.entry(name.clone()).or_default() += amount;
        }
        for port in &demand.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
    }

    /// A pod went.
    pub fn remove(&mut self, demand: &Demand) {
        for (name, amount) in &demand.requests {
            *self.used.entry(name.clone()).or_default() -= amount;
        }
        for port in &demand.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl Demand {
    /// Both together.
    pub fn join(&mut self, other: &Self) {
        add(&mut self.requests, &other.requests);
        self.ports.extend(other.ports.iter().cloned());
    }

    /// A pod's: the sum over its containers, or its most demanding moment while init containers run, plus overhead.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let mut demand = Self::default();
        demand.requests.insert(PODS.to_owned(), 1_000);
        let Some(spec) = pod.spec.as_ref() else { return demand };
        let mut running = Amounts::new();
        for container in &spec.containers {
            add(&mut running, &requests(container));
            demand.ports.extend(host_ports(container));
        }
        // Sidecars (init containers that restart always) run beside everything that comes after them.
        let mut sidecars = Amounts::new();
        let mut peak = Amounts::new();
        for container in spec.init_containers.iter().flatten() {
            let own = requests(container);
            if container.restart_policy.as_deref() == Some("Always") {
                add(&mut sidecars, &own);
                demand.ports.extend(host_ports(container));
                raise(&mut peak, &sidecars);
            } else {
                let mut moment = sidecars.clone();
                add(&mut moment, &own);
                raise(&mut peak, &moment);
            }
        }
        add(&mut running, &sidecars);
        raise(&mut running, &peak);
        for (name, amount) in spec.overhead.iter().flatten() {
            *running.entry(name.clone()).or_default() += milli(&amount.0).unwrap_or(0);
        }
        add(&mut demand.requests, &running);
        demand
    }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += amount;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = most.entry(name.clone()).or_default();
        *own = (*own).max(*amount);
    }
}

fn requests(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    requests
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), milli(&amount.0)?)))
        .collect()
}

fn host_ports(container: &Container) -> impl Iterator<Item = (String, String, i32)> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some((protocol, port.host_ip.clone().unwrap_or_else(|| "0.0.0.0".to_owned()), number))
    })
}

/// Why a pod fits no node, in upstream's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many refused for each reason.
    pub reasons: BTreeMap<String, usize>,
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.`
impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        let mut texts: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort();
        write!(f, "{}.", texts.join(", "))
    }
}

/// The best node for `pod`.
///
/// # Errors
/// Why every node refuses it.
pub fn decide<'a>(
    pod: &Pod,
    demand: &Demand,
    nodes: &[&'a NodeState],
    around: &Surroundings,
) -> Result<&'a str, Unfit> {
    let mut unfit = Unfit { nodes: nodes.len(), ..Unfit::default() };
    let mut best: Option<(i64, &'a NodeState)> = None;
    let relations = Relations::of(pod, nodes, &around.namespaces);
    for &node in nodes {
        let mut refusals = refusals(pod, demand, node, around.reserved.get(&node.name));
        if refusals.is_empty() {
            refusals.extend(relations.refusal(node));
        }
        if refusals.is_empty() {
            let score = score(pod, demand, node) + relations.score(node);
            let better = best
                .is_none_or(|(other, leader)| score > other || (score == other && node.name < leader.name));
            if better {
                best = Some((score, node));
            }
        }
        for reason in refusals {
            *unfit.reasons.entry(reason).or_default() += 1;
        }
    }
    best.map(|(_, node)| node.name.as_str()).ok_or(unfit)
}

/// Reasons in upstream's filter order: the first filter that refuses speaks; too few resources name each resource.
pub(crate) fn refusals(
    pod: &Pod,
    demand: &Demand,
    node: &NodeState,
    reserved: Option<&Demand>,
) -> Vec<String> {
    if let Some(why) = never_fits(pod, node) {
        return vec![why];
    }
    let taken = |port: &(String, String, i32)| {
        let held = reserved.iter().flat_map(|reserved| &reserved.ports);
        let used = node.ports.iter().filter(|(_, count)| **count > 0).map(|(other, _)| other);
        used.chain(held).any(|other| ports_clash(port, other))
    };
    if demand.ports.iter().any(taken) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    let mut short = Vec::new();
    for (name, amount) in &demand.requests {
        let has = node.allocatable.get(name).copied().unwrap_or(0);
        let held = reserved.and_then(|reserved| reserved.requests.get(name)).copied().unwrap_or(0);
        let used = node.used.get(name).copied().unwrap_or(0) + held;
        if *amount > 0 && used + amount > has {
            short.push(if name == PODS {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {name}")
            });
        }
    }
    short
}

/// Why no pod that goes away could make room for this one on the node.
pub(crate) fn never_fits(pod: &Pod, node: &NodeState) -> Option<String> {
    let spec = pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let cordon = ("node.kubernetes.io/unschedulable".to_owned(), String::new(), "NoSchedule".to_owned());
    if node.unschedulable && !tolerates(tolerations, &cordon) {
        return Some("node(s) were unschedulable".to_owned());
    }
    let refused = |taint: &&(String, String, String)| {
        NO_SCHEDULE.contains(&taint.2.as_str()) && !tolerates(tolerations, taint)
    };
    if let Some((key, value, _)) = node.taints.iter().find(refused) {
        return Some(format!("node(s) had untolerated taint {{{key}: {value}}}"));
    }
    (!wants(pod, node)).then(|| "node(s) didn't match Pod's node affinity/selector".to_owned())
}

/// Whether a taint of the node keeps the pod off.
pub(crate) fn taints_bar(pod: &Pod, node: &NodeState) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    node.taints.iter().any(|taint| NO_SCHEDULE.contains(&taint.2.as_str()) && !tolerates(tolerations, taint))
}

fn ports_clash(one: &(String, String, i32), other: &(String, String, i32)) -> bool {
    const ANY: &str = "0.0.0.0";
    one.0 == other.0 && one.2 == other.2 && (one.1 == other.1 || one.1 == ANY || other.1 == ANY)
}

fn tolerates(tolerations: &[Toleration], taint: &(String, String, String)) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect_fits = effect.is_empty() || effect == taint.2;
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key_fits = if key.is_empty() { exists } else { key == taint.0 };
        effect_fits && key_fits && (exists || toleration.value.as_deref().unwrap_or_default() == taint.1)
    })
}

pub(crate) fn wants(pod: &Pod, node: &NodeState) -> bool {
    let Some(spec) = pod.spec.as_ref() else { return true };
    let selector = spec.node_selector.iter().flatten();
    if !selector.into_iter().all(|(key, value)| node.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeState) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|own| requirement_matches(own, node.labels.get(&own.key)))
        && fields.iter().all(|own| own.key == "metadata.name" && requirement_matches(own, Some(&node.name)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let compare = |wanted: std::cmp::Ordering| {
        let (value, limit) = (value.and_then(number), values.first().and_then(number));
        value.zip(limit).is_some_and(|(value, limit)| value.cmp(&limit) == wanted)
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(std::cmp::Ordering::Greater),
        "Lt" => compare(std::cmp::Ordering::Less),
        _ => false,
    }
}

/// Higher is better: free room, evenness between CPU and memory, preferred affinity, few soft taints.
fn score(pod: &Pod, demand: &Demand, node: &NodeState) -> i64 {
    let share = |name: &str| -> i64 {
        let has = node.allocatable.get(name).copied().unwrap_or(0);
        if has <= 0 {
            return 0;
        }
        let asked = demand.requests.get(name).copied().unwrap_or(0);
        let taken = node.used.get(name).copied().unwrap_or(0) + asked;
        i64::try_from((taken * 1_000 / has).clamp(0, 1_000)).unwrap_or(1_000)
    };
    let (cpu, memory, pods) = (share("cpu"), share("memory"), share(PODS));
    let free = (2_000 - cpu - memory) / 2;
    let balanced = 1_000 - (cpu - memory).abs();
    // The pod count decides between pods that ask for nothing.
    let spread = 1_000 - pods;
    let spec = pod.spec.as_ref();
    let affinity =
        spec.and_then(|spec| spec.affinity.as_ref()).and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_ref());
    let liked: i64 = preferred
        .into_iter()
        .flatten()
        .filter(|term| term_matches(&term.preference, node))
        .map(|term| i64::from(term.weight) * 20)
        .sum();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let soft =
        node.taints.iter().filter(|taint| taint.2 == "PreferNoSchedule" && !tolerates(tolerations, taint));
    let disliked = i64::try_from(soft.count()).unwrap_or(0) * 3_000;
    free + balanced + spread + liked - disliked
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
