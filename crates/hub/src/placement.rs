//! The placement controller: Profiles, Placements, Rollouts and Clusters to Assignments. Every pass looks at everything
//! from memory and writes only differences; the decisions are `fleet_planner`'s.

mod decisions;
mod gate_tests;
mod partition;
mod profiles;
mod rollouts;
mod signatures;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api_client::ObjectCache;
use fleet_objects::multicluster::PlacementDecision;
use fleet_objects::rollout::Rollout;
use fleet_objects::{
    Assignment, AssignmentState, Cluster, ClusterDecision, ConditionChange, Placement, PlacementSpec,
    PlacementStatus, Profile, ProfileReference, assignment_name, condition_is_true, partition_namespace,
    set_condition,
};
use fleet_planner::assignment::Wanted;
use fleet_planner::cluster_view::ClusterView;
use fleet_planner::placement::{Asked, Guarded, decide_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;
use profiles::Profiles;
use rollouts::Governed;

/// Changes of this long are taken together: short enough not to be noticed, long enough to take a `kubectl apply` whole.
const GATHER: Duration = Duration::from_millis(20);
/// The longest rest after a pass. Passes take at most half of one core however many clusters report at once, and a change
/// that people make in the midst of that waits no longer than this.
const MAX_REST: Duration = Duration::from_secs(1);
/// Partitions written at once: writes of one moment share one fsync.
const TOGETHER: usize = 64;
/// After a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(1);
/// Decisions shown in a placement's status.
const MAX_DECISIONS: usize = 1000;

/// What the controller watches.
pub(crate) struct Caches {
    profiles: ObjectCache<Profile>,
    placements: ObjectCache<Placement>,
    rollouts: ObjectCache<Rollout>,
    /// Decisions as other tools read them.
    published: ObjectCache<PlacementDecision>,
    clusters: ObjectCache<Cluster>,
    assignments: ObjectCache<Assignment>,
}

/// One placement with what it decided.
struct Decided {
    placement: Arc<Placement>,
    profile: ProfileReference,
    decisions: Vec<ClusterDecision>,
    problem: Option<String>,
    /// Clusters that hold the profile by this placement.
    holding: BTreeSet<String>,
    /// Of those that it no longer chooses, which may lose it and which keep it.
    guarded: Guarded,
    /// By a rollout, if the placement names one.
    governed: Option<Governed>,
}

/// How a pass ended.
struct Passed {
    /// Something must be tried again.
    complete: bool,
    /// When to look again although nothing changed.
    wake: Option<Timestamp>,
}

/// Runs until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let all = || shared.client.clone();
    let caches = Caches {
        profiles: ObjectCache::start(Api::all(all()), api_client::CacheOptions::new("profiles")),
        placements: ObjectCache::start(Api::all(all()), api_client::CacheOptions::new("placements")),
        published: ObjectCache::start(Api::all(all()), api_client::CacheOptions::new("placement decisions")),
        rollouts: ObjectCache::start(Api::all(all()), api_client::CacheOptions::new("rollouts")),
        clusters: shared.clusters.clone(),
        assignments: ObjectCache::start(
            Api::all(all()),
            api_client::CacheOptions::new("assignments").strip(shorten),
        ),
    };
    let wake = Arc::new(tokio::sync::Notify::new());
    let notify = |wake: &Arc<tokio::sync::Notify>| {
        let wake = wake.clone();
        move || wake.notify_one()
    };
    let (a, b, c, d, e) = (notify(&wake), notify(&wake), notify(&wake), notify(&wake), notify(&wake));
    caches.profiles.on_change(move |_| a());
    caches.placements.on_change(move |_| b());
    caches.clusters.on_change(move |_| c());
    caches.assignments.on_change(move |_| d());
    caches.rollouts.on_change(move |_| e());
    shared.projects.on_change(notify(&wake));
    // Nothing is decided on half a view.
    let synced = async {
        caches.profiles.has_synced().await;
        caches.placements.has_synced().await;
        caches.clusters.has_synced().await;
        caches.assignments.has_synced().await;
        caches.rollouts.has_synced().await;
        caches.published.has_synced().await;
        shared.projects.has_synced().await;
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = synced => {}
    }
    let mut profiles = Profiles::default();
    loop {
        let began = Instant::now();
        let passed = tokio::select! {
            () = shutdown.cancelled() => return,
            passed = Box::pin(pass(&shared, &caches, &mut profiles)) => passed,
        };
        let rest = Instant::now() + began.elapsed().min(MAX_REST);
        let again = async {
            match passed.patience() {
                None => wake.notified().await,
                Some(patience) => drop(tokio::time::timeout(patience, wake.notified()).await),
            }
            tokio::time::sleep_until(rest.max(Instant::now() + GATHER)).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = again => {}
        }
    }
}

