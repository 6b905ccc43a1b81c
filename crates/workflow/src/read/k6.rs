//! Summaries of k6: `--summary-export` and what `handleSummary` is given.
//!
//! Thresholds decide, as they decide k6's exit code; a check that failed now and then is a warning beside them. Where a
//! script has no thresholds its checks decide.

use serde_json::Value;

use crate::junit::{Case, CaseOutcome, Report};

/// Groups within groups that are looked into.
const MAX_DEPTH: usize = 32;

/// Reads a summary; `None` when it holds no metrics.
pub(super) fn report(document: &Value) -> Option<Report> {
    let metrics = document["metrics"].as_object()?;
    let mut report = Report::default();
    for (metric, value) in metrics {
        for (threshold, verdict) in value["thresholds"].as_object().into_iter().flatten() {
            // The export says whether it failed, the summary's data whether it is right.
            let failed = match verdict {
                Value::Bool(failed) => *failed,
                other => !other["ok"].as_bool().unwrap_or(false),
            };
            let message = format!("threshold {threshold} of {metric} is crossed: {}", figures(value));
            report.cases.push(Case {
                suite: "thresholds".to_owned(),
                class_name: metric.clone(),
                name: threshold.clone(),
                seconds: 0.0,
                outcome: if failed { CaseOutcome::Failed { message } } else { CaseOutcome::Passed },
            });
        }
    }
    let decide = report.cases.is_empty();
    checks(&document["root_group"], "checks", decide, &mut report, 0);
    Some(report)
}

/// The figures of a metric, whichever way they are kept.
fn figures(metric: &Value) -> String {
    let values = if metric["values"].is_object() { &metric["values"] } else { metric };
    let numbers = values.as_object().into_iter().flatten().filter(|(_, value)| value.is_number());
    numbers.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn checks(group: &Value, path: &str, decide: bool, report: &mut Report, depth: usize) {
    for check in members(&group["checks"]) {
        let name = check["name"].as_str().unwrap_or_default();
        let (passes, fails) = (check["passes"].as_u64().unwrap_or(0), check["fails"].as_u64().unwrap_or(0));
        let message = format!("{fails} of {} failed", passes.saturating_add(fails));
        let outcome = match fails {
            0 => CaseOutcome::Passed,
            _ if decide => CaseOutcome::Failed { message },
            _ => {
                report.warnings.push(format!("check {name:?}: {message}; thresholds decide"));
                CaseOutcome::Passed
            }
        };
        report.cases.push(Case {
            suite: path.to_owned(),
            class_name: String::new(),
            name: name.to_owned(),
            seconds: 0.0,
            outcome,
        });
    }
    if depth < MAX_DEPTH {
        for inner in members(&group["groups"]) {
            let name = inner["name"].as_str().unwrap_or_default();
            checks(inner, &format!("{path}/{name}"), decide, report, depth + 1);
        }
    }
}

/// A map by name in the export, a list elsewhere.
fn members(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(all) => all.iter().collect(),
        Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    }
}
