//! What pods want of other pods: required and preferred affinity and anti-affinity, and an even spread. Pure.
//!
//! Worked out once for a pod and all nodes, then asked per node. A pod that wants nothing of others, in a cluster whose
//! pods keep nobody away, costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::decide::{NodeState, taints_bar, wants};

type Labels = BTreeMap<String, String>;
/// Labels of namespaces by name.
pub(crate) type Namespaces = BTreeMap<String, Labels>;
/// Key and value of a node's label: the nodes that share it are near to each other.
type Domain = (String, String);

/// What one preferred term weighs against the other scores of a node.
const WEIGHT: i64 = 20;
/// What each matching pod too many in a domain weighs in a spread that is only wished for.
const SPREAD: i64 = 200;

/// What a pod's relations to others say of each node.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Domains that pods there keep it out of.
    kept_out: BTreeSet<Domain>,
    /// Domains with pods it keeps away from.
    avoids: BTreeSet<Domain>,
    /// Keys it needs company in, and the domains that have it; none when it needs none.
    company: Option<(Vec<String>, BTreeSet<Domain>)>,
    /// It matches its own wish for company, and nobody else does: it may be the first.
    first: bool,
    spreads: Vec<Spread>,
    liked: BTreeMap<Domain, i64>,
}

#[derive(Debug)]
struct Spread {
    key: String,
    most: i64,
    counts: BTreeMap<String, i64>,
    least: i64,
    matches_itself: i64,
    hard: bool,
}

impl Relations {
    pub(crate) fn of(pod: &Pod, nodes: &[&NodeState], namespaces: &Namespaces) -> Self {
        let mut found = Self::default();
        for node in nodes.iter().filter(|node| node.averse > 0) {
            for other in node.pods.values() {
                for term in required_anti(other) {
                    if let Some(domain) = domain(&term.topology_key, node)
                        && matches(term, other, pod, namespaces)
                    {
                        found.kept_out.insert(domain);
                    }
                }
            }
        }
        let Some(spec) = pod.spec.as_ref() else { return found };
        let related = spec
            .affinity
            .as_ref()
            .is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some());
        if related {
            found.look_around(pod, nodes, namespaces);
        }
        for constraint in spec.topology_spread_constraints.iter().flatten() {
            found.spreads.push(Spread::of(pod, constraint, nodes));
        }
        found
    }

    fn look_around(&mut self, pod: &Pod, nodes: &[&NodeState], namespaces: &Namespaces) {
        let needs = required(pod);
        let avoids = required_anti(pod);
        let likes = preferred(pod);
        let all = |other: &Pod| needs.iter().all(|term| matches(term, pod, other, namespaces));
        let mut company = BTreeSet::new();
        for node in nodes {
            for other in node.pods.values() {
                if !needs.is_empty() && all(other) {
                    company.extend(needs.iter().filter_map(|term| domain(&term.topology_key, node)));
                }
                for term in avoids.iter().filter(|term| matches(term, pod, other, namespaces)) {
                    self.avoids.extend(domain(&term.topology_key, node));
                }
                for (weight, term) in likes.iter().filter(|(_, term)| matches(term, pod, other, namespaces)) {
                    if let Some(domain) = domain(&term.topology_key, node) {
                        *self.liked.entry(domain).or_default() += weight * WEIGHT;
                    }
                }
            }
        }
        if !needs.is_empty() {
            self.first = company.is_empty() && all(pod);
            self.company = Some((needs.iter().map(|term| term.topology_key.clone()).collect(), company));
        }
    }

    /// Why the node will not do, in upstream's words and order.
    pub(crate) fn refusal(&self, node: &NodeState) -> Option<String> {
        let of = |key: &String| domain(key, node);
        for spread in self.spreads.iter().filter(|spread| spread.hard) {
            let Some(value) = node.labels.get(&spread.key) else {
                let why = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Some(why.to_owned());
            };
            if spread.skew(value) > spread.most {
                return Some("node(s) didn't match pod topology spread constraints".to_owned());
            }
        }
        if let Some((keys, company)) = &self.company {
            let there =
                keys.iter().all(|key| of(key).is_some_and(|own| self.first || company.contains(&own)));
            if !there {
                return Some("node(s) didn't match pod affinity rules".to_owned());
            }
        }
        let within = |domains: &BTreeSet<Domain>| {
            domains.iter().any(|(key, value)| node.labels.get(key) == Some(value))
        };
        if within(&self.avoids) {
            return Some("node(s) didn't match pod anti-affinity rules".to_owned());
        }
        within(&self.kept_out).then(|| "node(s) didn't satisfy existing pods anti-affinity rules".to_owned())
    }

    /// Higher is better.
    pub(crate) fn score(&self, node: &NodeState) -> i64 {
        let liked = self.liked.iter().filter(|((key, value), _)| node.labels.get(key) == Some(value));
        let crowd = self.spreads.iter().filter_map(|spread| Some(spread.skew(node.labels.get(&spread.key)?)));
        liked.map(|(_, weight)| weight).sum::<i64>() - crowd.map(|skew| skew * SPREAD).sum::<i64>()
    }
}

