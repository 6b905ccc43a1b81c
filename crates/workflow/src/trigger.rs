//! When a trigger fires: by the clock, or by a change of an object. The agent holds the watches and the clock; what they
//! mean is decided here.

use std::time::Duration;

use fleet_objects::test_trigger::{
    FieldCondition, FieldOperator, ObjectChange, ResourceTrigger, TestTriggerSpec, TriggerWhen,
};
use foundation::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::duration;
use crate::validate::{self, FieldError, Invalid};

/// How late a missed run may begin when the trigger does not say.
const STARTING_DEADLINE: Duration = Duration::from_secs(600);
/// Conditions of one trigger.
const MAX_FIELDS: usize = 16;
/// Steps of one path.
const MAX_PATH: usize = 32;

/// A schedule that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    schedule: Schedule,
    zone: TimeZone,
    deadline: SignedDuration,
}

impl Clock {
    /// Reads the schedule of a trigger; `None` when it has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(when: &TriggerWhen) -> Result<Option<Self>, FieldError> {
        let wrong =
            |field: &str, message: String| FieldError { field: format!("spec.when.{field}"), message };
        let Some(cron) = &when.cron else { return Ok(None) };
        let schedule = Schedule::parse(cron).map_err(|message| wrong("cron", message))?;
        let zone = when.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get);
        let zone = zone.map_err(|error| wrong("timeZone", error.to_string()))?;
        let deadline = when.starting_deadline.as_deref().map_or(Ok(STARTING_DEADLINE), duration::parse);
        let deadline = deadline.map_err(|error| wrong("startingDeadline", error.to_string()))?;
        let deadline = SignedDuration::try_from(deadline).unwrap_or(SignedDuration::MAX);
        Ok(Some(Self { schedule, zone, deadline }))
    }

    /// The time that is to be run now: the latest after `since`, unless it is too long ago. Several missed ones are one.
    #[must_use]
    pub fn due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let earliest = now.checked_sub(self.deadline).unwrap_or(Timestamp::MIN);
        // What lies before the deadline need not be walked through.
        self.schedule.latest(since.max(earliest), now, &self.zone)
    }

    /// The next time after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.next(now, &self.zone)
    }
}

/// What a trigger looks at in one object: a value per condition.
pub type Fields = Vec<Option<Value>>;

