//! Reads JUnit as test runners write it: any nesting, any root, wrong totals, unknown elements, unclosed tags, odd
//! encodings. What cannot be read is said in a warning; what could be read is kept.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Case, CaseOutcome, Report, cut};

/// Cases of one file: at some 200 bytes each, 20 MB of memory.
pub const MAX_CASES: usize = 100_000;
/// Bytes of one case's message that are kept.
const MAX_TEXT: usize = 16 * 1024;
/// Suites within suites whose names are kept.
const MAX_DEPTH: usize = 64;

/// Why a file is not a JUnit report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JUnit report: it holds neither a test suite nor a test case")]
pub struct NotJunit;

/// Reads a report.
///
/// # Errors
/// When nothing in it is JUnit.
pub fn report(content: &[u8]) -> Result<Report, NotJunit> {
    let text = String::from_utf8_lossy(content);
    let mut walk = Walk::default();
    walk.all(text.trim_start_matches('\u{feff}'));
    if walk.seen { Ok(walk.report) } else { Err(NotJunit) }
}

/// A suite that is open.
struct Suite {
    name: String,
    /// Failures and errors its attributes claim.
    claimed: u64,
    /// Cases that were seen in it or below.
    cases: usize,
}

#[derive(Default)]
struct Walk {
    report: Report,
    seen: bool,
    suites: Vec<Suite>,
    case: Option<Case>,
    result: Option<ResultElement>,
}

/// A `failure`, `error` or `skipped` that is open.
struct ResultElement {
    kind: String,
    target: Target,
    message: String,
    text: String,
}

/// What a result element is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Case,
    Suite,
}

impl Walk {
    fn all(&mut self, text: &str) {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        config.expand_empty_elements = true;
        loop {
            match reader.read_event() {
                Ok(Event::Eof) => break,
                Ok(event) => self.event(&event),
                Err(error) => {
                    let position = reader.error_position();
                    self.report.warnings.push(format!("the XML breaks off at byte {position}: {error}"));
                    break;
                }
            }
        }
        self.close_result();
        self.close_case();
        while !self.suites.is_empty() {
            self.close_suite();
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(start) => {
                let name = local_name(start.name().as_ref());
                self.open(&name, start);
            }
            Event::End(end) => match local_name(end.name().as_ref()).as_str() {
                "testsuite" => {
                    self.close_case();
                    self.close_suite();
                }
                "testcase" => self.close_case(),
                name if self.result.as_ref().is_some_and(|open| open.kind == name) => self.close_result(),
                _ => {}
            },
            Event::Text(text) => self.text(&String::from_utf8_lossy(text.as_ref())),
            Event::CData(data) => self.text(&String::from_utf8_lossy(data.as_ref())),
            Event::GeneralRef(reference) => {
                let name = String::from_utf8_lossy(reference.as_ref()).into_owned();
                self.text(&resolve(&name));
            }
            _ => {}
        }
    }

    fn open(&mut self, name: &str, start: &BytesStart<'_>) {
        match name {
            "testsuites" => self.seen = true,
            "testsuite" => {
                self.seen = true;
                self.close_case();
                let claimed = number(start, "failures") + number(start, "errors");
                if self.suites.len() < MAX_DEPTH {
                    let name = attribute(start, "name").unwrap_or_default();
                    self.suites.push(Suite { name, claimed, cases: 0 });
                }
            }
            "testcase" => {
                self.seen = true;
                self.close_case();
                self.case = Some(self.new_case(start));
            }
            "failure" | "error" | "skipped" if self.result.is_none() => {
                let target = if self.case.is_some() { Target::Case } else { Target::Suite };
                // Without a case, `skipped` says nothing that counts.
                if target == Target::Case || name != "skipped" && !self.suites.is_empty() {
                    let message = attribute(start, "message").unwrap_or_default();
                    self.result =
                        Some(ResultElement { kind: name.to_owned(), target, message, text: String::new() });
                }
            }
            _ => {}
        }
    }

