//! Drift: seen on a watch, repaired at once, unless somebody else repairs it back every time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use agent_protocol::EventSeverity;
use fleet_objects::{Health, ObjectReference};
use fleet_planner::drift::Mode;
use serde_json::Value;

use super::Enforcer;
use super::cluster::{Force, Outcome, describe};
use crate::fingerprint;

impl Enforcer {
    /// An object as it is now.
    pub(super) async fn seen(&mut self, object: Value) {
        let Some(reference) = reference(&object) else { return };
        let Some(name) = self.owners.get(&reference).cloned() else { return };
        let drifted = {
            let Some(active) = self.active.get_mut(&*name) else { return };
            let Some(state) = active.states.get_mut(&reference) else { return };
            let Some(target) = active.targets.get(&reference) else { return };
            active.dirty |= state.observe(target, &object);
            // Not applied yet: the sync deals with it. Going: it is repaired when it is gone.
            let settled = state.fingerprint.is_some() && state.health != Health::Terminating;
            settled && state.fingerprint != Some(target.fingerprint(&object))
        };
        if drifted {
            self.repair(&name, &reference, Some(object)).await;
        }
    }

    /// An object is gone, or out of sight because its label is.
    pub(super) async fn gone(&mut self, reference: &ObjectReference) {
        let Some(name) = self.owners.get(reference).cloned() else { return };
        if let Some(active) = self.active.get_mut(&*name)
            && let Some(state) = active.states.get_mut(reference)
        {
            state.health = Health::Missing;
            state.message = "it is gone".to_owned();
            active.dirty = true;
            if state.fingerprint.is_some() {
                self.repair(&name, reference, None).await;
            }
        }
    }

    /// What a fresh list lacks.
    pub(super) async fn listed(&mut self, kind: &(String, String), objects: &HashSet<ObjectReference>) {
        let of_kind =
            |reference: &&Arc<ObjectReference>| reference.api_version == kind.0 && reference.kind == kind.1;
        let lacking: Vec<_> = self
            .owners
            .keys()
            .filter(of_kind)
            .filter(|reference| !objects.contains(&***reference))
            .cloned()
            .collect();
        for reference in lacking {
            let Some(name) = self.owners.get(&reference).cloned() else { continue };
            let state = self.active.get(&*name).and_then(|active| active.states.get(&reference));
            if state.is_some_and(|state| state.fingerprint.is_some()) {
                self.repair(&name, &reference, None).await;
            }
        }
    }

    /// Repairs that had to wait for a fight to cool down. A fight that is over is no longer told of.
    pub(super) async fn repair_waiting(&mut self) {
        let now = self.now();
        let mut due = Vec::new();
        for (name, active) in &mut self.active {
            for (reference, state) in &mut active.states {
                if state.repair_at.is_some_and(|at| at <= now) {
                    state.repair_at = None;
                    due.push((name.clone(), reference.clone()));
                } else if state.contested.is_some() && state.repair_at.is_none() && state.repairs.is_calm(now)
                {
                    state.contested = None;
                    active.dirty = true;
                }
            }
        }
        for (name, reference) in due {
            self.repair(&name, &reference, None).await;
        }
    }

    /// Applies an object again. The fields are the profile's since it applied them, so they are taken back by force.
    async fn repair(&mut self, name: &str, reference: &ObjectReference, observed: Option<Value>) {
        let began = Instant::now();
        let now = self.now();
        let Some(active) = self.active.get_mut(name) else { return };
        let Some(target) = active.targets.get(reference).cloned() else { return };
        if target.drift.mode == Mode::Detect {
            return self.detect(name, &target, observed).await;
        }
        if target.drift.mode == Mode::CreateOnly && observed.is_some() {
            return;
        }
        let Some(state) = active.states.get_mut(reference) else { return };
        let wait = state.repairs.wait(now);
        if !wait.is_zero() {
            state.repair_at = Some(now + wait);
            return;
        }
        let (before, uid) = (state.fingerprint, state.uid.clone());
        let manager = active.manager.clone();
        let outcome = self.cluster.acting_for(name).apply(&target, &manager, Force::Yes).await;
        let Some(active) = self.active.get_mut(name) else { return };
        let Some(state) = active.states.get_mut(reference) else { return };
        active.dirty = true;
        let object = match outcome {
            Outcome::Applied(object) => object,
            Outcome::Rejected(problem) | Outcome::Forbidden(problem) | Outcome::Later(problem) => {
                state.error = Some(active.secrets.scrub(problem));
                active.due = Some(Instant::now() + std::time::Duration::from_secs(1));
                return;
            }
        };
        let after = target.fingerprint(&object);
        let new_uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        let recreated = uid != new_uid;
        // Whether our apply changed anything: against what was seen or, when nothing was, against what we left.
        let changed = match &observed {
            Some(observed) => target.fingerprint(observed) != after,
            None => recreated || before != Some(after),
        };
        state.error = None;
        state.fingerprint = Some(after);
        state.uid = new_uid;
        state.observe(&target, &object);
        if !changed && !recreated {
            return;
        }
        active.repairs += 1;
        let writer = observed.as_ref().and_then(|observed| fingerprint::other_writer(observed, &manager));
        let fight = state.repairs.note(now);
        state.contested =
            if fight { Some(writer.clone().unwrap_or_else(|| "somebody".to_owned())) } else { None };
        let what = if recreated { "was deleted" } else { "was changed" };
        let by = writer.map_or_else(String::new, |writer| format!(" by {writer}"));
        let (severity, reason, message) = if fight {
            let wait = state.repairs.wait(now).as_secs();
            let message = format!(
                "{} {what}{by} again and again; two writers fight over it, the next repair waits {wait} s",
                describe(reference)
            );
            (EventSeverity::Warning, "Contested", message)
        } else {
            let took = began.elapsed().as_millis();
            (
                EventSeverity::Normal,
                "DriftRepaired",
                format!("{} {what}{by}; repaired in {took} ms", describe(reference)),
            )
        };
        tracing::info!(assignment = name, "{message}");
        self.event(severity, reason, message, name, Some(reference.clone())).await;
    }
}

fn reference(object: &Value) -> Option<ObjectReference> {
    Some(ObjectReference {
        api_version: object["apiVersion"].as_str()?.to_owned(),
        kind: object["kind"].as_str()?.to_owned(),
        namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
        name: object["metadata"]["name"].as_str()?.to_owned(),
    })
}
