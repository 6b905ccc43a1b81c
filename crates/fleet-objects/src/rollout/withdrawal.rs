//! How far a profile has gone from clusters that a placement no longer chooses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FailedCluster, GateTest};

/// Clusters that lose the profile, in the strategy's waves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawal {
    /// How many were to lose it, at most at one time since this withdrawal began.
    pub total: u32,
    /// Of these, those that still have something of it.
    pub left: u32,
    /// The wave under way, counted from 0; the canary is the first.
    pub wave: u32,
    /// How many clusters of the wave were told.
    pub begun: u32,
    /// Whether the wave's gates have been passed.
    #[serde(default)]
    pub wave_open: bool,
    /// Tests that the wave's gates asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<GateTest>,
    /// Since when every cluster of the wave is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaking_since: Option<Time>,
    /// Clusters being emptied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<ClusterRemoval>,
    /// Clusters that are empty, the last 1000. What else they hold must be as healthy as it was, or no further cluster is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emptied: Vec<EmptiedCluster>,
    /// Clusters that were not emptied in time, at most 1000. Beyond the failure budget no further cluster is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedCluster>,
    /// What it waits for, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A cluster being emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRemoval {
    /// Which.
    pub cluster: String,
    /// Since when its deadline runs; not while it is away or waits for its maintenance window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Whether everything else it holds was healthy when it was told.
    #[serde(default)]
    pub was_healthy: bool,
}

/// A cluster that was emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptiedCluster {
    /// Which.
    pub cluster: String,
    /// In which wave.
    pub wave: u32,
    /// Since when.
    pub since: Time,
    /// Whether everything else it holds must be healthy: it was so before, and nobody accepted that it is not.
    #[serde(default)]
    pub was_healthy: bool,
}
