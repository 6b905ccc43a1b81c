//! Rollouts beside placements: gathers what is seen, lets `fleet_planner::rollout` decide, and writes the status before
//! anything is given out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_objects::rollout::{MaintenanceWindow, Revision, Rollout, RolloutPhase, RolloutStatus};
use fleet_objects::{
    Cluster, ConditionChange, ContentReference, HELD_BY_OWNER, OUTSIDE_WINDOW, assignment_name,
    condition_is_true, partition_namespace, set_condition,
};
use fleet_planner::assignment::Wanted;
use fleet_planner::cluster_view::ClusterView;
use fleet_planner::rollout::{
    Desired, Holding, Input, Leaver, Member, MemberHealth, Outcome, Release, TestState, Touched, plan,
    strategy,
};
use fleet_planner::variables::Values;
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::known::{Kind, KnownAssignment};
use super::profiles::Profiles;
use super::{ByPartition, Caches, Decided, gate_tests, going, placement_name, withdrawal};
use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;

/// What a rollout lets the clusters of a placement have.
pub(super) struct Governed {
    releases: BTreeMap<String, Release>,
    withdraws: BTreeSet<String>,
    target: Option<Revision>,
    stable: Option<Revision>,
    windows: Vec<MaintenanceWindow>,
    /// For people, in the placement's status.
    pub(super) summary: String,
    /// Why nothing is given out.
    pub(super) problem: Option<String>,
}

impl Governed {
    /// Nothing changes in any cluster.
    fn hold(problem: String) -> Self {
        Self {
            releases: BTreeMap::new(),
            withdraws: BTreeSet::new(),
            target: None,
            stable: None,
            windows: Vec::new(),
            summary: String::new(),
            problem: Some(problem),
        }
    }

    fn new(rollout: &Rollout, outcome: Outcome) -> Self {
        let Outcome { status, releases, withdraws, .. } = outcome;
        let back = matches!(status.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack);
        let windows = &rollout.spec.strategy.maintenance_windows;
        Self {
            releases,
            withdraws,
            summary: summary(rollout, &status),
            target: status.target,
            stable: status.stable,
            // What is taken back is broken: that does not wait for the night.
            windows: if back { Vec::new() } else { windows.clone() },
            problem: None,
        }
    }

    /// When agents may begin with anything.
    pub(super) fn windows(&self) -> &[MaintenanceWindow] {
        &self.windows
    }

    /// Whether a cluster that is no longer chosen may lose the profile now.
    pub(super) fn withdraws(&self, cluster: &str) -> bool {
        self.withdraws.contains(cluster)
    }

    /// What a cluster is to hold; `None`: nothing yet.
    pub(super) fn wanted(
        &self,
        shared: &Shared,
        profiles: &Profiles,
        decided: &Decided,
        view: &ClusterView,
        existing: Option<&KnownAssignment>,
    ) -> Option<Wanted> {
        let of = |content, variables, maintenance_windows| Wanted {
            profile: decided.profile.clone(),
            placement: placement_name(&decided.placement),
            content,
            variables,
            maintenance_windows,
        };
        let revision = match self.releases.get(&view.name) {
            Some(Release::Target) => self.target.as_ref(),
            Some(Release::Stable) => self.stable.as_ref(),
            Some(Release::Keep) | None => None,
        };
        let told = revision.and_then(|revision| {
            let variables = variables_of(shared, profiles, decided, revision, view).ok()?;
            Some(of(revision.content.clone(), variables, self.windows.clone()))
        });
        told.or_else(|| {
            let spec = &existing?.spec;
            Some(of(spec.content.clone()?, spec.variables.clone(), spec.maintenance_windows.clone()))
        })
    }
}

fn summary(rollout: &Rollout, status: &RolloutStatus) -> String {
    let mut summary = format!("rollout {} is {:?}", rollout.name_any(), status.phase);
    if let Some(withdrawal) = &status.withdrawal {
        let said = format!(
            "; {} of {} clusters to be emptied: {}",
            withdrawal.left, withdrawal.total, withdrawal.message
        );
        summary.push_str(&said);
    }
    if going::is_going(rollout) {
        summary.push_str("; it is being deleted, and goes when no placement names it");
    }
    summary
}

fn variables_of(
    shared: &Shared,
    profiles: &Profiles,
    decided: &Decided,
    revision: &Revision,
    view: &ClusterView,
) -> Result<Values, String> {
    let given = (&revision.variables, revision.values.as_slice());
    profiles.variables(&decided.profile, &revision.content, given, view, &*shared.expressions)
}

