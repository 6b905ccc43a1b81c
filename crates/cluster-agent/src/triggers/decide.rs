//! What is due, what a firing is called, and what a new revision changes. Pure.

use std::time::Duration;

use fleet_objects::test_trigger::TestTriggerAssignmentSpec;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use workflow::trigger::Clock;

use super::held::Held;

/// So far ahead of the clock nothing was judged by a clock that was right: small corrections are common.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// One firing of a trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Firing {
    /// Tells it from the others; for a time of a schedule the same in every cluster.
    pub(super) key: String,
    /// The time of the schedule, or of the change.
    pub(super) time: Timestamp,
    /// For people.
    pub(super) cause: String,
    /// Whether it is a time of the schedule.
    pub(super) clock: bool,
}

/// The trigger as it is held from now on. Times before it was first handed over are nothing that was missed.
pub(super) fn taken(
    known: Option<&Held>,
    name: &str,
    spec: TestTriggerAssignmentSpec,
    now: Timestamp,
) -> Held {
    // One of the same name made anew is another trigger.
    let same = known.filter(|known| known.spec.trigger.uid == spec.trigger.uid);
    // Another schedule begins now; so does one that was suspended.
    let goes_on = same.filter(|known| known.spec.when == spec.when && !known.spec.suspend);
    Held {
        name: name.to_owned(),
        judged: goes_on.map_or(now, |known| known.judged),
        pending: same.and_then(|known| known.pending.clone()),
        last_execution: same.and_then(|known| known.last_execution.clone()),
        spec,
    }
}

/// A schedule may have been judged by a clock that was ahead, and then set right: what was judged so far in the future does not
/// put it to sleep until then. A time that comes twice by that is the same firing, and begins nothing twice.
pub(super) fn rewound(held: &Held, now: Timestamp) -> Option<Held> {
    let ahead = held.judged.duration_since(now);
    (ahead > AHEAD).then(|| Held { judged: now, ..held.clone() })
}

/// The time of the schedule that is to run now.
pub(super) fn due(held: &Held, now: Timestamp) -> Option<Firing> {
    if held.spec.suspend {
        return None;
    }
    // What is wrong with it the hub has said; it is not handed over then.
    let clock = Clock::of(&held.spec.when).ok()??;
    let time = clock.due(held.judged, now)?;
    let minutes = time.as_second().div_euclid(60);
    let cause = format!("schedule {} at {time}", held.spec.when.cron.as_deref().unwrap_or_default());
    Some(Firing { key: minutes.to_string(), time, cause, clock: true })
}

/// How long until the clock has to be looked at.
pub(super) fn sleep<'a>(all: impl Iterator<Item = &'a Held>, now: Timestamp) -> Option<Duration> {
    let next = |held: &Held| Clock::of(&held.spec.when).ok()??.next(now);
    let first = all.filter(|held| !held.spec.suspend).filter_map(next).min()?;
    Some(first.duration_since(now).unsigned_abs())
}

/// Notes that a firing was judged, whatever came of it.
pub(super) fn judged(held: &mut Held, firing: &Firing) {
    if firing.clock {
        held.judged = held.judged.max(firing.time);
    }
}

/// The uid of the execution of a firing: the same when it is reckoned again after a crash.
pub(super) fn execution_uid(spec: &TestTriggerAssignmentSpec, key: &str) -> String {
    let mut hash = Sha256::new();
    for part in [spec.trigger.uid.as_str(), spec.cluster.as_str(), key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digits = hex::encode(hash.finalize());
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..32])
}

/// The key of a change of an object.
pub(super) fn change_key(uid: &str, resource_version: &str, change: &str) -> String {
    let digest = Sha256::digest(format!("{uid}/{resource_version}/{change}").as_bytes());
    hex::encode(digest)[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::RunReference;
    use fleet_objects::test_trigger::TriggerWhen;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn spec(cron: &str) -> TestTriggerAssignmentSpec {
        let trigger = RunReference { namespace: "default".into(), name: "n".into(), uid: "u".into() };
        let when = TriggerWhen { cron: Some(cron.into()), ..TriggerWhen::default() };
        TestTriggerAssignmentSpec {
            trigger,
            cluster: "dev".into(),
            when,
            ..TestTriggerAssignmentSpec::default()
        }
    }

    #[test]
    fn each_time_fires_once_also_over_a_restart() {
        let start = time("2026-01-10T12:00:30Z");
        let mut held = taken(None, "default.n", spec("* * * * *"), start);
        assert_eq!(due(&held, start), None, "the past was not missed");
        let now = time("2026-01-10T12:01:05Z");
        let firing = due(&held, now).expect("due");
        assert_eq!((firing.key.as_str(), firing.time), ("29467441", time("2026-01-10T12:01:00Z")));
        assert_eq!(due(&held, now), Some(firing.clone()), "until it is noted it is the same firing");
        judged(&mut held, &firing);
        let text = serde_json::to_string(&held).expect("JSON");
        let held: Held = serde_json::from_str(&text).expect("a trigger");
        assert_eq!(due(&held, now), None);
        assert_eq!(sleep([held].iter(), now), Some(Duration::from_secs(55)));
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_put_a_schedule_to_sleep() {
        let start = time("2026-01-10T12:00:30Z");
        let mut held = taken(None, "default.n", spec("* * * * *"), start);
        // A day ahead: what was missed is one firing, however many times it were.
        let ahead = time("2026-01-11T12:00:30Z");
        let firing = due(&held, ahead).expect("due");
        judged(&mut held, &firing);
        assert_eq!(due(&held, ahead), None);
        let back = time("2026-01-10T12:03:10Z");
        assert_eq!(due(&held, back), None);
        let held = rewound(&held, back).expect("set right");
        assert_eq!(due(&held, back), None, "nothing at once");
        assert_eq!(due(&held, time("2026-01-10T12:04:00Z")).expect("due").time, time("2026-01-10T12:04:00Z"));
        assert_eq!(rewound(&held, time("2026-01-10T12:02:00Z")), None, "a small correction is none");
    }

    #[test]
    fn a_new_revision_goes_on_but_another_schedule_begins_anew() {
        let start = time("2026-01-10T12:00:30Z");
        let mut held = taken(None, "default.n", spec("* * * * *"), start);
        held.last_execution = Some("e".into());
        let later = time("2026-01-10T12:05:30Z");
        let mut changed = spec("* * * * *");
        changed.revision = 2;
        assert_eq!(taken(Some(&held), "default.n", changed, later).judged, start);
        let other = taken(Some(&held), "default.n", spec("*/2 * * * *"), later);
        assert_eq!((other.judged, other.last_execution.as_deref()), (later, Some("e")));
        let mut anew = spec("* * * * *");
        anew.trigger.uid = "v".into();
        assert_eq!(taken(Some(&held), "default.n", anew, later).last_execution, None);
        let mut suspended = spec("* * * * *");
        suspended.suspend = true;
        assert_eq!(due(&taken(Some(&held), "default.n", suspended, later), later), None);
    }

    #[test]
    fn uids_tell_clusters_and_keys_apart() {
        let (mut other, one) = (spec("@daily"), spec("@daily"));
        other.cluster = "eu".into();
        let uid = execution_uid(&one, "1");
        assert_eq!(uid.len(), 36);
        assert_eq!(uid, execution_uid(&one, "1"));
        assert_ne!(uid, execution_uid(&one, "2"));
        assert_ne!(uid, execution_uid(&other, "1"));
    }
}
