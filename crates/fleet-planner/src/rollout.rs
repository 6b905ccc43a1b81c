//! A rollout as a state machine: from the strategy, the status so far and what is seen of the clusters to the next status
//! and what each cluster may be given now.
//!
//! The order of one look: a new revision is noticed, a person's words are taken, clusters are judged, the budget is
//! checked, the wave moves on, clusters are released. The caller writes the status *before* it gives a cluster anything, so
//! that a crash between the two leaves a cluster counted as under change that has not got it yet, never the reverse.
//!
//! Clusters that the placement no longer chooses lose the profile in the same waves, behind the same gates and under the
//! same bounds.
//!
//! What holds whatever is seen (proved by properties in the tests): never more clusters under change than the strategy
//! allows; no cluster is released once more failed than the budget allows; revisions and steps only grow; a cluster that
//! was away is released only beside the canary's number of others; with clusters that answer, every run comes to an end.

mod advance;
mod gates;
mod observe;
mod release;
pub mod strategy;
mod waves;
mod withdraw;

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::rollout::{Revision, RolloutPhase, RolloutSpec, RolloutStatus};
use fleet_objects::{ContentReference, ValueRule};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cluster_view::ClusterView;
use crate::expressions::Expressions;
use crate::variables::Values;

/// The most clusters under change at a time: they are listed in the status, at about 100 bytes each.
pub const MAX_CONCURRENCY: usize = 1000;
/// Failed clusters kept in the status; the budget cannot be larger.
pub const MAX_FAILED: usize = 1000;
/// Debts shown in the status.
pub const MAX_DEBTS: usize = 200;
/// Revisions kept to return to.
pub const MAX_HISTORY: usize = 10;
/// Waves of a strategy at most.
pub const MAX_WAVES: usize = 100;
/// The progress deadline when none is given, as Kubernetes' Deployments have it.
pub const DEFAULT_DEADLINE_SECONDS: u32 = 600;

/// What profile and placement want.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The content.
    pub content: ContentReference,
    /// What the placement gives the profile's variables.
    pub variables: Values,
    /// What it gives them in some clusters.
    pub values: Vec<ValueRule>,
}

/// What a cluster was told to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// The content.
    pub content: ContentReference,
    /// Every variable with its value.
    pub variables: Values,
}

/// Every variable's value of a revision in one cluster.
pub type VariablesOf<'a> = dyn Fn(&Revision, &ClusterView) -> Result<Values, String> + 'a;

impl Desired {
    fn is(&self, revision: &Revision) -> bool {
        self.content == revision.content
            && self.variables == revision.variables
            && self.values == revision.values
    }
}

/// A cluster that the placement chose, as it is seen now.
#[derive(Clone, Debug)]
pub struct Member {
    /// What is known of it.
    pub view: ClusterView,
    /// Why it cannot be given a change now.
    pub unavailable: Option<String>,
    /// What it was told last to hold.
    pub holds: Option<Holding>,
    /// Whether its agent has taken that over.
    pub observed: bool,
    /// How it is with it.
    pub health: MemberHealth,
}

/// A cluster that the placement no longer chooses, while it has something of the profile.
#[derive(Clone, Debug)]
pub struct Leaver {
    /// What is known of it.
    pub view: ClusterView,
    /// Why it cannot be told anything now.
    pub unavailable: Option<String>,
    /// Whether it was told to remove the profile.
    pub told: bool,
    /// It was told, and waits for its maintenance window: no deadline runs.
    pub waiting: bool,
    /// What is not healthy of what else it holds.
    pub unhealthy: Option<String>,
    /// What it says about the removal.
    pub message: String,
}

/// A cluster that `status.withdrawal` names: it is being emptied, or was.
#[derive(Clone, Debug)]
pub struct Touched {
    /// What is known of it.
    pub view: ClusterView,
    /// Why nothing can be asked of it now.
    pub unavailable: Option<String>,
    /// What is not healthy of what it still holds.
    pub unhealthy: Option<String>,
}

/// How a cluster is with what it was told to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberHealth {
    /// Applied, and every object is healthy.
    Healthy,
    /// It waits for its maintenance window: no deadline runs.
    Waiting(String),
    /// Not yet, or no longer.
    Unhealthy(String),
    /// It will not become healthy by waiting.
    Failed(String),
}

