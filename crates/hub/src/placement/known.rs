//! What is kept in memory of an assignment. There are some for each of thousands of clusters: what no decision asks for (each
//! object's health, who wrote which field, what is said of a condition that holds) stays in the store.

use api_client::{Cached, ObjectKey};
use fleet_objects::{ANNOTATION_SIGNATURES, Assignment, AssignmentSpec, AssignmentState, Refusal};
use kube::ResourceExt;

/// An assignment, as far as decisions ask for it.
#[derive(Clone, Debug)]
pub(super) struct KnownAssignment {
    /// The partition.
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    pub(super) version: Box<str>,
    /// Whether there is any annotation at all.
    pub(super) is_annotated: bool,
    /// The signatures of the release, as they were handed on.
    pub(super) signatures: Option<Box<str>>,
    pub(super) spec: AssignmentSpec,
    /// `None`: the agent has said nothing yet.
    pub(super) status: Option<KnownStatus>,
}

/// What the agent reported.
#[derive(Clone, Debug)]
pub(super) struct KnownStatus {
    pub(super) observed_generation: i64,
    pub(super) held_deletions: u32,
    pub(super) refusal: Option<Box<Refusal>>,
    conditions: Box<[Known]>,
}

/// Conditions that decisions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Applied,
    Healthy,
    Ready,
    Pruned,
}

#[derive(Clone, Debug)]
struct Known {
    kind: Kind,
    /// `None`: it holds.
    told: Option<Box<Told>>,
}

/// Why a condition does not hold.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) reason: String,
    pub(super) message: String,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "Applied" => Some(Self::Applied),
            "Healthy" => Some(Self::Healthy),
            "Ready" => Some(Self::Ready),
            "Pruned" => Some(Self::Pruned),
            _ => None,
        }
    }
}

impl From<Assignment> for KnownAssignment {
    fn from(assignment: Assignment) -> Self {
        let annotations = assignment.annotations();
        let signatures = annotations.get(ANNOTATION_SIGNATURES).map(|own| own.as_str().into());
        Self {
            is_annotated: !annotations.is_empty(),
            signatures,
            namespace: assignment.namespace().unwrap_or_default().into(),
            name: assignment.name_any().into(),
            uid: assignment.metadata.uid.unwrap_or_default().into(),
            version: assignment.metadata.resource_version.unwrap_or_default().into(),
            spec: assignment.spec,
            status: assignment.status.map(KnownStatus::from),
        }
    }
}

impl From<fleet_objects::AssignmentStatus> for KnownStatus {
    fn from(status: fleet_objects::AssignmentStatus) -> Self {
        let conditions = status.conditions.into_iter().filter_map(|condition| {
            let told = || Box::new(Told { reason: condition.reason, message: condition.message });
            Some(Known {
                kind: Kind::named(&condition.type_)?,
                told: (condition.status != "True").then(told),
            })
        });
        Self {
            conditions: conditions.collect(),
            observed_generation: status.observed_generation,
            held_deletions: status.held_deletion_count,
            refusal: status.refusal.map(Box::new),
        }
    }
}

impl Cached for KnownAssignment {
    fn object_key(&self) -> ObjectKey {
        ObjectKey::new(&*self.namespace, &*self.name)
    }

    fn object_uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn object_version(&self) -> Option<&str> {
        Some(&self.version)
    }
}

impl KnownStatus {
    fn condition(&self, kind: Kind) -> Option<&Known> {
        self.conditions.iter().find(|known| known.kind == kind)
    }

    /// Whether the condition is there and holds.
    pub(super) fn holds(&self, kind: Kind) -> bool {
        self.condition(kind).is_some_and(|known| known.told.is_none())
    }

    /// Why the condition does not hold; `None` where it does, or nothing is said of it.
    pub(super) fn told(&self, kind: Kind) -> Option<&Told> {
        self.condition(kind)?.told.as_deref()
    }
}

impl KnownAssignment {
    /// Whether it says that something should be there.
    pub(super) fn is_present(&self) -> bool {
        self.spec.state == AssignmentState::Present
    }

    /// What the agent reported of this very generation.
    pub(super) fn current(&self) -> Option<&KnownStatus> {
        self.status.as_ref().filter(|status| status.observed_generation == self.spec.generation)
    }

    /// Whether the agent reported everything of this generation applied.
    pub(super) fn is_applied(&self) -> bool {
        self.current().is_some_and(|status| status.holds(Kind::Applied))
    }

    /// Whether the agent reported this generation, a tombstone, carried out.
    pub(super) fn is_pruned(&self) -> bool {
        self.current().is_some_and(|status| status.holds(Kind::Pruned))
    }

    /// Whether the agent reported everything of this generation healthy.
    pub(super) fn is_healthy(&self) -> bool {
        self.current().is_some_and(|status| status.holds(Kind::Applied) && status.holds(Kind::Healthy))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn known(generation: i64, conditions: &[(&str, &str)]) -> KnownAssignment {
        let condition = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status, "reason": "Why", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        let assignment: Assignment = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Assignment",
            "metadata": {"namespace": "cluster-dev", "name": "default.app", "uid": "u", "resourceVersion": "8"},
            "spec": {"profile": {"namespace": "default", "name": "app"}, "generation": generation, "hubEpoch": "e", "state": "Present"},
            "status": {"observedGeneration": 7, "heldDeletionCount": 2, "conditions": conditions},
        }))
        .expect("an assignment");
        assignment.into()
    }

    #[test]
    fn what_was_reported_counts_for_its_generation_and_reasons_are_kept_of_what_does_not_hold() {
        let well = [("Applied", "True"), ("Healthy", "True"), ("Contested", "True")];
        let (now, before) = (known(7, &well), known(8, &well));
        assert!(now.is_applied() && now.is_healthy() && !now.is_pruned());
        assert!(!before.is_applied() && !before.is_healthy() && before.current().is_none());
        let status = now.status.expect("a status");
        assert!(status.told(Kind::Applied).is_none() && status.told(Kind::Ready).is_none());
        assert!(!status.holds(Kind::Ready), "of which nothing is said");
        assert_eq!((status.conditions.len(), status.held_deletions), (2, 2));
        for not in ["False", "Unknown"] {
            let sick = known(7, &[("Applied", "True"), ("Healthy", not)]);
            let told = sick.current().and_then(|status| status.told(Kind::Healthy)).expect("a reason");
            assert_eq!((told.reason.as_str(), told.message.as_str()), ("Why", "m"));
            assert!(sick.is_applied() && !sick.is_healthy());
        }
        assert_eq!(before.object_key(), ObjectKey::new("cluster-dev", "default.app"));
        assert_eq!((before.object_uid(), before.object_version()), (Some("u"), Some("8")));
    }
}
