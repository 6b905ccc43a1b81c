//! One report over all clusters of a run: a table for people, JSON for programs, JUnit for CI.

pub mod github;

use std::fmt::Write as _;

use fleet_objects::test_run::{ClusterResult, Outcome, StepResult, TestRunStatus};
use serde::Serialize;

use crate::junit::{Case, CaseOutcome, Report, write};
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
    counts: fleet_objects::test_run::TestCounts,
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
    let counts = status.counts;
    let _ = writeln!(
        out,
        "\n{run}: {}, {} passed, {} failed, {} errors, {} skipped in {} clusters",
        word(fold::outcome(&status.clusters)),
        counts.passed,
        counts.failed,
        counts.errors,
        counts.skipped,
        status.clusters.len()
    );
    out
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
    let suites: Vec<_> = status.clusters.iter().map(|cluster| suite(run, cluster, cases)).collect();
    write::report(run, &suites)
}

fn suite(run: &str, cluster: &ClusterResult, cases: &Cases) -> write::Suite {
    let mut report = Report::default();
    for step in &cluster.steps {
        let last = step.attempts.last().map_or(0, |attempt| attempt.attempt);
        let found = cases.reports.iter().filter(|(name, of, attempt, _)| {
            *name == cluster.cluster && *of == step.name && *attempt == last
        });
        let mut told = false;
        for (.., file) in found {
            told |= file
                .cases
                .iter()
                .any(|case| !matches!(case.outcome, CaseOutcome::Passed | CaseOutcome::Skipped { .. }));
            report.cases.extend(file.cases.iter().cloned().map(|mut case| {
                case.class_name = class(&step.name, &case);
                case
            }));
        }
        let any = report.cases.iter().any(|case| {
            case.class_name == step.name || case.class_name.starts_with(&format!("{}.", step.name))
        });
        let quiet = matches!(step.outcome, Some(Outcome::Passed)) && any;
        if !quiet && !told {
            report.cases.extend(step_cases(step));
        }
    }
    if cluster.steps.is_empty() {
        report.cases.push(Case {
            suite: cluster.cluster.clone(),
            class_name: run.to_owned(),
            name: "run".to_owned(),
            seconds: 0.0,
            outcome: outcome(cluster.outcome, &format!("{}: {}", cluster.reason, cluster.message)),
        });
    }
    let properties = vec![
        ("fairlead.cluster".to_owned(), cluster.cluster.clone()),
        ("fairlead.outcome".to_owned(), word(cluster.outcome).to_owned()),
    ];
    write::Suite { name: cluster.cluster.clone(), report, properties }
}

fn class(step: &str, case: &Case) -> String {
    let class = if case.class_name.is_empty() { &case.suite } else { &case.class_name };
    if class.is_empty() { step.to_owned() } else { format!("{step}.{class}") }
}

/// A step told without its files: the failed cases that its summary names, or the step as one case.
fn step_cases(step: &StepResult) -> Vec<Case> {
    let last = step.attempts.last();
    let named = last.and_then(|attempt| attempt.junit.as_ref()).map(|junit| junit.failures.as_slice());
    if let Some(failures) = named.filter(|failures| !failures.is_empty()) {
        return failures
            .iter()
            .map(|failed| {
                let mut case = Case {
                    suite: failed.suite.clone(),
                    class_name: failed.class_name.clone(),
                    name: failed.name.clone(),
                    seconds: 0.0,
                    outcome: CaseOutcome::Failed { message: failed.message.clone() },
                };
                case.class_name = class(&step.name, &case);
                case
            })
            .collect();
    }
    let message = last.map(|attempt| format!("{}: {}", attempt.reason, attempt.message)).unwrap_or_default();
    vec![Case {
        suite: String::new(),
        class_name: step.name.clone(),
        name: "step".to_owned(),
        seconds: seconds(step).unwrap_or(0.0),
        outcome: outcome(step.outcome, &message),
    }]
}

fn outcome(outcome: Option<Outcome>, message: &str) -> CaseOutcome {
    let message = message.trim_matches([':', ' ']).to_owned();
    match outcome {
        Some(Outcome::Passed) => CaseOutcome::Passed,
        Some(Outcome::Failed) => CaseOutcome::Failed { message },
        Some(Outcome::Skipped) => CaseOutcome::Skipped { message },
        Some(Outcome::TimedOut | Outcome::NotRun) => CaseOutcome::Error { message },
        None => CaseOutcome::Error { message: "has not ended".to_owned() },
    }
}
