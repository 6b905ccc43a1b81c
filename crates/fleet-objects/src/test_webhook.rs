//! `TestWebhook`: who outside the fleet is told when test runs begin and end.
//!
//! Each event of a run is told once, under an id that follows from hook, run and event; a receiver that sees an id again saw
//! a repetition after a crash. What came of it stands in the run's status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::test_workflow::is_false;

/// Tells a server about test runs of the same namespace, over HTTP.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "TestWebhook",
    plural = "testwebhooks",
    shortname = "twh",
    category = "fleet",
    namespaced,
    status = "TestWebhookStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"Delivering","type":"string","jsonPath":".status.conditions[?(@.type==\"Delivering\")].status"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.last.time"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TestWebhookSpec {
    /// Where to, `https://` or `http://`. Redirections are not followed.
    pub url: String,
    /// What is told; `start` and `end` unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<WebhookEvent>,
    /// Only of runs of these workflows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workflows: Vec<String>,
    /// Only of runs with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// In what form; a CDEvent unless set.
    #[serde(default)]
    pub format: WebhookFormat,
    /// With `format: Template`, the JSON document that is sent; expressions in its texts see `event` and `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::profile::any_value")]
    pub body: Option<Value>,
    /// Headers sent besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A key of a Secret of the namespace that signs what is sent, as Standard Webhooks does (HMAC-SHA256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<WebhookSecret>,
    /// Authorities of the server as PEM; those that the hub's machine trusts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Tells nothing while set; what happens meanwhile is told afterwards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// What happens to a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookEvent {
    /// It began in the first cluster.
    Start,
    /// It ended, however.
    #[default]
    End,
    /// It passed.
    EndPassed,
    /// It failed, timed out or could not run.
    EndFailed,
    /// It failed, and the workflow's run before it did not.
    BecomeFailed,
    /// It passed, and the workflow's run before it failed.
    BecomePassed,
}

/// The form of what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WebhookFormat {
    /// A CDEvent in a CloudEvent.
    #[default]
    CDEvents,
    /// What templates see, as it stands.
    Json,
    /// `body`.
    Template,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecret {
    /// The Secret, in the webhook's namespace.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// How a webhook does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestWebhookStatus {
    /// `Delivering`: whether the last delivery arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last one that arrived or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<WebhookDelivery>,
}

/// What came of telling one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery {
    /// The webhook, by name.
    pub webhook: String,
    /// What was told.
    pub event: WebhookEvent,
    /// Whether it arrived; otherwise it was given up.
    pub delivered: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// When that was known.
    pub time: Time,
    /// What the server answered, or why there was no answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
