//! What is wrong with documents of the fleet, told to whoever writes them: by the hub's admission with fields and a 422, and by
//! the command line before it sends anything.
//!
//! Judged is what stands in the document. What the fleet would have to be asked for (other objects, clusters, uploaded
//! content, what a Source brings later) is told in statuses, as ever.

mod receiver;

use fleet_objects::alert::{AlertReceiverSpec, AlertRuleSpec, AlertSilenceSpec};
use fleet_objects::rollout::RolloutSpec;
use fleet_objects::source::SourceSpec;
use fleet_objects::{GROUP, PlacementSpec, ProfileSpec};
use fleet_planner::validation::profile::Others;
use fleet_planner::validation::{FieldError, FieldPath, Languages, alert, placement, profile, rollout};
use kube_objects::{StatusCause, Write};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sources;

/// Mistakes told at once; a person mends some and sees the others.
const MAX_TOLD: usize = 50;

/// The kinds that are judged, by their resources.
const KINDS: [(&str, &str); 7] = [
    ("alertreceivers", "AlertReceiver"),
    ("alertrules", "AlertRule"),
    ("alertsilences", "AlertSilence"),
    ("placements", "Placement"),
    ("profiles", "Profile"),
    ("rollouts", "Rollout"),
    ("sources", "Source"),
];

/// Whether such things are judged.
#[must_use]
pub fn concerns(group: &str, resource: &str) -> bool {
    group == GROUP && KINDS.iter().any(|(own, _)| *own == resource)
}

/// What a write brings that is wrong. What was so before is not told: an object that this hub, or an earlier one, has taken
/// stays writable in everything else (as upstream ratchets the validation of custom resources).
#[must_use]
pub fn of_write(write: &Write<'_>, languages: Languages<'_>) -> Vec<StatusCause> {
    let Some((_, kind)) = KINDS.iter().find(|(own, _)| *own == write.resource) else { return Vec::new() };
    if write.old.is_some_and(|old| old["spec"] == write.new["spec"]) {
        return Vec::new();
    }
    let others = Others { layers: filled_by_source(write.new), variables: false };
    let mut found = judge(kind, &write.new["spec"], others, languages);
    if let Some(old) = write.old.filter(|_| !found.is_empty()) {
        let known = judge(kind, &old["spec"], others, languages);
        found.retain(|problem| !known.contains(problem));
    }
    found.iter().take(MAX_TOLD).map(FieldError::cause).collect()
}

/// What is wrong with a document that is yet to be sent. The variables of a profile that says nothing of them may be on the
/// hub, written by somebody else: then the hub judges how they are used.
#[must_use]
pub fn of_document(document: &Value, languages: Languages<'_>) -> Vec<FieldError> {
    let others = Others { layers: false, variables: document["spec"]["variables"].is_null() };
    let kind = document["kind"].as_str().unwrap_or_default();
    let mut found = judge(kind, &document["spec"], others, languages);
    found.truncate(MAX_TOLD);
    found
}

fn judge(kind: &str, spec: &Value, others: Others, languages: Languages<'_>) -> Vec<FieldError> {
    let Languages { clusters, objects } = languages;
    match kind {
        "AlertReceiver" => of::<AlertReceiverSpec>(spec, receiver::problems),
        "AlertRule" => of::<AlertRuleSpec>(spec, |spec| alert::rule_problems(spec, clusters)),
        "AlertSilence" => of::<AlertSilenceSpec>(spec, alert::silence_problems),
        "Placement" => of::<PlacementSpec>(spec, |spec| placement::problems(spec, clusters)),
        "Profile" => of::<ProfileSpec>(spec, |spec| profile::problems(spec, others, objects)),
        "Rollout" => of::<RolloutSpec>(spec, |spec| rollout::problems(spec, clusters)),
        "Source" => of::<SourceSpec>(spec, sources::check::problems),
        _ => Vec::new(),
    }
}

/// Something wrong without what was given: URLs and headers may hold secrets, where the words do not say it already.
pub(crate) fn nameless(at: &FieldPath, detail: impl Into<String>) -> FieldError {
    let mut error = FieldError::invalid(at, Value::Null, detail);
    error.bad_value = None;
    error
}

/// What does not fit the kind's schema is the schema's to tell.
fn of<S: DeserializeOwned>(spec: &Value, judge: impl FnOnce(&S) -> Vec<FieldError>) -> Vec<FieldError> {
    serde_json::from_value::<S>(spec.clone()).map(|spec| judge(&spec)).unwrap_or_default()
}

/// Whether the layers of a profile are what a Source has fetched. Its next look may bring other ones, which go with variables
/// that a person declares, or declares no more, at the same time: what does not fit meanwhile is told in statuses.
fn filled_by_source(profile: &Value) -> bool {
    let managers = profile["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|own| {
        own["manager"] == sources::FIELD_MANAGER && !own["fieldsV1"]["f:spec"]["f:layers"].is_null()
    })
}

#[cfg(test)]
mod tests;
