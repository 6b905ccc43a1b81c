//! Clusters that nothing chooses any more: which of them may lose what they hold now. The decisions are
//! `fleet_planner`'s; here is gathered what they are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_objects::rollout::MaintenanceWindow;
use fleet_objects::{
    ADOPT_AND_PRUNE, ANNOTATION_ADOPT, ANNOTATION_CONFIRM_WITHDRAWAL, Cluster, HELD_BY_OWNER, OUTSIDE_WINDOW,
    Placement, assignment_name, partition_cluster, partition_namespace,
};
use fleet_planner::placement::{Leaving, guard};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::known::{Kind, KnownAssignment};
use super::{ByPartition, Caches, Decided, KeepByCluster, WantedByCluster, placement_name};
use crate::error::Error;
use crate::service::Shared;

/// By cluster: names of assignments that say that something should be there, each once. (A list: mostly it is one, and a set of
/// one takes ten times as much.)
pub(super) type Held = BTreeMap<String, Vec<String>>;

/// The same by placement.
pub(super) type ByPlacement = BTreeMap<String, Held>;

/// What every cluster holds, by the placement that brought it.
pub(super) fn by_placement(assignments: &ByPartition) -> ByPlacement {
    let mut by = ByPlacement::new();
    for (namespace, partition) in assignments {
        let Some(cluster) = partition_cluster(namespace) else { continue };
        let present = partition.iter().filter(|one| one.is_present());
        for assignment in present {
            let Some(placement) = &assignment.spec.placement else { continue };
            let held = by.entry(placement.clone()).or_default().entry(cluster.to_owned()).or_default();
            held.push(assignment.name.to_string());
        }
    }
    by
}

/// Whether another life of the hub decided last about this placement.
pub(super) fn is_restored(shared: &Shared, placement: &Placement) -> bool {
    let epoch = placement.status.as_ref().and_then(|status| status.hub_epoch.as_deref());
    epoch.is_some_and(|epoch| epoch != shared.epoch)
}

/// Clusters that the placement chose when this hub looked last, except where they hold another profile by it: that one was
/// named before.
pub(super) fn chosen_before<'a>(
    shared: &Shared,
    placement: &'a Placement,
    holds: &Held,
    own: &str,
) -> BTreeSet<&'a str> {
    let status = placement.status.as_ref().filter(|_| !is_restored(shared, placement));
    let selected = status.into_iter().flat_map(|status| &status.decisions).filter(|one| one.selected);
    let fits = |cluster: &&str| holds.get(*cluster).is_none_or(|names| names.iter().any(|name| name == own));
    selected.map(|decision| decision.cluster.as_str()).filter(fits).collect()
}

/// Judges every placement. A cluster that another placement brings the same profile to loses nothing.
pub(super) fn judge(shared: &Shared, decided: &mut [Decided], assignments: &ByPartition) {
    let mut chosen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in decided.iter() {
        let selected = one.decisions.iter().filter(|decision| decision.selected);
        let names = selected.map(|decision| decision.cluster.clone());
        chosen.entry(own_name(one)).or_default().extend(names);
    }
    for one in decided {
        let is_brought =
            |name: &str, cluster: &str| chosen.get(name).is_some_and(|all| all.contains(cluster));
        for (cluster, names) in &one.held {
            let lost: BTreeSet<String> =
                names.iter().filter(|name| !is_brought(name, cluster)).cloned().collect();
            let undecided = one.undecided.contains(cluster);
            let to = if undecided { &mut one.stays } else { &mut one.lost };
            if !lost.is_empty() {
                to.insert(cluster.clone(), lost);
            }
        }
        let profile = |name: &String| name.split_once('.').map(|(_, profile)| profile.to_owned());
        let status = one.placement.status.as_ref();
        one.guarded = guard(&Leaving {
            placement: &one.placement.spec,
            selected: one.decisions.iter().filter(|decision| decision.selected).count(),
            holding: &one.held.keys().cloned().collect(),
            leaving: &one.lost.keys().cloned().collect(),
            profiles: &one.lost.values().flatten().filter_map(profile).collect(),
            epoch: &shared.epoch,
            restored: is_restored(shared, &one.placement),
            going: &going(one, assignments).into_keys().collect(),
            known: status.and_then(|status| status.held_withdrawal.as_ref()),
            confirmed: one.placement.annotations().get(ANNOTATION_CONFIRM_WITHDRAWAL).map(String::as_str),
        });
    }
}