/// The contents of every revision that may be given out.
pub(super) fn earlier(caches: &Caches) -> Vec<ContentReference> {
    let rollouts = caches.rollouts.list();
    let status = |rollout: &Arc<Rollout>| {
        let status = rollout.status.clone().unwrap_or_default();
        let RolloutStatus { desired, target, stable, history, .. } = status;
        [desired, target, stable].into_iter().flatten().chain(history).map(|revision| revision.content)
    };
    rollouts.iter().flat_map(status).collect()
}

/// What came of looking at all rollouts.
#[derive(Default)]
pub(super) struct Looked {
    /// A status could not be written.
    pub(super) incomplete: bool,
    /// When to look again although nothing changed.
    pub(super) wake: Option<Timestamp>,
}

/// Looks at the rollout of every placement that names one.
pub(super) async fn govern(
    shared: &Shared,
    caches: &Caches,
    profiles: &Profiles,
    clusters: &[Arc<Cluster>],
    assignments: &ByPartition,
    decided: &mut [Decided],
) -> Looked {
    let mut looked = Looked::default();
    let mut taken: BTreeMap<(String, String), String> = BTreeMap::new();
    for one in decided.iter_mut().filter(|one| one.unbound.is_none()) {
        let Some(name) = one.placement.spec.rollout.clone() else { continue };
        let namespace = one.placement.namespace().unwrap_or_default();
        let own = placement_name(&one.placement);
        let first = taken.entry((namespace.clone(), name.clone())).or_insert_with(|| own.clone());
        if *first != own {
            let problem = format!("rollout {name} governs placement {first} already");
            one.governed = Some(Governed::hold(problem));
            continue;
        }
        let rollout = caches.rollouts.find(&namespace, &name);
        let Some(rollout) = rollout.filter(|rollout| !going::is_gone(&**rollout)) else {
            let problem = format!("there is no rollout {name} in namespace {namespace}");
            one.governed = Some(Governed::hold(problem));
            continue;
        };
        if let Err(problem) = strategy::check(&rollout.spec.strategy) {
            let problem = format!("rollout {name}: spec.strategy.{problem}");
            looked.incomplete |= !tell(shared, caches, &rollout, &own, &problem).await;
            one.governed = Some(Governed::hold(problem));
            continue;
        }
        let tests = gate_tests::states(shared, &rollout).await;
        let mut outcome = look(shared, profiles, clusters, assignments, one, (&rollout, &tests));
        let waits = gate_tests::waits(&outcome.status);
        let again = waits.then(|| Timestamp::now() + gate_tests::LOOK_AGAIN);
        let wake = [outcome.wake, again].into_iter().flatten().min();
        complete(&rollout, &own, one.problem.as_deref(), &mut outcome.status);
        one.governed = Some(match write(shared, caches, &rollout, &outcome.status).await {
            Ok(()) => {
                if let Err(error) = gate_tests::make(shared, &rollout, &outcome.status).await {
                    looked.incomplete = true;
                    tracing::warn!(error = &error as &dyn std::error::Error, "a gate waits for its test run");
                }
                Governed::new(&rollout, outcome)
            }
            Err(error) => {
                looked.incomplete = true;
                tracing::debug!(error = &error as &dyn std::error::Error, "a rollout waits for its status");
                Governed::hold("the rollout's status could not be written yet".to_owned())
            }
        });
        looked.wake = [looked.wake, wake].into_iter().flatten().min();
    }
    looked
}

fn look(
    shared: &Shared,
    profiles: &Profiles,
    clusters: &[Arc<Cluster>],
    assignments: &ByPartition,
    decided: &Decided,
    (rollout, tests): (&Rollout, &BTreeMap<String, TestState>),
) -> Outcome {
    let selected: BTreeSet<&str> = decided
        .decisions
        .iter()
        .filter(|decision| decision.selected)
        .map(|decision| decision.cluster.as_str())
        .collect();
    let desired = desired(profiles, decided);
    let members: Vec<Member> = clusters
        .iter()
        .filter(|cluster| selected.contains(cluster.name_any().as_str()))
        .map(|cluster| {
            let mut member = member(cluster, present(assignments, decided, &cluster.name_any()));
            if let Some(desired) = &desired {
                let given = (&desired.variables, desired.values.as_slice());
                let (reference, content) = (&decided.profile, &desired.content);
                let fits = profiles.variables(reference, content, given, &member.view, &*shared.expressions);
                member.unavailable = member.unavailable.or(fits.err());
            }
            member
        })
        .collect();
    let leaving = leaving(clusters, assignments, decided);
    let status = rollout.status.clone().unwrap_or_default();
    let touched = touched(clusters, assignments, decided, &status);
    plan(&Input {
        name: &rollout.name_any(),
        tests,
        spec: &rollout.spec,
        status: &status,
        desired: desired.as_ref(),
        members: &members,
        leaving: &leaving,
        touched: &touched,
        variables_of: &|revision, view| variables_of(shared, profiles, decided, revision, view),
        expressions: &*shared.expressions,
        now: cluster_status::now().0,
    })
}

