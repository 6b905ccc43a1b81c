//! Which clusters a placement chooses, and why.
//!
//! The steps, in order: the cluster sets, the selector (labels, fields, CEL), taints; what is left is *feasible*. Without a
//! number every feasible cluster is chosen. With one, they are scored and taken from the best on, as far as the spread over
//! topology allows. Every cluster's decision names the step that decided it.

mod arbitrate;
mod choose;
mod score;
mod withdrawal;

pub use arbitrate::{Asked, decide_all};
pub use withdrawal::{Guarded, Leaving, guard};

use std::collections::BTreeSet;

use fleet_objects::{
    ClusterDecision, ClusterTaint, DecisionStep, LABEL_CLUSTER_SET, PlacementSpec, TaintEffect, Toleration,
};

use crate::cluster_view::{ClusterView, selects};
use crate::expressions::Expressions;

/// What a decision is made from.
pub struct Input<'a> {
    /// What is asked for.
    pub placement: &'a PlacementSpec,
    /// Every cluster of the fleet.
    pub clusters: &'a [ClusterView],
    /// Those that hold the profile by this placement: they stay where nothing speaks against it.
    pub already: &'a BTreeSet<String>,
    /// Evaluates CEL.
    pub expressions: &'a dyn Expressions,
}

/// A decision for every cluster: the chosen first, then by name.
#[must_use]
pub fn decide(input: &Input<'_>) -> Vec<ClusterDecision> {
    let mut decisions = Vec::with_capacity(input.clusters.len());
    let mut feasible = Vec::new();
    for cluster in input.clusters {
        match filter(input, cluster) {
            Ok(()) => feasible.push(cluster),
            Err((step, reason)) => decisions.push(decision(cluster, false, step, reason, None)),
        }
    }
    match input.placement.number_of_clusters {
        None => decisions.extend(feasible.into_iter().map(|cluster| {
            decision(cluster, true, DecisionStep::Selected, "matches the selector".to_owned(), None)
        })),
        Some(number) => decisions.extend(choose::choose(input, feasible, number as usize)),
    }
    decisions.sort_by(|a, b| b.selected.cmp(&a.selected).then_with(|| a.cluster.cmp(&b.cluster)));
    decisions
}

fn decision(
    cluster: &ClusterView,
    selected: bool,
    step: DecisionStep,
    reason: String,
    score: Option<i64>,
) -> ClusterDecision {
    ClusterDecision { cluster: cluster.name.clone(), selected, step, reason, score }
}

fn filter(input: &Input<'_>, cluster: &ClusterView) -> Result<(), (DecisionStep, String)> {
    let placement = input.placement;
    let sets = &placement.cluster_sets;
    if !sets.is_empty() {
        let own = cluster.labels.get(LABEL_CLUSTER_SET);
        if !own.is_some_and(|own| sets.contains(own)) {
            let own = own.map_or_else(|| "no cluster set".to_owned(), |own| format!("cluster set {own}"));
            return Err((DecisionStep::ClusterSet, format!("it is in {own}, not in {}", sets.join(", "))));
        }
    }
    let Some(selector) = &placement.cluster_selector else {
        return Err((DecisionStep::Selector, "the placement has no clusterSelector".to_owned()));
    };
    selects(selector, cluster, input.expressions).map_err(|reason| (DecisionStep::Selector, reason))?;
    tolerates(placement, cluster, input.already).map_err(|reason| (DecisionStep::Taint, reason))
}

fn tolerates(
    placement: &PlacementSpec,
    cluster: &ClusterView,
    already: &BTreeSet<String>,
) -> Result<(), String> {
    let stays = already.contains(&cluster.name);
    let against = |taint: &&ClusterTaint| match taint.effect {
        TaintEffect::NoPlace => !stays,
        TaintEffect::Evict => true,
        TaintEffect::PreferNoPlace => false,
    };
    let against = untolerated(placement, cluster).find(against);
    against.map_or(Ok(()), |taint| {
        let value = taint.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
        Err(format!("taint {}{value} is not tolerated", taint.key))
    })
}

fn untolerated<'a>(
    placement: &'a PlacementSpec,
    cluster: &'a ClusterView,
) -> impl Iterator<Item = &'a ClusterTaint> {
    cluster.taints.iter().filter(|taint| !placement.tolerations.iter().any(|own| covers(own, taint)))
}

fn covers(toleration: &Toleration, taint: &ClusterTaint) -> bool {
    toleration.key.as_ref().is_none_or(|key| *key == taint.key)
        && toleration.value.as_ref().is_none_or(|value| taint.value.as_ref() == Some(value))
}

#[cfg(test)]
mod tests;
