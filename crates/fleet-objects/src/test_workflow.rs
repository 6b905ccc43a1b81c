//! `TestWorkflow`: what to run as a test, told as steps, and `TestWorkflowTemplate`: what several workflows share.
//!
//! Data only. What makes a workflow valid, how expressions in it are resolved and what it turns into is in the `workflow`
//! crate. Texts marked *template* may hold `{{ expressions }}`; fields marked *expression* are one.

mod parts;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use parts::{
    ArtifactOptions, Concurrency, ConcurrencyMode, Content, ContentFile, ContentGit, ContentTarball,
    EnvironmentVariable, EphemeralCluster, Execute, ExecuteWorkflow, Parallel, Parameter, ParameterType,
    RetryPolicy, Service, TemplateUse, TestPriority, Transfer,
};

/// A test: steps run one after the other in each chosen cluster, in one pod unless a step says otherwise.
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
    /// Typed values a run may set; `config.<name>` in expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Parameter>,
    /// Templates put around this workflow, in this order.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<TemplateUse>,
    /// What every step's container has unless the step says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerDefaults>,
    /// Files there before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Settings of the pod, as in a `PodSpec`, with `labels` and `annotations` beside them. Templates within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub pod: Option<Value>,
    /// Volume claims made for the run and removed after it, by the name that volumes mount them under: each a
    /// `PersistentVolumeClaimSpec`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub pvcs: BTreeMap<String, Value>,
    /// Pods that are there, ready, while the steps run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// Steps before `steps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<TestStep>,
    /// Run in this order; they share the workspace. At most 64 with everything that is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<TestStep>,
    /// Steps after all others, whatever came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<TestStep>,
    /// How long everything together may take; `24h` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Where the volume that steps share is mounted; `/workspace` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// How many executions of a group a cluster runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// A Kubernetes cluster of the execution's own: `KUBECONFIG` in every step leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_cluster: Option<EphemeralCluster>,
    /// Who comes first where executions wait for a place in a cluster; `Normal` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<TestPriority>,
    /// What is none of the above, where no schema prunes it; refused by name.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// What workflows share: parameters of its own, and steps, settings and services that are put around the workflow or the
/// step that uses it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestWorkflowTemplate",
    plural = "testworkflowtemplates",
    shortname = "twt",
    category = "fleet",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Fleet-wide","type":"boolean","jsonPath":".spec.fleetWide"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestWorkflowTemplateSpec {
    /// Put around every workflow of its namespace, before those that a workflow asks for itself; of every namespace when
    /// it lies in `default`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fleet_wide: bool,
    /// As a workflow.
    #[serde(flatten)]
    pub workflow: TestWorkflowSpec,
}

/// What containers have unless a step says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDefaults {
    /// The container image. Template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Replaces the image's entry point. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments of the command. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment. Values are templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// Environment out of ConfigMaps and Secrets, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub env_from: Vec<Value>,
    /// Directory the command starts in. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// As in a container. Templates within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub resources: Option<Value>,
    /// As in a container. Templates within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub security_context: Option<Value>,
    /// As in a container, of the volumes under `pod.volumes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub volume_mounts: Vec<Value>,
    /// What is none of the above; refused by name.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// One step: a container, or steps of its own, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestStep {
    /// Unique among its neighbours; a DNS label of at most 40 characters. Made from `title` or the place when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// For people, where the name does not say it. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What expressions call it: `step.<id>.outputs.<key>`; the name unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Runs only if this is true; `passed` unless set, in `after` and with `always` `always`. Expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The container image; that of `container` unless set. Template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Replaces the image's entry point. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments of the command. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// A script for `/bin/sh -ec`, instead of command and args. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Environment of the container; takes precedence over the workflow's variables. Values are templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// Directory the command starts in; the workspace, where artifacts are looked for, unless set. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What the step's container has besides, and the containers of the steps in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerDefaults>,
    /// Files there before the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Templates put around the step.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<TemplateUse>,
    /// A template that is the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateUse>,
    /// Waits this long before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// Waits until somebody lets the run go on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// How long one attempt may take, like `90s`, `10m` or `1h30m`; `10m` unless set. Of a step with steps: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Tries again after a failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// It is wrong when it passes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub negative: bool,
    /// A failure of this step is reported, but does not fail the run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// Runs also after an earlier step has failed: short for `condition: always`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always: bool,
    /// Files to keep: globs relative to the working directory, or absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// How files are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_options: Option<ArtifactOptions>,
    /// JUnit XML reports to keep and to count: globs as those of `artifacts`. Artifacts called `*.xml` that are JUnit
    /// reports count as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub junit: Vec<String>,
    /// Steps before the step's own container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub setup: Vec<TestStep>,
    /// Steps after the step's own container; each as this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub steps: Vec<TestStep>,
    /// Runs a workflow of its own several times at once, each in a pod of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub parallel: Option<Box<Parallel>>,
    /// Runs other workflows, in the same cluster and as part of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execute: Option<Execute>,
    /// Pods that are there, ready, while the run goes on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// What is none of the above, where no schema prunes it; refused by name.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

pub(crate) fn open_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

pub(crate) fn open_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
    })
}

/// A value of any type.
pub(crate) fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

// serde hands `skip_serializing_if` a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

impl TestStep {
    /// Whether a container of its own runs a command.
    #[must_use]
    pub fn runs_a_container(&self) -> bool {
        self.shell.is_some() || !self.image.is_empty() || !self.command.is_empty() || !self.args.is_empty()
    }

    /// Whether it keeps files.
    #[must_use]
    pub fn keeps_files(&self) -> bool {
        !self.artifacts.is_empty() || !self.junit.is_empty()
    }
}
