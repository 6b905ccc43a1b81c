//! Clusters that nothing chooses any more: which of them may lose what they hold now. The decisions are
//! `fleet_planner`'s; here is gathered what they are made from.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, Assignment, AssignmentState, Placement, ProfileReference, assignment_name,
    condition, partition_cluster,
};
use fleet_planner::placement::{Leaving, guard};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{ByPartition, Caches, Decided, is_pruned, placement_name};
use crate::error::Error;
use crate::service::Shared;

/// Judges every placement. A cluster that another placement brings the same profile to loses nothing.
pub(super) fn judge(decided: &mut [Decided], assignments: &ByPartition) {
    let mut chosen: BTreeMap<ProfileReference, BTreeSet<String>> = BTreeMap::new();
    for one in decided.iter() {
        let selected = one.decisions.iter().filter(|decision| decision.selected);
        let names = selected.map(|decision| decision.cluster.clone());
        chosen.entry(one.profile.clone()).or_default().extend(names);
    }
    for one in decided {
        let nobody = BTreeSet::new();
        let chosen = chosen.get(&one.profile).unwrap_or(&nobody);
        let leaving: BTreeSet<String> = one.holding.difference(chosen).cloned().collect();
        let going: BTreeSet<String> = going(one, assignments).into_keys().collect();
        let status = one.placement.status.as_ref();
        one.guarded = guard(&Leaving {
            placement: &one.placement.spec,
            selected: one.decisions.iter().filter(|decision| decision.selected).count(),
            holding: &one.holding,
            leaving: &leaving,
            going: &going,
            known: status.and_then(|status| status.held_withdrawal.as_ref()),
            confirmed: one.placement.annotations().get(ANNOTATION_CONFIRM_WITHDRAWAL).map(String::as_str),
        });
    }
}

/// Clusters that were told to remove the placement's profile and have not done so yet, with what they say.
pub(super) fn going(decided: &Decided, assignments: &ByPartition) -> BTreeMap<String, String> {
    let own = placement_name(&decided.placement);
    let name = assignment_name(&decided.profile.namespace, &decided.profile.name);
    let of_partition = |(namespace, partition): (&String, &Vec<_>)| {
        let cluster = partition_cluster(namespace)?;
        let mut found = partition.iter().map(|assignment: &std::sync::Arc<Assignment>| &**assignment);
        let found = found.find(|assignment| assignment.name_any() == name)?;
        let ours = found.spec.placement.as_deref() == Some(own.as_str());
        let going = found.spec.state == AssignmentState::Tombstone && !is_pruned(found);
        let chosen =
            decided.decisions.iter().any(|decision| decision.selected && decision.cluster == cluster);
        (ours && going && !chosen).then(|| (cluster.to_owned(), said(found)))
    };
    assignments.iter().filter_map(of_partition).collect()
}

fn said(assignment: &Assignment) -> String {
    let conditions = assignment.status.as_ref().map(|status| status.conditions.as_slice());
    let pruned = condition(conditions.unwrap_or_default(), "Pruned");
    pruned.map_or_else(|| "the agent has not answered yet".to_owned(), |pruned| pruned.message.clone())
}

/// Clusters that are no longer chosen and keep what they hold for now.
pub(super) fn keeps(decided: &Decided) -> impl Iterator<Item = &String> {
    let governed = decided.governed.as_ref();
    let waits = move |name: &&String| governed.is_some_and(|governed| !governed.withdraws(name));
    decided.guarded.kept.iter().chain(decided.guarded.allowed.iter().filter(waits))
}

/// Takes a person's word off the placement once it has done its work, so that it never speaks of anything later.
pub(super) async fn end(shared: &Shared, caches: &Caches, decided: &Decided) -> Result<(), Error> {
    let placement = &decided.placement;
    let Some(word) = placement.annotations().get(ANNOTATION_CONFIRM_WITHDRAWAL) else { return Ok(()) };
    if decided.guarded.held.as_ref().is_some_and(|held| held.id == *word) {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_WITHDRAWAL: null}}});
    let namespace = placement.namespace().unwrap_or_default();
    let api: Api<Placement> = Api::namespaced(shared.client.clone(), &namespace);
    let written = api.patch(&placement.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    let failed = Error::api(format!("end the confirmation of placement {}", placement_name(placement)));
    caches.placements.observe(&written.map_err(failed)?);
    Ok(())
}
