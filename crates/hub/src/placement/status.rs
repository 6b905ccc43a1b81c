//! What was decided, in the placement's own status.

use fleet_objects::{ConditionChange, Placement, PlacementStatus, set_condition};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::{Caches, Decided, going, placement_name, withdrawal};
use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;

/// Decisions shown in a placement's status.
const MAX_DECISIONS: usize = 1000;
/// Clusters named in a sentence.
const SHOWN: usize = 10;

/// Writes the status if it says something new.
pub(super) async fn write(shared: &Shared, caches: &Caches, decided: &Decided) -> Result<(), Error> {
    withdrawal::end(shared, caches, decided).await?;
    let placement = &decided.placement;
    let before = placement.status.clone().unwrap_or_default();
    let selected = decided.decisions.iter().filter(|decision| decision.selected).count();
    let generation = placement.metadata.generation.unwrap_or_default();
    // Kept until everything that another life of the hub would have taken away is settled.
    let unsettled = withdrawal::is_restored(shared, placement) && !decided.lost.is_empty();
    let hub_epoch = if unsettled { before.hub_epoch.clone() } else { Some(shared.epoch.clone()) };
    let mut after = PlacementStatus {
        observed_generation: generation,
        selected: u32::try_from(selected).unwrap_or(u32::MAX),
        considered: u32::try_from(decided.decisions.len()).unwrap_or(u32::MAX),
        decisions: decided.decisions.iter().take(MAX_DECISIONS).cloned().collect(),
        hub_epoch,
        held_withdrawal: decided.guarded.held.clone(),
        conditions: before.conditions.clone(),
    };
    let (status, reason, message) = readiness(decided, selected);
    let change = ConditionChange {
        kind: "Ready",
        status: Some(status),
        reason,
        message,
        observed_generation: Some(generation),
    };
    set_condition(&mut after.conditions, change, &cluster_status::now());
    if after == before {
        return Ok(());
    }
    let mut object = (**placement).clone();
    object.status = Some(after);
    let api: Api<Placement> =
        Api::namespaced(shared.client.clone(), &placement.namespace().unwrap_or_default());
    let written = api.replace_status(&placement.name_any(), &PostParams::default(), &object).await;
    let written = written
        .map_err(Error::api(format!("write the status of placement {}", placement_name(placement))))?;
    caches.placements.observe(&written);
    Ok(())
}

/// Whether the decisions are carried out, and what people should know about that.
fn readiness(decided: &Decided, selected: usize) -> (bool, &'static str, String) {
    let placement = &decided.placement;
    let placed = format!("{selected} of {} clusters selected", decided.decisions.len());
    let held = decided.governed.as_ref().and_then(|governed| governed.problem.as_ref());
    if let Some(problem) = &decided.problem {
        return (false, "ProfileNotUsable", format!("{problem}; what clusters hold stays"));
    }
    if let Some(problem) = held {
        return (false, "RolloutNotUsable", format!("{problem}; what clusters hold stays"));
    }
    if let Some(problem) = &decided.unchosen {
        let message = format!("{problem}; nobody is added or withdrawn: {placed}");
        return (false, "SelectionFailed", message);
    }
    if let Some(why) = &decided.guarded.problem {
        let word = format!("fairlead placement confirm {}", placement.name_any());
        let message = format!("{placed}; {why}; what they hold stays until `{word}`");
        return (false, "WithdrawalHeld", message);
    }
    let summary = decided.governed.as_ref().map(|governed| format!("; {}", governed.summary));
    let summary = summary.unwrap_or_default();
    if going::is_going(&**placement) {
        let names: Vec<&str> = decided.held.keys().take(SHOWN).map(String::as_str).collect();
        let message = format!(
            "it is being deleted, and goes when no cluster holds anything by it: {} do ({}){summary}",
            decided.held.len(),
            names.join(", ")
        );
        return (false, "Deleting", message);
    }
    (true, "Placed", format!("{placed}{summary}"))
}
