//! One cluster's partition: carries out the plan, and says in the Cluster's status how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_objects::rollout::MaintenanceWindow;
use fleet_objects::test_trigger::HeldTrigger;
use fleet_objects::{
    ADOPT_AND_KEEP, ADOPT_AND_PRUNE, ANNOTATION_ADOPT, Assignment, AssignmentSpec, AssignmentSummary,
    Cluster, ConditionChange, partition_namespace, set_condition,
};
use fleet_planner::assignment::{Existing, Partition, Plan, Step, Wanted, plan};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::known::KnownAssignment;
use super::{Caches, signatures};
use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;
use crate::test_runs::triggers;

/// Refusals shown at a Cluster.
const REFUSED_SHOWN: usize = 5;
/// Bytes of a condition's message; agents wrote what it is made of.
const MAX_MESSAGE: usize = 4096;

/// Characters shown of a word that is not understood.
const WORD_SHOWN: usize = 64;
/// Of a person's word about adoption that is none.
const ADOPTION_REFUSED: &str = "AdoptionRefused";

/// What a partition should be.
pub(super) struct Intent<'a> {
    /// What it should hold.
    pub(super) wanted: BTreeMap<String, Wanted>,
    /// What is left as it is.
    pub(super) keep: Option<&'a BTreeSet<String>>,
    /// Of that, what no placement speaks of.
    pub(super) unclaimed: Option<&'a BTreeSet<String>>,
    /// When the agent may begin to remove what goes.
    pub(super) windows: Option<&'a BTreeMap<String, Vec<MaintenanceWindow>>>,
}

/// Brings one partition up to date.
pub(super) async fn reconcile(
    shared: &Shared,
    caches: &Caches,
    cluster: &Cluster,
    existing: &[Arc<KnownAssignment>],
    intent: &Intent<'_>,
) -> Result<(), Error> {
    let status = cluster.status.clone().unwrap_or_default();
    let (adopt, misread) = adoption(cluster);
    // Before it has joined there is no partition.
    if status.kube_system_uid.is_none() || cluster.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let mut partition = Partition {
        existing: existing.iter().map(|one| (one.name.to_string(), known(one))).collect(),
        held: status.held.iter().map(|held| (held.name.clone(), held.clone())).collect(),
        windows: intent.windows.cloned().unwrap_or_default(),
        lost: caches.lost.of(&partition_namespace(&cluster.name_any())),
        floor: status.generation_floor,
        adopt: adopt.is_some(),
        prune_orphans: adopt == Some(ADOPT_AND_PRUNE),
    };
    let kept = |name: &String| intent.keep.is_some_and(|keep| keep.contains(name));
    partition.existing.retain(|name, _| !kept(name));
    partition.held.retain(|name, _| !kept(name));
    let decided =
        if cluster.spec.paused { Plan::default() } else { plan(&intent.wanted, &partition, &shared.epoch) };
    if decided.steps.iter().any(|step| matches!(step, Step::Remove { .. }))
        && decided.floor > status.generation_floor
    {
        let floor = decided.floor;
        let name = cluster.name_any();
        let raise = cluster_status::update(&shared.client, &name, |status| {
            status.generation_floor = status.generation_floor.max(floor);
        });
        if let Some(written) = raise.await? {
            caches.clusters.observe(&written);
        }
    }
    carry_out(shared, caches, cluster, existing, &decided).await?;
    let written: BTreeSet<&str> = decided.steps.iter().map(step_name).collect();
    let others: Vec<_> = existing.iter().filter(|one| !written.contains(&*one.name)).cloned().collect();
    signatures::copy(shared, caches, cluster, &others).await?;
    report(shared, caches, cluster, existing, (&decided, intent.unclaimed), misread).await?;
    if adopt.is_some() && !cluster.spec.paused {
        if adopt == Some(ADOPT_AND_PRUNE) {
            let name = cluster.name_any();
            let forgotten = triggers::forget(&shared.client, &name, &status.orphaned_triggers).await;
            forgotten.map_err(Error::api(format!("withdraw test triggers from cluster {name}")))?;
        }
        let patch = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: null}}});
        let api: Api<Cluster> = Api::all(shared.client.clone());
        let written = api.patch(&cluster.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        caches
            .clusters
            .observe(&written.map_err(Error::api(format!("end the adoption of {}", cluster.name_any())))?);
    }
    Ok(())
}

