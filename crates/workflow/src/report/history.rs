//! Steps and cases over many runs of a workflow: which are flaky, which slow down.
//!
//! It needs only the runs' statuses. They name the cases that failed; a case that failed once counts as passed in every
//! run whose report of the same step does not name it and left none out.

use std::collections::BTreeMap;

use fleet_objects::test_run::{Outcome, StepResult, TestRun, TestRunStatus};
use fleet_objects::test_trigger::TRIGGER_LABEL;
use serde::Serialize;

use super::columns;
use super::told::Verdict;

/// The workflow of a run by name: the one it refers to, the trigger that started it, or what its own name was made of.
#[must_use]
pub fn workflow_of(run: &TestRun) -> String {
    let referred = run.spec.workflow_ref.as_ref().map(|reference| reference.name.clone());
    let trigger = || run.metadata.labels.as_ref()?.get(TRIGGER_LABEL).cloned();
    let base = || run.metadata.generate_name.as_ref().map(|base| base.trim_end_matches('-').to_owned());
    referred.or_else(trigger).or_else(base).or_else(|| run.metadata.name.clone()).unwrap_or_default()
}

/// A step, or a case of it that failed at least once, in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Where.
    pub cluster: String,
    /// Which step.
    pub step: String,
    /// Which case of it; absent: the step itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Runs that tell of it.
    pub runs: u32,
    /// Of these, in which it failed.
    pub failed: u32,
    /// How often it changed between passing and failing from one run to the next.
    pub flips: u32,
    /// Runs in which it passed after a failed attempt.
    pub retried: u32,
    /// In the newest run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Verdict>,
    /// Of the passed runs before the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_seconds: Option<f64>,
    /// Of the newest run, if it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seconds: Option<f64>,
}

impl Entry {
    /// Comes and goes by itself. One change alone is a regression or its mending.
    #[must_use]
    pub fn is_flaky(&self) -> bool {
        self.flips >= 2 || self.retried >= 1
    }

    /// From 0 (never) to 1 (every time).
    #[must_use]
    pub fn flakiness(&self) -> f64 {
        f64::from(self.flips + self.retried) / f64::from(self.runs.max(2) - 1).max(1.0)
    }

    /// How much longer the newest run took than the median, as a share: 0.5 is half as long again.
    #[must_use]
    pub fn slowdown(&self) -> Option<f64> {
        let (median, last) = (self.median_seconds?, self.last_seconds?);
        (median > 0.0).then(|| last / median - 1.0)
    }
}

/// What one run says of an entry.
struct Point {
    verdict: Verdict,
    retried: bool,
    seconds: Option<f64>,
}

/// Reads runs, the oldest first. The flakiest come first, then those that fail most.
#[must_use]
pub fn entries(runs: &[&TestRunStatus]) -> Vec<Entry> {
    let mut failed_once: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for_steps(runs, |cluster, step| {
        for name in failures(step) {
            let known = failed_once.entry((cluster.to_owned(), step.name.clone())).or_default();
            if !known.contains(&name) {
                known.push(name);
            }
        }
    });
    let mut points: BTreeMap<(String, String, Option<String>), Vec<Point>> = BTreeMap::new();
    for_steps(runs, |cluster, step| {
        let key = |case| (cluster.to_owned(), step.name.clone(), case);
        if let Some(point) = step_point(step) {
            points.entry(key(None)).or_default().push(point);
        }
        let known = failed_once.get(&(cluster.to_owned(), step.name.clone()));
        for case in known.into_iter().flatten() {
            if let Some(point) = case_point(step, case) {
                points.entry(key(Some(case.clone()))).or_default().push(point);
            }
        }
    });
    let mut all: Vec<Entry> = points.into_iter().map(|(key, points)| entry(key, &points)).collect();
    all.sort_by(|a, b| b.flakiness().total_cmp(&a.flakiness()).then_with(|| b.failed.cmp(&a.failed)));
    all
}

