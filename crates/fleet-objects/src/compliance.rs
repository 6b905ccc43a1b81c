//! `ComplianceReport`: what policies say of one cluster, now and lately.
//!
//! The agent judges the objects of its cluster and tells what it found; the hub keeps the newest state of each cluster and
//! what changed. Only the hub writes these objects, into the cluster's partition, under the cluster's name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::assignment::ObjectReference;

/// Policies of one cluster at most: an agent names no more, and a hub takes no more.
pub const MAX_POLICIES: usize = 100;
/// Violations of one cluster that are listed: with [`MAX_MESSAGE`] some 60 kB at the very most. All are counted.
pub const MAX_VIOLATIONS: usize = 100;
/// Bytes of a violation's message.
pub const MAX_MESSAGE: usize = 256;
/// Changes of one cluster that are kept, some 200 bytes each.
pub const MAX_HISTORY: usize = 100;

/// What policies say of a cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "ComplianceReport",
    plural = "compliancereports",
    shortname = "compliance",
    category = "fleet",
    namespaced,
    status = "ComplianceReportStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Policies","type":"integer","jsonPath":".status.policyCount"}"#,
    printcolumn = r#"{"name":"Pass","type":"integer","jsonPath":".status.counts.pass"}"#,
    printcolumn = r#"{"name":"Fail","type":"integer","jsonPath":".status.counts.fail"}"#,
    printcolumn = r#"{"name":"Error","type":"integer","jsonPath":".status.counts.error"}"#,
    printcolumn = r#"{"name":"Reported","type":"date","jsonPath":".status.reported"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","priority":1,"jsonPath":".status.problem"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ComplianceReportSpec {
    /// Whose it is.
    pub cluster: String,
}

/// What the agent found, and what changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComplianceReportStatus {
    /// When the agent told it, by the agent's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Time>,
    /// Which of the agent's records said so: the life of its outbox and the number in it. What is not newer is not taken
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordMark>,
    /// How many policies judge objects there.
    #[serde(default)]
    pub policy_count: u32,
    /// The newest state.
    #[serde(flatten)]
    pub state: ComplianceState,
    /// What changed, oldest first; the newest 100 changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<ComplianceChange>,
    /// Older changes that are not listed any more.
    #[serde(default)]
    pub history_omitted: u64,
}

/// A record of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordMark {
    /// The life of the agent's outbox.
    pub agent_epoch: String,
    /// The record's number in it.
    pub sequence: u64,
}

/// What policies say of a cluster's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComplianceState {
    /// Over all policies.
    #[serde(default)]
    pub counts: ResultCounts,
    /// Each policy, by name; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyCompliance>,
    /// What is wrong, by policy and object; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<PolicyViolation>,
    /// Violations that are counted and not listed.
    #[serde(default)]
    pub violations_omitted: u64,
    /// Objects that could not be judged: more than the agent's bound, or in a namespace that is going.
    #[serde(default)]
    pub unjudged: u64,
    /// What keeps the agent from judging all it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Objects by what a policy says of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultCounts {
    /// They comply.
    #[serde(default)]
    pub pass: u64,
    /// They break it.
    #[serde(default)]
    pub fail: u64,
    /// Whether they do could not be found out.
    #[serde(default)]
    pub error: u64,
}

/// One policy in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCompliance {
    /// Its name, or `pod-security` for the Pod Security Standards.
    pub policy: String,
    /// The profile that brought it, as `namespace.name`, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Objects it judged.
    #[serde(default)]
    pub counts: ResultCounts,
}

/// How an object does not comply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ViolationResult {
    /// It breaks the policy.
    Fail,
    /// Whether it does could not be found out.
    Error,
}

/// An object that breaks a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyViolation {
    /// Which policy.
    pub policy: String,
    /// Which part of it: `validations[0]`, `restricted:latest`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// How it does not comply.
    pub result: ViolationResult,
    /// The object.
    pub object: ObjectReference,
    /// Why, in the policy's words; at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the policy's bindings do about it on admission: `Deny`, `Warn`, `Audit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
}

/// A change of what a policy says of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComplianceChange {
    /// When the agent saw it, by the agent's clock.
    pub time: Time,
    /// Which policy.
    pub policy: String,
    /// Before; `None`: the policy is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ResultCounts>,
    /// After; `None`: the policy is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ResultCounts>,
}

