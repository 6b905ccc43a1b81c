//! `AlertRule`, `AlertReceiver` and `AlertSilence`: what of the fleet people want to be told of, how, and when not.
//!
//! The hub judges rules by what it holds; agents have told it already. What is firing stands in the rule's status, so that
//! a hub that starts again tells nothing twice but what it had not written down.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::placement::ClusterSelector;

/// Alerts of one rule that are followed, some 500 bytes each; more are counted.
pub const MAX_ALERTS: usize = 200;
/// Receivers of one rule.
pub const MAX_RECEIVERS: usize = 10;

/// What people want to be told of.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "AlertRule",
    plural = "alertrules",
    shortname = "ar",
    category = "fleet",
    status = "AlertRuleStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"On","type":"string","jsonPath":".spec.on"}"#,
    printcolumn = r#"{"name":"For-Seconds","type":"integer","jsonPath":".spec.forSeconds"}"#,
    printcolumn = r#"{"name":"Severity","type":"string","jsonPath":".spec.severity"}"#,
    printcolumn = r#"{"name":"Firing","type":"integer","jsonPath":".status.firing"}"#,
    printcolumn = r#"{"name":"Pending","type":"integer","jsonPath":".status.pending"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","priority":1,"jsonPath":".status.problem"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AlertRuleSpec {
    /// What has to be so.
    pub on: AlertCondition,
    /// Only these clusters; all unless set. For rollouts, which are of no one cluster, it is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterSelector>,
    /// How long it has to be so before it is told; at once unless set.
    #[serde(default)]
    pub for_seconds: u32,
    /// With `CertificateExpiring`: how long before its end; six hours unless set.
    #[serde(default = "six_hours")]
    pub within_seconds: u32,
    /// With `PolicyViolation`: only of these policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// How grave.
    #[serde(default)]
    pub severity: AlertSeverity,
    /// Labels of its alerts besides `alertname`, `condition`, `cluster`, `severity` and what it is about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// AlertReceivers by name, at most 10. Without any the alert is only shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<String>,
    /// While it stays so it is told again after this; not at all unless set. Alertmanagers, which forget, are told every
    /// minute whatever this says.
    #[serde(default)]
    pub repeat_seconds: u32,
    /// Looks at nothing while set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

fn six_hours() -> u32 {
    6 * 3600
}

/// What an alert is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AlertCondition {
    /// A cluster's agent is not connected.
    #[default]
    ClusterOffline,
    /// A cluster's agent is connected and the cluster is not ready.
    ClusterNotReady,
    /// A profile cannot be applied, or is not healthy.
    AssignmentFailed,
    /// Two writers fight over an object.
    DriftFight,
    /// Deletions wait for a person.
    DeletionsHeld,
    /// A rollout was halted or rolled back.
    RolloutFailed,
    /// An agent's certificate ends soon and was not renewed.
    CertificateExpiring,
    /// Objects break a policy.
    PolicyViolation,
    /// An agent's outbox has no room, or had to drop records within the last hour.
    RecordsDropped,
}

/// How grave an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// For the record.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody should look now.
    Critical,
}

impl AlertSeverity {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a rule found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertRuleStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Alerts that fire.
    #[serde(default)]
    pub firing: u32,
    /// Alerts that do not yet.
    #[serde(default)]
    pub pending: u32,
    /// The alerts; at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Alerts beyond those, which nobody is told of.
    #[serde(default)]
    pub omitted: u32,
    /// What is wrong with the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Something that is so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What tells it from others: a digest of its labels.
    pub fingerprint: String,
    /// Whether it fires.
    pub state: AlertState,
    /// What it is about, for programs.
    pub labels: BTreeMap<String, String>,
    /// What is so, for people.
    pub message: String,
    /// Since when it is so.
    pub since: Time,
    /// When it began to fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Time>,
    /// When it ceased to be so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Time>,
    /// The silence under which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_by: Option<String>,
    /// What receivers were told, by their name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, Told>,
}