/// How a test run that a gate asked for goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestState {
    /// It has not ended.
    Running(String),
    /// It passed.
    Passed,
    /// It did not.
    Failed(String),
}

/// What is looked at.
pub struct Input<'a> {
    /// The rollout's name, for the names of its test runs.
    pub name: &'a str,
    /// Test runs that `status.tests` names, by name; one that is not there has not begun.
    pub tests: &'a BTreeMap<String, TestState>,
    /// What people ask for.
    pub spec: &'a RolloutSpec,
    /// How far it was.
    pub status: &'a RolloutStatus,
    /// What profile and placement want; none while the profile cannot be read.
    pub desired: Option<&'a Desired>,
    /// The clusters chosen.
    pub members: &'a [Member],
    /// Those that are not chosen any more and have something of it.
    pub leaving: &'a [Leaver],
    /// Those that `status.withdrawal` names as being emptied or empty, as far as they are still there.
    pub touched: &'a [Touched],
    /// Tells what a revision means for a cluster. Where it cannot, the cluster does not count as having the revision.
    pub variables_of: &'a VariablesOf<'a>,
    /// Evaluates gates.
    pub expressions: &'a dyn Expressions,
    /// The time, in whole seconds.
    pub now: Timestamp,
}

/// What a cluster may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The target.
    Target,
    /// The last revision that went through.
    Stable,
    /// What it has, or nothing.
    Keep,
}

/// What follows.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status to write before anything is given out.
    pub status: RolloutStatus,
    /// What each member may be given.
    pub releases: BTreeMap<String, Release>,
    /// Which of those that leave may be told to remove the profile.
    pub withdraws: BTreeSet<String>,
    /// When to look again although nothing changed.
    pub wake: Option<Timestamp>,
}

/// One look at a rollout.
#[must_use]
pub fn plan(input: &Input<'_>) -> Outcome {
    let mut run = Run::new(input);
    run.take_revision();
    run.take_commands();
    run.observe();
    run.check_budget();
    run.advance();
    let releases = run.release();
    let withdraws = run.withdraw();
    run.finish();
    Outcome { status: run.status, releases, withdraws, wake: run.wake }
}

/// One look under way.
struct Run<'a> {
    input: &'a Input<'a>,
    status: RolloutStatus,
    wake: Option<Timestamp>,
    /// Members told to hold the target.
    at_target: BTreeSet<&'a str>,
    /// Of these, healthy.
    healthy: BTreeSet<&'a str>,
    /// Members that went away while they were given the target, before they took it over.
    retracted: BTreeSet<&'a str>,
}

