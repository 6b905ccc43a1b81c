//! Drift that is only told: the object stays as others made it until the profile changes.

use agent_protocol::EventSeverity;
use serde_json::Value;

use super::Enforcer;
use super::cluster::{Force, Outcome, Target, describe};
use crate::fingerprint;

impl Enforcer {
    /// Judges what somebody made of an object, by asking the cluster what our apply would change. Told once per
    /// difference.
    pub(super) async fn detect(&mut self, name: &str, target: &Target, observed: Option<Value>) {
        let reference = &target.reference;
        let Some(active) = self.active.get(name) else { return };
        let manager = active.manager.clone();
        let (drifted, seen) = match &observed {
            None => (Some("it is gone".to_owned()), None),
            Some(observed) => {
                let cluster = self.cluster.acting_for(name);
                let wanted = match cluster.preflight(target, &manager, Force::Yes, true).await {
                    Outcome::Applied(wanted) if !wanted.is_null() => wanted,
                    // Looked at again with the next change.
                    _ => return,
                };
                let seen = target.fingerprint(observed);
                let writer = fingerprint::other_writer(observed, &manager);
                let by = writer.map_or_else(String::new, |writer| format!(" by {writer}"));
                let differs = target.fingerprint(&wanted) != seen;
                (differs.then(|| format!("it was changed{by}")), Some(seen))
            }
        };
        let Some(active) = self.active.get_mut(name) else { return };
        let Some(state) = active.states.get_mut(reference) else { return };
        if seen.is_some() {
            state.fingerprint = seen;
        }
        if state.drifted == drifted {
            return;
        }
        state.drifted.clone_from(&drifted);
        active.dirty = true;
        let (severity, reason, message) = match drifted {
            Some(how) => (
                EventSeverity::Warning,
                "DriftDetected",
                format!("{}: {how}; it is only watched", describe(reference)),
            ),
            None => (
                EventSeverity::Normal,
                "DriftEnded",
                format!("{} is as the profile has it", describe(reference)),
            ),
        };
        tracing::info!(assignment = name, "{message}");
        self.event(severity, reason, message, name, Some((**reference).clone())).await;
    }
}
