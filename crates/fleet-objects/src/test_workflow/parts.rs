//! The parts of workflows and steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TestStep, TestWorkflowSpec, anything, is_false, open_list, open_object};

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// A C identifier.
    pub name: String,
    /// `$(OTHER)` is replaced by the value of another variable. Template.
    #[serde(default)]
    pub value: String,
    /// As in a container; `value` is empty then. What it names may be absent: the variable is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub value_from: Option<Value>,
    /// Given to services and to the pods of `parallel` as well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub global: bool,
}

/// How often a step is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts after the first; 0 to 20.
    pub count: u32,
    /// Tries again until this is true; `self.passed` unless set. Expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A typed value that a run may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its type; a text unless set.
    #[serde(default, rename = "type")]
    pub type_: ParameterType,
    /// Its value when the run sets none; without one the run must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub default: Option<Value>,
    /// A value, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub example: Option<Value>,
    /// The values it may have.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// A regular expression that a text must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The name of a format; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Characters at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// Characters at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// The least number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// The greatest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i64>,
    /// Numbers must be above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_minimum: Option<i64>,
    /// Numbers must be below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_maximum: Option<i64>,
    /// Numbers must be multiples of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<i64>,
    /// Its value is masked in logs, reports and events.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sensitive: bool,
}

/// Types of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// A template, with values for its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateUse {
    /// Its name, in the workflow's namespace.
    pub name: String,
    /// Values for its parameters. Templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub config: BTreeMap<String, Value>,
}

/// Files that are fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// A Git repository, fetched by the `git` of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<ContentGit>,
    /// Files written as they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ContentFile>,
    /// Archives, fetched and unpacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tarball: Vec<ContentTarball>,
}

/// A Git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentGit {
    /// Where from. Template.
    pub uri: String,
    /// A branch, tag or commit; the default branch unless set. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The parts that are wanted: a sparse checkout. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The parts are directories (Git's cone mode).
    #[serde(default, skip_serializing_if = "is_false")]
    pub cone: bool,
    /// Where to; `repo` in the workspace unless set. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// The image that has `git`; `alpine/git` unless set. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `basic` (user name and token), `header` or `github` (the token as a bearer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<String>,
    /// Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// As `valueFrom` of a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub username_from: Option<Value>,
    /// Template. Better `tokenFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// As `valueFrom` of a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub token_from: Option<Value>,
    /// A private key. Better `sshKeyFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// As `valueFrom` of a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub ssh_key_from: Option<Value>,
    /// How often fetching is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
}

/// A file as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentFile {
    /// Where to; relative to the workspace.
    pub path: String,
    /// What is in it. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// As `valueFrom` of a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub content_from: Option<Value>,
    /// Permission bits; `0644` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
}

/// An archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentTarball {
    /// Where from. Template.
    pub url: String,
    /// Where to unpack it.
    pub path: String,
    /// The image that has `wget` and `tar`; `alpine/git` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// How files are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactOptions {
    /// Globs are relative to this directory; their paths are told relative to it. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Keeps the files as one archive of this name, tar in gzip, instead of one by one; reports stay as they are. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
}

/// How many executions of a group run at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Executions of the same group wait for each other; required. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How many; 1 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// What becomes of an execution for which there is no place; it waits unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ConcurrencyMode>,
    /// As Testkube says `mode: cancel-running`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel_in_progress: bool,
}

/// What becomes of an execution for which its group has no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConcurrencyMode {
    /// It waits.
    #[default]
    Queue,
    /// The oldest of the group, waiting or running, is cancelled for it.
    CancelRunning,
    /// It is left out.
    Skip,
}

/// Who comes first where executions wait for a place: a higher class before a lower one, an older execution before a
/// newer one. Nothing that runs is ended for it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TestPriority {
    /// When nothing else waits.
    Background,
    /// Unless set.
    #[default]
    Normal,
    /// Before what nobody waits for.
    High,
    /// Before everything.
    Urgent,
}

/// A cluster that is there for one execution: an API server with controllers, a scheduler and simulated nodes, empty but for
/// what it is seeded with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralCluster {
    /// Its Kubernetes version, like `1.36`: there is one, which is what it is unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Simulated nodes; 1 unless set, at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Objects it holds from the start, applied in this order. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub seed: Vec<Value>,
    /// What is none of the above; refused by name.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// A workflow of its own, run several times at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parallel {
    /// How often. Expression or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub count: Option<Value>,
    /// How often at most, when shards do not give that many. Expression or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub max_count: Option<Value>,
    /// Every combination of these lists, as `matrix.<name>`. Each an expression or a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub matrix: BTreeMap<String, Value>,
    /// These lists parted among the instances, as `shard.<name>`. Each an expression or a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub shards: BTreeMap<String, Value>,
    /// How many run at once; 1000 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// The first failure ends the others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fail_fast: bool,
    /// Instances wait for each other before their steps begin.
    #[serde(default, skip_serializing_if = "is_false")]
    pub together: bool,
    /// Files given to each instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfer: Vec<Transfer>,
    /// Files taken back from each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<Transfer>,
    /// What an instance is called, for people. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What each does.
    #[serde(flatten)]
    #[schemars(schema_with = "open_object")]
    pub workflow: TestWorkflowSpec,
}

/// Files that go from one pod to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// The directory.
    pub from: String,
    /// Where to; the same path unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Which of its files; all unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Other workflows to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Execute {
    /// Which.
    pub workflows: Vec<ExecuteWorkflow>,
    /// How many run at once; 100 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// The workflows named, as they were when the run started; filled in by the hub.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub resolved: BTreeMap<String, TestWorkflowSpec>,
}

/// Another workflow to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecuteWorkflow {
    /// Its name, in the same namespace.
    pub name: String,
    /// Values for its parameters. Templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub config: BTreeMap<String, Value>,
}

/// A pod that is there while the steps run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How many; 1 unless set. Expression or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub count: Option<Value>,
    /// How many at most, when shards do not give that many. Expression or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub max_count: Option<Value>,
    /// Every combination of these lists, as `matrix.<name>`. Each an expression or a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub matrix: BTreeMap<String, Value>,
    /// These lists parted among the instances, as `shard.<name>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "open_object")]
    pub shards: BTreeMap<String, Value>,
    /// Templates put around the service: their container and pod settings.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<TemplateUse>,
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
    /// A script for `/bin/sh -ec`, instead of command and args. Template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Environment. Values are templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// Environment out of ConfigMaps and Secrets, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub env_from: Vec<Value>,
    /// Directory the command starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// When it is ready, as in a container; as soon as it runs unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub readiness_probe: Option<Value>,
    /// `OnFailure` or `Never`; `Never` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<String>,
    /// How long it may take to be ready; `5m` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Whether its log is kept: `always`, `failed`, `never` or an expression; `never` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub resources: Option<Value>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub security_context: Option<Value>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_list")]
    pub volume_mounts: Vec<Value>,
    /// Files of the steps' workspace given to each; it starts when the content of what it stands in is fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfer: Vec<Transfer>,
    /// As the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub pod: Option<Value>,
    /// What is none of the above, where no schema prunes it; refused by name.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

impl Parallel {
    /// The steps that an instance runs, all lists together.
    pub fn all_steps(&self) -> impl Iterator<Item = &TestStep> {
        self.workflow.setup.iter().chain(&self.workflow.steps).chain(&self.workflow.after)
    }
}