/// Clusters that may lose what the placement brought, and those that were told to.
fn leaving(clusters: &[Arc<Cluster>], assignments: &ByPartition, decided: &Decided) -> Vec<Leaver> {
    let going = withdrawal::going(decided, assignments);
    let leaver = |cluster: &Arc<Cluster>| {
        let name = cluster.name_any();
        let said = going.get(&name);
        let held = said.filter(|said| said.held).map(|said| said.message.clone());
        (said.is_some() || decided.guarded.allowed.contains(&name)).then(|| Leaver {
            view: ClusterView::from(&**cluster),
            unavailable: unavailable(cluster).or(held),
            told: said.is_some() && !decided.lost.contains_key(&name),
            waiting: said.is_some_and(|said| said.waiting),
            unhealthy: unhealthy(assignments, decided, &name),
            message: said.map(|said| said.message.clone()).unwrap_or_default(),
        })
    };
    clusters.iter().filter_map(leaver).collect()
}

/// Clusters that the withdrawal so far names.
fn touched(
    clusters: &[Arc<Cluster>],
    assignments: &ByPartition,
    decided: &Decided,
    status: &RolloutStatus,
) -> Vec<Touched> {
    let Some(withdrawal) = &status.withdrawal else { return Vec::new() };
    let removing = withdrawal.removing.iter().map(|one| one.cluster.as_str());
    let emptied = withdrawal.emptied.iter().map(|one| one.cluster.as_str());
    let named: BTreeSet<&str> = removing.chain(emptied).collect();
    let touched = clusters.iter().filter(|cluster| named.contains(cluster.name_any().as_str()));
    let touched = touched.map(|cluster| Touched {
        view: ClusterView::from(&**cluster),
        unavailable: unavailable(cluster),
        unhealthy: unhealthy(assignments, decided, &cluster.name_any()),
    });
    touched.collect()
}

/// What a cluster holds that is not healthy, besides what it is to lose.
fn unhealthy(assignments: &ByPartition, decided: &Decided, cluster: &str) -> Option<String> {
    let lost = decided.lost.get(cluster);
    let partition = assignments.get(&partition_namespace(cluster))?;
    let sick = partition.iter().find(|one| {
        one.is_present() && !lost.is_some_and(|lost| lost.contains(&*one.name)) && !one.is_healthy()
    })?;
    let told = sick.status.as_ref().and_then(|status| status.told(Kind::Ready));
    Some(format!("{}: {}", sick.name, told.map_or("", |ready| ready.message.as_str())))
}

fn desired(profiles: &Profiles, decided: &Decided) -> Option<Desired> {
    if decided.problem.is_some() || going::is_going(&*decided.placement) {
        return None;
    }
    let content = profiles.content(&decided.profile)?.clone();
    let spec = &decided.placement.spec;
    Some(Desired { content, variables: spec.variables.clone(), values: spec.values.clone() })
}

/// The assignment by which a cluster holds the profile, unless it is being taken away.
pub(super) fn present<'a>(
    assignments: &'a ByPartition,
    decided: &Decided,
    cluster: &str,
) -> Option<&'a KnownAssignment> {
    let name = assignment_name(&decided.profile.namespace, &decided.profile.name);
    let partition = assignments.get(&partition_namespace(cluster))?;
    let found = partition.iter().find(|assignment| *assignment.name == *name)?;
    found.is_present().then_some(&**found)
}

fn member(cluster: &Cluster, assignment: Option<&KnownAssignment>) -> Member {
    let holds = assignment.and_then(|assignment| {
        let content = assignment.spec.content.clone()?;
        Some(Holding { content, variables: assignment.spec.variables.clone() })
    });
    let observed = assignment.is_some_and(|assignment| assignment.current().is_some());
    Member {
        view: ClusterView::from(cluster),
        unavailable: unavailable(cluster).or_else(|| assignment.and_then(held_by_owner)),
        holds,
        observed,
        health: assignment.map_or(MemberHealth::Unhealthy("it holds nothing".to_owned()), health),
    }
}

