//! `fairlead policy test --suite`: tests of Gatekeeper's policies as `gator verify` reads them.

use std::path::{Path, PathBuf};

use policy_engines::gatekeeper::Preferred;
use policy_engines::gatekeeper::suite::{self, GROUP, Outcome};
use serde::Serialize;
use workflow::junit::{Case, CaseOutcome};
use workflow::report::columns;

use super::junit;
use super::test::TestFormat;
use crate::documents;
use crate::failure::{Code, Failure};
use crate::output;

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    suite: String,
    test: String,
    /// "" for what is said of the whole test.
    #[serde(skip_serializing_if = "String::is_empty")]
    case: String,
    /// `passed`, `failed`, `error` or `skipped`.
    result: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub(super) fn run(paths: &[PathBuf], format: TestFormat) -> Result<Code, Failure> {
    let (rows, suites) = rows(paths)?;
    if suites == 0 {
        return Err(Failure::usage(format!("there is no Suite of {GROUP} in these files")));
    }
    match format {
        TestFormat::Table => table(&rows)?,
        TestFormat::Json => output::data(&(output::json(&rows)? + "\n"))?,
        TestFormat::Yaml => output::data(&output::yaml(&rows)?)?,
        TestFormat::Junit => output::data(&as_junit(&rows))?,
    }
    let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
    let (failed, error) = (count("failed"), count("error"));
    output::progress(&format!(
        "{suites} suites, {} cases: {} passed, {failed} failed, {error} could not be tried, {} skipped",
        rows.len(),
        count("passed"),
        count("skipped")
    ));
    Ok(if failed + error > 0 { Code::Negative } else { Code::Ok })
}

/// All cases, and how many suites there are.
fn rows(paths: &[PathBuf]) -> Result<(Vec<Row>, usize), Failure> {
    let (mut rows, mut suites) = (Vec::new(), 0);
    for path in paths {
        for (file, text) in documents::read_texts(path)? {
            // A directory of policies also holds what is no object at all.
            if !text.contains(GROUP) {
                continue;
            }
            for document in documents::parse(&file, &text)? {
                if suite::is_suite(&document.value) {
                    suites += 1;
                    rows.extend(of_suite(&file, &document.value));
                }
            }
        }
    }
    Ok((rows, suites))
}

fn of_suite(file: &str, document: &serde_json::Value) -> Vec<Row> {
    let directory = Path::new(file).parent().unwrap_or(Path::new("."));
    let read = |path: &str| {
        let read =
            documents::read(&directory.join(path)).map_err(|failure| crate::failure::render(&failure))?;
        Ok(read.into_iter().map(|document| document.value).collect())
    };
    let results = suite::run(document, Preferred::default(), &read).into_iter();
    results
        .map(|result| {
            let (word, message) = match result.outcome {
                Outcome::Passed => ("passed", String::new()),
                Outcome::Failed(message) => ("failed", message),
                Outcome::Error(message) => ("error", message),
                Outcome::Skipped => ("skipped", String::new()),
            };
            Row { suite: file.to_owned(), test: result.test, case: result.case, result: word, message }
        })
        .collect()
}

fn table(rows: &[Row]) -> Result<(), Failure> {
    let header = ["SUITE", "TEST", "CASE", "RESULT", "MESSAGE"].map(str::to_owned).to_vec();
    let wrong = rows.iter().filter(|row| matches!(row.result, "failed" | "error"));
    let wrong: Vec<Vec<String>> = wrong
        .map(|row| {
            let Row { suite, test, case, message, .. } = row.clone();
            vec![suite, test, case, row.result.to_owned(), message]
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    output::data(&columns(&std::iter::once(header).chain(wrong).collect::<Vec<_>>()))
}

fn as_junit(rows: &[Row]) -> String {
    let case = |row: &Row| Case {
        suite: row.suite.clone(),
        class_name: row.test.clone(),
        name: if row.case.is_empty() { row.test.clone() } else { row.case.clone() },
        seconds: 0.0,
        outcome: match row.result {
            "passed" => CaseOutcome::Passed,
            "failed" => CaseOutcome::Failed { message: row.message.clone() },
            "skipped" => CaseOutcome::Skipped { message: String::new() },
            _ => CaseOutcome::Error { message: row.message.clone() },
        },
    };
    junit::document(rows.iter().map(case))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_found_among_other_files_and_read_files_beside_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(directory.path().join("owners")).expect("a directory");
            std::fs::write(directory.path().join("owners").join(name), text).expect("a file");
        };
        write("kustomization.yaml", "resources: [template.yaml]\n");
        write(
            "template.yaml",
            "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: owners}\nspec:\n  \
             crd: {spec: {names: {kind: Owners}}}\n  targets:\n  - target: admission.k8s.gatekeeper.sh\n    rego: |\n      \
             package owners\n      violation[{\"msg\": \"nobody owns it\"}] { not input.review.object.metadata.labels.owner }\n",
        );
        write(
            "constraint.yaml",
            "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Owners\nmetadata: {name: all}\nspec: {}\n",
        );
        write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n}\n");
        write(
            "suite.yaml",
            "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\ntests:\n- name: owners\n  template: template.yaml\n  \
             constraint: constraint.yaml\n  cases:\n  - {name: bad, object: pod.yaml, assertions: [{violations: yes, message: owns}]}\n  \
             - {name: good, object: pod.yaml, assertions: [{violations: no}]}\n",
        );
        let (rows, suites) = rows(&[directory.path().to_owned()]).expect("suites");
        let words: Vec<_> = rows.iter().map(|row| (row.case.as_str(), row.result)).collect();
        assert_eq!((words.as_slice(), suites), (&[("bad", "passed"), ("good", "failed")][..], 1));
        let xml = as_junit(&rows);
        assert!(xml.contains("tests=\"2\"") && xml.contains("nobody owns it"), "{xml}");
    }
}