fn for_steps(runs: &[&TestRunStatus], mut each: impl FnMut(&str, &StepResult)) {
    for cluster in runs.iter().flat_map(|run| &run.clusters) {
        for step in &cluster.steps {
            each(&cluster.cluster, step);
        }
    }
}

fn failures(step: &StepResult) -> Vec<String> {
    let reports = step.attempts.iter().filter_map(|attempt| attempt.junit.as_ref());
    reports.flat_map(|report| &report.failures).map(case_name).collect()
}

fn case_name(case: &fleet_objects::test_run::FailedCase) -> String {
    let class = if case.class_name.is_empty() { &case.suite } else { &case.class_name };
    format!("{class} {}", case.name).trim().to_owned()
}

fn step_point(step: &StepResult) -> Option<Point> {
    let verdict = match step.outcome? {
        Outcome::Passed => Verdict::Passed,
        Outcome::Failed | Outcome::TimedOut => Verdict::Failed,
        // Nothing is known about what was to be tested.
        Outcome::Skipped | Outcome::NotRun => return None,
    };
    let retried = verdict == Verdict::Passed && step.attempts.len() > 1;
    Some(Point { verdict, retried, seconds: super::seconds(step) })
}

fn case_point(step: &StepResult, case: &str) -> Option<Point> {
    let told: Vec<_> = step.attempts.iter().filter_map(|attempt| attempt.junit.as_ref()).collect();
    let last = told.last()?;
    let names = |report: &&&fleet_objects::test_run::JunitSummary| {
        report.failures.iter().any(|failed| case_name(failed) == case)
    };
    let failed_last = names(&last);
    if !failed_last && last.omitted > 0 {
        return None;
    }
    let verdict = if failed_last { Verdict::Failed } else { Verdict::Passed };
    let retried = !failed_last && told.iter().any(|report| names(&report));
    Some(Point { verdict, retried, seconds: None })
}

fn entry((cluster, step, case): (String, String, Option<String>), points: &[Point]) -> Entry {
    let count = |wanted: &dyn Fn(&Point) -> bool| {
        u32::try_from(points.iter().filter(|point| wanted(point)).count()).unwrap_or(u32::MAX)
    };
    let flips = points.windows(2).filter(|pair| pair[0].verdict != pair[1].verdict).count();
    let passed = |point: &&Point| point.verdict == Verdict::Passed;
    let (before, newest) = points.split_at(points.len().saturating_sub(1));
    let mut times: Vec<f64> = before.iter().filter(passed).filter_map(|point| point.seconds).collect();
    times.sort_by(f64::total_cmp);
    Entry {
        cluster,
        step,
        case,
        runs: count(&|_| true),
        failed: count(&|point| point.verdict == Verdict::Failed),
        flips: u32::try_from(flips).unwrap_or(u32::MAX),
        retried: count(&|point| point.retried),
        last: newest.first().map(|point| point.verdict),
        median_seconds: times.get(times.len() / 2).copied(),
        last_seconds: newest.first().filter(passed).and_then(|point| point.seconds),
    }
}

/// A table.
#[must_use]
pub fn table(all: &[Entry]) -> String {
    let header =
        ["CLUSTER", "STEP", "CASE", "RUNS", "FAILED", "FLIPS", "RETRIED", "FLAKY", "LAST", "MEDIAN", "TREND"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for entry in all {
        let figures = [entry.runs, entry.failed, entry.flips, entry.retried].map(|figure| figure.to_string());
        let mut row = vec![
            entry.cluster.clone(),
            entry.step.clone(),
            entry.case.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        row.extend(figures);
        row.push(if entry.is_flaky() {
            format!("{:.0}%", entry.flakiness() * 100.0)
        } else {
            "-".to_owned()
        });
        row.push(entry.last.map_or("-", Verdict::word).to_owned());
        row.push(entry.median_seconds.map_or_else(|| "-".to_owned(), |median| format!("{median:.1}s")));
        row.push(entry.slowdown().map_or_else(|| "-".to_owned(), |share| format!("{:+.0}%", share * 100.0)));
        rows.push(row);
    }
    columns(&rows)
}
