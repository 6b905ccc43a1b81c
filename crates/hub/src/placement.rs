//! The placement controller: Profiles, Placements, Rollouts and Clusters to Assignments. Every pass looks at everything
//! from memory and writes only differences; the decisions are `fleet_planner`'s.

mod decisions;
mod gate_tests;
mod going;
mod known;
mod lost;
mod partition;
mod profiles;
mod rollouts;
mod signatures;
mod status;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api_client::ObjectCache;
use fleet_objects::multicluster::PlacementDecision;
use fleet_objects::rollout::Rollout;
use fleet_objects::{
    Assignment, Cluster, ClusterDecision, Placement, PlacementSpec, Profile, ProfileReference,
    assignment_name, partition_namespace,
};
use fleet_planner::assignment::Wanted;
use fleet_planner::cluster_view::ClusterView;
use fleet_planner::placement::{Asked, Choice, Guarded, decide_all};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::known_secrets::{self, KnownSecrets};
use crate::service::Shared;
use known::KnownAssignment;
use profiles::Profiles;
use rollouts::Governed;

/// Changes of this long are taken together: short enough not to be noticed, long enough to take a `kubectl apply` whole.
const GATHER: Duration = Duration::from_millis(20);
/// The longest rest after a pass. Passes take at most half of one core however many clusters report at once, and a change
/// that people make in the midst of that waits no longer than this.
const MAX_REST: Duration = Duration::from_secs(1);
/// Partitions written at once: writes of one moment share one fsync. More would only hold more in memory: the processor is busy
/// with as many.
const TOGETHER: usize = 16;
/// After a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(1);

/// What the controller watches.
pub(crate) struct Caches {
    profiles: ObjectCache<Profile>,
    placements: ObjectCache<Placement>,
    rollouts: ObjectCache<Rollout>,
    /// Decisions as other tools read them.
    published: ObjectCache<PlacementDecision>,
    clusters: ObjectCache<Cluster>,
    assignments: ObjectCache<KnownAssignment>,
    /// Of those that went, what agents may hold on.
    lost: lost::Lost,
    /// Which Secrets there are, and nothing of what they say.
    secrets: KnownSecrets,
}