impl ComplianceState {
    /// Cuts it to the bounds, whoever made it. What is cut off is counted.
    pub fn bound(&mut self) {
        self.policies.truncate(MAX_POLICIES);
        let omitted = self.violations.len().saturating_sub(MAX_VIOLATIONS);
        self.violations.truncate(MAX_VIOLATIONS);
        self.violations_omitted = self.violations_omitted.saturating_add(omitted as u64);
        for violation in &mut self.violations {
            cut(&mut violation.message);
            cut(&mut violation.policy);
            cut(&mut violation.rule);
            cut(&mut violation.object.name);
            violation.actions.truncate(3);
        }
        for policy in &mut self.policies {
            cut(&mut policy.policy);
            policy.profile.iter_mut().for_each(cut);
        }
        self.problem.iter_mut().for_each(cut);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_compliant(&self) -> bool {
        self.counts.fail == 0 && self.counts.error == 0
    }
}

/// Cuts a text to [`MAX_MESSAGE`] bytes.
pub fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
}

impl ComplianceReportStatus {
    /// Takes a newer state and notes what changed; older changes go when there are too many. A policy whose numbers of
    /// failures and errors stay is no change.
    pub fn take(&mut self, mut state: ComplianceState, time: &Time) {
        state.bound();
        let of = |state: &ComplianceState, name: &str| {
            state.policies.iter().find(|policy| policy.policy == name).map(|policy| policy.counts)
        };
        let wrong = |counts: Option<ResultCounts>| counts.map(|counts| (counts.fail, counts.error));
        let names = self.state.policies.iter().chain(&state.policies).map(|policy| &policy.policy);
        let names: std::collections::BTreeSet<&String> = names.collect();
        for name in names {
            let (before, after) = (of(&self.state, name), of(&state, name));
            if wrong(before) != wrong(after) {
                let policy = name.clone();
                self.history.push(ComplianceChange { time: time.clone(), policy, before, after });
            }
        }
        let omitted = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..omitted);
        self.history_omitted = self.history_omitted.saturating_add(omitted as u64);
        self.policy_count = u32::try_from(state.policies.len()).unwrap_or(u32::MAX);
        self.reported = Some(time.clone());
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(policies: &[(&str, u64, u64)]) -> ComplianceState {
        let policy = |(name, pass, fail): &(&str, u64, u64)| PolicyCompliance {
            policy: (*name).to_owned(),
            profile: None,
            counts: ResultCounts { pass: *pass, fail: *fail, error: 0 },
        };
        ComplianceState { policies: policies.iter().map(policy).collect(), ..ComplianceState::default() }
    }

    #[test]
    fn history_notes_what_got_better_or_worse_and_is_bounded() {
        let time: Time = serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap();
        let mut status = ComplianceReportStatus::default();
        status.take(state(&[("a", 1, 0), ("b", 1, 1)]), &time);
        assert_eq!(status.history.len(), 2, "both are new");
        status.take(state(&[("a", 5, 0), ("b", 1, 1)]), &time);
        assert_eq!(status.history.len(), 2, "more that pass is no change");
        status.take(state(&[("b", 1, 2)]), &time);
        let last: Vec<_> =
            status.history[2..].iter().map(|one| (one.policy.as_str(), one.after.is_some())).collect();
        assert_eq!(last, [("a", false), ("b", true)]);
        for count in 0..200 {
            status.take(state(&[("b", 0, count % 2)]), &time);
        }
        assert_eq!(status.history.len(), MAX_HISTORY);
        assert!(status.history_omitted > 90);
    }

    #[test]
    fn a_state_is_cut_to_its_bounds_and_says_so() {
        let violation = PolicyViolation {
            policy: "p".to_owned(),
            rule: String::new(),
            result: ViolationResult::Fail,
            object: ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespace: None,
                name: "x".to_owned(),
            },
            message: "ä".repeat(1000),
            actions: Vec::new(),
        };
        let mut state = ComplianceState { violations: vec![violation; 150], ..ComplianceState::default() };
        state.bound();
        assert_eq!((state.violations.len(), state.violations_omitted), (MAX_VIOLATIONS, 50));
        assert!(state.violations[0].message.len() <= MAX_MESSAGE);
    }
}