/// A person's word that this hub's view replaces the agent's; else why it is none.
fn adoption(cluster: &Cluster) -> (Option<&'static str>, Option<String>) {
    let Some(word) = cluster.annotations().get(ANNOTATION_ADOPT) else { return (None, None) };
    let known = [ADOPT_AND_KEEP, ADOPT_AND_PRUNE].into_iter().find(|known| known == word);
    let shown: String = word.chars().take(WORD_SHOWN).collect();
    let misread = format!(
        "nothing was done: the annotation {ANNOTATION_ADOPT} says {shown:?}, which is neither {ADOPT_AND_KEEP} nor \
         {ADOPT_AND_PRUNE}"
    );
    (known, known.is_none().then_some(misread))
}

fn known(assignment: &KnownAssignment) -> Existing {
    let pruned = assignment.is_pruned() && !assignment.is_present();
    Existing { spec: assignment.spec.clone(), pruned }
}

async fn carry_out(
    shared: &Shared,
    caches: &Caches,
    cluster: &Cluster,
    existing: &[Arc<KnownAssignment>],
    plan: &Plan,
) -> Result<(), Error> {
    let namespace = partition_namespace(&cluster.name_any());
    let api: Api<Assignment> = Api::namespaced(shared.client.clone(), &namespace);
    let find = |name: &str| existing.iter().find(|assignment| *assignment.name == *name);
    let failed = |verb: &str, name: &str| {
        Error::api(format!("{verb} assignment {name} of cluster {}", cluster.name_any()))
    };
    for step in &plan.steps {
        match step {
            Step::Create { name, spec } => {
                let mut object = object(name, &namespace, spec);
                signatures::put(caches, &mut object);
                let written =
                    api.create(&PostParams::default(), &object).await.map_err(failed("create", name))?;
                caches.assignments.observe(&written.into());
            }
            Step::Update { name, spec } => {
                let Some(old) = find(name) else { continue };
                let patch = update(caches, old, spec)?;
                let written = api
                    .patch(name, &PatchParams::default(), &Patch::<Assignment>::Json(patch))
                    .await
                    .map_err(failed("update", name))?;
                caches.assignments.observe(&written.into());
            }
            Step::Remove { name } => {
                let Some(old) = find(name) else { continue };
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: Some(old.uid.to_string()),
                        resource_version: Some(old.version.to_string()),
                    }),
                    ..DeleteParams::default()
                };
                match api.delete(name, &params).await {
                    Ok(_) => caches.assignments.observe_deleted(old),
                    Err(error) if api_client::error::is_not_found(&error) => {}
                    Err(error) => return Err(failed("remove", name)(error)),
                }
            }
        }
    }
    Ok(())
}

/// What makes an assignment say `spec`. Under the version that was planned on: a plan made of stale knowledge fails and is made
/// anew. What people wrote at it stays.
fn update(caches: &Caches, old: &KnownAssignment, spec: &AssignmentSpec) -> Result<json_patch::Patch, Error> {
    let mut steps = vec![
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": old.version}),
        json!({"op": "replace", "path": "/spec", "value": spec}),
    ];
    steps.extend(signatures::step(caches, old, spec));
    serde_json::from_value(Value::Array(steps)).map_err(|error| Error::Invalid(error.to_string()))
}

fn step_name(step: &Step) -> &str {
    match step {
        Step::Create { name, .. } | Step::Update { name, .. } | Step::Remove { name } => name,
    }
}

fn object(name: &str, namespace: &str, spec: &AssignmentSpec) -> Assignment {
    let mut object = Assignment::new(name, spec.clone());
    object.metadata.namespace = Some(namespace.to_owned());
    object
}