/// One placement with what it decided.
struct Decided {
    placement: Arc<Placement>,
    profile: ProfileReference,
    decisions: Vec<ClusterDecision>,
    problem: Option<String>,
    /// What is wrong with its selector or an expression: nobody is added or withdrawn.
    unchosen: Option<String>,
    /// Clusters of which it is not known whether they would be chosen.
    undecided: BTreeSet<String>,
    /// What each cluster holds by this placement: names of assignments. Of other profiles than the placement's where that
    /// named another one before.
    held: withdrawal::Held,
    /// Of these, what nothing brings to the cluster any more.
    lost: BTreeMap<String, BTreeSet<String>>,
    /// What nothing brings, and stays since it is not known whether the cluster would be chosen.
    stays: BTreeMap<String, BTreeSet<String>>,
    /// Of those that lose something, which may lose it and which keep it.
    guarded: Guarded,
    /// Why nothing at all is done for it yet.
    unbound: Option<String>,
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
        assignments: ObjectCache::of(
            Api::<Assignment>::all(all()),
            api_client::CacheOptions::new("assignments"),
            KnownAssignment::from,
        ),
        lost: lost::Lost::default(),
        secrets: known_secrets::follow(Api::all(all()), "secrets"),
    };
    caches.lost.follow(&caches.assignments, shared.epoch.clone());
    let wake = Arc::new(tokio::sync::Notify::new());
    let notify = |wake: &Arc<tokio::sync::Notify>| {
        let wake = wake.clone();
        move || wake.notify_one()
    };
    let (a, b, c, d, e, f) =
        (notify(&wake), notify(&wake), notify(&wake), notify(&wake), notify(&wake), notify(&wake));
    caches.profiles.on_change(move |_| a());
    caches.placements.on_change(move |_| b());
    caches.clusters.on_change(move |_| c());
    caches.assignments.on_change(move |_| d());
    caches.rollouts.on_change(move |_| e());
    caches.secrets.on_change(move |_| f());
    shared.projects.on_change(notify(&wake));
    // Nothing is decided on half a view.
    let synced = async {
        caches.profiles.has_synced().await;
        caches.placements.has_synced().await;
        caches.clusters.has_synced().await;
        caches.assignments.has_synced().await;
        caches.rollouts.has_synced().await;
        caches.published.has_synced().await;
        caches.secrets.has_synced().await;
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
    profiles.know_secrets(&caches.secrets.list());
    let clusters = caches.clusters.list();
    let namespaces = clusters.iter().map(|cluster| partition_namespace(&cluster.name_any())).collect();
    let assignments = by_partition(&namespaces, caches.assignments.list());
    profiles.remember(shared, rollouts::earlier(caches)).await;
    let unbound = going::bind(shared, caches).await;
    complete &= unbound.is_empty();
    let views: Vec<ClusterView> = clusters.iter().map(|cluster| ClusterView::from(&**cluster)).collect();
    let mut decided = decide(shared, caches, profiles, &views, &assignments, &unbound);
    withdrawal::judge(shared, &mut decided, &assignments);
    let looked = rollouts::govern(shared, caches, profiles, &clusters, &assignments, &mut decided).await;
    complete &= !looked.incomplete;
    let (mut wanted, mut keep) = wanted(shared, &mut decided, profiles, &views, &assignments);
    // What is written from here on stays: the less is there meanwhile, the closer together it lies.
    drop(views);
    let unclaimed = withdrawal::unclaimed(&clusters, &decided, &wanted, &assignments);
    for (cluster, names) in &unclaimed {
        keep.entry(cluster.clone()).or_default().extend(names.iter().cloned());
    }
    let windows = withdrawal::windows(&decided);
    let mut partitions = FuturesUnordered::new();
    for cluster in &clusters {
        if partitions.len() >= TOGETHER {
            complete &= partitions.next().await.unwrap_or(true);
        }
        let name = cluster.name_any();
        let existing = assignments.get(&partition_namespace(&name)).map_or(&[][..], Vec::as_slice);
        let intent = partition::Intent {
            wanted: wanted.remove(&name).unwrap_or_default(),
            keep: keep.get(&name),
            unclaimed: unclaimed.get(&name),
            windows: windows.get(&name),
        };
        let reconciled = async move {
            let done = partition::reconcile(shared, caches, cluster, existing, &intent).await;
            let done = done.inspect_err(|error| {
                tracing::warn!(cluster = %name, error = error as &dyn std::error::Error, "a partition is not up to date yet");
            });
            done.is_ok()
        };
        partitions.push(reconciled);
    }
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
        if let Err(error) = status::write(shared, caches, one).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a placement's status was not written");
            complete = false;
        }
    }
    // As they are now: who has been told of new content no longer counts as having applied it.
    let assignments = by_partition(&namespaces, caches.assignments.list());
    if let Err(error) = going::release(shared, caches, &decided, &assignments).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "what is deleted is not let go yet");
        complete = false;
    }
    if let Err(error) = profiles.write_statuses(shared, caches, &assignments).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a profile's status was not written");
        complete = false;
    }
    Passed { complete, wake: looked.wake }
}

type ByPartition = BTreeMap<String, Vec<Arc<KnownAssignment>>>;

/// What is left of clusters that are no more is nobody's.
fn by_partition(partitions: &BTreeSet<String>, assignments: Vec<Arc<KnownAssignment>>) -> ByPartition {
    let mut by = ByPartition::new();
    for assignment in assignments {
        if partitions.contains(&*assignment.namespace) {
            by.entry(assignment.namespace.to_string()).or_default().push(assignment);
        }
    }
    by
}

