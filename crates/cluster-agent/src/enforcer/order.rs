//! What comes before what: layers of a profile, and profiles that others depend on.

use fleet_objects::{AssignmentSpec, AssignmentState, Health, ObjectReference};
use fleet_planner::bundle::Bundle;
use fleet_planner::render::PHASES;

use super::active::{Active, State};
use super::cluster::describe;
use super::{Enforcer, same_state};
use crate::error::Error;

impl Enforcer {
    /// What a generation has to wait for before anything of it is done: profiles that it depends on. A bundle that cannot
    /// be read waits for nothing; it is told when it is made ready.
    pub(super) async fn waits_for(&self, spec: &AssignmentSpec) -> Result<Option<String>, Error> {
        let Some(content) = &spec.content else { return Ok(None) };
        let Some(bytes) = self.vault.content(&content.digest).await? else { return Ok(None) };
        let Ok(bundle) = Bundle::decode(&bytes) else { return Ok(None) };
        let why = |name: &String| Some(format!("waits for profile {name}: {}", self.lacks(name)?));
        Ok(bundle.depends_on.iter().find_map(why))
    }

    /// Why an assignment is nothing to build on yet.
    fn lacks(&self, name: &str) -> Option<String> {
        let Some(active) = self.active.get(name) else {
            return Some("this cluster does not have it".to_owned());
        };
        if active.accepted.spec.state == AssignmentState::Tombstone {
            return Some("it is being removed".to_owned());
        }
        let enforced = active.progress.enforced.as_ref();
        let current = enforced.is_some_and(|enforced| same_state(enforced, &active.accepted));
        if !current || active.waits.is_some() {
            return Some("its newest generation is not applied yet".to_owned());
        }
        active.states.iter().find_map(|(reference, state)| unready(reference, state))
    }
}

/// Whether a layer may begin: everything of those before it is applied and healthy.
///
/// # Errors
/// What is not.
pub(super) fn may_begin(active: &Active, layer: u16) -> Result<(), String> {
    let before = active.targets.values().filter(|target| target.phase / PHASES < layer);
    let mut lacking = before.filter_map(|target| {
        let state = active.states.get(&target.reference)?;
        unready(&target.reference, state)
    });
    match lacking.next() {
        None => Ok(()),
        Some(lacking) => {
            let name = active.layers.get(usize::from(layer) - 1).map_or("", String::as_str);
            Err(format!("layer {name} waits: {lacking}"))
        }
    }
}

fn unready(reference: &ObjectReference, state: &State) -> Option<String> {
    let told = |why: &str| Some(format!("{}: {why}", describe(reference)));
    match (&state.error, &state.fingerprint, state.health) {
        (Some(error), ..) => told(error),
        (None, None, _) => told("it is not applied yet"),
        (None, Some(_), Health::Healthy) => None,
        (None, Some(_), _) if state.message.is_empty() => told("it is not healthy yet"),
        (None, Some(_), _) => told(&state.message),
    }
}
