//! A member of the fleet, as the hub sees it.

use crate::test_trigger::HeldTrigger;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people say about a cluster. Its labels are in `metadata.labels`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    shortname = "fc",
    category = "fleet",
    status = "ClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Connected","type":"string","jsonPath":".status.conditions[?(@.type==\"Connected\")].status"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.kubernetesVersion"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes.total"}"#,
    printcolumn = r#"{"name":"Nodes-Ready","type":"integer","jsonPath":".status.nodes.ready"}"#,
    printcolumn = r#"{"name":"Applied","type":"integer","jsonPath":".status.assignments.applied"}"#,
    printcolumn = r#"{"name":"Assigned","type":"integer","jsonPath":".status.assignments.total"}"#,
    printcolumn = r#"{"name":"Hold","type":"string","priority":1,"jsonPath":".status.hold"}"#,
    printcolumn = r#"{"name":"Agent","type":"string","priority":1,"jsonPath":".status.agentVersion"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// While true the hub gives the cluster no new or changed assignments. What it has stays enforced.
    #[serde(default)]
    pub paused: bool,
    /// While true the hub answers this cluster's agent with a refusal whatever its certificate says.
    #[serde(default)]
    pub revoked: bool,
    /// While true the cluster has joined and waits for a person: its agent is answered nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Keep placements away that do not tolerate them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<ClusterTaint>,
}

/// A mark that keeps placements away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTaint {
    /// What kind of mark.
    pub key: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it does.
    #[serde(default)]
    pub effect: TaintEffect,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New placements stay away; profiles already assigned remain.
    #[default]
    NoPlace,
    /// Where a number of clusters is asked for, others are taken first.
    PreferNoPlace,
    /// New placements stay away, and profiles already assigned leave.
    Evict,
}

/// What hub and agent found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The uid of the cluster's kube-system namespace: what the cluster is, whatever it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_system_uid: Option<String>,
    /// The cluster's `gitVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCount>,
    /// The agent's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// What kind of cluster it is: `region.fleet.fairlead.dev` and others that the agent found out, and what the cluster's
    /// own About API says (KEP-2149). At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Why the cluster's owner lets no change of any profile in, while that is so: what the annotation
    /// `fleet.fairlead.dev/hold` of the cluster's namespace `kube-system` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// What the cluster's API server serves besides the core group, `group/version`, sorted. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `Connected`, `Ready`, `HubBehind`, `OutboxBlocked`, `Refusing`, `JoinRefused`, `AdoptionRefused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Desired state in figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<AssignmentSummary>,
    /// What the agent says it holds; at most 500 entries. A restored hub rebuilds its view from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldAssignment>,
    /// Test triggers that the agent holds and this hub does not know; at most 100. They go on until a person adopts this
    /// hub's view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orphaned_triggers: Vec<HeldTrigger>,
    /// The highest assignment generation this partition ever used; new ones go above it.
    #[serde(default)]
    pub generation_floor: i64,
    /// The key the agent joined with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// By what the agent recognises its hub, as it said last: `sha256:…` of the key of each authority, sorted, at most 8.
    /// Empty: an agent that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_authorities: Vec<String>,
    /// Records the agent had to drop because its outbox was full, over its life.
    #[serde(default)]
    pub dropped_records: u64,
}

/// Nodes of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCount {
    /// All.
    pub total: u32,
    /// Those whose Ready condition is True.
    pub ready: u32,
}

/// Desired state of a cluster in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentSummary {
    /// Assignments in the partition.
    pub total: u32,
    /// Of these, applied at their newest generation.
    pub applied: u32,
    /// Of these, with every object healthy.
    pub healthy: u32,
    /// Deletions that wait for a person.
    pub held_deletions: u32,
    /// Held by the agent, unknown to this hub.
    pub orphaned: u32,
}

/// An assignment an agent holds on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldAssignment {
    /// The Assignment's name.
    pub name: String,
    /// The generation it is at; for one that was pruned, the tombstone's.
    pub generation: i64,
    /// The epoch of the hub that issued it.
    pub hub_epoch: String,
    /// The content it enforces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// True when only the tombstone's number is left.
    #[serde(default)]
    pub pruned: bool,
}

/// The key an agent registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal.
    pub public_key_sha256: String,
    /// When the newest certificate ends, RFC 3339.
    pub not_after: String,
    /// Which authority of the hub signed it, `sha256:…` of its key; none: it was issued by an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}
