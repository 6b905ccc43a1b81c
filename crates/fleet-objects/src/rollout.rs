//! How a change of a profile or placement goes through the fleet: canary, waves, gates, budget.
//!
//! A Placement names its Rollout (`spec.rollout`). Without one a change goes to every chosen cluster at once; with one
//! no cluster gets a change that the rollout has not released. People write the spec, the hub alone writes the status.
//! `promote`, `abort` and `rollback` name the revision (and step) they speak of, so that none of them can be taken for
//! a later change.

mod withdrawal;

pub use withdrawal::{ClusterRemoval, EmptiedCluster, Withdrawal};

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClusterSelector, ContentReference, ValueRule};

/// How changes go through the clusters of a placement.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    category = "fleet",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Placement","type":"string","jsonPath":".status.placement"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Revision","type":"integer","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"Wave","type":"string","jsonPath":".status.waveName"}"#,
    printcolumn = r#"{"name":"Updated","type":"integer","jsonPath":".status.updated"}"#,
    printcolumn = r#"{"name":"Clusters","type":"integer","jsonPath":".status.clusters"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failedCount"}"#,
    printcolumn = r#"{"name":"Debts","type":"integer","jsonPath":".status.debtCount"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// In which order, how many, and under which conditions.
    #[serde(default)]
    pub strategy: RolloutStrategy,
    /// While true no further cluster gets the change.
    #[serde(default)]
    pub paused: bool,
    /// A person lets the rollout go past what it waits for: an approval, the rest of a soak, or a halt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<RolloutStep>,
    /// A person lets the emptying of clusters go past the gate or the failures it is at: `status.withdrawalStep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_withdrawal: Option<i64>,
    /// The revision that no further cluster is to get. Clusters that have it keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<i64>,
    /// A revision to be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackRequest>,
}

/// The moment of a rollout that a person speaks of, as its status showed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutStep {
    /// `status.revision`.
    pub revision: i64,
    /// `status.step`.
    pub step: i64,
}

/// Takes a revision back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollbackRequest {
    /// The revision to leave: `status.revision`.
    pub revision: i64,
    /// The revision to return to, one of `status.history`; the last one that went through when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// In which order clusters get a change, how many at a time, and under which conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// The first clusters; also how many clusters that were away may catch up at a time. At least one of them must become
    /// healthy. One cluster when neither number nor selector is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Wave>,
    /// What follows, in order. Clusters that no wave takes come last, together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// How many clusters may be under change at a time, as a number or a share (`10%`, rounded up) of the clusters chosen.
    /// Without it as many as the wave has, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub max_concurrency: Option<IntOrString>,
    /// How many clusters may fail, as a number or a share (rounded down) of the clusters chosen. None when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub failure_budget: Option<IntOrString>,
    /// A cluster that is not healthy so long after it got the change has failed. 600 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<u32>,
    /// What happens when more clusters fail than the budget allows.
    #[serde(default)]
    pub on_failure: FailureAction,
    /// When agents may carry a change out, judged by each agent's own clock. Always when empty. A roll-back does not wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// Clusters that get a change together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many, as a number or a share (`25%`, rounded up) of the clusters chosen by the placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub clusters: Option<IntOrString>,
    /// Which; every cluster that is left when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// How long all of them must stay healthy before the next wave.
    #[serde(default)]
    pub soak_seconds: u32,
    /// What must hold before the wave begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

/// A condition before a wave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: GateType,
    /// For `Expression`: CEL over `cluster`, a boolean; it must hold for every cluster that has the change by then (that is
    /// empty by then, where clusters are emptied).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// For `TestRun`: a TestWorkflow of the rollout's namespace. It runs in the clusters of the wave before that are healthy,
    /// and must pass in every one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// For `TestRun`: values for the workflow's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

/// Kinds of gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateType {
    /// A person's word: `fairlead rollout promote`.
    #[default]
    Approval,
    /// CEL over what is known of the clusters that have the change.
    Expression,
    /// A test that passes in the clusters of the wave before. One that does not is a failure beyond any budget.
    TestRun,
}

/// What happens when the failure budget is exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureAction {
    /// No further cluster gets the change; a person decides.
    #[default]
    Halt,
    /// Every cluster returns to the last revision that went through.
    RollBack,
}