impl<'a> Run<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        let mut status = input.status.clone();
        set_right(&mut status, input.now);
        Self {
            input,
            status,
            wake: None,
            at_target: BTreeSet::new(),
            healthy: BTreeSet::new(),
            retracted: BTreeSet::new(),
        }
    }

    /// Whether a member was told to hold a revision.
    fn is_told(&self, member: &Member, revision: &Revision) -> bool {
        member.holds.as_ref().is_some_and(|holds| {
            holds.content == revision.content
                && (self.input.variables_of)(revision, &member.view).as_ref() == Ok(&holds.variables)
        })
    }

    fn now(&self) -> Time {
        Time(self.input.now)
    }

    /// Whether `seconds` have passed since; if not, the moment at which they have is remembered.
    fn passed(&mut self, since: &Time, seconds: u32) -> bool {
        let ends = since.0.checked_add(SignedDuration::from_secs(i64::from(seconds)));
        // Beyond the end of time: never.
        let Ok(ends) = ends else { return false };
        if ends <= self.input.now {
            return true;
        }
        self.wake = Some(self.wake.map_or(ends, |wake| wake.min(ends)));
        false
    }

    /// How many clusters are under change, those that are being emptied included.
    fn under_change(&self) -> usize {
        let removing = self.status.withdrawal.as_ref().map_or(0, |withdrawal| withdrawal.removing.len());
        self.status.updating.len() + removing
    }

    fn deadline_seconds(&self) -> u32 {
        self.input.spec.strategy.progress_deadline_seconds.unwrap_or(DEFAULT_DEADLINE_SECONDS)
    }

    /// Moves to a phase; the step grows when that is news.
    fn enter(&mut self, phase: RolloutPhase, message: impl Into<String>) {
        if self.status.phase != phase {
            self.status.step += 1;
        }
        self.say(phase, message);
    }

    /// A phase that comes and goes within a wave.
    fn say(&mut self, phase: RolloutPhase, message: impl Into<String>) {
        self.status.phase = phase;
        self.status.message = message.into();
    }

    /// Something else is wanted: a new run begins at the canary.
    fn take_revision(&mut self) {
        let Some(desired) = self.input.desired else { return };
        if self.status.desired.as_ref().is_some_and(|known| desired.is(known)) {
            return;
        }
        self.status.revision += 1;
        let revision = Revision {
            number: self.status.revision,
            content: desired.content.clone(),
            variables: desired.variables.clone(),
            values: desired.values.clone(),
        };
        self.status.desired = Some(revision.clone());
        self.begin(revision);
        self.enter_anew(RolloutPhase::Progressing);
    }

    fn enter_anew(&mut self, phase: RolloutPhase) {
        self.status.step += 1;
        self.say(phase, "");
    }

    fn begin(&mut self, target: Revision) {
        let status = &mut self.status;
        status.target = Some(target);
        status.wave = 0;
        status.wave_open = false;
        status.wave_name = None;
        status.soaking_since = None;
        status.tests.clear();
        status.updating.clear();
        status.failed.clear();
    }

    fn take_commands(&mut self) {
        let revision = self.status.revision;
        if revision == 0 {
            return;
        }
        let unfinished = self.status.phase.is_active() || self.status.phase == RolloutPhase::Halted;
        if self.input.spec.abort == Some(revision) && unfinished {
            self.enter(RolloutPhase::Aborted, format!("revision {revision} was aborted"));
        }
        if let Some(request) = self.input.spec.rollback.filter(|request| request.revision == revision) {
            self.roll_back(request.to, "a person asked for it");
        }
    }

    /// Brings every cluster to an earlier revision; answers whether there is one.
    fn roll_back(&mut self, to: Option<i64>, why: &str) -> bool {
        let current = self.status.target.as_ref().map_or(0, |target| target.number);
        let leaving = self.status.revision;
        let earlier = self.status.history.iter().rev().find(|revision| match to {
            Some(to) => revision.number == to,
            None => revision.number < leaving,
        });
        let Some(earlier) = earlier.cloned() else {
            let wanted = to.map_or_else(
                || "no earlier revision went through".to_owned(),
                |to| format!("revision {to} is not in the history"),
            );
            self.status.message = format!("cannot roll back: {wanted}");
            return false;
        };
        // Already there or on the way.
        if earlier.number == current {
            return true;
        }
        let message = format!("back to revision {}: {why}", earlier.number);
        self.begin(earlier);
        self.enter_anew(RolloutPhase::RollingBack);
        self.status.message = message;
        true
    }

    fn finish(&mut self) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.status.clusters = count(self.input.members.len());
        self.status.updated = count(self.healthy.len());
        self.status.failed_count = count(self.status.failed.len());
        self.status.failed.truncate(MAX_FAILED);
    }
}

/// Times that were noted by a clock that was ahead: left as they are, deadlines and soaks would wait until they come.
fn set_right(status: &mut RolloutStatus, now: Timestamp) {
    let right = |time: &mut Time| {
        if time.0 > now {
            time.0 = now;
        }
    };
    status.soaking_since.as_mut().map(right);
    for update in &mut status.updating {
        update.since.iter_mut().chain(&mut update.healthy_since).for_each(right);
    }
    if let Some(withdrawal) = &mut status.withdrawal {
        withdrawal.soaking_since.as_mut().map(right);
        withdrawal.removing.iter_mut().filter_map(|one| one.since.as_mut()).for_each(right);
        withdrawal.emptied.iter_mut().for_each(|one| right(&mut one.since));
    }
}

#[cfg(test)]
mod tests;
