//! `TestRun` and `TestExecution`: a workflow run in chosen clusters, and its part in one of them.
//!
//! A `TestRun` is what people write and read. The hub makes one `TestExecution` per chosen cluster, in that cluster's
//! partition (namespace `cluster-<name>`), where the agent finds it. Results travel as records; only the hub writes the
//! status of either.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::test_webhook::WebhookDelivery;
use crate::test_workflow::{TestPriority, TestWorkflowSpec, is_false};

/// Label on a `TestExecution` and on the pods of a test: the uid of the run.
pub const RUN_UID_LABEL: &str = "fleet.fairlead.dev/test-run-uid";
/// Annotation on a run that was carried out in a cluster that never connects, and came in a bundle: its name. A hub leaves
/// such a run as it is.
pub const IMPORTED_ANNOTATION: &str = "fleet.fairlead.dev/imported-from";
/// The type of the one condition that runs and executions have from the first visit on.
pub const SUCCEEDED: &str = "Succeeded";

/// A workflow, run in clusters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestRun",
    plural = "testruns",
    shortname = "tr",
    category = "fleet",
    namespaced,
    status = "TestRunStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Succeeded","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].reason"}"#,
    printcolumn = r#"{"name":"Passed","type":"integer","jsonPath":".status.counts.passed"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestRunSpec {
    /// A workflow of the same namespace, copied when the run starts. Exactly one of this and `workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<WorkflowReference>,
    /// The workflow itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<TestWorkflowSpec>,
    /// Where to run.
    pub targets: TestTargets,
    /// Values for the workflow's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Values for the workflow's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::test_workflow::open_object")]
    pub config: BTreeMap<String, Value>,
    /// Stops the run: steps that have not ended are ended and reported as not run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel: bool,
    /// `true` holds the run before every step that has not begun; `false` lets it go on, also past steps that are
    /// `paused`; absent, only those hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
    /// Who comes first where executions wait for a place in a cluster; the workflow's unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<TestPriority>,
}

/// Names a workflow of the run's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowReference {
    /// Its name.
    pub name: String,
}

/// Which clusters; at least one of the three says something. A cluster is chosen when any of them names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestTargets {
    /// By name. A name that no cluster has is reported as not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// By labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Every cluster of the fleet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
}

/// How a run goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestRunStatus {
    /// The generation of the spec that this status tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Succeeded`: `Unknown` until every cluster has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Sums over all clusters.
    #[serde(default)]
    pub counts: TestCounts,
    /// The workflow as it was when the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<TestWorkflowSpec>,
    /// One per chosen cluster, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterResult>,
    /// What webhooks were told, by the id of the event.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deliveries: BTreeMap<String, WebhookDelivery>,
    /// When the run's trace was handed on, or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced_at: Option<Time>,
}

/// What came of a test in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterResult {
    /// Which cluster.
    pub cluster: String,
    /// What came of it there; absent while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why, in one word: `Passed`, `CasesFailed`, `UnknownCluster`, `ImageUnavailable` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when it waits for a place in the cluster; stays when it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// When the agent began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the last step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Cases of the JUnit reports; of a step without one, the step itself.
    #[serde(default)]
    pub counts: TestCounts,
    /// In the workflow's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepResult>,
}

/// What came of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// Which step: unique within the execution.
    pub name: String,
    /// For people, where the name does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The step that this one is a part of; its outcome counts in that one's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// That of the last attempt; absent while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The workflow calls this step optional: its failure does not count.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptResult>,
}

/// What came of one attempt at a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptResult {
    /// 1 for the first.
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Of the container, when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What its JUnit reports say; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junit: Option<JunitSummary>,
    /// Files kept, at most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What could not be collected and why; empty when everything was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a test, a step or an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// It ran and is right.
    Passed,
    /// It ran and is wrong: a case failed, or the exit code is not 0.
    Failed,
    /// It ran for longer than its timeout.
    TimedOut,
    /// It was left out, because an earlier step failed.
    Skipped,
    /// It could not run: nothing is known about what was to be tested.
    NotRun,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestCounts {
    /// Passed.
    #[serde(default)]
    pub passed: u32,
    /// Failed an assertion, or ended with an exit code other than 0.
    #[serde(default)]
    pub failed: u32,
    /// Broke, timed out or could not run.
    #[serde(default)]
    pub errors: u32,
    /// Left out.
    #[serde(default)]
    pub skipped: u32,
}

/// What the JUnit reports of an attempt say, counted case by case: the totals that reports claim are often wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JunitSummary {
    /// Sums over all reports.
    #[serde(default)]
    pub counts: TestCounts,
    /// The cases that did not pass, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedCase>,
    /// How many failed cases are left out of `failures`.
    #[serde(default)]
    pub omitted: u32,
}

/// A case that did not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedCase {
    /// The suite that holds it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suite: String,
    /// The class or file it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class_name: String,
    /// Its name.
    pub name: String,
    /// What it says, cut at 1 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A file kept from an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Relative to `/workspace`.
    pub path: String,
    /// Lower-case hexadecimal SHA-256 of the content.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// Whether it was kept as a JUnit report.
    #[serde(default, skip_serializing_if = "is_false")]
    pub junit: bool,
    /// Why it is lost, if it is: it will not come.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lost: String,
}

/// A test run's part in one cluster. Made by the hub, carried out by the agent, which never writes to it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestExecution",
    plural = "testexecutions",
    shortname = "te",
    namespaced,
    status = "TestExecutionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Run","type":"string","jsonPath":".spec.run.name"}"#,
    printcolumn = r#"{"name":"Succeeded","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestExecutionSpec {
    /// The run this is a part of.
    pub run: RunReference,
    /// The cluster, by name.
    pub cluster: String,
    /// The workflow, copied, so that a later change to it does not reach a run under way.
    pub workflow: TestWorkflowSpec,
    /// Values for the workflow's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Values for the workflow's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::test_workflow::open_object")]
    pub config: BTreeMap<String, Value>,
    /// Stops it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel: bool,
    /// As the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}

/// Names a run exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReference {
    /// Its namespace on the hub.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a run of the same name made later is another run.
    pub uid: String,
}

/// How an execution goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestExecutionStatus {
    /// `Succeeded`: `Unknown` until it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What is known so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ClusterResult>,
}
