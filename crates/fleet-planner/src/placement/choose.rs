//! A number of clusters out of the feasible ones: the best first, spread over topology.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use fleet_objects::{ClusterDecision, DecisionStep, SpreadConstraint, WhenUnsatisfiable};

use super::score::scores;
use super::{Choice, Input, decision};
use crate::cluster_view::ClusterView;

/// A feasible cluster that has not been taken.
struct Candidate<'a> {
    cluster: &'a ClusterView,
    score: i64,
}

/// Adds what becomes of the feasible clusters.
pub(super) fn choose(input: &Input<'_>, feasible: Vec<&ClusterView>, number: usize, choice: &mut Choice) {
    match scores(input, &feasible) {
        Ok(scores) => choice.decisions.extend(best(input, feasible, scores, number)),
        Err(problem) => {
            choice.decisions.extend(unscored(input, &feasible, &problem));
            choice.undecided.extend(feasible.iter().map(|cluster| cluster.name.clone()));
            choice.problem = Some(problem);
        }
    }
}

fn best(
    input: &Input<'_>,
    feasible: Vec<&ClusterView>,
    scores: Vec<i64>,
    number: usize,
) -> Vec<ClusterDecision> {
    let constraints = &input.placement.spread_constraints;
    let (mut candidates, mut decisions) = (Vec::new(), Vec::new());
    for (cluster, score) in feasible.into_iter().zip(scores) {
        let missing = constraints.iter().find(|constraint| {
            constraint.when_unsatisfiable == WhenUnsatisfiable::DoNotPlace
                && !cluster.labels.contains_key(&constraint.topology_key)
        });
        match missing {
            None => candidates.push(Candidate { cluster, score }),
            Some(constraint) => {
                let reason =
                    format!("label {} is not set: it has no place in the spread", constraint.topology_key);
                decisions.push(decision(cluster, false, DecisionStep::Spread, reason, Some(score)));
            }
        }
    }
    let place = |candidate: &Candidate<'_>| {
        let name = candidate.cluster.name.clone();
        (Reverse(candidate.score), !input.already.contains(&name), name)
    };
    candidates.sort_by_cached_key(place);
    let mut spread = Spread::new(constraints, &candidates);
    let mut taken = 0;
    while taken < number {
        let Some(index) = spread.best(&candidates) else { break };
        let candidate = candidates.remove(index);
        spread.take(candidate.cluster);
        taken += 1;
        let reason = format!("number {taken} of {number}, with a score of {}", candidate.score);
        let score = Some(candidate.score);
        decisions.push(decision(candidate.cluster, true, DecisionStep::Selected, reason, score));
    }
    decisions.extend(candidates.iter().map(|candidate| {
        let (step, reason) = if taken < number {
            (DecisionStep::Spread, spread.refusal(candidate.cluster))
        } else {
            (DecisionStep::Number, format!("{number} clusters are chosen already, each with a better place"))
        };
        decision(candidate.cluster, false, step, reason, Some(candidate.score))
    }));
    decisions
}

/// Without scores nothing new is decided: who is chosen stays.
fn unscored(input: &Input<'_>, feasible: &[&ClusterView], problem: &str) -> Vec<ClusterDecision> {
    let one = |cluster: &&ClusterView| {
        let stays = input.stays(cluster);
        decision(cluster, stays, DecisionStep::Score, problem.to_owned(), None)
    };
    feasible.iter().map(one).collect()
}

/// How many clusters are taken in each domain of each constraint.
struct Spread<'a> {
    constraints: &'a [SpreadConstraint],
    taken: Vec<BTreeMap<&'a str, u32>>,
}

impl<'a> Spread<'a> {
    fn new(constraints: &'a [SpreadConstraint], candidates: &[Candidate<'a>]) -> Self {
        let domains = |constraint: &SpreadConstraint| {
            let labels = candidates.iter().filter_map(|candidate| {
                candidate.cluster.labels.get(&constraint.topology_key).map(String::as_str)
            });
            labels.map(|domain| (domain, 0)).collect()
        };
        Self { constraints, taken: constraints.iter().map(domains).collect() }
    }

    /// How much further from even the spread would be than allowed, were the cluster taken.
    fn excess(&self, index: usize, cluster: &ClusterView) -> u32 {
        let constraint = &self.constraints[index];
        let counts = &self.taken[index];
        let Some(domain) = cluster.labels.get(&constraint.topology_key) else { return 0 };
        let here = counts.get(domain.as_str()).copied().unwrap_or(0) + 1;
        let least = counts
            .iter()
            .map(|(known, count)| if *known == domain { here } else { *count })
            .min()
            .unwrap_or(here);
        (here - least).saturating_sub(constraint.max_skew.max(1))
    }

    fn forbids(&self, cluster: &ClusterView) -> bool {
        let hard =
            |index: &usize| self.constraints[*index].when_unsatisfiable == WhenUnsatisfiable::DoNotPlace;
        (0..self.constraints.len()).filter(hard).any(|index| self.excess(index, cluster) > 0)
    }

    /// The first that may be taken; among these one that keeps also the soft constraints, if there is any.
    fn best(&self, candidates: &[Candidate<'_>]) -> Option<usize> {
        let allowed =
            || candidates.iter().enumerate().filter(|(_, candidate)| !self.forbids(candidate.cluster));
        let even = |candidate: &Candidate<'_>| {
            (0..self.constraints.len()).all(|index| self.excess(index, candidate.cluster) == 0)
        };
        allowed().find(|(_, candidate)| even(candidate)).or_else(|| allowed().next()).map(|(index, _)| index)
    }

    fn take(&mut self, cluster: &'a ClusterView) {
        for (constraint, counts) in self.constraints.iter().zip(&mut self.taken) {
            if let Some(domain) = cluster.labels.get(&constraint.topology_key) {
                *counts.entry(domain).or_insert(0) += 1;
            }
        }
    }

    fn refusal(&self, cluster: &ClusterView) -> String {
        let broken = (0..self.constraints.len()).find(|index| self.excess(*index, cluster) > 0);
        broken.map_or_else(
            || "no place was left for it".to_owned(),
            |index| {
                let constraint = &self.constraints[index];
                let key = &constraint.topology_key;
                let domain = cluster.labels.get(key).map(String::as_str).unwrap_or_default();
                format!(
                    "{key}={domain} would have more than {} clusters more than another",
                    constraint.max_skew
                )
            },
        )
    }
}