/// Every placement's decisions, the oldest placement first: it wins where two want the same profile on a cluster. One that
/// is being deleted chooses nobody.
fn decide(
    shared: &Shared,
    caches: &Caches,
    profiles: &Profiles,
    views: &[ClusterView],
    assignments: &ByPartition,
    unbound: &BTreeMap<String, String>,
) -> Vec<Decided> {
    let mut placements = caches.placements.list();
    placements.retain(|placement| !going::is_gone(&**placement));
    let age = |placement: &Placement| placement.metadata.creation_timestamp.as_ref().map(|time| time.0);
    placements.sort_by_key(|placement| (age(placement), placement.namespace(), placement.name_any()));
    let spec = |placement: &Arc<Placement>| {
        let spec =
            shared.projects.restrict(&placement.namespace().unwrap_or_default(), placement.spec.clone());
        if going::is_going(&**placement) { PlacementSpec { cluster_selector: None, ..spec } } else { spec }
    };
    let specs: Vec<PlacementSpec> = placements.iter().map(spec).collect();
    let mut by_placement = withdrawal::by_placement(assignments);
    let (mut asked, mut held) = (Vec::new(), Vec::new());
    for (placement, spec) in placements.iter().zip(&specs) {
        let name = placement_name(placement);
        let holds = by_placement.remove(&name).unwrap_or_default();
        let profile = profile_of(placement);
        let own = assignment_name(&profile.namespace, &profile.name);
        let already = holds.iter().filter(|(_, names)| names.contains(&own)).map(|(name, _)| name.clone());
        let already = already.collect();
        let chosen = withdrawal::chosen_before(shared, placement, &holds, &own);
        asked.push(Asked { name, profile, spec, already, chosen });
        held.push(holds);
    }
    let decided = decide_all(&asked, views, &*shared.expressions);
    let each = placements.iter().zip(held).zip(decided);
    each.map(|((placement, held), Choice { decisions, problem: unchosen, undecided })| {
        let profile = profile_of(placement);
        let going = going::is_going(&**placement);
        let problem = (!going).then(|| profiles.problem(&profile)).flatten();
        let unbound = unbound.get(&placement_name(placement)).cloned();
        Decided {
            problem: problem.or_else(|| unbound.clone()),
            placement: placement.clone(),
            profile,
            decisions: if going { going::decisions(decisions) } else { decisions },
            unchosen,
            undecided,
            held,
            lost: BTreeMap::new(),
            stays: BTreeMap::new(),
            guarded: Guarded::default(),
            unbound,
            governed: None,
        }
    })
    .collect()
}

fn profile_of(placement: &Placement) -> ProfileReference {
    let namespace = placement.namespace().unwrap_or_default();
    ProfileReference { namespace, name: placement.spec.profile.clone() }
}

fn placement_name(placement: &Placement) -> String {
    format!("{}/{}", placement.namespace().unwrap_or_default(), placement.name_any())
}

type WantedByCluster = BTreeMap<String, BTreeMap<String, Wanted>>;
type KeepByCluster = BTreeMap<String, BTreeSet<String>>;

/// What each cluster should hold, and what must be left as it is because its profile is missing or cannot be read: a
/// profile that cannot be read is not a profile that should go.
fn wanted(
    shared: &Shared,
    decided: &mut [Decided],
    profiles: &Profiles,
    views: &[ClusterView],
    assignments: &ByPartition,
) -> (WantedByCluster, KeepByCluster) {
    let views: BTreeMap<&str, &ClusterView> = views.iter().map(|view| (view.name.as_str(), view)).collect();
    let (mut wanted, mut keep) = (WantedByCluster::new(), KeepByCluster::new());
    for one in decided {
        let name = assignment_name(&one.profile.namespace, &one.profile.name);
        let mut problem = None;
        if one.unbound.is_some() {
            for (cluster, names) in &one.held {
                keep.entry(cluster.clone()).or_default().extend(names.iter().cloned());
            }
            continue;
        }
        for decision in one.decisions.iter().filter(|decision| decision.selected) {
            let cluster = &decision.cluster;
            let Some(view) = views.get(cluster.as_str()) else { continue };
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
        for (cluster, names) in withdrawal::keeps(one).chain(&one.stays) {
            keep.entry(cluster.clone()).or_default().extend(names.iter().cloned());
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
