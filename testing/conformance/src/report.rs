//! Outcomes as a table for people, and as JUnit for machines; the cases beside Kubernetes' own tests as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use crate::case::{Case, Outcome};
use crate::official;

/// One case's outcome and how long it took.
pub type Result = (Case, Outcome, Duration);

/// A line for each case, and the sums.
#[must_use]
pub fn table(results: &[Result]) -> String {
    let mut out = String::new();
    for (case, outcome, took) in results {
        // Writing to a String cannot fail, here and below.
        let _ = match outcome {
            Outcome::Passed => writeln!(out, "ok    {} ({} ms)", case.name, took.as_millis()),
            Outcome::Skipped(why) => writeln!(out, "skip  {}: {why}", case.name),
            Outcome::Failed(why) => writeln!(out, "FAIL  {}: {why}", case.name),
        };
    }
    let count =
        |wanted: fn(&Outcome) -> bool| results.iter().filter(|(_, outcome, _)| wanted(outcome)).count();
    let _ = writeln!(
        out,
        "{} passed, {} failed, {} skipped",
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        count(|outcome| matches!(outcome, Outcome::Skipped(_))),
    );
    out
}

/// The same for machines.
#[must_use]
pub fn junit(results: &[Result]) -> String {
    let failed = results.iter().filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_))).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"conformance\" tests=\"{}\" failures=\"{failed}\">\n",
        results.len()
    );
    for (case, outcome, took) in results {
        let _ = write!(out, "<testcase name=\"{}\" time=\"{:.3}\">", escaped(case.name), took.as_secs_f64());
        let _ = match outcome {
            Outcome::Passed => Ok(()),
            Outcome::Skipped(why) => write!(out, "<skipped message=\"{}\"/>", escaped(why)),
            Outcome::Failed(why) => write!(out, "<failure message=\"{}\"/>", escaped(why)),
        };
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Which of our cases says what which of Kubernetes' conformance tests says.
#[must_use]
pub fn mapping(cases: &[Case]) -> String {
    let mut out = String::from(
        "# Conformance cases and Kubernetes' own tests\n\nWritten by `cargo run -p conformance -- --mapping`. A case without \
         an official test asserts what clients depend on and no official test looks at.\n\n| case | official tests |\n|---|---|\n",
    );
    for case in cases {
        let _ = writeln!(out, "| {} | {} |", case.name, case.official.join("<br>"));
    }
    let official::Coverage { covered, missing } = official::coverage(cases);
    let _ = writeln!(
        out,
        "\n{} of the {} official tests that need an API server alone are covered.",
        covered.len(),
        covered.len() + missing.len()
    );
    if !missing.is_empty() {
        out.push_str("Not yet:\n\n");
        missing.iter().for_each(|title| out.push_str(&format!("- {title}\n")));
    }
    out
}
