//! `fairlead policy test`

use std::path::PathBuf;

use assembly::policies::CatalogueKinds;
use clap::{Args, ValueEnum};
use policy_engines::audit::Outcome;
use policy_engines::audit::offline::{Problem, Trial, Tried, flattened};
use policy_engines::pod_security::{Level, LevelVersion, Policy, Version};
use serde::Serialize;
use serde_json::Value;
use workflow::junit::{Case, CaseOutcome};
use workflow::report::columns;

use super::{expectations, junit, suites};
use crate::arguments::Global;
use crate::documents::{self, Document};
use crate::failure::{Code, Failure};
use crate::output;

/// Try ValidatingAdmissionPolicies, Gatekeeper's templates and constraints and Pod Security Standards on manifests, as if each
/// were created. Neither hub nor cluster is needed. Parameters, namespaces and custom resource definitions are taken from the
/// files; a policy without any binding is held against everything. Exit code 0: nothing breaks a policy; 1: something does or
/// could not be judged; 2: a policy or a file is wrong
#[derive(Args, Debug)]
pub(crate) struct TestArguments {
    /// Files or directories of policies, bindings, parameters and namespaces; - for stdin
    #[arg(long = "from", short = 'f', value_name = "DIR|FILE", num_args = 1..)]
    policies: Vec<PathBuf>,
    /// Files or directories of the manifests to judge; - for stdin
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., required_unless_present = "suite")]
    on: Vec<PathBuf>,
    /// Run Gatekeeper's suites (test.gatekeeper.sh) in these files or directories instead
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., conflicts_with_all = ["policies", "on", "pod_security", "expect"])]
    suite: Vec<PathBuf>,
    /// Hold pods, and what makes pods, to this standard where their namespace's labels say nothing, like restricted or
    /// baseline:v1.30
    #[arg(long, value_name = "LEVEL[:VERSION]", value_parser = standard)]
    pod_security: Option<LevelVersion>,
    /// What should come out: a file of PolicyExpectations. What it does not name must pass; the exit code says whether all
    /// came true
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: TestFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TestFormat {
    /// For people: what is wrong
    #[default]
    Table,
    /// Every policy on every object
    Json,
    /// The same
    Yaml,
    /// JUnit XML: a suite per policy, a case per object
    Junit,
}

fn standard(text: &str) -> Result<LevelVersion, String> {
    let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
    let level = Level::parse(level).ok_or("the level is one of privileged, baseline, restricted")?;
    let version = Version::parse(version).ok_or("the version is \"latest\" or \"v1.x\"")?;
    Ok(LevelVersion { level, version })
}

/// One policy on one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// File and number of the document.
    pub(super) origin: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) policy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) binding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rule: String,
    /// `pass`, `fail` or `error`.
    pub(super) result: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) actions: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

impl Row {
    /// `Deployment/shop/web`.
    pub(super) fn object(&self) -> String {
        let parts = [&self.kind, &self.namespace, &self.name];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join("/")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    objects: usize,
    policies: usize,
    pass: usize,
    fail: usize,
    error: usize,
}

#[derive(Serialize)]
struct Machine<'a> {
    summary: Summary,
    results: &'a [Row],
}

pub(crate) async fn run(global: &Global, arguments: TestArguments) -> Result<Code, Failure> {
    if !arguments.suite.is_empty() {
        return suites::run(&arguments.suite, arguments.output);
    }
    if arguments.policies.is_empty() && arguments.pod_security.is_none() {
        return Err(Failure::usage("there is nothing to hold the manifests to")
            .hint("fairlead policy test -f POLICY… --on MANIFEST…"));
    }
    let policies = flattened(values(&read(&arguments.policies)?));
    let (origins, manifests) = manifests(read(&arguments.on)?);
    let everything = policies.iter().chain(&manifests);
    let kinds = CatalogueKinds::with(everything.filter(|value| value["kind"] == "CustomResourceDefinition"));
    let kinds = kinds.map_err(|error| Failure::new(Code::Usage, error.into()))?;
    check_fields(&kinds, &policies)?;
    let asked = arguments.pod_security.unwrap_or_default();
    let standards = Policy { enforce: asked, audit: asked, warn: asked };
    let trial = Trial::new(&kinds, &policies, &manifests, &global.namespace, standards).map_err(problems)?;
    if trial.policies().is_empty() && arguments.pod_security.is_none() {
        return Err(Failure::usage("there is no policy in these files")
            .hint("fairlead policy test -f POLICY… --on MANIFEST…"));
    }
    let objects = manifests.len();
    let rows = rows(&origins, trial.run(manifests).await);
    let summary = summary(&rows, objects, trial.policies().len());
    match arguments.output {
        TestFormat::Table => table(&rows)?,
        TestFormat::Json => output::data(&(output::json(&Machine { summary, results: &rows })? + "\n"))?,
        TestFormat::Yaml => output::data(&output::yaml(&Machine { summary, results: &rows })?)?,
        TestFormat::Junit => output::data(&as_junit(&rows))?,
    }
    output::progress(&format!(
        "{} objects, {} policies: {} passed, {} failed, {} could not be judged",
        summary.objects, summary.policies, summary.pass, summary.fail, summary.error
    ));
    match &arguments.expect {
        Some(path) => expectations::check(path, &rows),
        None if summary.fail + summary.error > 0 => Ok(Code::Negative),
        None => Ok(Code::Ok),
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(documents::read(path)?);
    }
    Ok(all)
}

