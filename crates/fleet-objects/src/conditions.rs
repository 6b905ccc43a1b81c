//! Conditions in the Kubernetes manner: one entry per type, whose transition time moves only when its status does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition should say now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionChange<'a> {
    /// Which condition.
    pub kind: &'a str,
    /// `None` is Unknown.
    pub status: Option<bool>,
    /// One CamelCase word for programs.
    pub reason: &'a str,
    /// A sentence for people.
    pub message: String,
    /// The `metadata.generation` judged.
    pub observed_generation: Option<i64>,
}

/// Sets a condition and answers whether anything changed. `now` becomes the transition time only when the status
/// changes, so that an unchanged verdict costs no write.
pub fn set_condition(conditions: &mut Vec<Condition>, change: ConditionChange<'_>, now: &Time) -> bool {
    let status = match change.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut new = Condition {
        last_transition_time: now.clone(),
        message: change.message,
        observed_generation: change.observed_generation,
        reason: change.reason.to_owned(),
        status: status.to_owned(),
        type_: change.kind.to_owned(),
    };
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == change.kind) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// The condition of a type.
#[must_use]
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition is there and True.
#[must_use]
pub fn condition_is_true(conditions: &[Condition], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == "True")
}
