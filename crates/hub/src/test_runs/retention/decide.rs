//! Which runs are due. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::test_run::TestRun;
use fleet_objects::test_trigger::TRIGGER_LABEL;
use jiff::Timestamp;
use kube::ResourceExt;

/// Annotation on a run that is to be kept whatever retention says; any value.
const KEEP: &str = "fleet.fairlead.dev/keep";

/// How long test runs are kept. Runs that have not ended are always kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Runs older than this go.
    pub max_age: Duration,
    /// Of each workflow (or trigger) the newest are kept.
    pub max_runs: usize,
    /// Bytes of all logs together; the oldest runs go first.
    pub max_log_bytes: u64,
}

impl Default for Retention {
    /// 90 days, 500 runs of each workflow, 10 GiB of logs.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(90 * 24 * 3600), max_runs: 500, max_log_bytes: 10 << 30 }
    }
}

/// A run as retention sees it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    uid: String,
    /// Namespace and what it is a run of.
    group: (String, String),
    made: Timestamp,
    /// It has ended and is not marked to be kept.
    removable: bool,
    log_bytes: u64,
}

impl Kept {
    pub(super) fn of(run: &TestRun, log_sizes: &BTreeMap<String, u64>) -> Self {
        let uid = run.uid().unwrap_or_default();
        let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ended = conditions.iter().any(|condition| {
            condition.type_ == fleet_objects::test_run::SUCCEEDED && condition.status != "Unknown"
        });
        let workflow = run.spec.workflow_ref.as_ref().map(|reference| reference.name.clone());
        let of = workflow.or_else(|| run.labels().get(TRIGGER_LABEL).cloned());
        let of = of.or_else(|| run.metadata.generate_name.clone()).unwrap_or_else(|| run.name_any());
        Self {
            group: (run.namespace().unwrap_or_default(), of),
            // One without a time of its own is new.
            made: run.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            removable: ended && !run.annotations().contains_key(KEEP),
            log_bytes: log_sizes.get(&uid).copied().unwrap_or(0),
            uid,
        }
    }
}

/// Uids of the runs to remove.
pub(super) fn due(all: &[Kept], retention: &Retention, now: Timestamp) -> Vec<String> {
    let mut newest_first: Vec<&Kept> = all.iter().collect();
    newest_first.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| a.uid.cmp(&b.uid)));
    let oldest = now.checked_sub(retention.max_age).unwrap_or(Timestamp::MIN);
    let mut counts: BTreeMap<&(String, String), usize> = BTreeMap::new();
    let mut bytes = 0_u64;
    let mut due = Vec::new();
    for run in newest_first {
        let count = counts.entry(&run.group).or_default();
        *count += 1;
        let too_much = bytes.saturating_add(run.log_bytes) > retention.max_log_bytes;
        if run.removable && (run.made < oldest || *count > retention.max_runs || too_much) {
            due.push(run.uid.clone());
        } else {
            bytes = bytes.saturating_add(run.log_bytes);
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(uid: &str, of: &str, day: i64, log_bytes: u64) -> Kept {
        let made = Timestamp::from_second(day * 24 * 3600).expect("a time");
        Kept { uid: uid.into(), group: ("default".into(), of.into()), made, removable: true, log_bytes }
    }

    fn due_of(all: &[Kept], retention: Retention) -> Vec<String> {
        due(all, &retention, Timestamp::from_second(100 * 24 * 3600).expect("a time"))
    }

    #[test]
    fn runs_go_by_age_number_and_size() {
        let all = [run("a", "x", 5, 10), run("b", "x", 50, 10), run("c", "x", 60, 10), run("d", "y", 61, 10)];
        assert_eq!(due_of(&all, Retention::default()), ["a"]);
        assert_eq!(due_of(&all, Retention { max_runs: 1, ..Retention::default() }), ["b", "a"]);
        assert_eq!(due_of(&all, Retention { max_log_bytes: 25, ..Retention::default() }), ["b", "a"]);
    }

    #[test]
    fn what_has_not_ended_or_is_marked_stays() {
        let mut all = [run("a", "x", 1, 100), run("b", "x", 2, 100)];
        all[0].removable = false;
        let strict = Retention { max_age: Duration::ZERO, max_runs: 0, max_log_bytes: 0 };
        assert_eq!(due_of(&all, strict), ["b"]);
    }
}