/// The assignment's name of the profile that the placement names now.
fn own_name(decided: &Decided) -> String {
    assignment_name(&decided.profile.namespace, &decided.profile.name)
}

/// A cluster that was told to remove what a placement brought, and has not done so yet.
#[derive(Default)]
pub(super) struct Going {
    /// What it says.
    pub(super) message: String,
    /// It waits for its maintenance window.
    pub(super) waiting: bool,
    /// Its owner holds the removal.
    pub(super) held: bool,
}

/// Clusters that were told to remove what the placement brought and have not done so yet.
pub(super) fn going(decided: &Decided, assignments: &ByPartition) -> BTreeMap<String, Going> {
    let (own, current) = (placement_name(&decided.placement), own_name(decided));
    let selected = decided.decisions.iter().filter(|decision| decision.selected);
    let chosen: BTreeSet<&str> = selected.map(|decision| decision.cluster.as_str()).collect();
    let of_partition = |(namespace, partition): (&String, &Vec<Arc<KnownAssignment>>)| {
        let cluster = partition_cluster(namespace)?;
        let found = partition.iter().find(|found| {
            let ours = found.spec.placement.as_deref() == Some(own.as_str());
            let going = !found.is_present() && !found.is_pruned();
            ours && going && !(*found.name == *current && chosen.contains(cluster))
        })?;
        Some((cluster.to_owned(), said(found)))
    };
    assignments.iter().filter_map(of_partition).collect()
}

fn said(assignment: &KnownAssignment) -> Going {
    let told = assignment.status.as_ref().and_then(|status| status.told(Kind::Pruned));
    told.map_or_else(
        || Going { message: "the agent has not answered yet".to_owned(), ..Going::default() },
        |pruned| Going {
            message: pruned.message.clone(),
            waiting: pruned.reason == OUTSIDE_WINDOW,
            held: pruned.reason == HELD_BY_OWNER,
        },
    )
}

/// Clusters that keep for now what nothing brings them any more, with what that is.
pub(super) fn keeps(decided: &Decided) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
    let governed = decided.governed.as_ref();
    decided.lost.iter().filter(move |(cluster, _)| {
        let waits = governed.is_some_and(|governed| !governed.withdraws(cluster));
        waits || !decided.guarded.allowed.contains(*cluster)
    })
}

/// When agents may begin to remove what is lost, by cluster and assignment.
pub(super) fn windows(decided: &[Decided]) -> BTreeMap<String, BTreeMap<String, Vec<MaintenanceWindow>>> {
    let mut windows: BTreeMap<String, BTreeMap<String, Vec<MaintenanceWindow>>> = BTreeMap::new();
    for one in decided {
        let given = one.governed.as_ref().map_or(&[][..], |governed| governed.windows());
        for (cluster, names) in one.lost.iter().filter(|_| !given.is_empty()) {
            let of_cluster = windows.entry(cluster.clone()).or_default();
            of_cluster.extend(names.iter().map(|name| (name.clone(), given.to_vec())));
        }
    }
    windows
}

/// What was brought by placements that are not there, and that nothing else brings: it stays, since nobody said that it should
/// go, unless a person has everything pruned that this hub knows nothing of.
pub(super) fn unclaimed(
    clusters: &[Arc<Cluster>],
    decided: &[Decided],
    wanted: &WantedByCluster,
    assignments: &ByPartition,
) -> KeepByCluster {
    let placements: BTreeSet<String> = decided.iter().map(|one| placement_name(&one.placement)).collect();
    let mut unclaimed = KeepByCluster::new();
    for cluster in clusters {
        let name = cluster.name_any();
        let prunes = cluster.annotations().get(ANNOTATION_ADOPT).is_some_and(|how| how == ADOPT_AND_PRUNE);
        let wanted = wanted.get(&name);
        let partition = assignments.get(&partition_namespace(&name)).into_iter().flatten();
        let stays = partition.filter(|one| {
            let known = one.spec.placement.as_ref().is_some_and(|own| placements.contains(own));
            let is_wanted = wanted.is_some_and(|wanted| wanted.contains_key(&*one.name));
            one.is_present() && !known && !is_wanted && !prunes
        });
        let stays: BTreeSet<String> = stays.map(|one| one.name.to_string()).collect();
        if !stays.is_empty() {
            unclaimed.insert(name, stays);
        }
    }
    unclaimed
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