/// Each object's health is for people, and the larger part of what an agent reports: nothing is decided by it here.
fn shorten(assignment: &mut Assignment) {
    if let Some(status) = &mut assignment.status {
        status.objects = Vec::new();
        status.held_deletions = Vec::new();
    }
}

impl Passed {
    /// How long the next pass may wait for a change; `None`: for ever.
    fn patience(&self) -> Option<Duration> {
        let wake = self.wake.map(|wake| {
            let left = wake.duration_since(Timestamp::now());
            // Times are whole seconds: a moment later it has surely come.
            Duration::try_from(left).unwrap_or_default() + GATHER
        });
        let retry = (!self.complete).then_some(RETRY);
        [wake, retry].into_iter().flatten().min()
    }
}

/// One look at everything.
async fn pass(shared: &Shared, caches: &Caches, profiles: &mut Profiles) -> Passed {
    let mut complete = true;
    profiles.refresh(shared, &caches.profiles.list()).await;
    let clusters = caches.clusters.list();
    let assignments = by_partition(caches.assignments.list());
    profiles.remember(shared, rollouts::earlier(caches)).await;
    let views: BTreeMap<String, ClusterView> =
        clusters.iter().map(|cluster| (cluster.name_any(), ClusterView::from(&**cluster))).collect();
    let mut decided = decide(shared, caches, profiles, &clusters, &assignments);
    withdrawal::judge(&mut decided, &assignments);
    let looked = rollouts::govern(shared, caches, profiles, &clusters, &assignments, &mut decided).await;
    complete &= !looked.incomplete;
    let (wanted, keep) = wanted(shared, &mut decided, profiles, &views, &assignments);
    let nothing = BTreeMap::new();
    let mut partitions: Vec<BoxFuture<'_, bool>> = Vec::with_capacity(clusters.len());
    for cluster in &clusters {
        let name = cluster.name_any();
        let existing = assignments.get(&partition_namespace(&name)).map_or(&[][..], Vec::as_slice);
        let (wanted, keep) = (wanted.get(&name).unwrap_or(&nothing), keep.get(&name));
        let reconciled = async move {
            let done = partition::reconcile(shared, caches, cluster, existing, wanted, keep).await;
            let done = done.inspect_err(|error| {
                tracing::warn!(cluster = %name, error = error as &dyn std::error::Error, "a partition is not up to date yet");
            });
            done.is_ok()
        };
        partitions.push(reconciled.boxed());
    }
    let mut partitions = stream::iter(partitions).buffer_unordered(TOGETHER);
    while let Some(done) = partitions.next().await {
        complete &= done;
    }
    drop(partitions);
    if let Err(error) = decisions::publish(shared, caches, &decided).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "placement decisions are not up to date yet"
        );
        complete = false;
    }
    for one in &decided {
        if let Err(error) = write_placement(shared, caches, one).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a placement's status was not written");
            complete = false;
        }
    }
    // As they are now: who has been told of new content no longer counts as having applied it.
    let assignments = by_partition(caches.assignments.list());
    if let Err(error) = profiles.write_statuses(shared, caches, &assignments).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a profile's status was not written");
        complete = false;
    }
    Passed { complete, wake: looked.wake }
}

type ByPartition = BTreeMap<String, Vec<Arc<Assignment>>>;

