//! `TestWorkflow`: what to run as a test, told as containers in order.
//!
//! Data only. What makes a workflow valid and what it turns into is in the `workflow` crate.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A test: containers run one after the other in each chosen cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestWorkflow",
    plural = "testworkflows",
    shortname = "tw",
    category = "fleet",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestWorkflowSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Given to every step as environment variables, so that `$(NAME)` in a command is replaced by them. A run may
    /// set other values, but only for names declared here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Run in this order; 1 to 64. Steps do not share files.
    pub steps: Vec<TestStep>,
}

/// One container of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestStep {
    /// Unique within the workflow; a DNS label of at most 40 characters.
    pub name: String,
    /// The container image.
    pub image: String,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment of the container; takes precedence over the workflow's variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// Directory the command starts in; `/workspace`, where artifacts are looked for, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How long one attempt may take, pulling the image included, like `90s`, `10m` or `1h30m`; `10m` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Tries again after a failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// A failure of this step is reported, but does not fail the run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// Runs also after an earlier step has failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always: bool,
    /// Files to keep: globs relative to `/workspace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// JUnit XML reports to keep and to count: globs relative to `/workspace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub junit: Vec<String>,
}

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// A C identifier.
    pub name: String,
    /// `$(OTHER)` is replaced by Kubernetes, as in any pod.
    #[serde(default)]
    pub value: String,
}

/// How often a step is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts after the first; 0 to 20.
    pub count: u32,
}

// serde hands `skip_serializing_if` a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
