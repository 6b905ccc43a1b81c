//! What GitHub Actions shows: Markdown for a job's summary.

use std::fmt::Write as _;

use fleet_objects::test_run::{Outcome, StepResult, TestRunStatus};

use super::{matrix, seconds, sums, word};
use crate::{duration, fold, junit};

/// Bytes of a summary; GitHub takes 1 MiB for all steps of a job.
const MAX_BYTES: usize = 256 * 1024;
/// Failed cases shown of one step.
const MAX_CASES: usize = 20;

/// A matrix of steps by clusters, then what failed.
#[must_use]
pub fn summary(run: &str, status: &TestRunStatus) -> String {
    let mut out = format!("## {} {}\n\n", mark(fold::outcome(&status.clusters)), text(run));
    let _ = writeln!(out, "{}\n", sums(status));
    steps_by_clusters(&mut out, status);
    failures(&mut out, status);
    if out.len() > MAX_BYTES {
        out = junit::cut(&out, MAX_BYTES);
        out.push_str("\n\n… cut here: the report is longer than a summary may be.\n");
    }
    out
}

fn steps_by_clusters(out: &mut String, status: &TestRunStatus) {
    let (names, rows) = matrix(status);
    let head: String = names.iter().map(|name| format!(" {} |", text(name))).collect();
    let _ = writeln!(out, "| cluster |{head} result |");
    let _ = writeln!(out, "|---|{}---|", "---|".repeat(names.len()));
    for (cluster, steps) in rows {
        let cells: String =
            steps.into_iter().map(|step| format!(" {} |", step.map_or_else(String::new, cell))).collect();
        let result = format!("{} {}", mark(cluster.outcome), text(&cluster.message));
        let _ = writeln!(out, "| {} |{cells} {} |", text(&cluster.cluster), result.trim());
    }
}

fn cell(step: &StepResult) -> String {
    let mut cell = mark(step.outcome).to_owned();
    if let Some(time) = seconds(step) {
        let _ = write!(cell, " {}", duration::display(std::time::Duration::from_secs_f64(time)));
    }
    if step.attempts.len() > 1 {
        let _ = write!(cell, " ({} attempts)", step.attempts.len());
    }
    cell
}

fn failures(out: &mut String, status: &TestRunStatus) {
    let wrong = |step: &&StepResult| {
        matches!(step.outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::NotRun))
    };
    for cluster in &status.clusters {
        for step in cluster.steps.iter().filter(wrong) {
            let Some(last) = step.attempts.last() else { continue };
            let title = format!("{} / {}", text(&cluster.cluster), text(&step.name));
            let _ = writeln!(
                out,
                "\n<details open><summary>{} {title}: {}</summary>\n",
                word(step.outcome),
                text(&last.message)
            );
            for case in last.junit.iter().flat_map(|junit| &junit.failures).take(MAX_CASES) {
                let name = [case.class_name.as_str(), case.name.as_str()].join(" ");
                let _ = writeln!(out, "- **{}**\n\n```\n{}\n```", text(name.trim()), fenced(&case.message));
            }
            out.push_str("\n</details>\n");
        }
    }
}

fn mark(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "✅",
        Some(Outcome::Failed) => "❌",
        Some(Outcome::TimedOut) => "⌛",
        Some(Outcome::Skipped) => "⏭️",
        Some(Outcome::NotRun) => "⚠️",
        None => "⏳",
    }
}

/// Text in a cell or heading: nothing of it is Markdown or HTML.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => {
                out.push('\\');
                out.push(character);
            }
            other => out.push(other),
        }
    }
    out
}

/// Text that cannot end the fence it stands in.
fn fenced(raw: &str) -> String {
    raw.replace("```", "'''")
}
