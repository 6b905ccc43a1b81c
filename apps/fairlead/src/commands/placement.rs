//! `fairlead placement …`

mod facts;

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, Cluster, ClusterDecision, Placement, PlacementStatus, condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::output::Columns;
use crate::{connection, output};

/// Clusters named in a sentence.
const SHOWN: usize = 20;

#[derive(Subcommand, Debug)]
pub(crate) enum PlacementCommand {
    /// Say for each cluster why it was chosen or not
    Explain(ExplainArguments),
    /// Let the profile go from the clusters that are no longer chosen, where the hub holds that for a person's word
    Confirm(ConfirmArguments),
    /// List placements
    List(ListArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// Which placement
    name: String,
    /// Only this cluster, with everything that selectors and expressions see of it
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct ConfirmArguments {
    /// Which placement
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, command: PlacementCommand) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let placements: Api<Placement> = Api::namespaced(client.clone(), &global.namespace);
    match command {
        PlacementCommand::Explain(arguments) => {
            let found = get(&placements, &arguments.name).await?;
            if !matches!(arguments.output, Format::Table | Format::Wide) {
                let decisions = decisions(&found, arguments.cluster.as_deref());
                let name = |one: &&ClusterDecision| format!("cluster/{}", one.cluster);
                output::values(arguments.output, "", &DECISIONS, &decisions, |one| decision(one), name)?;
                return Ok(Code::Ok);
            }
            let said = match &arguments.cluster {
                None => explain(&found),
                Some(name) => {
                    let cluster = Api::<Cluster>::all(client).get(name).await;
                    let cluster = cluster.map_err(api(format!("cannot get cluster {name}")))?;
                    facts::explain(&found, &cluster)
                }
            };
            output::data(&said)?;
            Ok(Code::Ok)
        }
        PlacementCommand::Confirm(arguments) => confirm(&placements, &arguments.name).await,
        PlacementCommand::List(arguments) => {
            let found =
                placements.list(&ListParams::default()).await.map_err(api("cannot list placements"))?;
            let header = ["NAME", "PROFILE", "SELECTED", "CONSIDERED", "AGE"];
            output::objects(arguments.output, "placement", &header, &found.items, row)?;
            Ok(Code::Ok)
        }
    }
}

async fn get(placements: &Api<Placement>, name: &str) -> Result<Placement, Failure> {
    placements.get(name).await.map_err(api(format!("cannot get placement {name}")))
}

/// The word is about the clusters that the status names: were it others meanwhile, nothing happens.
async fn confirm(placements: &Api<Placement>, name: &str) -> Result<Code, Failure> {
    let placement = get(placements, name).await?;
    let held = placement.status.and_then(|status| status.held_withdrawal).filter(|held| !held.confirmed);
    let Some(held) = held else {
        let message = format!("placement {name} holds no withdrawal");
        return Err(Failure::usage(message).hint(format!("fairlead placement explain {name}")));
    };
    let patch = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_WITHDRAWAL: held.id}}});
    let patched = placements.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map_err(api(format!("cannot confirm the withdrawal of placement {name}")))?;
    let (profiles, names) = (held.profiles.join(", "), shown(&held.clusters));
    output::progress(&format!("profile {profiles} goes from {} clusters: {names}", held.clusters.len()));
    Ok(Code::Ok)
}

/// The first of many names.
fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

const DECISIONS: Columns<'_> =
    Columns { always: &["CLUSTER", "SELECTED", "STEP", "SCORE", "REASON"], wide: &[] };

fn decision(decision: &ClusterDecision) -> Vec<String> {
    let selected = if decision.selected { "yes" } else { "no" };
    let score = decision.score.map_or_else(String::new, |score| score.to_string());
    let step = format!("{:?}", decision.step);
    vec![decision.cluster.clone(), selected.to_owned(), step, score, decision.reason.clone()]
}

/// What was decided of all clusters, or of one.
fn decisions<'a>(placement: &'a Placement, cluster: Option<&str>) -> Vec<&'a ClusterDecision> {
    let all = placement.status.iter().flat_map(|status| &status.decisions);
    all.filter(|one| cluster.is_none_or(|cluster| cluster == one.cluster)).collect()
}

fn explain(placement: &Placement) -> String {
    let Some(status) = &placement.status else {
        return format!("placement {}: the hub has not looked at it yet\n", placement.name_any());
    };
    let mut rows = vec![DECISIONS.always.iter().map(|&cell| cell.to_owned()).collect()];
    rows.extend(status.decisions.iter().map(decision));
    let mut out = workflow::report::columns(&rows);
    let figures = format!(
        "\n{} of {} clusters are chosen for profile {}",
        status.selected, status.considered, placement.spec.profile
    );
    out.push_str(&figures);
    if placement.metadata.generation.is_some_and(|generation| generation > status.observed_generation) {
        out.push_str("; the hub has not looked at the newest change yet");
    }
    if placement.metadata.deletion_timestamp.is_some() {
        out.push_str("; the placement is being deleted, and goes when no cluster holds anything by it");
    }
    out.push('\n');
    if let Some(ready) = not_ready(status) {
        let _ = writeln!(out, "not ready ({}): {}", ready.reason, ready.message);
    }
    if let Some(held) = &status.held_withdrawal {
        let state = if held.confirmed { "is going from" } else { "stays, until a person confirms, in" };
        let _ = writeln!(
            out,
            "profile {} {state} {} clusters that it is no longer brought to: {}",
            held.profiles.join(", "),
            held.count,
            shown(&held.clusters)
        );
        if !held.confirmed {
            let _ = writeln!(out, "next: fairlead placement confirm {}", placement.name_any());
        }
    }
    out
}

/// What keeps the placement from being carried out; a held withdrawal is told by itself.
fn not_ready(status: &PlacementStatus) -> Option<&Condition> {
    let ready = condition(&status.conditions, "Ready")?;
    (ready.status == "False" && !["WithdrawalHeld", "Deleting"].contains(&ready.reason.as_str()))
        .then_some(ready)
}

fn row(placement: &Placement) -> Vec<String> {
    let status = placement.status.clone().unwrap_or_default();
    vec![
        placement.name_any(),
        placement.spec.profile.clone(),
        status.selected.to_string(),
        status.considered.to_string(),
        output::age(placement.metadata.creation_timestamp.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_placement_from_being_carried_out_is_said() {
        let of = |reason: &str, status: &str| -> Placement {
            let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": "the why",
                "lastTransitionTime": "2026-11-22T09:00:00Z"});
            serde_json::from_value(json!({
                "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement", "metadata": {"name": "app"},
                "spec": {"profile": "ghost"},
                "status": {"selected": 4, "considered": 4, "conditions": [ready]}}))
            .unwrap()
        };
        let said = explain(&of("ProfileNotUsable", "False"));
        assert!(said.ends_with(
            "\n4 of 4 clusters are chosen for profile ghost\nnot ready (ProfileNotUsable): the why\n"
        ));
        for quiet in [of("Placed", "True"), of("WithdrawalHeld", "False")] {
            assert!(!explain(&quiet).contains("the why"));
        }
    }
}