    fn new_case(&self, start: &BytesStart<'_>) -> Case {
        // GoogleTest and NUnit converters say "not run" in an attribute.
        let status = [attribute(start, "status"), attribute(start, "result")];
        let left_out = status.iter().flatten().any(|text| {
            matches!(
                text.to_ascii_lowercase().as_str(),
                "notrun" | "skipped" | "suppressed" | "disabled" | "ignored"
            )
        });
        let outcome =
            if left_out { CaseOutcome::Skipped { message: String::new() } } else { CaseOutcome::Passed };
        Case {
            suite: self.suite_path(),
            class_name: attribute(start, "classname")
                .or_else(|| attribute(start, "file"))
                .unwrap_or_default(),
            name: attribute(start, "name").unwrap_or_else(|| "(unnamed)".to_owned()),
            seconds: seconds(start),
            outcome,
        }
    }

    fn suite_path(&self) -> String {
        let names: Vec<_> =
            self.suites.iter().map(|suite| suite.name.as_str()).filter(|name| !name.is_empty()).collect();
        names.join("/")
    }

    /// The `message` attribute and the element's text tell one thing twice: the text goes on lines of its own.
    fn text(&mut self, text: &str) {
        let Some(result) = &mut self.result else { return };
        let room = MAX_TEXT.saturating_sub(result.text.len());
        result.text.push_str(&cut(text, room));
    }

    fn close_result(&mut self) {
        let Some(ResultElement { kind, target, message, text }) = self.result.take() else { return };
        let (message, text) = (message.trim(), text.trim());
        let message = match (message.is_empty(), text.starts_with(message)) {
            (true, _) | (_, true) => text.to_owned(),
            _ if text.is_empty() => message.to_owned(),
            _ => format!("{message}\n{text}"),
        };
        let outcome = match kind.as_str() {
            "failure" => CaseOutcome::Failed { message },
            "error" => CaseOutcome::Error { message },
            _ => CaseOutcome::Skipped { message },
        };
        match target {
            Target::Case => {
                if let Some(case) = &mut self.case
                    && rank(&outcome) >= rank(&case.outcome)
                {
                    case.outcome = outcome;
                }
            }
            Target::Suite => {
                let suite = self.suite_path();
                let name = "(suite)".to_owned();
                self.push(Case { suite, class_name: String::new(), name, seconds: 0.0, outcome });
            }
        }
    }

    fn close_case(&mut self) {
        self.close_result();
        if let Some(case) = self.case.take() {
            self.push(case);
        }
    }

    fn push(&mut self, case: Case) {
        for suite in &mut self.suites {
            suite.cases += 1;
        }
        if self.report.cases.len() < MAX_CASES {
            self.report.cases.push(case);
        } else if self.report.cases.len() == MAX_CASES
            && !self.report.warnings.iter().any(|warning| warning.starts_with("more than"))
        {
            self.report.warnings.push(format!("more than {MAX_CASES} cases; the rest is left out"));
        }
    }

    /// A suite that claims failures but holds no case at all would pass unseen: make its claim a case.
    fn close_suite(&mut self) {
        let path = self.suite_path();
        let Some(suite) = self.suites.pop() else { return };
        if suite.cases == 0 && suite.claimed > 0 {
            let message = format!("the suite reports {} failures but holds no test case", suite.claimed);
            self.push(Case {
                suite: path,
                class_name: String::new(),
                name: "(suite)".to_owned(),
                seconds: 0.0,
                outcome: CaseOutcome::Error { message },
            });
        }
    }
}

/// What wins when a case says several things about itself.
fn rank(outcome: &CaseOutcome) -> u8 {
    match outcome {
        CaseOutcome::Passed => 0,
        CaseOutcome::Skipped { .. } => 1,
        CaseOutcome::Failed { .. } => 2,
        CaseOutcome::Error { .. } => 3,
    }
}

fn local_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.rsplit(':').next().unwrap_or_default().to_ascii_lowercase()
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = start.attributes();
    let found = attributes.with_checks(false).flatten().find(|a| a.key.as_ref() == name.as_bytes())?;
    let raw = String::from_utf8_lossy(&found.value).into_owned();
    Some(unescape(&raw))
}

