//! Test Anything Protocol, versions 12 to 14, <https://testanything.org>.
//!
//! A test point whose subtests were told (indented, before it) is their sum and not counted again, unless it fails and
//! none of them does.

use super::message;
use crate::junit::read::MAX_CASES;
use crate::junit::{Case, CaseOutcome, Report};

/// Spaces of one level of subtests.
const INDENT: usize = 4;

/// Whether a text begins as TAP does.
pub(super) fn looks_like(text: &str) -> bool {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .take(1)
        .any(|line| line.starts_with("TAP version ") || plan(line).is_some() || point(line).is_some())
}

#[derive(Default)]
struct Read {
    report: Report,
    /// Index of the first case of each open level of subtests.
    levels: Vec<usize>,
    planned: Option<usize>,
    points: usize,
    /// A YAML block with more about the last point.
    block: Option<String>,
}

/// Reads all of it.
pub(super) fn report(text: &str) -> Report {
    let mut read = Read::default();
    for line in text.lines() {
        read.line(line);
    }
    let Read { mut report, planned, points, .. } = read;
    if let Some(planned) = planned.filter(|planned| *planned > points) {
        let message = format!("{planned} tests are planned, {points} were told");
        report.cases.push(case("plan", CaseOutcome::Error { message }));
    }
    report
}

impl Read {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        if let Some(block) = &mut self.block {
            if trimmed == "..." {
                let block = self.block.take().unwrap_or_default();
                self.explain(&block);
            } else if block.len() < super::MAX_TEXT {
                block.push_str(line);
                block.push('\n');
            }
            return;
        }
        let level = (line.len() - line.trim_start_matches(' ').len()) / INDENT;
        if trimmed == "---" {
            self.block = Some(String::new());
        } else if let Some(reason) = trimmed.strip_prefix("Bail out!") {
            let outcome = CaseOutcome::Error { message: message(reason) };
            self.report.cases.push(case("bail out", outcome));
        } else if let Some(count) = plan(trimmed) {
            if level == 0 {
                self.planned = Some(count);
            }
        } else if let Some((ok, description)) = point(trimmed) {
            self.point(level, ok, description);
        }
    }

    fn point(&mut self, level: usize, ok: bool, description: &str) {
        if level == 0 {
            self.points += 1;
        }
        if self.report.cases.len() >= MAX_CASES {
            return;
        }
        let (name, directive) = split_directive(description);
        let here = self.report.cases.len();
        // What was told below this point since the last one of its level.
        let below = self.levels.get(level + 1).copied().filter(|first| *first < here);
        self.levels.resize(level + 1, here);
        if let Some(first) = below {
            let told = self.report.cases[first..].iter().any(is_wrong);
            for inner in &mut self.report.cases[first..] {
                inner.suite =
                    if inner.suite.is_empty() { name.to_owned() } else { format!("{name}/{}", inner.suite) };
            }
            self.levels[level] = self.levels[level].min(first);
            if ok || told {
                return;
            }
        }
        let outcome = match (directive, ok) {
            (Some(("skip", why)), _) => CaseOutcome::Skipped { message: message(why) },
            (Some((_, why)), false) => CaseOutcome::Skipped { message: message(&format!("TODO {why}")) },
            (_, true) => CaseOutcome::Passed,
            (_, false) => CaseOutcome::Failed { message: String::new() },
        };
        self.report.cases.push(case(name, outcome));
    }

    fn explain(&mut self, block: &str) {
        if let Some(Case { outcome: CaseOutcome::Failed { message: told }, .. }) =
            self.report.cases.last_mut()
        {
            *told = message(block);
        }
    }
}

fn is_wrong(case: &Case) -> bool {
    matches!(case.outcome, CaseOutcome::Failed { .. } | CaseOutcome::Error { .. })
}

fn case(name: &str, outcome: CaseOutcome) -> Case {
    Case { suite: String::new(), class_name: String::new(), name: name.to_owned(), seconds: 0.0, outcome }
}

/// `1..N`, perhaps with a comment.
fn plan(line: &str) -> Option<usize> {
    line.strip_prefix("1..")?.split_whitespace().next()?.parse().ok()
}

/// `ok 1 - description`, `not ok description`.
fn point(line: &str) -> Option<(bool, &str)> {
    let (ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start().trim_start_matches(|character: char| character.is_ascii_digit());
    Some((ok, rest.trim_start().trim_start_matches("- ").trim()))
}

/// Splits `name # SKIP reason`.
fn split_directive(description: &str) -> (&str, Option<(&'static str, &str)>) {
    let Some((name, comment)) = description.rsplit_once('#') else { return (description, None) };
    let comment = comment.trim_start();
    for word in ["skip", "todo"] {
        let found = comment.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if found {
            return (name.trim_end(), Some((word, comment[word.len()..].trim())));
        }
    }
    (description, None)
}
