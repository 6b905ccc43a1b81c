//! What somebody expects of policies on manifests, and whether it came true.

use std::path::Path;

use serde::Deserialize;

use super::test::Row;
use crate::documents;
use crate::failure::{Code, Failure};
use crate::output;

/// The document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    expect: Vec<Expectation>,
}

/// Something that should come out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    /// `Deployment/shop/web`, or without a namespace `Namespace/shop`.
    object: String,
    /// Which policy; any unless set.
    policy: Option<String>,
    result: ExpectedResult,
    /// What the message holds.
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExpectedResult {
    Pass,
    Fail,
    Error,
}

impl ExpectedResult {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
        }
    }
}

impl Expectation {
    fn is_about(&self, row: &Row) -> bool {
        self.object == row.object() && self.policy.as_ref().is_none_or(|policy| *policy == row.policy)
    }

    /// One row is enough, except for `pass`, where every row must.
    fn came_true(&self, rows: &[Row]) -> bool {
        let mut about = rows.iter().filter(|row| self.is_about(row)).peekable();
        let says = |row: &Row| {
            row.result == self.result.word()
                && self.message.as_ref().is_none_or(|message| row.message.contains(message.as_str()))
        };
        match self.result {
            ExpectedResult::Pass => about.peek().is_some() && about.all(says),
            _ => about.any(says),
        }
    }
}

/// Says what did not come true.
pub(super) fn check(path: &Path, rows: &[Row]) -> Result<Code, Failure> {
    let mut expected = Vec::new();
    for document in documents::read(path)? {
        if document.kind() != "PolicyExpectations" {
            return Err(Failure::usage(format!("{} is no PolicyExpectations", document.origin)));
        }
        let parsed: Expectations = document.parse()?;
        if parsed.api_version != "fleet.fairlead.dev/v1alpha1" {
            return Err(Failure::usage(format!("{}: unknown apiVersion", document.origin)));
        }
        expected.extend(parsed.expect);
    }
    let wrong = wrong(&expected, rows);
    for line in &wrong {
        output::progress(line);
    }
    Ok(if wrong.is_empty() { Code::Ok } else { Code::Negative })
}

fn wrong(expected: &[Expectation], rows: &[Row]) -> Vec<String> {
    let missed = expected.iter().filter(|one| !one.came_true(rows)).map(|one| {
        let policy = one.policy.as_deref().unwrap_or("any policy");
        let with = one.message.as_ref().map(|message| format!(" saying {message:?}")).unwrap_or_default();
        format!("expected, and not so: {} by {policy}: {}{with}", one.object, one.result.word())
    });
    let surprises = rows
        .iter()
        .filter(|row| row.result != "pass")
        .filter(|row| !expected.iter().any(|one| one.is_about(row) && one.result != ExpectedResult::Pass));
    let surprises = surprises.map(|row| {
        format!("not expected: {} by {}: {}: {}", row.object(), row.policy, row.result, row.message)
    });
    missed.chain(surprises).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, result: &'static str, message: &str) -> Row {
        Row {
            origin: "f".to_owned(),
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            policy: "p".to_owned(),
            binding: String::new(),
            rule: String::new(),
            result,
            actions: Vec::new(),
            message: message.to_owned(),
        }
    }

    fn expectation(object: &str, result: ExpectedResult, message: Option<&str>) -> Expectation {
        Expectation { object: object.to_owned(), policy: None, result, message: message.map(str::to_owned) }
    }

    #[test]
    fn what_is_not_named_must_pass() {
        let rows = [row("good", "pass", ""), row("bad", "fail", "too many")];
        let bad = |message| expectation("Pod/shop/bad", ExpectedResult::Fail, message);
        let good = || expectation("Pod/shop/good", ExpectedResult::Pass, None);
        assert_eq!(wrong(&[good(), bad(Some("many"))], &rows), Vec::<String>::new());
        assert_eq!(wrong(&[good()], &rows), ["not expected: Pod/shop/bad by p: fail: too many"]);
        assert_eq!(
            wrong(&[bad(Some("few"))], &rows),
            ["expected, and not so: Pod/shop/bad by any policy: fail saying \"few\""]
        );
        let absent = expectation("Pod/shop/absent", ExpectedResult::Pass, None);
        assert_eq!(wrong(&[absent, bad(None)], &rows).len(), 1, "what nothing judged has not passed");
    }
}
