//! Events of `go test -json` (cmd/test2json).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::message;
use crate::junit::read::MAX_CASES;
use crate::junit::{Case, CaseOutcome, Report};

/// Bytes of one test's output that are gathered.
const MAX_OUTPUT: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    import_path: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    output: String,
    #[serde(default)]
    elapsed: f64,
}

/// What is known of a test, or of a package by an empty name.
#[derive(Default)]
struct Known {
    order: usize,
    output: String,
    ended: Option<(String, f64)>,
}

/// Reads the events; lines that are none (a build's output) are counted in a warning.
pub(super) fn report(text: &str) -> Report {
    let mut known: BTreeMap<(String, String), Known> = BTreeMap::new();
    let (mut odd, mut dropped) = (0_u64, false);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            odd += 1;
            continue;
        };
        let package = if event.package.is_empty() { event.import_path } else { event.package };
        let key = (package, event.test);
        if known.len() >= MAX_CASES && !known.contains_key(&key) {
            dropped = true;
            continue;
        }
        let order = known.len();
        let entry = known.entry(key).or_insert_with(|| Known { order, ..Known::default() });
        match event.action.as_str() {
            "output" | "build-output" if entry.output.len() < MAX_OUTPUT => {
                entry.output.push_str(&event.output);
            }
            "pass" | "fail" | "skip" | "build-fail" => entry.ended = Some((event.action, event.elapsed)),
            _ => {}
        }
    }
    let mut report = cases(&known);
    if odd > 0 {
        report.warnings.push(format!("{odd} lines are no events of go test"));
    }
    if dropped {
        report.warnings.push(format!("only the first {MAX_CASES} tests are kept"));
    }
    report
}

fn cases(known: &BTreeMap<(String, String), Known>) -> Report {
    let mut ordered: Vec<_> = known.iter().collect();
    ordered.sort_by_key(|(_, entry)| entry.order);
    let mut report = Report::default();
    for ((package, test), entry) in ordered {
        let failed_inside = |entry: &Known| entry.ended.as_ref().is_none_or(|(action, _)| action == "fail");
        let told = || {
            let mut inside = known.iter().filter(|((of, name), _)| of == package && !name.is_empty());
            inside.any(|(_, entry)| failed_inside(entry))
        };
        let action = entry.ended.as_ref().map(|(action, _)| action.as_str());
        // A package is no case of its own, unless it failed (or did not end) and no test says why.
        if test.is_empty() && (matches!(action, Some("pass" | "skip")) || told()) {
            continue;
        }
        let output = || message(&entry.output);
        let outcome = match action {
            Some("pass") => CaseOutcome::Passed,
            Some("skip") => CaseOutcome::Skipped { message: output() },
            Some("fail") if !test.is_empty() => CaseOutcome::Failed { message: output() },
            Some(_) => CaseOutcome::Error { message: output() },
            None => CaseOutcome::Error { message: format!("it did not end\n{}", output()).trim().to_owned() },
        };
        report.cases.push(Case {
            suite: package.clone(),
            class_name: package.clone(),
            name: if test.is_empty() { "package".to_owned() } else { test.clone() },
            seconds: entry.ended.as_ref().map_or(0.0, |(_, elapsed)| elapsed.max(0.0)),
            outcome,
        });
    }
    report
}
