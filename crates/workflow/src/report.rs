//! One report over all clusters of a run: a table for people, JSON for programs, JUnit and CTRF for CI, one HTML file to
//! pass on. Every case of every cluster, whichever way it was told, is in [`told`]; [`side_by_side`], [`compare`] and
//! [`history`] set cases beside each other over clusters, two runs and many.

pub mod cdevents;
pub mod compare;
pub mod ctrf;
pub mod github;
pub mod history;
pub mod html;
pub mod side_by_side;
pub mod told;

use std::fmt::Write as _;

use fleet_objects::test_run::{ClusterResult, Outcome, StepResult, TestCounts, TestRunStatus};
use serde::Serialize;

use crate::junit::{Report, write};
use crate::{duration, fold};

/// Everything a report needs besides the run's status: the cases of every collected JUnit file.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    /// Cluster, step, attempt, report. What is missing is reported as the step alone, with its failed cases.
    pub reports: Vec<(String, String, u32, Report)>,
}

/// A run as the JSON report tells it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonReport<'a> {
    run: &'a str,
    outcome: Option<Outcome>,
    counts: TestCounts,
    clusters: &'a [ClusterResult],
}

/// The word for an outcome in tables.
#[must_use]
pub fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        None => "running",
        Some(Outcome::Passed) => "passed",
        Some(Outcome::Failed) => "FAILED",
        Some(Outcome::TimedOut) => "TIMED OUT",
        Some(Outcome::Skipped) => "skipped",
        Some(Outcome::NotRun) => "NOT RUN",
    }
}

/// JSON, with everything the status holds.
#[must_use]
pub fn json(run: &str, status: &TestRunStatus) -> String {
    let report = JsonReport {
        run,
        outcome: fold::outcome(&status.clusters),
        counts: status.counts,
        clusters: &status.clusters,
    };
    let mut text = serde_json::to_string_pretty(&report).expect("structs with string keys always serialise");
    text.push('\n');
    text
}

/// A table: one line per cluster and step, then the cases that failed.
#[must_use]
pub fn table(run: &str, status: &TestRunStatus) -> String {
    let header = ["CLUSTER", "STEP", "RESULT", "PASSED", "FAILED", "ERRORS", "SKIPPED", "TIME", "REASON"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for cluster in &status.clusters {
        if cluster.steps.is_empty() {
            let why = [cluster.reason.as_str(), cluster.message.as_str()].join(": ");
            let counts = ["", "", "", "", ""].map(str::to_owned);
            let mut row = vec![cluster.cluster.clone(), "-".to_owned(), word(cluster.outcome).to_owned()];
            row.extend(counts);
            row.push(why.trim_matches([':', ' ']).to_owned());
            rows.push(row);
        }
        rows.extend(cluster.steps.iter().map(|step| step_row(cluster, step)));
    }
    let mut out = columns(&rows);
    failures(&mut out, status);
    let _ = writeln!(out, "\n{run}: {}, {}", word(fold::outcome(&status.clusters)), sums(status));
    out
}

/// All clusters in one line.
fn sums(status: &TestRunStatus) -> String {
    let TestCounts { passed, failed, errors, skipped, .. } = status.counts;
    let clusters = status.clusters.len();
    format!("{passed} passed, {failed} failed, {errors} errors, {skipped} skipped in {clusters} clusters")
}

type MatrixRow<'a> = (&'a ClusterResult, Vec<Option<&'a StepResult>>);

/// The names of the steps of all clusters, in the order in which they are first met, and for each cluster its own of them.
fn matrix(status: &TestRunStatus) -> (Vec<&str>, Vec<MatrixRow<'_>>) {
    let mut names: Vec<&str> = Vec::new();
    for step in status.clusters.iter().flat_map(|cluster| &cluster.steps) {
        if !names.contains(&step.name.as_str()) {
            names.push(&step.name);
        }
    }
    let of = |cluster: &ClusterResult, name: &str| cluster.steps.iter().position(|step| step.name == name);
    let rows = status.clusters.iter().map(|cluster| {
        let steps = names.iter().map(|name| of(cluster, name).map(|index| &cluster.steps[index]));
        (cluster, steps.collect())
    });
    let rows = rows.collect();
    (names, rows)
}

fn step_row(cluster: &ClusterResult, step: &StepResult) -> Vec<String> {
    let counts = fold::step_counts(step);
    let last = step.attempts.last();
    let mut reason = last.map(|attempt| attempt.reason.clone()).unwrap_or_default();
    if step.outcome == Some(Outcome::Passed) {
        reason.clear();
    }
    if step.attempts.len() > 1 {
        let _ = write!(reason, " (attempt {})", step.attempts.len());
    }
    if step.optional {
        reason.push_str(" (optional)");
    }
    let mut row = vec![cluster.cluster.clone(), step.name.clone(), word(step.outcome).to_owned()];
    row.extend([counts.passed, counts.failed, counts.errors, counts.skipped].map(|count| count.to_string()));
    row.push(
        seconds(step)
            .map_or_else(String::new, |time| duration::display(std::time::Duration::from_secs_f64(time))),
    );
    row.push(reason.trim().to_owned());
    row
}

/// Time of all attempts together.
fn seconds(step: &StepResult) -> Option<f64> {
    let times = step.attempts.iter().filter_map(|attempt| {
        let (start, end) = (attempt.started_at.as_ref()?, attempt.finished_at.as_ref()?);
        Some(end.0.duration_since(start.0).as_secs_f64().max(0.0))
    });
    times.reduce(|sum, time| sum + time)
}

fn failures(out: &mut String, status: &TestRunStatus) {
    let mut first = true;
    for cluster in &status.clusters {
        for step in &cluster.steps {
            let Some(last) = step.attempts.last() else { continue };
            if step.outcome == Some(Outcome::Passed) && last.warnings.is_empty() {
                continue;
            }
            let mut lines = Vec::new();
            let told = last.junit.as_ref().map(|junit| junit.failures.as_slice()).unwrap_or_default();
            for case in told {
                let message = case.message.lines().next().unwrap_or_default();
                lines.push(format!("✗ {} {}: {message}", case.class_name, case.name));
            }
            if told.is_empty() && step.outcome != Some(Outcome::Passed) {
                lines.push(format!("✗ {}", last.message));
            }
            lines.extend(last.warnings.iter().map(|warning| format!("! {warning}")));
            if lines.is_empty() {
                continue;
            }
            if first {
                out.push('\n');
                first = false;
            }
            for line in lines {
                let _ = writeln!(out, "[{}] {}: {}", cluster.cluster, step.name, line);
            }
        }
    }
}

/// Lines up columns with three spaces between, as `kubectl` does; the last one is not padded.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            let pad = (widths[column] + 3).saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', pad));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// JUnit: a suite per cluster, every name made unique by `[cluster]`.
#[must_use]
pub fn junit(run: &str, status: &TestRunStatus, cases: &Cases) -> String {
    let all = told::all(run, status, cases);
    let suite = |cluster: &ClusterResult| write::Suite {
        name: cluster.cluster.clone(),
        report: Report {
            cases: all
                .iter()
                .filter(|told| told.cluster == cluster.cluster)
                .map(|told| told.case.clone())
                .collect(),
            warnings: Vec::new(),
        },
        properties: vec![
            ("fairlead.cluster".to_owned(), cluster.cluster.clone()),
            ("fairlead.outcome".to_owned(), word(cluster.outcome).to_owned()),
        ],
    };
    let suites: Vec<_> = status.clusters.iter().map(suite).collect();
    write::report(run, &suites)
}

#[cfg(test)]
mod tests;
