//! What `policy test` found, as JUnit.

use std::collections::BTreeMap;

use workflow::junit::{Case, Report, write};

/// A suite for each that the cases name.
pub(super) fn document(cases: impl Iterator<Item = Case>) -> String {
    let mut suites: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases {
        suites.entry(case.suite.clone()).or_default().push(case);
    }
    let suite = |(name, cases)| write::Suite {
        name,
        report: Report { cases, warnings: Vec::new() },
        properties: Vec::new(),
    };
    write::report("policy test", &suites.into_iter().map(suite).collect::<Vec<_>>())
}
