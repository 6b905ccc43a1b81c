//! A run as one CTRF document (<https://ctrf.io>): every case with its cluster as a label and as the top of its suite.

use fleet_objects::test_run::TestRunStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::Cases;
use super::told::{self, Told};
use crate::junit::CaseOutcome;

/// The version of the specification that is written.
const SPEC_VERSION: &str = "1.0.0";

/// The document, ending with a new line. `run_uid` ties the documents of one run together.
#[must_use]
pub fn report(run: &str, run_uid: &str, status: &TestRunStatus, cases: &Cases) -> String {
    let all = told::all(run, status, cases);
    let count = |word: &str| all.iter().filter(|told| word_of(told) == word).count();
    let start = status.clusters.iter().filter_map(|cluster| cluster.started_at.as_ref()).map(millis).min();
    let stop = status.clusters.iter().filter_map(|cluster| cluster.finished_at.as_ref()).map(millis).max();
    let (start, stop) = (start.unwrap_or(0), stop.or(start).unwrap_or(0));
    let mut document = json!({
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "generatedBy": "fairlead",
        "results": {
            "tool": {"name": "fairlead", "version": env!("CARGO_PKG_VERSION")},
            "summary": {
                "tests": all.len(),
                "passed": count("passed"),
                "failed": count("failed"),
                "skipped": count("skipped"),
                "pending": 0,
                "other": count("other"),
                "flaky": all.iter().filter(|told| is_flaky(told)).count(),
                "suites": status.clusters.len(),
                "start": start,
                "stop": stop,
                "duration": (stop - start).max(0),
            },
            "tests": all.iter().map(test).collect::<Vec<_>>(),
            "environment": {"reportName": run},
        },
    });
    if !run_uid.is_empty() {
        document["runId"] = run_uid.into();
    }
    let mut text = serde_json::to_string_pretty(&document).expect("a tree of JSON always serialises");
    text.push('\n');
    text
}

fn test(told: &Told) -> Value {
    let suite: Vec<&str> = [told.cluster.as_str(), told.step.as_str(), told.case.suite.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let mut test = json!({
        "name": if told.case.name.is_empty() { "(no name)" } else { told.case.name.as_str() },
        "status": word_of(told),
        "duration": (told.case.seconds * 1000.0).round().clamp(0.0, 1e15) as u64,
        "suite": suite,
        "labels": {"cluster": told.cluster, "class": told.case.class_name},
    });
    if !told.message().is_empty() {
        test["message"] = told.message().into();
    }
    if told.attempts > 1 {
        test["retries"] = (told.attempts - 1).into();
        test["flaky"] = is_flaky(told).into();
    }
    test
}

/// Passed after one or more failed attempts.
fn is_flaky(told: &Told) -> bool {
    told.attempts > 1 && told.case.outcome == CaseOutcome::Passed
}

fn word_of(told: &Told) -> &'static str {
    match told.case.outcome {
        CaseOutcome::Passed => "passed",
        CaseOutcome::Failed { .. } => "failed",
        CaseOutcome::Skipped { .. } => "skipped",
        CaseOutcome::Error { .. } => "other",
    }
}

fn millis(time: &Time) -> i64 {
    time.0.as_millisecond()
}
