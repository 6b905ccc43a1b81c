//! Writes JUnit that GitLab, Jenkins and the GitHub reporters read alike: one `testsuite` per cluster. Case names carry
//! the cluster, because GitLab drops all but one of equal names.

use std::fmt::Write as _;

use super::{CaseOutcome, Report};

/// The cases of one cluster.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Name of the suite, usually the cluster's.
    pub name: String,
    /// Its cases.
    pub report: Report,
    /// Name and value pairs to keep with it.
    pub properties: Vec<(String, String)>,
}

/// Writes a report of several suites. Names are made unique: ` [suite]`, then ` #2` and so on, is appended.
#[must_use]
pub fn report(name: &str, suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut total = fleet_objects::test_run::TestCounts::default();
    let mut seconds = 0.0;
    for suite in suites {
        super::add_counts(&mut total, suite.report.counts());
        seconds += time_of(&suite.report);
    }
    let head = totals(total, seconds);
    let _ = writeln!(out, "<testsuites name=\"{}\" {head}>", escape(name));
    let mut names = std::collections::HashMap::<(String, String), u32>::new();
    for suite in suites {
        write_suite(&mut out, suite, &mut names);
    }
    out.push_str("</testsuites>\n");
    out
}

fn write_suite(
    out: &mut String,
    suite: &Suite,
    names: &mut std::collections::HashMap<(String, String), u32>,
) {
    let head = totals(suite.report.counts(), time_of(&suite.report));
    let _ = writeln!(out, "  <testsuite name=\"{}\" {head}>", escape(&suite.name));
    if !suite.properties.is_empty() {
        out.push_str("    <properties>\n");
        for (name, value) in &suite.properties {
            let _ = writeln!(out, "      <property name=\"{}\" value=\"{}\"/>", escape(name), escape(value));
        }
        out.push_str("    </properties>\n");
    }
    for case in &suite.report.cases {
        let class = if case.class_name.is_empty() { &case.suite } else { &case.class_name };
        let mut name = format!("{} [{}]", case.name, suite.name);
        let count = names.entry((class.clone(), name.clone())).or_default();
        *count += 1;
        if *count > 1 {
            let _ = write!(name, " #{count}");
        }
        let _ = write!(
            out,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escape(class),
            escape(&name),
            case.seconds
        );
        match &case.outcome {
            CaseOutcome::Passed => out.push_str("/>\n"),
            CaseOutcome::Failed { message } => element(out, "failure", message),
            CaseOutcome::Error { message } => element(out, "error", message),
            CaseOutcome::Skipped { message } => element(out, "skipped", message),
        }
    }
    out.push_str("  </testsuite>\n");
}

fn element(out: &mut String, name: &str, message: &str) {
    let first = message.lines().next().unwrap_or_default();
    let _ = writeln!(
        out,
        ">\n      <{name} message=\"{}\">{}</{name}>\n    </testcase>",
        escape(first),
        escape(message)
    );
}

fn totals(counts: fleet_objects::test_run::TestCounts, seconds: f64) -> String {
    let tests = u64::from(counts.passed)
        + u64::from(counts.failed)
        + u64::from(counts.errors)
        + u64::from(counts.skipped);
    format!(
        "tests=\"{tests}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\"",
        counts.failed, counts.errors, counts.skipped
    )
}

fn time_of(report: &Report) -> f64 {
    report.cases.iter().map(|case| case.seconds).sum()
}

/// Escapes for text and attributes; what XML 1.0 cannot hold at all becomes U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Case, read};
    use super::*;

    fn case(name: &str, outcome: CaseOutcome) -> Case {
        Case { suite: "s".into(), class_name: "c".into(), name: name.into(), seconds: 0.25, outcome }
    }

    #[test]
    fn names_are_unique_and_carry_the_cluster() {
        let report_of = |names: &[&str]| Report {
            cases: names.iter().map(|name| case(name, CaseOutcome::Passed)).collect(),
            warnings: Vec::new(),
        };
        let suite =
            |name: &str| Suite { name: name.into(), report: report_of(&["a", "a"]), properties: Vec::new() };
        let text = report("smoke", &[suite("dev"), suite("prod")]);
        let read = read::report(text.as_bytes()).expect("own output");
        let names: Vec<_> = read.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["a [dev]", "a [dev] #2", "a [prod]", "a [prod] #2"]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(messages in proptest::collection::vec("[ -~\u{e4}\u{1f600}]{1,30}", 1..6)) {
            let cases = messages.iter().map(|message| case(message.trim(), CaseOutcome::Failed { message: message.clone() }));
            let suite = Suite { name: "dev".into(), report: Report { cases: cases.collect(), warnings: vec![] }, properties: vec![] };
            let read = read::report(report("r", std::slice::from_ref(&suite)).as_bytes()).expect("own output");
            prop_assert_eq!(read.counts(), suite.report.counts());
            for (before, after) in suite.report.cases.iter().zip(&read.cases) {
                prop_assert!(after.name.starts_with(&before.name));
            }
        }
    }
}