/// What the cluster's owner says, where the agent holds this profile alone.
fn held_by_owner(assignment: &KnownAssignment) -> Option<String> {
    let applied = assignment.current()?.told(Kind::Applied)?;
    (applied.reason == HELD_BY_OWNER).then(|| applied.message.clone())
}

/// Judged by the condition that the hub keeps, not by its memory: right after a start nobody is connected yet.
fn unavailable(cluster: &Cluster) -> Option<String> {
    let status = cluster.status.as_ref();
    if cluster.spec.paused {
        return Some("the cluster is paused".to_owned());
    }
    if status.is_none_or(|status| status.kube_system_uid.is_none()) {
        return Some("the cluster has not joined".to_owned());
    }
    if let Some(why) = status.and_then(|status| status.hold.as_ref()) {
        return Some(format!("held by the cluster's owner: {why}"));
    }
    let connected = status.is_some_and(|status| condition_is_true(&status.conditions, "Connected"));
    (!connected).then(|| "its agent is not connected".to_owned())
}

fn health(assignment: &KnownAssignment) -> MemberHealth {
    let Some(status) = assignment.status.as_ref() else {
        return MemberHealth::Unhealthy("the agent has not taken it over yet".to_owned());
    };
    let generation = assignment.spec.generation;
    if let Some(refusal) = status.refusal.as_ref().filter(|refusal| refusal.generation == generation) {
        return MemberHealth::Unhealthy(format!("refused: {}", refusal.message));
    }
    if status.observed_generation != generation {
        return MemberHealth::Unhealthy("the agent has not taken it over yet".to_owned());
    }
    if assignment.is_healthy() {
        return MemberHealth::Healthy;
    }
    match (status.told(Kind::Applied), status.told(Kind::Healthy)) {
        (Some(applied), _) if applied.reason == OUTSIDE_WINDOW => {
            MemberHealth::Waiting(applied.message.clone())
        }
        (None, Some(healthy)) if healthy.reason == "Failed" && status.holds(Kind::Applied) => {
            MemberHealth::Failed(healthy.message.clone())
        }
        _ => {
            let ready = status.told(Kind::Ready);
            MemberHealth::Unhealthy(ready.map_or_else(String::new, |ready| ready.message.clone()))
        }
    }
}

/// Writes why nothing at all is done by a rollout; where it stands stays. Answers whether it is written.
async fn tell(shared: &Shared, caches: &Caches, rollout: &Rollout, placement: &str, problem: &str) -> bool {
    let mut status = rollout.status.clone().unwrap_or_default();
    status.message = format!("nothing is given out: {problem}");
    complete(rollout, placement, Some(problem), &mut status);
    let written = write(shared, caches, rollout, &status).await;
    written
        .inspect_err(|error| {
            let error: &dyn std::error::Error = error;
            tracing::debug!(error, "a rollout waits for its status");
        })
        .is_ok()
}

/// What the planner does not know: whose rollout it is, and how conditions are written.
fn complete(rollout: &Rollout, placement: &str, problem: Option<&str>, status: &mut RolloutStatus) {
    status.observed_generation = rollout.metadata.generation.unwrap_or_default();
    status.placement = Some(placement.to_owned());
    if status.phase == RolloutPhase::Pending {
        status.message = problem.unwrap_or("the profile has not been read yet").to_owned();
    }
    let message = status.message.clone();
    let reason = format!("{:?}", status.phase);
    let phase = status.phase;
    for (kind, value) in [
        ("Progressing", phase.is_active() || phase == RolloutPhase::RollingBack),
        ("Completed", phase == RolloutPhase::Completed),
    ] {
        let change = ConditionChange {
            kind,
            status: Some(value),
            reason: &reason,
            message: message.clone(),
            observed_generation: Some(status.observed_generation),
        };
        set_condition(&mut status.conditions, change, &cluster_status::now());
    }
}

async fn write(
    shared: &Shared,
    caches: &Caches,
    rollout: &Rollout,
    status: &RolloutStatus,
) -> Result<(), Error> {
    if rollout.status.as_ref() == Some(status) {
        return Ok(());
    }
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let mut object = rollout.clone();
    object.status = Some(status.clone());
    let api: Api<Rollout> = Api::namespaced(shared.client.clone(), &namespace);
    // Under the version that was looked at: a decision made of stale knowledge is made anew.
    let written = api.replace_status(&name, &PostParams::default(), &object).await;
    let written = written.map_err(Error::api(format!("write the status of rollout {namespace}/{name}")))?;
    caches.rollouts.observe(&written);
    Ok(())
}