fn values(documents: &[Document]) -> Vec<Value> {
    documents.iter().map(|document| document.value.clone()).collect()
}

/// What is to be judged, with where each comes from.
fn manifests(documents: Vec<Document>) -> (Vec<String>, Vec<Value>) {
    let mut origins = Vec::new();
    let mut all = Vec::new();
    for document in documents {
        for value in flattened(vec![document.value]) {
            origins.push(document.origin.clone());
            all.push(value);
        }
    }
    (origins, all)
}

/// A field that its kind does not have would do nothing without a word; the API server refuses it, too.
fn check_fields(kinds: &CatalogueKinds, policies: &[Value]) -> Result<(), Failure> {
    let of_policies = |own: &&Value| {
        own["apiVersion"].as_str().is_some_and(|version| version.starts_with("admissionregistration.k8s.io/"))
    };
    let unknown = |own: &Value| {
        let name = own["metadata"]["name"].as_str().unwrap_or_default();
        let title = format!("{} {name}", own["kind"].as_str().unwrap_or_default());
        let fields = kinds.unknown_fields(own);
        fields.into_iter().map(move |field| format!("{title}: unknown field \"{field}\"")).collect::<Vec<_>>()
    };
    let lines: Vec<String> = policies.iter().filter(of_policies).flat_map(unknown).collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::usage(lines.join("\n"))) }
}

fn problems(problems: Vec<Problem>) -> Failure {
    let lines: Vec<String> = problems
        .iter()
        .map(|Problem { policy, cause }| format!("policy {policy}: {}: {}", cause.field, cause.message))
        .collect();
    Failure::usage(lines.join("\n"))
}

/// One row per finding; one for a policy that found nothing.
fn rows(origins: &[String], tried: Vec<Tried>) -> Vec<Row> {
    let mut rows = Vec::new();
    for Tried { index, api_version, kind, namespace, name, judgement } in tried {
        let row = |policy: &str| Row {
            origin: origins.get(index).cloned().unwrap_or_default(),
            api_version: api_version.clone(),
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            policy: policy.to_owned(),
            binding: String::new(),
            rule: String::new(),
            result: "pass",
            actions: Vec::new(),
            message: String::new(),
        };
        for policy in &judgement.judged {
            let found: Vec<_> =
                judgement.findings.iter().filter(|finding| finding.policy == *policy).collect();
            if found.is_empty() {
                rows.push(row(policy));
            }
            rows.extend(found.into_iter().map(|finding| Row {
                binding: finding.binding.clone(),
                rule: finding.rule.clone(),
                result: if finding.outcome == Outcome::Fail { "fail" } else { "error" },
                actions: finding.actions.clone(),
                message: finding.message.clone(),
                ..row(policy)
            }));
        }
    }
    rows
}

fn summary(rows: &[Row], objects: usize, policies: usize) -> Summary {
    let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
    Summary { objects, policies, pass: count("pass"), fail: count("fail"), error: count("error") }
}

fn table(rows: &[Row]) -> Result<(), Failure> {
    let wrong: Vec<&Row> = rows.iter().filter(|row| row.result != "pass").collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let mut lines =
        vec![["OBJECT", "POLICY", "RULE", "RESULT", "ACTIONS", "MESSAGE"].map(str::to_owned).to_vec()];
    lines.extend(wrong.iter().map(|row| {
        let result = row.result.to_owned();
        let actions = row.actions.join(",");
        vec![row.object(), row.policy.clone(), row.rule.clone(), result, actions, row.message.clone()]
    }));
    output::data(&columns(&lines))
}

fn as_junit(rows: &[Row]) -> String {
    let case = |row: &Row| Case {
        suite: row.policy.clone(),
        class_name: row.policy.clone(),
        name: if row.rule.is_empty() { row.object() } else { format!("{} {}", row.object(), row.rule) },
        seconds: 0.0,
        outcome: match row.result {
            "pass" => CaseOutcome::Passed,
            "fail" => CaseOutcome::Failed { message: row.message.clone() },
            _ => CaseOutcome::Error { message: row.message.clone() },
        },
    };
    junit::document(rows.iter().map(case))
}

#[cfg(test)]
mod tests;
