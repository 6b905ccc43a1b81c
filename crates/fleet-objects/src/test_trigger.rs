//! `TestTrigger` and `TestTriggerAssignment`: when a workflow runs by itself, and that in one cluster.
//!
//! A `TestTrigger` is what people write. The hub puts a `TestTriggerAssignment` into the partition of every chosen cluster,
//! where the agent finds it, keeps it on its own disk and judges it there: schedules and watches go on while the hub is
//! away. What fires becomes a `TestRun` at the hub when the agent has told it, once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::test_run::{RunReference, TestTargets, WorkflowReference};
use crate::test_workflow::{TestWorkflowSpec, is_false};

/// Label on a `TestRun` that a trigger started: the trigger's name.
pub const TRIGGER_LABEL: &str = "fleet.fairlead.dev/test-trigger";
/// Annotation on a `TestExecution` that an agent began by itself: the uid that the agent gave it.
pub const AGENT_UID_ANNOTATION: &str = "fleet.fairlead.dev/agent-execution-uid";
/// Finalizer of a trigger: it goes when every agent was told to forget it.
pub const TRIGGER_FINALIZER: &str = "fleet.fairlead.dev/test-trigger";

/// Runs a workflow by itself: by the clock, or when something changes in a cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestTrigger",
    plural = "testtriggers",
    shortname = "tt",
    category = "fleet",
    namespaced,
    status = "TestTriggerStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Clusters","type":"integer","jsonPath":".status.clusters"}"#,
    printcolumn = r#"{"name":"Cron","type":"string","jsonPath":".spec.when.cron"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastFired"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestTriggerSpec {
    /// A workflow of the same namespace; agents get its changes. Exactly one of this and `workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<WorkflowReference>,
    /// The workflow itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<TestWorkflowSpec>,
    /// In which clusters it is judged and runs. Clusters that match later get it too.
    pub targets: TestTargets,
    /// Values for the workflow's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Values for the workflow's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::test_workflow::open_object")]
    pub config: BTreeMap<String, Value>,
    /// When.
    pub when: TriggerWhen,
    /// What happens when it fires while its last run in the same cluster has not ended.
    #[serde(default)]
    pub concurrency: TriggerConcurrency,
    /// Fires nothing while set.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// When a trigger fires: exactly one of `cron` and `resource`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerWhen {
    /// Minute, hour, day, month and weekday, or `@daily` and its like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// IANA name of the time zone of `cron`; UTC unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How late a run may begin that was missed because the agent did not run, like `10m`, which is what holds unless
    /// set. Of several missed ones the latest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<String>,
    /// Something in the cluster changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTrigger>,
}

/// A change of an object of any kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTrigger {
    /// Like `apps/v1`.
    pub api_version: String,
    /// Like `Deployment`.
    pub kind: String,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only the object of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only objects with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Which changes; all three unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<ObjectChange>,
    /// All of these must hold too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldCondition>,
    /// Waits this long after a change, like `30s`, and takes what happens meanwhile together. At once unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ObjectChange {
    /// It was made.
    Created,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// What a field must say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldCondition {
    /// Where, like `spec.template.spec.containers[0].image` or `metadata.labels["app.kubernetes.io/version"]`.
    pub path: String,
    /// How it is compared.
    pub operator: FieldOperator,
    /// With what; not for `Changed`, `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::profile::any_value")]
    pub value: Option<Value>,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FieldOperator {
    /// It has another value than before, or came, or went.
    #[default]
    Changed,
    /// It changed, and is the value now.
    ChangedTo,
    /// It changed, and was the value before.
    ChangedFrom,
    /// It is the value, changed or not.
    Equals,
    /// It is not the value.
    NotEquals,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// When a trigger fires while its last run has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TriggerConcurrency {
    /// Nothing is started.
    #[default]
    Forbid,
    /// Both run.
    Allow,
    /// The last one is cancelled.
    Replace,
}

/// How a trigger is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestTriggerStatus {
    /// The generation of the spec that this status tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: its clusters have it, or will when they connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many clusters have it.
    #[serde(default)]
    pub clusters: u32,
    /// When it fired last in any cluster, as far as the hub has been told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<Time>,
}

/// A trigger's part in one cluster. Made by the hub, judged by the agent, which never writes to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestTriggerAssignment",
    plural = "testtriggerassignments",
    shortname = "tta",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Trigger","type":"string","jsonPath":".spec.trigger.name"}"#,
    printcolumn = r#"{"name":"Withdrawn","type":"boolean","jsonPath":".spec.withdrawn"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestTriggerAssignmentSpec {
    /// The trigger on the hub.
    pub trigger: RunReference,
    /// The cluster, by name.
    pub cluster: String,
    /// Rises with every change; an agent does not go back.
    pub revision: i64,
    /// The workflow, copied.
    pub workflow: TestWorkflowSpec,
    /// Values for the workflow's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Values for the workflow's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::test_workflow::open_object")]
    pub config: BTreeMap<String, Value>,
    /// When.
    pub when: TriggerWhen,
    /// What happens when it fires while its last run has not ended.
    #[serde(default)]
    pub concurrency: TriggerConcurrency,
    /// Fires nothing while set.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// The agent forgets it and says so; only then it goes. An assignment that is merely absent is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub withdrawn: bool,
}

/// A trigger that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldTrigger {
    /// Name of its `TestTriggerAssignment`: `NAMESPACE.NAME` of the trigger.
    pub name: String,
    /// The revision it is held at.
    pub revision: i64,
}

/// What an agent tells about a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TriggerNews {
    /// It fired: an execution was begun. Comes before everything about that execution.
    Fired {
        /// Name of the `TestTriggerAssignment`.
        assignment: String,
        /// What tells this firing from others of the trigger; the same in every cluster for a time of a schedule.
        key: String,
        /// The uid that the agent gave the execution.
        execution_uid: String,
        /// The time of the schedule, or of the change.
        time: Time,
        /// Why, for people.
        cause: String,
    },
    /// It was forgotten, because it was withdrawn.
    Forgotten {
        /// Name of the `TestTriggerAssignment`.
        assignment: String,
    },
}

/// Name of the run of a firing, and of its execution in every cluster: the same whoever reckons it.
#[must_use]
pub fn fired_run_name(trigger: &RunReference, key: &str) -> String {
    let plain = |text: &str, most: usize| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(most).collect()
    };
    let name = plain(&trigger.name.replace('.', "-"), 30);
    let uid = plain(&trigger.uid, 64).replace('-', "");
    let uid: String = uid.chars().take(4).collect();
    format!("{}-{uid}-{}", name.trim_end_matches('-'), plain(key, 16)).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_fired_run_is_the_same_everywhere_and_fits() {
        let trigger = |name: &str, uid: &str| RunReference {
            namespace: "default".into(),
            name: name.into(),
            uid: uid.into(),
        };
        let name = fired_run_name(&trigger("night.ly", "5B0C1E2A-1111"), "28391040");
        assert_eq!(name, "night-ly-5b0c-28391040");
        assert_ne!(name, fired_run_name(&trigger("night.ly", "6b0c1e2a-1111"), "28391040"));
        assert!(fired_run_name(&trigger(&"x".repeat(250), "5b0c"), &"9".repeat(40)).len() <= 63);
    }
}