/// A time of the week at which changes may be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// The days on which it begins; every day when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// When it begins, `HH:MM`.
    pub start: String,
    /// How long it lasts; at most a week (10080).
    pub duration_minutes: u32,
    /// IANA name of the time zone; UTC when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say everything")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The placement it governs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub phase: RolloutPhase,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The number of the newest revision; grows with every change of what is wanted.
    #[serde(default)]
    pub revision: i64,
    /// Grows whenever the rollout moves on; names the moment a `promote` speaks of.
    #[serde(default)]
    pub step: i64,
    /// What is wanted by profile and placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Revision>,
    /// What clusters are being brought to: `desired`, or an earlier one in a roll-back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Revision>,
    /// The last revision that went through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Revision>,
    /// Revisions that went through, newest last, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Revision>,
    /// The wave under way, counted from 0; the canary is the first.
    #[serde(default)]
    pub wave: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_name: Option<String>,
    /// Whether the wave's gates have been passed.
    #[serde(default)]
    pub wave_open: bool,
    /// Since when every cluster of the wave is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaking_since: Option<Time>,
    /// Tests that the wave's gates asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<GateTest>,
    /// Clusters under change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updating: Vec<ClusterUpdate>,
    /// Clusters that failed, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedCluster>,
    /// Clusters that were away when it was their turn, at most 200. They catch up one canary at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debts: Vec<ClusterDebt>,
    /// Clusters the placement chose.
    #[serde(default)]
    pub clusters: u32,
    /// Of these, with the target and healthy.
    #[serde(default)]
    pub updated: u32,
    /// Of these, failed.
    #[serde(default)]
    pub failed_count: u32,
    /// Of these, debts.
    #[serde(default)]
    pub debt_count: u32,
    /// Grows whenever the emptying of clusters moves on; names the moment a `promoteWithdrawal` speaks of.
    #[serde(default)]
    pub withdrawal_step: i64,
    /// How far the profile has gone from clusters that the placement no longer chooses; none when there are no such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// `Progressing` and `Completed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// Nothing to roll out yet.
    #[default]
    Pending,
    /// Clusters of the wave get the change.
    Progressing,
    /// A gate is not passed, or no cluster is there to begin with.
    Waiting,
    /// Every cluster of the wave is healthy and has to stay so for a time.
    Soaking,
    /// Paused by a person.
    Paused,
    /// More clusters failed than the budget allows.
    Halted,
    /// Stopped by a person; clusters that have the change keep it.
    Aborted,
    /// Clusters return to an earlier revision.
    RollingBack,
    /// They have returned.
    RolledBack,
    /// Every cluster that is there has the change.
    Completed,
}

impl RolloutPhase {
    /// Whether the run goes from wave to wave.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Progressing | Self::Waiting | Self::Soaking | Self::Paused)
    }

    /// Whether nothing more happens before a person or a new change asks for it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Halted | Self::Aborted | Self::RolledBack | Self::Completed)
    }
}

/// What clusters are to hold, as one change after another made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Its number.
    pub number: i64,
    /// Its content.
    pub content: ContentReference,
    /// What the placement gave the profile's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::profile::any_map")]
    pub variables: BTreeMap<String, Value>,
    /// What it gave them in some clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueRule>,
}

/// A test run that a gate waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateTest {
    /// Which gate of the wave, counted from 0.
    pub gate: u32,
    /// The TestRun's name, in the rollout's namespace.
    pub run: String,
    /// The TestWorkflow's.
    pub workflow: String,
    /// Values for its variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Where it runs, at most 1000 clusters.
    pub clusters: Vec<String>,
    /// How it went.
    #[serde(default)]
    pub state: GateTestState,
    /// More about that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How a gate's test went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateTestState {
    /// It has not ended.
    #[default]
    Running,
    /// It passed in every cluster.
    Passed,
    /// It did not.
    Failed,
    /// It did not, and a person went on in spite of that.
    Accepted,
}

/// A cluster under change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpdate {
    /// Which.
    pub cluster: String,
    /// Since when its deadline runs; not while it waits for its maintenance window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// It catches up.
    #[serde(default)]
    pub debt: bool,
    /// For one that catches up: since when it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Time>,
}

/// A cluster that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedCluster {
    /// Which.
    pub cluster: String,
    /// Why.
    pub message: String,
    /// A person went on in spite of it: it no longer counts against the budget.
    #[serde(default)]
    pub accepted: bool,
}

/// A cluster that still owes the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterDebt {
    /// Which.
    pub cluster: String,
    /// Why.
    pub reason: String,
}

pub(crate) fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-int-or-string": true})
}
