//! `jobs/status` (upstream's `ValidateJobUpdateStatus` with the options of its strategy).

use jiff::Timestamp;
use serde_json::Value;

use super::indexes;
use crate::json::{given, integer, list, number, same_field, text, texts};
use crate::path::Path;
use crate::problems::Problems;
use crate::workload::counts;

/// Whether a condition holds.
pub(super) fn holds(object: &Value, kind: &str) -> bool {
    list(&object["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
}

fn finished(object: &Value) -> bool {
    holds(object, "Complete") || holds(object, "Failed")
}

/// The Status column.
pub(super) fn shown(object: &Value) -> &'static str {
    match () {
        () if holds(object, "Complete") => "Complete",
        () if holds(object, "Failed") => "Failed",
        () if given(&object["metadata"], "deletionTimestamp").is_some() => "Terminating",
        () if holds(object, "Suspended") => "Suspended",
        () if holds(object, "FailureTarget") => "FailureTarget",
        () if holds(object, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// What changed between two versions.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Change<'_> {
    fn field(&self, key: &str) -> bool {
        !same_field(&self.new["status"], &self.old["status"], key)
    }

    fn condition(&self, kind: &str) -> bool {
        holds(self.new, kind) != holds(self.old, kind)
    }

    fn finish(&self) -> bool {
        finished(self.new) != finished(self.old)
    }
}

pub(super) fn validate(problems: &mut Problems, object: &Value, old: &Value) {
    let change = Change { new: object, old };
    let at = Path::new("status");
    counts(problems, &at, &object["status"], &["active", "succeeded", "failed", "ready", "terminating"]);
    uncounted(problems, &at.field("uncountedTerminatedPods"), &object["status"]);
    conditions(problems, &at, &change);
    times(problems, &at, &change);
    pods(problems, &at, &change);
    indexes(problems, &at, &change);
    steps(problems, &at, &change);
}

fn uncounted(problems: &mut Problems, at: &Path<'_>, status: &Value) {
    let mut seen: Vec<&str> = Vec::new();
    for key in ["succeeded", "failed"] {
        let at = at.field(key);
        for (index, uid) in texts(&status["uncountedTerminatedPods"], key).enumerate() {
            if uid.is_empty() {
                problems.invalid(at.index(index), uid, "must not be empty");
            } else if seen.contains(&uid) {
                problems.duplicate(at.index(index), uid);
            }
            seen.push(uid);
        }
    }
}

fn conditions(problems: &mut Problems, at: &Path<'_>, change: &Change<'_>) {
    let new = change.new;
    let is = |kind: &str| holds(new, kind);
    let at = at.field("conditions");
    let mut refuse = |wrong: bool, why: &str| {
        if wrong {
            problems.invalid_omitted(at, why);
        }
    };
    let (complete, failed) = (is("Complete"), is("Failed"));
    let (target, met) = (is("FailureTarget"), is("SuccessCriteriaMet"));
    refuse(
        (change.condition("Complete") || change.condition("Failed")) && complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        (change.condition("Complete") || change.condition("FailureTarget")) && complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        (change.condition("Failed") || change.field("failedIndexes")) && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        (change.condition("Complete") || change.condition("SuccessCriteriaMet")) && complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    refuse(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    refuse(
        given(&new["spec"], "successPolicy").is_some() && !met && complete,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(problems: &mut Problems, at: &Path<'_>, change: &Change<'_>) {
    let status = &change.new["status"];
    let (complete, done) = (holds(change.new, "Complete"), finished(change.new));
    let time = |key: &str| given(status, key).and_then(Value::as_str);
    let completion = at.field("completionTime");
    if change.condition("Complete") || change.field("completionTime") {
        match (time("completionTime"), complete) {
            (Some(end), false) => problems.invalid(
                completion,
                end,
                "cannot set completionTime when there is no Complete=True condition",
            ),
            (None, true) => problems.required(completion, "completionTime is required for Complete jobs"),
            _ => {}
        }
    }
    if change.field("startTime") || change.field("completionTime") {
        let read = |key: &str| time(key).and_then(|text| text.parse::<Timestamp>().ok());
        if let (Some(start), Some(end)) = (read("startTime"), read("completionTime"))
            && end < start
        {
            problems.invalid(completion, time("completionTime"), "must be equal to or after `startTime`");
        }
    }
    let spec = &change.new["spec"];
    let nothing_to_do = spec["suspend"] == true && number(spec, "completions") == Some(0);
    if (change.finish() || change.field("startTime")) && !nothing_to_do && done && time("startTime").is_none()
    {
        problems.required(at.field("startTime"), "startTime is required for finished job");
    }
}

fn pods(problems: &mut Problems, at: &Path<'_>, change: &Change<'_>) {
    let status = &change.new["status"];
    let done = finished(change.new);
    let active = integer(status, "active");
    if (change.finish() || change.field("active")) && done && active > 0 {
        problems.invalid(at.field("active"), active, "active>0 is invalid for finished job");
    }
    let uncounted = &status["uncountedTerminatedPods"];
    let some = ["failed", "succeeded"].iter().any(|key| !list(uncounted, key).is_empty());
    if (change.finish() || change.field("uncountedTerminatedPods")) && done && some {
        problems.invalid(at.field("uncountedTerminatedPods"), uncounted, "must be empty for finished job");
    }
    let terminating = integer(status, "terminating");
    if (change.finish() || change.field("terminating")) && done && terminating > 0 {
        problems.invalid(at.field("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    let ready = integer(status, "ready");
    if (change.field("ready") || change.field("active")) && ready > active {
        problems.invalid(at.field("ready"), ready, "cannot set more ready pods than active");
    }
}

fn indexes(problems: &mut Problems, at: &Path<'_>, change: &Change<'_>) {
    let (status, spec) = (&change.new["status"], &change.new["spec"]);
    let completed = text(status, "completedIndexes");
    let failed = given(status, "failedIndexes").and_then(Value::as_str);
    let completions = number(spec, "completions");
    let per_index = given(spec, "backoffLimitPerIndex").is_some();
    let (new_completed, new_failed) = (change.field("completedIndexes"), change.field("failedIndexes"));
    let (first, second) = (at.field("completedIndexes"), at.field("failedIndexes"));
    if let Some(completions) = completions {
        if new_completed && let Err(why) = indexes::count(completed, completions) {
            problems.invalid(first, completed, &format!("error parsing completedIndexes: {why}"));
        }
        if new_failed
            && per_index
            && let Some(failed) = failed
            && let Err(why) = indexes::count(failed, completions)
        {
            problems.invalid(second, failed, &format!("error parsing failedIndexes: {why}"));
        }
    }
    if new_completed && !completed.is_empty() && text(spec, "completionMode") != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        problems.invalid(first, completed, why);
    }
    let Some(failed) = failed else { return };
    if new_failed && !per_index {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        problems.invalid(second, failed, why);
    }
    if (new_failed || new_completed)
        && let Some(index) =
            completions.and_then(|completions| indexes::overlap(completed, failed, completions))
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        problems.invalid(second, failed, &why);
    }
}

/// What only goes forward.
fn steps(problems: &mut Problems, at: &Path<'_>, change: &Change<'_>) {
    let (status, before) = (&change.new["status"], &change.old["status"]);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if holds(change.old, kind) && !holds(change.new, kind) {
            let why = format!("cannot disable the terminal {kind}=True condition");
            problems.invalid_omitted(at.field("conditions"), &why);
        }
    }
    let spec = &change.new["spec"];
    let elastic = text(spec, "completionMode") == "Indexed" && same(spec, "completions", "parallelism");
    for (key, counts) in [("failed", true), ("succeeded", !elastic)] {
        let now = integer(status, key);
        if counts && now < integer(before, key) {
            problems.invalid(at.field(key), now, &format!("cannot decrease the {key} counter"));
        }
    }
    let both = given(status, "completionTime").is_some() && given(before, "completionTime").is_some();
    if both && change.field("completionTime") {
        problems.invalid(
            at.field("completionTime"),
            status.get("completionTime"),
            crate::problems::IMMUTABLE,
        );
    }
    let resuming = holds(change.old, "Suspended")
        && list(status, "conditions")
            .iter()
            .any(|condition| text(condition, "type") == "Suspended" && text(condition, "status") == "False");
    if given(before, "startTime").is_some()
        && change.field("startTime")
        && !resuming
        && spec["suspend"] != true
    {
        let why = "field is immutable for unsuspended job once set";
        problems.invalid(at.field("startTime"), status.get("startTime"), why);
    }
    let (was_met, met) = (holds(change.old, "SuccessCriteriaMet"), holds(change.new, "SuccessCriteriaMet"));
    if was_met && !met {
        let why = "cannot disable the SuccessCriteriaMet=True condition";
        problems.invalid_omitted(at.field("conditions"), why);
    }
    if holds(change.old, "Complete") && !was_met && met {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        problems.invalid_omitted(at.field("conditions"), why);
    }
}

fn same(spec: &Value, one: &str, other: &str) -> bool {
    number(spec, one) == number(spec, other)
}
