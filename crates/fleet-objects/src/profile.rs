//! What a cluster should hold: objects with typed variables.
//!
//! # Variables
//! A scalar in a manifest may hold `${var.name}`. When the scalar is exactly one such reference, the variable's value
//! replaces it with its type (`replicas: ${var.replicas}` becomes a number); inside longer text it is written in as
//! text. `$${` stands for a literal `${`. Other `${…}` is left as it is (shell scripts in ConfigMaps keep working); a
//! reference to a variable that is not defined is an error. Keys of maps are never substituted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The content of a profile.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Profile",
    plural = "profiles",
    category = "fleet",
    namespaced,
    status = "ProfileStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Objects","type":"integer","jsonPath":".status.objects"}"#,
    printcolumn = r#"{"name":"Clusters","type":"integer","jsonPath":".status.clusters"}"#,
    printcolumn = r#"{"name":"Applied","type":"integer","jsonPath":".status.applied"}"#,
    printcolumn = r#"{"name":"Healthy","type":"integer","jsonPath":".status.healthy"}"#,
    printcolumn = r#"{"name":"Digest","type":"string","priority":1,"jsonPath":".status.digest"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Objects, or strings that hold YAML with any number of documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_list")]
    pub manifests: Vec<Value>,
    /// More objects, uploaded to the hub's content store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ProfileSource>,
    /// The variables manifests may use. Anything else is an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<VariableDefinition>,
    /// The namespace of namespaced objects that name none. The agent creates it when it is missing and never deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_namespace: Option<String>,
    /// What happens when another manager already owns a field with another value.
    #[serde(default)]
    pub conflicts: ConflictPolicy,
    /// Further parts, one after the other: each begins in a cluster when every object of those before it is healthy there.
    /// `manifests` and `source` come first. A Job in a layer is a gate: what follows begins when it has succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<ProfileLayer>,
    /// Profiles of the same namespace that a cluster must have applied, and have healthy, before this one begins there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How objects of some kinds are judged, in place of the built-in rules; a layer's own rules come before these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthRule>,
}

/// A part of a profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileLayer {
    /// Names it among the others.
    pub name: String,
    /// Where it came from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Objects, or strings that hold YAML with any number of documents.
    #[schemars(schema_with = "any_list")]
    pub manifests: Vec<Value>,
    /// How objects of some kinds are judged in this layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthRule>,
}

/// How objects of a kind are judged: CEL over `object`, as the cluster shows it. An object that is being deleted, or whose
/// newest generation its controller has not observed, is not asked. The first that is true decides: `failed`,
/// `progressing`, `current`. With `current` and none of them true it is progressing, without it the built-in rules go on.
/// An expression that has no value yet (no such key) is not true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthRule {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// It is as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// It is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressing: Option<String>,
    /// It will not recover by waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// A text: why, when it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What happens when another manager already owns a field that the profile sets for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictPolicy {
    /// Leave the object alone and name the other manager.
    #[default]
    Report,
    /// Take the field.
    Force,
}

/// Where uploaded objects are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSource {
    /// SHA-256 of the uploaded bytes, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// How to read them.
    #[serde(default)]
    pub format: ContentFormat,
    /// Where they came from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// How uploaded objects are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContentFormat {
    /// One YAML or JSON text with any number of documents.
    #[default]
    Yaml,
    /// A gzip-compressed tar archive; every `.yaml`, `.yml` and `.json` file in it is read, in the order of paths.
    TarGz,
}

/// A variable that manifests may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariableDefinition {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// What values it takes.
    #[serde(rename = "type", default)]
    pub kind: VariableType,
    /// Its value where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub default: Option<Value>,
    /// A placement must give it a value.
    #[serde(default)]
    pub required: bool,
    /// The only values allowed, when not empty.
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_list")]
    pub allowed: Vec<Value>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value is never said here or in a placement: what is given is `secretKeyRef` with the `name` and `key` (and
    /// `namespace`, unless the target namespace) of a Secret in each cluster, which the agent reads there, or
    /// `hubSecretKeyRef` with those of an immutable Secret beside the profile on the hub, which chosen clusters alone are
    /// given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// What values a variable takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VariableType {
    /// Text.
    #[default]
    String,
    /// A whole number of 64 bits.
    Int,
    /// true or false.
    Bool,
    /// A Kubernetes quantity such as `500m` or `1Gi`, as text or number.
    Quantity,
}

/// What the hub made of the profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The digest of the bundle that agents fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Size of the bundle in bytes.
    #[serde(default)]
    pub size: u64,
    /// Objects in it.
    #[serde(default)]
    pub objects: u32,
    /// Clusters it is assigned to.
    #[serde(default)]
    pub clusters: u32,
    /// Of these, applied.
    #[serde(default)]
    pub applied: u32,
    /// Of these, with every object healthy.
    #[serde(default)]
    pub healthy: u32,
    /// `Ready`: the content could be read and rendered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

pub(crate) fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

fn any_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}})
}

pub(crate) fn any_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true}})
}