fn by_partition(assignments: Vec<Arc<Assignment>>) -> ByPartition {
    let mut by = ByPartition::new();
    for assignment in assignments {
        by.entry(assignment.namespace().unwrap_or_default()).or_default().push(assignment);
    }
    by
}

/// Every placement's decisions, the oldest placement first: it wins where two want the same profile on a cluster.
fn decide(
    shared: &Shared,
    caches: &Caches,
    profiles: &Profiles,
    clusters: &[Arc<Cluster>],
    assignments: &ByPartition,
) -> Vec<Decided> {
    let mut placements = caches.placements.list();
    placements.retain(|placement| placement.metadata.deletion_timestamp.is_none());
    let age = |placement: &Placement| placement.metadata.creation_timestamp.as_ref().map(|time| time.0);
    placements.sort_by_key(|placement| (age(placement), placement.namespace(), placement.name_any()));
    let views: Vec<ClusterView> = clusters.iter().map(|cluster| ClusterView::from(&**cluster)).collect();
    let specs: Vec<PlacementSpec> = placements
        .iter()
        .map(|placement| {
            shared.projects.restrict(&placement.namespace().unwrap_or_default(), placement.spec.clone())
        })
        .collect();
    let asked: Vec<Asked<'_>> = placements
        .iter()
        .zip(&specs)
        .map(|(placement, spec)| {
            let namespace = placement.namespace().unwrap_or_default();
            let profile = ProfileReference { namespace, name: placement.spec.profile.clone() };
            let already = already(placement, &profile, &views, assignments);
            Asked { name: placement_name(placement), profile, spec, already }
        })
        .collect();
    let decided = decide_all(&asked, &views, &*shared.expressions);
    let held: Vec<_> = asked.into_iter().map(|asked| (asked.profile, asked.already)).collect();
    let each = placements.into_iter().zip(held).zip(decided);
    each.map(|((placement, (profile, holding)), decisions)| Decided {
        problem: profiles.problem(&profile),
        placement,
        profile,
        decisions,
        holding,
        guarded: Guarded::default(),
        governed: None,
    })
    .collect()
}

fn placement_name(placement: &Placement) -> String {
    format!("{}/{}", placement.namespace().unwrap_or_default(), placement.name_any())
}

/// Clusters that hold the profile by this placement.
fn already(
    placement: &Placement,
    profile: &ProfileReference,
    views: &[ClusterView],
    assignments: &ByPartition,
) -> BTreeSet<String> {
    let (own, name) = (placement_name(placement), assignment_name(&profile.namespace, &profile.name));
    let holds = |view: &&ClusterView| {
        let partition = assignments.get(&partition_namespace(&view.name));
        partition.into_iter().flatten().any(|assignment| {
            assignment.name_any() == name
                && assignment.spec.state == AssignmentState::Present
                && assignment.spec.placement.as_deref() == Some(own.as_str())
        })
    };
    views.iter().filter(holds).map(|view| view.name.clone()).collect()
}

type WantedByCluster = BTreeMap<String, BTreeMap<String, Wanted>>;
type KeepByCluster = BTreeMap<String, BTreeSet<String>>;

/// What each cluster should hold, and what must be left as it is because its profile is missing or cannot be read: a
/// profile that cannot be read is not a profile that should go.
fn wanted(
    shared: &Shared,
    decided: &mut [Decided],
    profiles: &Profiles,
    views: &BTreeMap<String, ClusterView>,
    assignments: &ByPartition,
) -> (WantedByCluster, KeepByCluster) {
    let (mut wanted, mut keep) = (WantedByCluster::new(), KeepByCluster::new());
    for one in decided {
        let name = assignment_name(&one.profile.namespace, &one.profile.name);
        let mut problem = None;
        for decision in one.decisions.iter().filter(|decision| decision.selected) {
            let cluster = &decision.cluster;
            let Some(view) = views.get(cluster) else { continue };
            let entry = match &one.governed {
                Some(governed) => {
                    let existing = rollouts::present(assignments, one, cluster);
                    Ok(governed.wanted(shared, profiles, one, view, existing))
                }
                None => at_once(shared, profiles, one, view).map(Some),
            };
            match entry {
                Ok(entry) => {
                    let of_cluster = wanted.entry(cluster.clone()).or_default();
                    of_cluster.extend(entry.map(|entry| (name.clone(), entry)));
                }
                Err(why) => {
                    keep.entry(cluster.clone()).or_default().insert(name.clone());
                    problem.get_or_insert_with(|| format!("cluster {cluster}: {why}"));
                }
            }
        }
        for cluster in withdrawal::keeps(one) {
            keep.entry(cluster.clone()).or_default().insert(name.clone());
        }
        one.problem = one.problem.take().or(problem);
    }
    (wanted, keep)
}

