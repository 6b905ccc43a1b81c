//! What the enforcer knows of one assignment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_objects::{AssignmentStatus, ConflictPolicy, Health, ObjectReference};
use serde_json::Value;

use super::cluster::{Target, Targets};
use super::secrets::Secrets;
use crate::fingerprint::Fingerprint;
use crate::flap::Repairs;
use crate::vault::{Accepted, Progress};

/// An assignment under enforcement.
pub(super) struct Active {
    /// The field manager its objects are applied under.
    pub(super) manager: String,
    /// The label its objects carry.
    pub(super) label: String,
    pub(super) accepted: Accepted,
    pub(super) progress: Progress,
    /// Whether targets of `progress.enforced` are loaded.
    pub(super) loaded: bool,
    pub(super) conflicts: ConflictPolicy,
    /// What should be there.
    pub(super) targets: Targets,
    /// The namespace of objects that name none; made when it is missing.
    pub(super) target_namespace: Option<String>,
    /// The names of its layers, but for the first.
    pub(super) layers: Vec<String>,
    /// What a layer or the whole generation waits for: something before it that is not healthy.
    pub(super) waits: Option<String>,
    /// What was read for its secret variables.
    pub(super) secrets: Secrets,
    /// How each target is.
    pub(super) states: BTreeMap<Arc<ObjectReference>, State>,
    /// Why the accepted generation is not enforced, if so.
    pub(super) problem: Option<String>,
    /// Whether that is because the cluster's owner does not allow it.
    pub(super) forbidden: bool,
    /// What keeps the accepted generation from beginning: no maintenance window is open, or the cluster's owner holds it.
    pub(super) closed: Option<Closed>,
    /// Deletions that wait for a person, with the reason.
    pub(super) held: Option<(Vec<ObjectReference>, String)>,
    /// When the budget of deletions may have room again for what is held.
    pub(super) budget_wait: Option<Duration>,
    /// Deletions that are booked on the budget already.
    pub(super) paid: Vec<ObjectReference>,
    /// Deletions begun and not finished.
    pub(super) deleting: usize,
    /// Repairs since the agent started.
    pub(super) repairs: u64,
    /// When to sync again.
    pub(super) due: Option<Instant>,
    pub(super) failures: u32,
    /// Whether the report may have changed.
    pub(super) dirty: bool,
    pub(super) reported: Option<AssignmentStatus>,
}

/// Why a generation does not begin yet.
pub(super) struct Closed {
    /// Of the condition.
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// When to look again.
    pub(super) wait: Duration,
}

/// How one object is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) health: Health,
    pub(super) message: String,
    /// Why it could not be applied.
    pub(super) error: Option<String>,
    /// Of the object as our last apply left it.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) uid: Option<String>,
    pub(super) repairs: Repairs,
    /// The other writer, in a fight.
    pub(super) contested: Option<String>,
    /// How it differs from the profile, where that is only told.
    pub(super) drifted: Option<String>,
    /// A repair waits for this moment (since the enforcer's start).
    pub(super) repair_at: Option<Duration>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            health: Health::Unknown,
            message: String::new(),
            error: None,
            fingerprint: None,
            uid: None,
            repairs: Repairs::default(),
            contested: None,
            drifted: None,
            repair_at: None,
        }
    }
}

impl State {
    /// Takes over what the API server shows.
    pub(super) fn observe(&mut self, target: &Target, object: &Value) -> bool {
        let (health, message) = target.judge(object);
        let changed = (self.health, &self.message) != (health, &message);
        (self.health, self.message) = (health, message);
        changed
    }
}

impl Active {
    pub(super) fn new(name: &str, accepted: Accepted, progress: Progress) -> Self {
        Self {
            manager: fleet_objects::field_manager(name),
            label: fleet_objects::assignment_label_value(name),
            accepted,
            progress,
            loaded: false,
            conflicts: ConflictPolicy::Report,
            target_namespace: None,
            targets: BTreeMap::new(),
            layers: Vec::new(),
            waits: None,
            secrets: Secrets::default(),
            states: BTreeMap::new(),
            problem: None,
            forbidden: false,
            closed: None,
            held: None,
            budget_wait: None,
            paid: Vec::new(),
            deleting: 0,
            repairs: 0,
            due: Some(Instant::now()),
            failures: 0,
            dirty: true,
            reported: None,
        }
    }

    /// Whether an apply of this object ever succeeded.
    pub(super) fn was_applied(&self, object: &ObjectReference) -> bool {
        self.progress.inventory.iter().any(|item| item.object == *object && item.applied)
    }

    /// Whether this very object was the last that was applied under its name.
    pub(super) fn was_applied_as(&self, target: &Target) -> bool {
        let mut items = self.progress.inventory.iter();
        items.any(|item| {
            item.object == *target.reference && item.applied && item.digest == Some(target.manifest.digest())
        })
    }

    /// Whether a person confirmed the deletions of the accepted generation.
    pub(super) fn confirmed(&self) -> bool {
        self.accepted.confirmed == Some(self.accepted.spec.generation)
    }
}