/// Resolves character references and leaves alone what is none.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        match rest.find(';').filter(|end| *end <= 10) {
            Some(end) => {
                out.push_str(&resolve(&rest[..end]));
                rest = &rest[end + 1..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

fn resolve(name: &str) -> String {
    let character = match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => name.strip_prefix('#').and_then(|number| {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32)
        }),
    };
    character.map_or_else(|| format!("&{name};"), String::from)
}

fn number(start: &BytesStart<'_>, name: &str) -> u64 {
    attribute(start, name).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Some runners group thousands; some write nothing.
fn seconds(start: &BytesStart<'_>) -> f64 {
    let text = attribute(start, "time").unwrap_or_default().replace(',', "");
    text.trim().parse::<f64>().ok().filter(|time| time.is_finite() && *time >= 0.0).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::TestCounts;
    use proptest::prelude::*;

    use super::*;

    fn counts(text: &str) -> TestCounts {
        report(text.as_bytes()).expect("JUnit").counts()
    }

    #[test]
    fn totals_in_attributes_are_not_believed() {
        let text = r#"<testsuites tests="204" failures="0"><testsuite name="a" tests="1">
            <testcase name="x"/><testcase name="y"><failure message="no">line</failure></testcase>
            <testcase name="z"><skipped/></testcase></testsuite></testsuites>"#;
        assert_eq!(counts(text), TestCounts { passed: 1, failed: 1, errors: 0, skipped: 1 });
    }

    #[test]
    fn a_case_with_failure_and_error_is_one_error() {
        let text =
            r#"<testsuite><testcase name="x"><failure>f</failure><error>e</error></testcase></testsuite>"#;
        assert_eq!(counts(text), TestCounts { errors: 1, ..Default::default() });
    }

    #[test]
    fn cases_need_no_suite_and_suites_may_nest() {
        assert_eq!(counts("<testcase name='x'/>").passed, 1);
        let nested = report(br#"<testsuites><testsuite name="a"><testsuite name="b"><testcase name="x"/></testsuite></testsuite></testsuites>"#);
        assert_eq!(nested.expect("JUnit").cases[0].suite, "a/b");
    }

    #[test]
    fn a_file_that_breaks_off_keeps_what_was_there() {
        let read = report(b"<testsuite name='a'><testcase name='x'/><testcase name='y'><failure>bro")
            .expect("JUnit");
        assert_eq!(read.counts(), TestCounts { passed: 1, failed: 1, errors: 0, skipped: 0 });
        assert!(report(b"<testsuite><testcase name='x'/><a b=").expect("JUnit").warnings.len() == 1);
    }

    #[test]
    fn failures_without_cases_do_not_pass() {
        assert_eq!(counts(r#"<testsuite name="a" tests="3" failures="2"/>"#).errors, 1);
        assert_eq!(counts(r#"<testsuite name="a"><error message="setup broke"/></testsuite>"#).errors, 1);
    }

    #[test]
    fn entities_are_resolved_and_messages_joined() {
        let read = report(br#"<testcase name="a &lt;b&gt; &amp; c &bogus; &"><failure message="short">long &quot;x&quot;</failure></testcase>"#)
            .expect("JUnit");
        assert_eq!(read.cases[0].name, "a <b> & c &bogus; &");
        assert_eq!(read.cases[0].outcome, CaseOutcome::Failed { message: "short\nlong \"x\"".into() });
    }

    #[test]
    fn what_is_not_junit_is_refused() {
        for text in ["", "{}", "<html><body/></html>", "plain"] {
            assert_eq!(report(text.as_bytes()), Err(NotJunit), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(text in "(<(/?(testsuites?|testcase|failure|error|skipped))( (name|time|message)=\"[^\"]{0,8}\")?/?>|[ -~]{0,12}|&#?x?[0-9a-z]{0,9};?){0,24}") {
            let _ = report(text.as_bytes());
        }
    }
}
