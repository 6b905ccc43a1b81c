//! `ClusterProfile` (KEP-4322): a cluster in the inventory, for whoever delivers something to it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Label of every profile: who keeps it.
pub const LABEL_CLUSTER_MANAGER: &str = "x-k8s.io/cluster-manager";

/// What a cluster is called and who manages it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "multicluster.x-k8s.io",
    version = "v1alpha1",
    kind = "ClusterProfile",
    plural = "clusterprofiles",
    namespaced,
    status = "ClusterProfileStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version.kubernetes"}"#,
    printcolumn = r#"{"name":"Healthy","type":"string","jsonPath":".status.conditions[?(@.type==\"ControlPlaneHealthy\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterProfileSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Who keeps the profile.
    pub cluster_manager: ClusterManager,
}

/// Who keeps a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterManager {
    /// Its name.
    pub name: String,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterProfileStatus {
    /// `ControlPlaneHealthy`, `Joined`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What runs there.
    #[serde(default)]
    pub version: ClusterVersion,
    /// Properties, those of the cluster's About API among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<ClusterProperty>,
    /// Ways to the cluster (KEP-5339).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_providers: Vec<AccessProvider>,
}

/// Versions of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterVersion {
    /// Of Kubernetes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes: String,
}

/// A property by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterProperty {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A way to a cluster: where it is. How one proves who one is stands in the reader's own configuration, by the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessProvider {
    /// By this the reader knows which command gets it credentials.
    pub name: String,
    /// As in a kubeconfig.
    pub cluster: AccessCluster,
}

/// Where a cluster is, in a kubeconfig's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccessCluster {
    /// Its address.
    pub server: String,
    /// Whom to trust: PEM, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate_authority_data: String,
}

/// Properties as a profile lists them, by name.
#[must_use]
pub fn properties(map: &BTreeMap<String, String>) -> Vec<ClusterProperty> {
    map.iter().map(|(name, value)| ClusterProperty { name: name.clone(), value: value.clone() }).collect()
}