impl Spread {
    fn of(pod: &Pod, constraint: &TopologySpreadConstraint, nodes: &[&NodeState]) -> Self {
        let own = pod.metadata.labels.as_ref();
        let chosen = |other: &Pod| {
            let labels = other.metadata.labels.as_ref();
            let keys = constraint.match_label_keys.iter().flatten();
            selects(constraint.label_selector.as_ref(), labels)
                && keys
                    .filter_map(|key| Some((key, own?.get(key)?)))
                    .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        };
        let honours = |policy: &Option<String>, default: bool| {
            policy.as_deref().map_or(default, |policy| policy == "Honor")
        };
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for node in nodes {
            let Some(value) = node.labels.get(&constraint.topology_key) else { continue };
            let left_out = honours(&constraint.node_affinity_policy, true) && !wants(pod, node)
                || honours(&constraint.node_taints_policy, false) && taints_bar(pod, node);
            if left_out {
                continue;
            }
            let there = node.pods.values().filter(|other| {
                other.metadata.namespace == pod.metadata.namespace
                    && other.metadata.deletion_timestamp.is_none()
                    && chosen(other)
            });
            *counts.entry(value.clone()).or_default() += i64::try_from(there.count()).unwrap_or(i64::MAX);
        }
        let domains = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        let few = constraint.min_domains.is_some_and(|wanted| domains < wanted);
        Self {
            key: constraint.topology_key.clone(),
            most: i64::from(constraint.max_skew),
            least: if few { 0 } else { counts.values().copied().min().unwrap_or(0) },
            counts,
            matches_itself: i64::from(chosen(pod)),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
        }
    }

    /// How uneven it would be with the pod there.
    fn skew(&self, value: &str) -> i64 {
        self.counts.get(value).copied().unwrap_or(0) + self.matches_itself - self.least
    }
}

/// Whether a pod has required anti-affinity, which binds those that come after it too.
pub(crate) fn keeps_others_away(pod: &Pod) -> bool {
    !required_anti(pod).is_empty()
}

fn required_anti(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let own = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    own.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

fn required(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let own = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    own.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Preferred terms with their weights; those of anti-affinity weigh against.
fn preferred(pod: &Pod) -> Vec<(i64, &PodAffinityTerm)> {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return Vec::new() };
    let near = affinity.pod_affinity.iter();
    let near = near.flat_map(|own| own.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let far = affinity.pod_anti_affinity.iter();
    let far = far.flat_map(|own| own.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    near.map(|own| (i64::from(own.weight), &own.pod_affinity_term))
        .chain(far.map(|own| (-i64::from(own.weight), &own.pod_affinity_term)))
        .collect()
}

fn domain(key: &str, node: &NodeState) -> Option<Domain> {
    Some((key.to_owned(), node.labels.get(key)?.clone()))
}

/// Whether `other` is one of the pods that a term of `owner` speaks of.
fn matches(term: &PodAffinityTerm, owner: &Pod, other: &Pod, namespaces: &Namespaces) -> bool {
    let space = other.metadata.namespace.as_deref().unwrap_or_default();
    let named = term.namespaces.as_deref().unwrap_or_default();
    let here = match (&term.namespace_selector, named.is_empty()) {
        (None, true) => owner.metadata.namespace == other.metadata.namespace,
        (selector, _) => {
            named.iter().any(|own| own == space)
                || selector.is_some() && selects(selector.as_ref(), namespaces.get(space))
        }
    };
    here && selects(term.label_selector.as_ref(), other.metadata.labels.as_ref())
}

/// No selector selects nothing, an empty one everything (`LabelSelectorAsSelector`).
fn selects(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let Some(selector) = selector else { return false };
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted))
        && selector.match_expressions.iter().flatten().all(|own| {
            let values = own.values.as_deref().unwrap_or_default();
            match own.operator.as_str() {
                "In" => value(&own.key).is_some_and(|value| values.contains(value)),
                "NotIn" => value(&own.key).is_none_or(|value| !values.contains(value)),
                "Exists" => value(&own.key).is_some(),
                "DoesNotExist" => value(&own.key).is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
#[path = "relations_tests.rs"]
mod tests;