/// Takes out of an object what the conditions look at.
#[must_use]
pub fn fields(trigger: &ResourceTrigger, object: &Value) -> Fields {
    let look = |condition: &FieldCondition| {
        let path = path(&condition.path).ok()?;
        path.iter().try_fold(object, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    };
    trigger.fields.iter().map(|condition| look(condition).filter(|value| !value.is_null()).cloned()).collect()
}

/// Whether a change fires a trigger, and which change it is. `before` and `after` are an object's [`fields`]; `None`: there
/// was or is no such object.
#[must_use]
pub fn fires(
    trigger: &ResourceTrigger,
    before: Option<&Fields>,
    after: Option<&Fields>,
) -> Option<ObjectChange> {
    let change = match (before, after) {
        (None, Some(_)) => ObjectChange::Created,
        (Some(_), Some(_)) => ObjectChange::Modified,
        (Some(_), None) => ObjectChange::Deleted,
        (None, None) => return None,
    };
    if !trigger.on.is_empty() && !trigger.on.contains(&change) {
        return None;
    }
    let at = |fields: Option<&Fields>, index: usize| {
        fields.and_then(|fields| fields.get(index).cloned().flatten())
    };
    let all = trigger.fields.iter().enumerate();
    let mut holds = all.map(|(index, condition)| holds(condition, at(before, index), at(after, index)));
    holds.all(|holds| holds).then_some(change)
}

fn holds(condition: &FieldCondition, before: Option<Value>, after: Option<Value>) -> bool {
    let changed = before != after;
    match condition.operator {
        FieldOperator::Changed => changed,
        FieldOperator::ChangedTo => changed && after == condition.value,
        FieldOperator::ChangedFrom => changed && before == condition.value,
        FieldOperator::Equals => after == condition.value,
        FieldOperator::NotEquals => after != condition.value,
        FieldOperator::Exists => after.is_some(),
        FieldOperator::DoesNotExist => after.is_none(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads `a.b[0]["c.d"]`.
fn path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.strip_prefix('.').unwrap_or(text);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quoted = inner.strip_prefix('"').and_then(|inner| inner.split_once("\"]"));
            let (step, after) = match (quoted, inner.split_once(']')) {
                (Some((key, after)), _) => (Step::Key(key.to_owned()), after),
                (None, Some((index, after))) => {
                    let index = index
                        .parse()
                        .map_err(|_| format!("{index:?} is neither a number nor in \"quotes\""))?;
                    (Step::Index(index), after)
                }
                (None, None) => return Err("a bracket is not closed".to_owned()),
            };
            steps.push(step);
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return Err("a name is empty".to_owned());
            }
            steps.push(Step::Key(rest[..end].to_owned()));
            rest = &rest[end..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
    }
    match steps.len() {
        0 => Err("it is empty".to_owned()),
        1..=MAX_PATH => Ok(steps),
        _ => Err(format!("it has more than {MAX_PATH} steps")),
    }
}

/// Checks a trigger; the workflow itself is checked as any other.
///
/// # Errors
/// Everything that is wrong.
pub fn check(spec: &TestTriggerSpec) -> Result<(), Invalid> {
    let mut wrong = Vec::new();
    let mut fail =
        |field: String, message: &str| wrong.push(FieldError { field, message: message.to_owned() });
    if spec.workflow.is_some() == spec.workflow_ref.is_some() {
        fail("spec".to_owned(), "needs exactly one of workflow and workflowRef");
    }
    if spec.when.cron.is_some() == spec.when.resource.is_some() {
        fail("spec.when".to_owned(), "needs exactly one of cron and resource");
    }
    let targets = &spec.targets;
    if targets.clusters.is_empty() && targets.selector.is_none() && !targets.all {
        fail("spec.targets".to_owned(), "names no cluster; use clusters, selector or all");
    }
    if let Some(resource) = &spec.when.resource {
        let at = |field: &str| format!("spec.when.resource.{field}");
        for (field, value) in [("apiVersion", &resource.api_version), ("kind", &resource.kind)] {
            if value.is_empty() {
                fail(at(field), "must be set");
            }
        }
        if resource.delay.as_deref().is_some_and(|delay| duration::parse(delay).is_err()) {
            fail(at("delay"), "is no duration like 30s");
        }
        if resource.fields.len() > MAX_FIELDS {
            fail(at("fields"), "holds more than 16 conditions");
        }
        for (index, condition) in resource.fields.iter().enumerate() {
            let at = at(&format!("fields[{index}]"));
            if let Err(message) = path(&condition.path) {
                fail(format!("{at}.path"), &message);
            }
            use FieldOperator::{ChangedFrom, ChangedTo, Equals, NotEquals};
            let needs = matches!(condition.operator, ChangedTo | ChangedFrom | Equals | NotEquals);
            if needs != condition.value.is_some() {
                fail(
                    format!("{at}.value"),
                    if needs { "must be set for this operator" } else { "is not for this operator" },
                );
            }
        }
    }
    wrong.extend(Clock::of(&spec.when).err());
    if let Some(workflow) = &spec.workflow {
        let checked = validate::workflow(workflow, "spec.workflow")
            .and_then(|()| validate::variables(workflow, &spec.variables));
        wrong.extend(checked.err().into_iter().flat_map(|invalid| invalid.0));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Invalid(wrong)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn cron(cron: &str, zone: &str) -> Clock {
        let when = TriggerWhen {
            cron: Some(cron.to_owned()),
            time_zone: Some(zone.to_owned()),
            ..TriggerWhen::default()
        };
        Clock::of(&when).expect("valid").expect("a schedule")
    }

    #[test]
    fn the_clock_is_that_of_the_zone_also_when_it_changes() {
        let clock = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(clock.next(time("2026-01-10T00:00:00Z")), Some(time("2026-01-10T01:30:00Z")));
        assert_eq!(clock.next(time("2026-07-10T00:00:00Z")), Some(time("2026-07-10T00:30:00Z")));
        // On 29 March 2026 there is no half past two.
        assert_eq!(clock.next(time("2026-03-28T12:00:00Z")), Some(time("2026-03-30T00:30:00Z")));
    }

    #[test]
    fn of_missed_times_the_latest_runs_unless_it_is_too_old() {
        let clock = cron("*/5 * * * *", "UTC");
        let now = time("2026-01-10T12:03:00Z");
        assert_eq!(clock.due(time("2026-01-01T00:00:00Z"), now), Some(time("2026-01-10T12:00:00Z")));
        assert_eq!(clock.due(time("2026-01-10T12:00:00Z"), now), None, "it has run");
        assert_eq!(cron("0 0 * * *", "UTC").due(time("2026-01-01T00:00:00Z"), now), None, "too late");
    }

    fn resource(value: Value) -> ResourceTrigger {
        serde_json::from_value(value).expect("a trigger")
    }

    #[test]
    fn a_field_decides_whether_a_change_fires() {
        let deployment = |image: Option<&str>| json!({"spec": {"containers": [{"image": image}]}, "metadata": {"labels": {"a/b.c": "x"}}});
        let fire = |operator: &str,
                    value: Option<&str>,
                    before: Option<Option<&str>>,
                    after: Option<Option<&str>>| {
            let mut condition = json!({"path": "spec.containers[0].image", "operator": operator});
            if let Some(value) = value {
                condition["value"] = value.into();
            }
            let trigger =
                resource(json!({"apiVersion": "apps/v1", "kind": "Deployment", "fields": [condition]}));
            let (before, after) = (
                before.map(|image| fields(&trigger, &deployment(image))),
                after.map(|image| fields(&trigger, &deployment(image))),
            );
            fires(&trigger, before.as_ref(), after.as_ref())
        };
        let (a, b) = (Some(Some("a")), Some(Some("b")));
        let (modified, none) = (Some(ObjectChange::Modified), None);
        for (operator, value, before, after, expected) in [
            ("Changed", None, a, b, modified),
            ("Changed", None, a, a, none),
            ("Changed", None, None, a, Some(ObjectChange::Created)),
            ("Changed", None, a, None, Some(ObjectChange::Deleted)),
            ("ChangedTo", Some("b"), a, b, modified),
            ("ChangedTo", Some("a"), a, b, none),
            ("ChangedTo", Some("a"), a, a, none),
            ("ChangedFrom", Some("a"), a, b, modified),
            ("ChangedFrom", Some("b"), a, b, none),
            ("Equals", Some("a"), a, a, modified),
            ("NotEquals", Some("a"), b, b, modified),
            ("Exists", None, a, a, modified),
            ("Exists", None, a, Some(None), none),
            ("DoesNotExist", None, a, Some(None), modified),
        ] {
            assert_eq!(
                fire(operator, value, before, after),
                expected,
                "{operator} {value:?} {before:?} {after:?}"
            );
        }
        let quoted = resource(json!({"apiVersion": "v1", "kind": "Pod", "on": ["Created"],
            "fields": [{"path": ".metadata.labels[\"a/b.c\"]", "operator": "Equals", "value": "x"}]}));
        let seen = fields(&quoted, &deployment(None));
        assert_eq!(fires(&quoted, None, Some(&seen)), Some(ObjectChange::Created));
        assert_eq!(fires(&quoted, Some(&seen), Some(&seen)), None, "only what is made");
    }

    #[test]
    fn what_is_wrong_with_a_trigger_is_told_field_by_field() {
        let spec: TestTriggerSpec = serde_json::from_value(json!({
            "workflowRef": {"name": "a"}, "targets": {},
            "when": {"cron": "61 * * * *", "timeZone": "Mars/Base", "resource": {"apiVersion": "v1", "kind": "", "delay": "soon",
                "fields": [{"path": "a..b", "operator": "ChangedTo"}, {"path": "a[x]", "operator": "Exists", "value": 1}]}},
        }))
        .expect("a trigger");
        insta::assert_snapshot!(check(&spec).expect_err("wrong").to_string().replace("; ", "\n"));
    }
}
