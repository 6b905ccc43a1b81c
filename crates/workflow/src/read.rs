//! Reads reports of test runners, whatever their format: JUnit XML, CTRF, TAP, `go test -json` and k6 summaries. The
//! format is told by the content; names of files say too little (`report.json` may be three of them).

mod ctrf;
mod go_json;
mod k6;
mod tap;

use serde_json::Value;

use crate::junit::{self, Report};

/// Bytes of one case's message that are kept.
const MAX_TEXT: usize = 16 * 1024;

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JUnit XML.
    Junit,
    /// Common Test Report Format.
    Ctrf,
    /// Test Anything Protocol.
    Tap,
    /// Events of `go test -json`.
    GoTest,
    /// A summary of k6.
    K6,
}

/// Why a file is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a test report: it is none of JUnit XML, CTRF, TAP, go test -json, a k6 summary")]
pub struct NotAReport;

/// Reads a report. Cases are counted as they are found; totals that a file claims are not believed.
///
/// # Errors
/// When it has none of the formats.
pub fn report(content: &[u8]) -> Result<Report, NotAReport> {
    let text = String::from_utf8_lossy(content);
    let text = text.trim_start_matches('\u{feff}');
    let format = format(text).ok_or(NotAReport)?;
    let read = match format {
        Format::Junit => junit::read::report(content).ok(),
        Format::Ctrf => serde_json::from_str(text).ok().and_then(|value: Value| ctrf::report(&value)),
        Format::K6 => serde_json::from_str(text).ok().and_then(|value: Value| k6::report(&value)),
        Format::GoTest => Some(go_json::report(text)),
        Format::Tap => Some(tap::report(text)),
    };
    read.ok_or(NotAReport)
}

/// What a text looks like.
#[must_use]
pub fn format(text: &str) -> Option<Format> {
    let start = text.trim_start();
    match start.chars().next()? {
        '<' => Some(Format::Junit),
        '{' => match serde_json::from_str::<Value>(start) {
            Ok(whole) if whole["results"]["tests"].is_array() => Some(Format::Ctrf),
            Ok(whole) if whole["metrics"].is_object() => Some(Format::K6),
            // One event alone is a whole document too.
            Ok(whole) => is_go_event(&whole).then_some(Format::GoTest),
            Err(_) => {
                let first: Value = serde_json::from_str(start.lines().next()?).ok()?;
                is_go_event(&first).then_some(Format::GoTest)
            }
        },
        _ => tap::looks_like(start).then_some(Format::Tap),
    }
}

fn is_go_event(value: &Value) -> bool {
    value["Action"].is_string() && (value["Package"].is_string() || value["ImportPath"].is_string())
}

/// Cuts a message to what is kept.
fn message(text: &str) -> String {
    junit::cut(text.trim(), MAX_TEXT)
}

#[cfg(test)]
mod tests;
