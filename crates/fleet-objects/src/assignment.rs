//! What one cluster is told to hold: small, numbered, naming content by digest.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::ConditionChange;
use crate::rollout::MaintenanceWindow;

/// One profile for one cluster. Written by the hub alone; lives in the cluster's partition.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Assignment",
    plural = "assignments",
    category = "fleet",
    namespaced,
    status = "AssignmentStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".spec.state"}"#,
    printcolumn = r#"{"name":"Generation","type":"integer","jsonPath":".spec.generation"}"#,
    printcolumn = r#"{"name":"Observed","type":"integer","jsonPath":".status.observedGeneration"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Applied","type":"string","jsonPath":".status.conditions[?(@.type==\"Applied\")].status"}"#,
    printcolumn = r#"{"name":"Healthy","type":"string","jsonPath":".status.conditions[?(@.type==\"Healthy\")].status"}"#,
    printcolumn = r#"{"name":"Objects","type":"integer","jsonPath":".status.objectCount"}"#,
    printcolumn = r#"{"name":"Repairs","type":"integer","jsonPath":".status.repairs"}"#,
    printcolumn = r#"{"name":"Held","type":"integer","jsonPath":".status.heldDeletionCount"}"#,
    printcolumn = r#"{"name":"Refused","type":"string","priority":1,"jsonPath":".status.refusal.message"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentSpec {
    /// The profile.
    pub profile: ProfileReference,
    /// The placement that chose the cluster, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Grows with every change, within the cluster's partition; never reused.
    pub generation: i64,
    /// The epoch of the hub that issued this generation.
    pub hub_epoch: String,
    /// The last generation of another epoch that the hub knew of when it began its own. Shows the agent that a hub with
    /// a new epoch continues what the agent holds; without it the agent refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<GenerationMark>,
    /// Whether the content should be there.
    pub state: AssignmentState,
    /// What should be there; needed unless the state is Tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentReference>,
    /// Every variable with its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::profile::any_map")]
    pub variables: BTreeMap<String, Value>,
    /// When the agent may begin to carry this generation out, by its own clock; at once when empty. Until then what it
    /// held before stays enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// Names a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ProfileReference {
    /// Its namespace on the hub.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A generation within an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationMark {
    /// The epoch.
    pub hub_epoch: String,
    /// The generation.
    pub generation: i64,
}

/// Whether content should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AssignmentState {
    /// Apply and enforce it.
    Present,
    /// Remove it: the only thing that ever makes an agent delete a whole profile.
    Tombstone,
}

/// Content by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContentReference {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// What the agent reported last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentStatus {
    /// The newest generation the agent took over. Behind `spec.generation`: not yet seen, or refused.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Applied`, `Healthy`, `Ready`, and for a tombstone `Pruned`. All are about `observedGeneration`, but that `Ready` is
    /// False as well while a newer one is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Objects managed.
    #[serde(default)]
    pub object_count: u32,
    /// Of these, healthy.
    #[serde(default)]
    pub healthy_count: u32,
    /// At most 200, the least healthy first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectStatus>,
    /// How often drift was repaired since the agent started.
    #[serde(default)]
    pub repairs: u64,
    /// Deletions that wait for the annotation `fleet.fairlead.dev/confirm-deletions`; at most 50 are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_deletions: Vec<ObjectReference>,
    /// How many deletions wait.
    #[serde(default)]
    pub held_deletion_count: u32,
    /// Why the agent does not follow the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Names an object in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace; none for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// How one object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectStatus {
    /// Which.
    #[serde(flatten)]
    pub object: ObjectReference,
    /// How it is.
    pub health: Health,
    /// Why, when it is not healthy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How an object is, by the kstatus rules. The order is from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Health {
    /// It failed and will not recover by waiting, or it could not be applied.
    Failed,
    /// It should be there and is not.
    Missing,
    /// On its way.
    Progressing,
    /// Being deleted.
    Terminating,
    /// Not judged yet.
    Unknown,
    /// As it should be.
    Healthy,
}

/// The reason of `Applied=False` while an agent waits for a maintenance window.
pub const OUTSIDE_WINDOW: &str = "OutsideMaintenanceWindow";

/// The reason of `Applied=False` (of a tombstone `Pruned=False`) while the cluster's owner holds changes.
pub const HELD_BY_OWNER: &str = "HeldByOwner";

/// Why an agent does not follow the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// For programs.
    pub reason: RefusalReason,
    /// For people.
    pub message: String,
    /// The generation refused; 0 when the assignment is absent.
    #[serde(default)]
    pub generation: i64,
}

impl Refusal {
    /// What is said of an assignment as a whole while a generation of it waits, like one for a Secret that the hub does not
    /// have: it is not ready, however well the one before is enforced, whose other conditions stay. None: the refusal is
    /// not about a newer generation than `held`, but about the hub.
    #[must_use]
    pub fn not_ready(&self, held: Option<i64>) -> Option<ConditionChange<'static>> {
        let waits = matches!(self.reason, RefusalReason::ContentInvalid | RefusalReason::Forbidden);
        if !waits || held.is_some_and(|held| self.generation <= held) {
            return None;
        }
        let mut message = format!("generation {} is not taken over: {}", self.generation, self.message);
        if let Some(held) = held {
            message.push_str(&format!("; generation {held} stays enforced"));
        }
        Some(ConditionChange {
            kind: "Ready",
            status: Some(false),
            reason: REFUSED,
            message,
            observed_generation: held,
        })
    }
}

/// The reason of `Ready=False` while an agent does not take over the newest generation.
pub const REFUSED: &str = "Refused";

/// Why an agent does not follow the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefusalReason {
    /// The hub offers an older generation than the agent holds.
    GenerationRegressed,
    /// The same generation with other content.
    GenerationReused,
    /// Another epoch that does not show that it continues what the agent holds.
    EpochChanged,
    /// The hub no longer lists what the agent holds, and sent no tombstone.
    Absent,
    /// The content could not be fetched, read or rendered.
    ContentInvalid,
    /// The cluster's owner does not allow it: the ceiling, the roles of the profile's identity, or the keys pinned for
    /// releases.
    Forbidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_not_ready_and_what_is_about_the_hub_says_nothing_of_it() {
        let refusal = |reason, generation| Refusal { reason, message: "no secret".to_owned(), generation };
        let waits = refusal(RefusalReason::ContentInvalid, 4);
        let change = waits.not_ready(Some(3)).expect("a newer generation waits");
        assert_eq!((change.kind, change.status, change.observed_generation), ("Ready", Some(false), Some(3)));
        assert_eq!(change.message, "generation 4 is not taken over: no secret; generation 3 stays enforced");
        assert_eq!(
            waits.not_ready(None).expect("nothing is held").message,
            "generation 4 is not taken over: no secret"
        );
        assert!(waits.not_ready(Some(4)).is_none() && waits.not_ready(Some(5)).is_none());
        for reason in [RefusalReason::GenerationRegressed, RefusalReason::EpochChanged, RefusalReason::Absent]
        {
            assert!(refusal(reason, 4).not_ready(Some(3)).is_none(), "{reason:?}");
        }
    }
}