/// Without a rollout every cluster is to hold what profile and placement say now.
fn at_once(
    shared: &Shared,
    profiles: &Profiles,
    decided: &Decided,
    view: &ClusterView,
) -> Result<Wanted, String> {
    let content = profiles.content(&decided.profile).ok_or("its profile cannot be used")?;
    let spec = &decided.placement.spec;
    let given = (&spec.variables, spec.values.as_slice());
    let variables = profiles.variables(&decided.profile, content, given, view, &*shared.expressions)?;
    Ok(Wanted {
        profile: decided.profile.clone(),
        placement: placement_name(&decided.placement),
        content: content.clone(),
        variables,
        maintenance_windows: Vec::new(),
    })
}

async fn write_placement(shared: &Shared, caches: &Caches, decided: &Decided) -> Result<(), Error> {
    withdrawal::end(shared, caches, decided).await?;
    let placement = &decided.placement;
    let before = placement.status.clone().unwrap_or_default();
    let selected = decided.decisions.iter().filter(|decision| decision.selected).count();
    let generation = placement.metadata.generation.unwrap_or_default();
    let mut after = PlacementStatus {
        observed_generation: generation,
        selected: u32::try_from(selected).unwrap_or(u32::MAX),
        considered: u32::try_from(decided.decisions.len()).unwrap_or(u32::MAX),
        decisions: decided.decisions.iter().take(MAX_DECISIONS).cloned().collect(),
        held_withdrawal: decided.guarded.held.clone(),
        conditions: before.conditions.clone(),
    };
    let placed = format!("{selected} of {} clusters selected", decided.decisions.len());
    let held = decided.governed.as_ref().and_then(|governed| governed.problem.as_ref());
    let (status, reason, message) = match (&decided.problem, held, &decided.governed) {
        (Some(problem), ..) => (false, "ProfileNotUsable", format!("{problem}; what clusters hold stays")),
        (None, Some(problem), _) => {
            (false, "RolloutNotUsable", format!("{problem}; what clusters hold stays"))
        }
        _ if decided.guarded.problem.is_some() => {
            let why = decided.guarded.problem.as_deref().unwrap_or_default();
            let word = format!("fairlead placement confirm {}", placement.name_any());
            (false, "WithdrawalHeld", format!("{placed}; {why}; what they hold stays until `{word}`"))
        }
        (None, None, Some(governed)) => (true, "Placed", format!("{placed}; {}", governed.summary)),
        (None, None, None) => (true, "Placed", placed),
    };
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

/// Whether the agent reported everything of this generation applied.
fn is_applied(assignment: &Assignment) -> bool {
    let status = assignment.status.as_ref();
    status.is_some_and(|status| {
        status.observed_generation == assignment.spec.generation
            && condition_is_true(&status.conditions, "Applied")
    })
}

/// Whether the agent reported this generation, a tombstone, carried out.
fn is_pruned(assignment: &Assignment) -> bool {
    assignment.status.as_ref().is_some_and(|status| {
        status.observed_generation == assignment.spec.generation
            && condition_is_true(&status.conditions, "Pruned")
    })
}

/// Whether the agent reported everything of this generation healthy.
fn is_healthy(assignment: &Assignment) -> bool {
    is_applied(assignment)
        && assignment.status.as_ref().is_some_and(|status| condition_is_true(&status.conditions, "Healthy"))
}