/// Whether an alert fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertState {
    /// It is so, but not for long enough.
    #[default]
    Pending,
    /// It is so.
    Firing,
    /// It is so no more; receivers are still to be told.
    Resolved,
}

/// What a receiver was told of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// That it fires, or that it is resolved.
    pub state: AlertState,
    /// Whether it arrived; otherwise it was given up.
    pub delivered: bool,
    /// Where it was given up: the receiver as it was then, its uid and generation, and uid and version of the Secret it names.
    /// Another one is tried at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    /// When.
    pub time: Time,
}

/// Whom to tell: exactly one of `webhook`, `alertmanager` and `email`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "AlertReceiver",
    plural = "alertreceivers",
    category = "fleet",
    status = "AlertReceiverStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Delivering","type":"string","jsonPath":".status.conditions[?(@.type==\"Delivering\")].status"}"#,
    printcolumn = r#"{"name":"Delivered","type":"integer","jsonPath":".status.delivered"}"#,
    printcolumn = r#"{"name":"Given-Up","type":"integer","jsonPath":".status.givenUp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Delivering\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AlertReceiverSpec {
    /// Any server, in the form of Alertmanager's webhooks (version 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReceiver>,
    /// An Alertmanager, by its v2 API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerReceiver>,
    /// People, by mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailReceiver>,
}

/// A server that is posted to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookReceiver {
    /// Where to, `https://` or `http://`. Redirections are not followed.
    pub url: String,
    /// Headers sent besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A key of a Secret in `fairlead-system` that signs what is sent, as Standard Webhooks does (HMAC-SHA256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
    /// Authorities of the server as PEM; those that the hub's machine trusts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// An Alertmanager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertmanagerReceiver {
    /// Its base, like `http://alertmanager:9093`.
    pub url: String,
    /// Headers sent besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A key of a Secret in `fairlead-system`, sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKey>,
    /// Authorities of the server as PEM; those that the hub's machine trusts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// People who get mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailReceiver {
    /// The mail server, like `mail.example.com:587`.
    pub server: String,
    /// How the way there is secured.
    #[serde(default)]
    pub tls: MailTls,
    /// Who writes, like `Fleet <fleet@example.com>`.
    pub from: String,
    /// Who is written to; at most 50.
    pub to: Vec<String>,
    /// As whom to log in; nobody logs in unless set. Never sent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A key of a Secret in `fairlead-system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
    /// Authorities of the server as PEM; those that the hub's machine trusts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How the way to a mail server is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MailTls {
    /// The server is asked for TLS before anything is said (port 587).
    #[default]
    StartTls,
    /// TLS from the first byte (port 465).
    Tls,
    /// Not at all.
    None,
}

/// A key of a Secret in the hub's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// How a receiver does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertReceiverStatus {
    /// `Delivering`: whether the last delivery arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Deliveries that arrived.
    #[serde(default)]
    pub delivered: u64,
    /// Deliveries that were given up.
    #[serde(default)]
    pub given_up: u64,
}

/// Alerts of which nobody is told for a time. They are shown as silenced.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "AlertSilence",
    plural = "alertsilences",
    category = "fleet",
    status = "AlertSilenceStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Starts","type":"string","jsonPath":".spec.startsAt"}"#,
    printcolumn = r#"{"name":"Ends","type":"string","jsonPath":".spec.endsAt"}"#,
    printcolumn = r#"{"name":"Alerts","type":"integer","jsonPath":".status.alerts"}"#,
    printcolumn = r#"{"name":"By","type":"string","jsonPath":".spec.createdBy"}"#,
    printcolumn = r#"{"name":"Comment","type":"string","jsonPath":".spec.comment"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AlertSilenceSpec {
    /// Labels that an alert must have, all of them; at least one. A value `*` is any.
    pub match_labels: BTreeMap<String, String>,
    /// When it begins; at once unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Time>,
    /// When it ends.
    pub ends_at: Time,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Who says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// What a silence does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSilenceStatus {
    /// Alerts under it.
    #[serde(default)]
    pub alerts: u32,
}
