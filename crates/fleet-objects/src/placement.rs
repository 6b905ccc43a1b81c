//! Which clusters get a profile.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which clusters get which profile.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Placement",
    plural = "placements",
    category = "fleet",
    namespaced,
    status = "PlacementStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Profile","type":"string","jsonPath":".spec.profile"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Selected","type":"integer","jsonPath":".status.selected"}"#,
    printcolumn = r#"{"name":"Considered","type":"integer","jsonPath":".status.considered"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// The Profile's name, in the placement's namespace.
    pub profile: String,
    /// Which clusters. An empty selector chooses every cluster; none at all chooses no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// Only clusters of these sets (label `multicluster.x-k8s.io/clusterset`); of any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_sets: Vec<String>,
    /// How many clusters, the best first; all that match when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_clusters: Option<u32>,
    /// How evenly a number of clusters is spread over values of a label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread_constraints: Vec<SpreadConstraint>,
    /// What makes a cluster better than another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prioritizers: Vec<Prioritizer>,
    /// Points that a cluster which has the profile by this placement is ahead of others; 100 when not given, as much as
    /// one prioritizer gives at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stickiness: Option<i32>,
    /// Taints this placement goes to in spite of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Values for the profile's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::profile::any_map")]
    pub variables: BTreeMap<String, Value>,
    /// Values for some clusters only: the rules that apply to a cluster, in their order, over `variables`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueRule>,
    /// The Rollout, in the placement's namespace, by which changes go through the clusters. While it is not there nothing
    /// changes in any cluster. Without it a change goes to all chosen clusters at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// How many clusters may lose the profile at once without a person's word, as a number or a share (rounded down) of
    /// those that have it. When not given: four, or a third where that is more, and never all of several. The rest keeps
    /// what it holds until `fairlead placement confirm`. The same is asked when the placement is deleted or names another
    /// profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::rollout::int_or_string")]
    pub max_withdrawal: Option<IntOrString>,
}

/// Values for the profile's variables in some clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueRule {
    /// Clusters by name; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Clusters by label, field or CEL; any when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// Values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::profile::any_map")]
    pub variables: BTreeMap<String, Value>,
    /// Values to be computed: CEL over `cluster`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expressions: BTreeMap<String, String>,
}

/// Chooses clusters; all parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSelector {
    /// Labels that must be equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelRequirement>,
    /// Conditions on what is known of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_fields: Vec<FieldRequirement>,
    /// Conditions on the cluster's properties (`status.properties`), by name. `Gt`, `Lt`, `Ge` and `Le` compare versions,
    /// numbers and quantities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_properties: Vec<FieldRequirement>,
    /// CEL over `cluster`; every one must be true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cel_expressions: Vec<String>,
}

/// Spreads chosen clusters over the values of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpreadConstraint {
    /// The label.
    pub topology_key: String,
    /// How many more clusters one value may have than another; at least 1.
    pub max_skew: u32,
    /// What happens when that cannot be.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

/// What happens when clusters cannot be spread as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    /// Fewer clusters are chosen. Clusters without the label are not.
    #[default]
    DoNotPlace,
    /// As even as can be.
    PlaceAnyway,
}

/// Scores clusters. The best of those that could be chosen gets 100 points times the weight, the worst none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prioritizer {
    /// CEL over `cluster`; a whole number, the greater the better.
    pub expression: String,
    /// From -1000 to 1000; less than 0 turns it round.
    #[serde(default = "one")]
    pub weight: i32,
}

fn one() -> i32 {
    1
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// With what; at least one for `In` and `NotIn`, none otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// Is one of the values.
    In,
    /// Is none of the values, or absent.
    NotIn,
    /// Is there.
    Exists,
    /// Is not there.
    DoesNotExist,
}

/// A condition on a field: `metadata.name`, `kubernetesVersion` (compared as a version), `ready` and `connected`
/// (`true`/`false`), `nodes.total`, `nodes.ready` (compared as numbers), `agentVersion`. Of `apiGroups` (`In` and `NotIn`)
/// one value is enough: a group such as `cert-manager.io`, or a group with its version. Or the name of a property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldRequirement {
    /// The field.
    pub key: String,
    /// How it is compared.
    pub operator: FieldOperator,
    /// With what; exactly one for the comparisons of size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FieldOperator {
    /// Is one of the values.
    In,
    /// Is none of the values.
    NotIn,
    /// Is known.
    Exists,
    /// Is not known.
    DoesNotExist,
    /// Is greater.
    Gt,
    /// Is smaller.
    Lt,
    /// Is greater or equal.
    Ge,
    /// Is smaller or equal.
    Le,
}

/// A taint to go to in spite of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Toleration {
    /// The taint's key; none tolerates every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The taint's value; none tolerates any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What the hub decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Clusters chosen.
    #[serde(default)]
    pub selected: u32,
    /// Clusters looked at.
    #[serde(default)]
    pub considered: u32,
    /// One per cluster, chosen ones first, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<ClusterDecision>,
    /// The epoch of the hub that decided this. Where another one decides for the first time, because the hub came back from a
    /// backup, no cluster loses anything without a person's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_epoch: Option<String>,
    /// Clusters that are no longer chosen and keep the profile until a person confirms that it should go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_withdrawal: Option<HeldWithdrawal>,
    /// `Ready`: the decisions are carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A withdrawal from more clusters than may lose the profile at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldWithdrawal {
    /// Names what is confirmed: the annotation `fleet.fairlead.dev/confirm-withdrawal` with it lets the profile go from
    /// `clusters`. Another set of clusters has another one.
    pub id: String,
    /// What goes: names of profiles in the placement's namespace, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The epoch of the hub that asked: a word given to another one counts for nothing.
    #[serde(default)]
    pub hub_epoch: String,
    /// Which, sorted, at most 1000: of more, the rest is asked for afterwards.
    pub clusters: Vec<String>,
    /// How many there are in all.
    pub count: u32,
    /// How many have the profile, these included.
    pub holding: u32,
    /// A person let them go; they are being emptied.
    #[serde(default)]
    pub confirmed: bool,
}

/// Why a cluster was chosen or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterDecision {
    /// The cluster.
    pub cluster: String,
    /// Whether it gets the profile.
    pub selected: bool,
    /// What decided that.
    #[serde(default)]
    pub step: DecisionStep,
    /// Its points, where a number of clusters was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    /// Why, in a sentence.
    pub reason: String,
}

/// The step of a placement that decided about a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionStep {
    /// It is in no set that is asked for.
    ClusterSet,
    /// The selector does not match.
    #[default]
    Selector,
    /// A taint keeps the placement away.
    Taint,
    /// Scores could not be told.
    Score,
    /// It would make the spread too uneven.
    Spread,
    /// Enough others were better.
    Number,
    /// Another placement brings the profile.
    Conflict,
    /// It was chosen.
    Selected,
}
