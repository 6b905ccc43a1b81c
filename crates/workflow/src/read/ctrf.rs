//! Common Test Report Format, <https://ctrf.io>.

use serde_json::Value;

use super::message;
use crate::junit::read::MAX_CASES;
use crate::junit::{Case, CaseOutcome, Report};

/// Reads `results.tests`; `None` when there is no such list.
pub(super) fn report(document: &Value) -> Option<Report> {
    let tests = document["results"]["tests"].as_array()?;
    let mut report = Report::default();
    if tests.len() > MAX_CASES {
        report.warnings.push(format!("only the first {MAX_CASES} of {} tests are kept", tests.len()));
    }
    report.cases = tests.iter().take(MAX_CASES).map(case).collect();
    Some(report)
}

fn case(test: &Value) -> Case {
    let text = |name: &str| test[name].as_str().unwrap_or_default();
    // A list since 0.0.13, a string before.
    let suite = match &test["suite"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/"),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let told = [text("message"), text("trace")].join("\n");
    let told = message(&told);
    let outcome = match text("status") {
        "passed" => CaseOutcome::Passed,
        "failed" => CaseOutcome::Failed { message: told },
        "skipped" | "pending" => CaseOutcome::Skipped { message: told },
        other => CaseOutcome::Error {
            message: if told.is_empty() { format!("its status is {other:?}") } else { told },
        },
    };
    Case {
        suite,
        class_name: text("filePath").to_owned(),
        name: text("name").to_owned(),
        seconds: test["duration"].as_f64().unwrap_or(0.0).max(0.0) / 1000.0,
        outcome,
    }
}