/// Writes the summary into the Cluster's status.
async fn report(
    shared: &Shared,
    caches: &Caches,
    cluster: &Cluster,
    existing: &[Arc<KnownAssignment>],
    (plan, unclaimed): (&Plan, Option<&BTreeSet<String>>),
    misread: Option<String>,
) -> Result<(), Error> {
    let names: BTreeSet<&str> = existing.iter().map(|assignment| &*assignment.name).collect();
    let status = cluster.status.clone().unwrap_or_default();
    let orphans: Vec<_> = status
        .held
        .iter()
        .filter(|held| !held.pruned && !names.contains(held.name.as_str()))
        .map(|held| held.name.clone())
        .collect();
    let count = |matches: fn(&KnownAssignment) -> bool| {
        u32::try_from(existing.iter().filter(|assignment| matches(assignment)).count()).unwrap_or(u32::MAX)
    };
    let held = existing
        .iter()
        .filter_map(|assignment| assignment.status.as_ref())
        .map(|status| status.held_deletions);
    let summary = AssignmentSummary {
        total: count(|_| true),
        applied: count(KnownAssignment::is_applied),
        healthy: count(KnownAssignment::is_healthy),
        held_deletions: held.sum(),
        orphaned: u32::try_from(orphans.len()).unwrap_or(u32::MAX),
    };
    let behind = behind(plan, &orphans, unclaimed, &status.orphaned_triggers);
    let told = Told { summary, behind, refused: refused(existing), misread };
    let mut wanted = status.clone();
    apply(&mut wanted, &told);
    if wanted == status {
        return Ok(());
    }
    let name = cluster.name_any();
    let written = cluster_status::update(&shared.client, &name, |status| {
        apply(status, &told);
    });
    if let Some(written) = written.await? {
        caches.clusters.observe(&written);
    }
    Ok(())
}

/// What is said of a partition at its Cluster.
struct Told {
    summary: AssignmentSummary,
    behind: Option<String>,
    refused: Option<String>,
    misread: Option<String>,
}

fn apply(status: &mut fleet_objects::ClusterStatus, told: &Told) {
    status.assignments = Some(told.summary);
    let (value, reason, message) = match &told.behind {
        Some(message) => (true, "AgentHoldsMore", message.clone()),
        None => (false, "UpToDate", "this hub knows of everything the agent holds".to_owned()),
    };
    let change = ConditionChange {
        kind: "HubBehind",
        status: Some(value),
        reason,
        message,
        observed_generation: None,
    };
    set_condition(&mut status.conditions, change, &cluster_status::now());
    let (value, reason, message) = match &told.refused {
        Some(message) => (true, "Refused", message.clone()),
        None => (false, "NothingRefused", "the agent follows this hub".to_owned()),
    };
    let change =
        ConditionChange { kind: "Refusing", status: Some(value), reason, message, observed_generation: None };
    set_condition(&mut status.conditions, change, &cluster_status::now());
    // Only while there is such a word.
    let Some(misread) = &told.misread else {
        status.conditions.retain(|condition| condition.type_ != ADOPTION_REFUSED);
        return;
    };
    let change = ConditionChange {
        kind: ADOPTION_REFUSED,
        status: Some(true),
        reason: "UnknownValue",
        message: misread.clone(),
        observed_generation: None,
    };
    set_condition(&mut status.conditions, change, &cluster_status::now());
}

/// What the agent refuses, if anything, with its reasons.
fn refused(existing: &[Arc<KnownAssignment>]) -> Option<String> {
    let mut all = existing.iter().filter_map(|assignment| {
        let refusal = assignment.status.as_ref()?.refusal.as_ref()?;
        Some(format!("{}: {:?}: {}", assignment.name, refusal.reason, refusal.message))
    });
    let mut shown: Vec<String> = all.by_ref().take(REFUSED_SHOWN).collect();
    let more = all.count();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    let mut text = shown.join("; ");
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    (!text.is_empty()).then_some(text)
}

/// Why this hub may not be the newest, if so.
fn behind(
    plan: &Plan,
    orphans: &[String],
    unclaimed: Option<&BTreeSet<String>>,
    triggers: &[HeldTrigger],
) -> Option<String> {
    let mut parts: Vec<String> =
        plan.behind.iter().map(|(name, reason)| format!("{name}: {reason}")).take(5).collect();
    if !orphans.is_empty() {
        let shown: Vec<_> = orphans.iter().take(10).cloned().collect();
        parts.push(format!(
            "held by the agent and unknown to this hub: {}; it stays in the cluster",
            shown.join(", ")
        ));
    }
    if let Some(unclaimed) = unclaimed {
        let shown: Vec<&str> = unclaimed.iter().take(10).map(String::as_str).collect();
        parts.push(format!(
            "brought by placements that this hub does not know: {}; it stays in the cluster until a placement of the same \
             name says otherwise",
            shown.join(", ")
        ));
    }
    if !triggers.is_empty() {
        let shown: Vec<&str> = triggers.iter().take(10).map(|trigger| trigger.name.as_str()).collect();
        parts.push(format!(
            "test triggers unknown to this hub: {}; they go on in the cluster",
            shown.join(", ")
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
