//! Several placements: of those that want the same profile in a cluster the oldest has it.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::{DecisionStep, PlacementSpec, ProfileReference};

use super::{Choice, Input, decide};
use crate::cluster_view::ClusterView;
use crate::expressions::Expressions;

/// A placement with what it brings.
pub struct Asked<'a> {
    /// `namespace/name`.
    pub name: String,
    /// The profile, in the placement's namespace.
    pub profile: ProfileReference,
    /// What is asked for.
    pub spec: &'a PlacementSpec,
    /// Clusters that hold the profile by this placement.
    pub already: BTreeSet<String>,
    /// Clusters that it chose when it was looked at last.
    pub chosen: BTreeSet<&'a str>,
}

/// What comes of every placement, in the order given: the oldest first.
#[must_use]
pub fn decide_all(
    placements: &[Asked<'_>],
    clusters: &[ClusterView],
    expressions: &dyn Expressions,
) -> Vec<Choice> {
    let mut taken: BTreeMap<(String, &ProfileReference), &str> = BTreeMap::new();
    let holding = holding(placements, clusters);
    let nobody = BTreeSet::new();
    let mut all = Vec::with_capacity(placements.len());
    for Asked { name, profile, spec, already, chosen } in placements {
        let holding = holding.get(profile).unwrap_or(&nobody);
        let mut choice = decide(&Input { placement: spec, clusters, already, holding, chosen, expressions });
        for decision in choice.decisions.iter_mut().filter(|decision| decision.selected) {
            let winner = *taken.entry((decision.cluster.clone(), profile)).or_insert(name.as_str());
            if winner != name {
                decision.selected = false;
                decision.step = DecisionStep::Conflict;
                decision.reason = format!("placement {winner} already brings this profile");
            }
        }
        all.push(choice);
    }
    all
}

/// Of the clusters that cannot be told anything, those that hold each profile: of others nobody asks.
fn holding<'a>(
    placements: &'a [Asked<'_>],
    clusters: &'a [ClusterView],
) -> BTreeMap<&'a ProfileReference, BTreeSet<&'a str>> {
    let mut holding: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for cluster in clusters.iter().filter(|cluster| cluster.barred.is_some()) {
        for asked in placements.iter().filter(|asked| asked.already.contains(&cluster.name)) {
            holding.entry(&asked.profile).or_default().insert(&cluster.name);
        }
    }
    holding
}
