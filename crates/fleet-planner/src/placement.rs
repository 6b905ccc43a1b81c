//! Which clusters a placement chooses, and why.
//!
//! The steps, in order: the cluster sets, the selector (labels, fields, CEL), taints; what is left is *feasible*. Without a
//! number every feasible cluster is chosen. With one, they are scored and taken from the best on, as far as the spread over
//! topology allows. Every cluster's decision names the step that decided it. What cannot be told of one cluster, because an
//! expression has no value for it, is not guessed: nobody is added or withdrawn then.

mod arbitrate;
mod choose;
mod score;
mod withdrawal;

pub use arbitrate::{Asked, decide_all};
pub use withdrawal::{Guarded, Leaving, guard};

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::{
    ClusterDecision, ClusterTaint, DecisionStep, LABEL_CLUSTER_SET, PlacementSpec, TaintEffect, Toleration,
};

use crate::cluster_view::{ClusterView, Unselected, check, selects};
use crate::expressions::Expressions;

/// What a decision is made from.
pub struct Input<'a> {
    /// What is asked for.
    pub placement: &'a PlacementSpec,
    /// Every cluster of the fleet.
    pub clusters: &'a [ClusterView],
    /// Those that hold the profile by this placement: they stay where nothing speaks against it.
    pub already: &'a BTreeSet<String>,
    /// Of those that cannot be told anything the ones that hold the profile, by whichever placement: it is not taken away
    /// because of that.
    pub holding: &'a BTreeSet<&'a str>,
    /// Those that were chosen when it was looked at last, also where they hold nothing yet: they and those of `already`
    /// stay chosen where nothing can be decided.
    pub chosen: &'a BTreeSet<&'a str>,
    /// Evaluates CEL.
    pub expressions: &'a dyn Expressions,
}

impl Input<'_> {
    fn stays(&self, cluster: &ClusterView) -> bool {
        self.already.contains(&cluster.name) || self.chosen.contains(cluster.name.as_str())
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// A decision for every cluster: the chosen first, then by name.
    pub decisions: Vec<ClusterDecision>,
    /// What is wrong with an expression or a selector: who was chosen stays, and nobody is added.
    pub problem: Option<String>,
    /// Clusters of which it is not known whether they would be chosen: they lose nothing.
    pub undecided: BTreeSet<String>,
}

/// Chooses among all clusters.
#[must_use]
pub fn decide(input: &Input<'_>) -> Choice {
    let mut choice = Choice::default();
    let mut feasible = Vec::new();
    let mut unknown = Vec::new();
    let checked =
        input.placement.cluster_selector.as_ref().map_or(Ok(()), |own| check(own, input.expressions));
    if checked.is_ok() {
        for cluster in input.clusters {
            match filter(input, cluster) {
                Ok(()) => feasible.push(cluster),
                Err(Refused::By(step, reason)) => {
                    choice.decisions.push(decision(cluster, false, step, reason, None));
                }
                Err(Refused::Unknown(problem)) => unknown.push((&cluster.name, problem)),
            }
        }
    }
    if let Some(problem) = checked.err().or_else(|| first(&mut unknown)) {
        choice = unmoved(input, problem);
    } else if let Some(number) = input.placement.number_of_clusters {
        choose::choose(input, feasible, number as usize, &mut choice);
    } else {
        choice.decisions.extend(feasible.into_iter().map(|cluster| {
            decision(cluster, true, DecisionStep::Selected, "matches the selector".to_owned(), None)
        }));
    }
    note_barred(input, &mut choice.decisions);
    choice.decisions.sort_by(|a, b| b.selected.cmp(&a.selected).then_with(|| a.cluster.cmp(&b.cluster)));
    choice
}

