//! Which runs are due. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::test_runs::MAX_RUN_BYTES;

/// How long test runs are kept. Runs that have not ended are always kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Runs older than this go.
    pub max_age: Duration,
    /// Of each workflow (or trigger) the newest are kept.
    pub max_runs: usize,
    /// Bytes of all logs together; the oldest runs go first.
    pub max_log_bytes: u64,
    /// Bytes of all large files together; the oldest runs go first.
    pub max_file_bytes: u64,
    /// Bytes of large files that one run may keep: what comes beyond is refused.
    pub max_run_bytes: u64,
}

impl Default for Retention {
    /// 90 days, 500 runs of each workflow, 10 GiB of logs, 50 GiB of large files, of which no run has more than 16 GiB.
    fn default() -> Self {
        let max_age = Duration::from_secs(90 * 24 * 3600);
        let (max_file_bytes, max_run_bytes) = (50 << 30, MAX_RUN_BYTES);
        Self { max_age, max_runs: 500, max_log_bytes: 10 << 30, max_file_bytes, max_run_bytes }
    }
}

/// A run as retention sees it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) uid: String,
    /// Namespace and what it is a run of.
    pub(super) group: (String, String),
    pub(super) made: Timestamp,
    /// It has ended and is not marked to be kept.
    pub(super) removable: bool,
    pub(super) log_bytes: u64,
    pub(super) file_bytes: u64,
}

/// Uids of the runs to remove.
pub(super) fn due(all: &[Kept], retention: &Retention, now: Timestamp) -> Vec<String> {
    let mut newest_first: Vec<&Kept> = all.iter().collect();
    newest_first.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| a.uid.cmp(&b.uid)));
    let oldest = now.checked_sub(retention.max_age).unwrap_or(Timestamp::MIN);
    let mut counts: BTreeMap<&(String, String), usize> = BTreeMap::new();
    let (mut bytes, mut files) = (0_u64, 0_u64);
    let mut due = Vec::new();
    for run in newest_first {
        let count = counts.entry(&run.group).or_default();
        *count += 1;
        let too_much = bytes.saturating_add(run.log_bytes) > retention.max_log_bytes
            || files.saturating_add(run.file_bytes) > retention.max_file_bytes;
        if run.removable && (run.made < oldest || *count > retention.max_runs || too_much) {
            due.push(run.uid.clone());
        } else {
            bytes = bytes.saturating_add(run.log_bytes);
            files = files.saturating_add(run.file_bytes);
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(uid: &str, of: &str, day: i64, log_bytes: u64) -> Kept {
        let made = Timestamp::from_second(day * 24 * 3600).expect("a time");
        let group = ("default".into(), of.into());
        Kept { uid: uid.into(), group, made, removable: true, log_bytes, file_bytes: 2 * log_bytes }
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
        assert_eq!(due_of(&all, Retention { max_file_bytes: 50, ..Retention::default() }), ["b", "a"]);
    }

    #[test]
    fn what_has_not_ended_or_is_marked_stays() {
        let mut all = [run("a", "x", 1, 100), run("b", "x", 2, 100)];
        all[0].removable = false;
        let strict = Retention {
            max_age: Duration::ZERO,
            max_runs: 0,
            max_log_bytes: 0,
            max_file_bytes: 0,
            ..Retention::default()
        };
        assert_eq!(due_of(&all, strict), ["b"]);
    }
}
