//! What SIG-Multicluster has defined and other tools read, group `multicluster.x-k8s.io`.

mod cluster_profile;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use cluster_profile::{
    AccessCluster, AccessProvider, ClusterManager, ClusterProfile, ClusterProfileSpec, ClusterProfileStatus,
    ClusterProperty, ClusterVersion, LABEL_CLUSTER_MANAGER, properties,
};

/// Label on a Cluster: the cluster set it belongs to. A namespace of ClusterProfiles bears it too.
pub const LABEL_CLUSTER_SET: &str = "multicluster.x-k8s.io/clusterset";
/// Label on every slice of one decision.
pub const LABEL_DECISION_KEY: &str = "multicluster.x-k8s.io/decision-key";
/// Label on a slice: its place among the others, from 0.
pub const LABEL_DECISION_INDEX: &str = "multicluster.x-k8s.io/decision-index";
/// Clusters in a slice at most.
pub const SLICE_CLUSTERS: usize = 100;

const GROUP: &str = "multicluster.x-k8s.io";
const VERSION: &str = "v1alpha1";
const KIND: &str = "PlacementDecision";
const PLURAL: &str = "placementdecisions";

/// The clusters chosen, for whoever delivers something to them (KEP-5313). One of several slices when there are many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementDecision {
    api_version: String,
    kind: String,
    /// Its name, labels and owner.
    pub metadata: ObjectMeta,
    /// At most [`SLICE_CLUSTERS`].
    pub decisions: Vec<ProfileDecision>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scheduler_name: String,
}

/// A cluster chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileDecision {
    /// The cluster's profile in the inventory.
    pub cluster_profile_ref: ClusterProfileReference,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Names a ClusterProfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterProfileReference {
    /// Its name: the cluster's.
    pub name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl PlacementDecision {
    /// A slice.
    #[must_use]
    pub fn new(metadata: ObjectMeta, decisions: Vec<ProfileDecision>, scheduler_name: &str) -> Self {
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata,
            decisions,
            scheduler_name: scheduler_name.to_owned(),
        }
    }
}

impl Resource for PlacementDecision {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The kind's definition. It has no spec and no status: it is data from whoever decides to whoever delivers.
pub(crate) fn placement_decision_definition() -> Value {
    let reference = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Name of the ClusterProfile."},
            "namespace": {"type": "string", "description": "Namespace of the ClusterProfile; this object's when empty."},
        },
    });
    let decision = json!({
        "type": "object", "required": ["clusterProfileRef"],
        "properties": {
            "clusterProfileRef": reference,
            "reason": {"type": "string", "description": "Why the cluster was chosen."},
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": KIND, "listKind": "PlacementDecisionList", "plural": PLURAL, "singular": "placementdecision"},
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "required": ["decisions"],
                    "description": "The clusters that a scheduler has chosen.",
                    "properties": {
                        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                        "decisions": {"type": "array", "maxItems": SLICE_CLUSTERS, "items": decision},
                        "schedulerName": {"type": "string", "description": "Who decided."},
                    },
                }},
                "additionalPrinterColumns": [
                    {"name": "Scheduler", "type": "string", "jsonPath": ".schedulerName"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            }],
        },
    })
}