/// Says of the chosen who cannot be told.
fn note_barred(input: &Input<'_>, decisions: &mut [ClusterDecision]) {
    let barred = |cluster: &ClusterView| Some((cluster.name.clone(), cluster.barred?));
    let barred: BTreeMap<String, &str> = input.clusters.iter().filter_map(barred).collect();
    for decision in decisions.iter_mut().filter(|decision| decision.selected) {
        if let Some(why) = barred.get(&decision.cluster) {
            decision.reason.push_str(&format!("; {why}, and keeps what it holds"));
        }
    }
}

/// The problem of the first of these clusters by name, and how many there are.
fn first(unknown: &mut [(&String, String)]) -> Option<String> {
    unknown.sort();
    let (cluster, problem) = unknown.first()?;
    let more = match unknown.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!("cluster {cluster}{more}: {problem}"))
}

/// Where the selector cannot be asked: who was chosen stays, nobody is added. Cluster sets and taints are told without it and
/// count as ever.
fn unmoved(input: &Input<'_>, problem: String) -> Choice {
    let mut choice = Choice::default();
    for cluster in input.clusters {
        let refused = enters(input, cluster).and_then(|()| tolerates(input, cluster));
        choice.decisions.push(match refused {
            Err((step, reason)) => decision(cluster, false, step, reason, None),
            Ok(()) => {
                choice.undecided.insert(cluster.name.clone());
                let stays = input.stays(cluster);
                let what = if stays { "it stays chosen" } else { "it is not added" };
                let reason = format!("{what}, since nobody can be chosen: {problem}");
                decision(cluster, stays, DecisionStep::Selector, reason, None)
            }
        });
    }
    choice.problem = Some(problem);
    choice
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

/// Why a cluster is not feasible.
enum Refused {
    By(DecisionStep, String),
    Unknown(String),
}

impl From<(DecisionStep, String)> for Refused {
    fn from((step, reason): (DecisionStep, String)) -> Self {
        Self::By(step, reason)
    }
}

fn filter(input: &Input<'_>, cluster: &ClusterView) -> Result<(), Refused> {
    enters(input, cluster)?;
    let Some(selector) = &input.placement.cluster_selector else {
        return Err(Refused::By(DecisionStep::Selector, "the placement has no clusterSelector".to_owned()));
    };
    selects(selector, cluster, input.expressions).map_err(|why| match why {
        Unselected::Differs(reason) => Refused::By(DecisionStep::Selector, reason),
        Unselected::Unknown(problem) => Refused::Unknown(problem),
    })?;
    tolerates(input, cluster)?;
    Ok(())
}

/// Whether the cluster is in a set that is asked for, and can be told or has it already.
fn enters(input: &Input<'_>, cluster: &ClusterView) -> Result<(), (DecisionStep, String)> {
    let sets = &input.placement.cluster_sets;
    if !sets.is_empty() {
        let own = cluster.labels.get(LABEL_CLUSTER_SET);
        if !own.is_some_and(|own| sets.contains(own)) {
            let own = own.map_or_else(|| "no cluster set".to_owned(), |own| format!("cluster set {own}"));
            return Err((DecisionStep::ClusterSet, format!("it is in {own}, not in {}", sets.join(", "))));
        }
    }
    match cluster.barred {
        Some(why) if !input.holding.contains(cluster.name.as_str()) => {
            Err((DecisionStep::Taint, why.to_owned()))
        }
        _ => Ok(()),
    }
}

fn tolerates(input: &Input<'_>, cluster: &ClusterView) -> Result<(), (DecisionStep, String)> {
    let stays = input.already.contains(&cluster.name);
    let against = |taint: &&ClusterTaint| match taint.effect {
        TaintEffect::NoPlace => !stays,
        TaintEffect::Evict => true,
        TaintEffect::PreferNoPlace => false,
    };
    let against = untolerated(input.placement, cluster).find(against);
    against.map_or(Ok(()), |taint| {
        let value = taint.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
        Err((DecisionStep::Taint, format!("taint {}{value} is not tolerated", taint.key)))
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
