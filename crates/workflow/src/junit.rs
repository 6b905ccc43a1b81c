//! JUnit XML, for which there is no specification: a reader that takes files as they come and counts for itself, and a
//! writer of the subset that CI systems agree on.

pub mod read;
pub mod write;

use fleet_objects::test_run::{FailedCase, JunitSummary, TestCounts};

/// Failed cases that a summary names.
pub const MAX_FAILURES: usize = 50;
/// Bytes of a failed case's message in a summary.
pub const MAX_MESSAGE: usize = 1024;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// It passed.
    Passed,
    /// An assertion failed.
    Failed {
        /// What it says.
        message: String,
    },
    /// It broke.
    Error {
        /// What it says.
        message: String,
    },
    /// It was left out.
    Skipped {
        /// Why; often empty.
        message: String,
    },
}

/// One test case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The suite that holds it, nested names joined by `/`.
    pub suite: String,
    /// The class or file it belongs to; may be empty.
    pub class_name: String,
    /// Its name.
    pub name: String,
    /// In seconds.
    pub seconds: f64,
    /// How it ended.
    pub outcome: CaseOutcome,
}

/// The cases of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In the file's order.
    pub cases: Vec<Case>,
    /// What is odd about the file.
    pub warnings: Vec<String>,
}

impl Report {
    /// Counts the cases.
    #[must_use]
    pub fn counts(&self) -> TestCounts {
        let mut counts = TestCounts::default();
        for case in &self.cases {
            let counter = match case.outcome {
                CaseOutcome::Passed => &mut counts.passed,
                CaseOutcome::Failed { .. } => &mut counts.failed,
                CaseOutcome::Error { .. } => &mut counts.errors,
                CaseOutcome::Skipped { .. } => &mut counts.skipped,
            };
            *counter = counter.saturating_add(1);
        }
        counts
    }

    /// Adds what this report says to a summary.
    pub fn add_to(&self, summary: &mut JunitSummary) {
        add_counts(&mut summary.counts, self.counts());
        for case in &self.cases {
            let (CaseOutcome::Failed { message } | CaseOutcome::Error { message }) = &case.outcome else {
                continue;
            };
            if summary.failures.len() >= MAX_FAILURES {
                summary.omitted = summary.omitted.saturating_add(1);
                continue;
            }
            summary.failures.push(FailedCase {
                suite: cut(&case.suite, MAX_MESSAGE),
                class_name: cut(&case.class_name, MAX_MESSAGE),
                name: cut(&case.name, MAX_MESSAGE),
                message: cut(message, MAX_MESSAGE),
            });
        }
    }
}

/// Adds up.
pub fn add_counts(sum: &mut TestCounts, more: TestCounts) {
    sum.passed = sum.passed.saturating_add(more.passed);
    sum.failed = sum.failed.saturating_add(more.failed);
    sum.errors = sum.errors.saturating_add(more.errors);
    sum.skipped = sum.skipped.saturating_add(more.skipped);
}

/// The longest beginning of at most `bytes` bytes that is whole characters.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
