//! `fairlead test report`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fleet_objects::test_run::{
    AttemptResult, ClusterResult, JunitSummary, Outcome, StepResult, TestRun, TestRunStatus,
};
use kube::{Client, ResourceExt as _};
use workflow::junit::write;
use workflow::read;
use workflow::report::{self, Cases, side_by_side};

use super::artifacts;
use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Who sends events, as CDEvents name it.
const EVENT_SOURCE: &str = "/fairlead";

/// Exit code as of `fairlead test run --watch`; of a run that has not ended: 0.
#[derive(Args, Debug)]
pub(crate) struct ReportArguments {
    /// Which run
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    name: Option<String>,
    /// Merge files of any format (JUnit, CTRF, TAP, go test -json, k6) instead, one suite per file; no hub is needed
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// The same case side by side over clusters (table and json)
    #[arg(long, conflicts_with = "from")]
    cases: bool,
    /// Of these only what the clusters disagree about
    #[arg(long, requires = "cases")]
    differing: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: ReportFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// Everything that is known
    Json,
    /// Everything that is known
    Yaml,
    /// JUnit XML, one suite per cluster
    Junit,
    /// Common Test Report Format
    Ctrf,
    /// One HTML file
    Html,
    /// CDEvents, one JSON document a line: every cluster a suite, every case a case
    Cdevents,
    /// Markdown, as GitHub Actions shows it as a job's summary
    Github,
}

pub(crate) async fn run(global: &Global, arguments: &ReportArguments) -> Result<Code, Failure> {
    let Some(name) = &arguments.name else { return merge(arguments) };
    let client = connection::hub(global).await?;
    let run = super::get(&client, global, name).await?;
    if arguments.cases {
        return side_by_side(&client, global, &run, arguments).await;
    }
    output::data(&render(&client, global, &run, arguments.output).await?)?;
    Ok(super::code(&run).unwrap_or(Code::Ok))
}

/// A run in one of the formats.
pub(super) async fn render(
    client: &Client,
    global: &Global,
    run: &TestRun,
    format: ReportFormat,
) -> Result<String, Failure> {
    let name = run.name_any();
    let status = run.status.clone().unwrap_or_default();
    Ok(match format {
        ReportFormat::Table => report::table(&name, &status),
        ReportFormat::Json => report::json(&name, &status),
        ReportFormat::Github => report::github::summary(&name, &status),
        ReportFormat::Yaml => output::yaml(
            &serde_json::from_str::<serde_json::Value>(&report::json(&name, &status))
                .map_err(anyhow::Error::new)?,
        )?,
        ReportFormat::Junit => report::junit(&name, &status, &cases(client, global, run).await),
        ReportFormat::Ctrf => {
            let uid = run.uid().unwrap_or_default();
            report::ctrf::report(&name, &uid, &status, &cases(client, global, run).await)
        }
        ReportFormat::Cdevents => {
            let uid = run.uid().unwrap_or_default();
            let workflow = workflow::report::history::workflow_of(run);
            let cases = cases(client, global, run).await;
            report::cdevents::lines(&name, &uid, &workflow, EVENT_SOURCE, &status, &cases)
        }
        ReportFormat::Html => report::html::report(&name, &status, &cases(client, global, run).await),
    })
}

/// The cases of a run with a column per cluster, and which clusters fail alike.
async fn side_by_side(
    client: &Client,
    global: &Global,
    run: &TestRun,
    arguments: &ReportArguments,
) -> Result<Code, Failure> {
    let all = super::compare::told(client, global, run).await;
    let status = run.status.clone().unwrap_or_default();
    let clusters: Vec<String> = status.clusters.iter().map(|cluster| cluster.cluster.clone()).collect();
    let mut rows = side_by_side::rows(&all);
    if arguments.differing {
        rows.retain(|row| side_by_side::differs(row, &clusters));
    }
    let alike = side_by_side::alike(&all);
    match arguments.output {
        ReportFormat::Table => {
            let mut text = side_by_side::table(&rows, &clusters);
            for group in alike {
                let first = group.message.lines().next().unwrap_or_default();
                text.push_str(&format!(
                    "\nfirst failure in {}: {}: {first}\n",
                    group.clusters.join(", "),
                    group.case
                ));
            }
            output::data(&text)?;
        }
        ReportFormat::Json => {
            let value = serde_json::json!({"cases": rows, "firstFailures": alike});
            output::data(&format!("{}\n", output::json(&value)?))?;
        }
        _ => return Err(Failure::usage("--cases prints a table or json")),
    }
    Ok(super::code(run).unwrap_or(Code::Ok))
}

/// The cases of every report that the hub has; of the others the status names the failed ones.
pub(super) async fn cases(client: &Client, global: &Global, run: &TestRun) -> Cases {
    let name = &run.name_any();
    let mut cases = Cases::default();
    for kept in artifacts::kept(run).iter().filter(|kept| kept.artifact.junit) {
        match artifacts::fetch(client, global, name, kept).await {
            Ok(content) => {
                if let Ok(report) = read::report(&content) {
                    cases.reports.push((kept.cluster.to_owned(), kept.step.to_owned(), kept.attempt, report));
                }
            }
            Err(failure) => output::progress(crate::failure::render(&failure).trim_end()),
        }
    }
    cases
}

fn merge(arguments: &ReportArguments) -> Result<Code, Failure> {
    let mut suites = Vec::new();
    for path in &arguments.from {
        let usage = |error: anyhow::Error| Failure::new(Code::Usage, error);
        let content =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display())).map_err(usage)?;
        let report = read::report(&content).with_context(|| path.display().to_string()).map_err(usage)?;
        for warning in &report.warnings {
            output::progress(&format!("{}: {warning}", path.display()));
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        suites.push(write::Suite { name, report, properties: Vec::new() });
    }
    let wrong =
        suites.iter().map(|suite| suite.report.counts()).any(|counts| counts.failed + counts.errors > 0);
    match arguments.output {
        ReportFormat::Junit => output::data(&write::report("merged", &suites))?,
        ReportFormat::Table => {
            let mut rows =
                vec![["FILE", "PASSED", "FAILED", "ERRORS", "SKIPPED"].map(str::to_owned).to_vec()];
            for suite in &suites {
                let counts = suite.report.counts();
                let figures = [counts.passed, counts.failed, counts.errors, counts.skipped];
                let figures = figures.map(|count| count.to_string());
                rows.push([vec![suite.name.clone()], figures.to_vec()].concat());
            }
            output::data(&report::columns(&rows))?;
        }
        ReportFormat::Cdevents => {
            return Err(Failure::usage("merged files are no run that could have events"));
        }
        ReportFormat::Ctrf | ReportFormat::Html | ReportFormat::Github => {
            output::data(&merged(suites, arguments.output))?;
        }
        ReportFormat::Json | ReportFormat::Yaml => {
            let counts: Vec<_> = suites
                .iter()
                .map(|suite| serde_json::json!({"file": suite.name, "counts": suite.report.counts()}))
                .collect();
            let counts = serde_json::Value::from(counts);
            let json = arguments.output == ReportFormat::Json;
            output::data(&if json { format!("{counts:#}\n") } else { output::yaml(&counts)? })?;
        }
    }
    Ok(if wrong { Code::Negative } else { Code::Ok })
}

/// Merged files as a run in which each file is a cluster, for the formats that know runs only.
fn merged(suites: Vec<write::Suite>, format: ReportFormat) -> String {
    let (mut status, mut cases) = (TestRunStatus::default(), Cases::default());
    for suite in suites {
        let mut summary = JunitSummary::default();
        suite.report.add_to(&mut summary);
        let wrong = summary.counts.failed + summary.counts.errors > 0;
        let outcome = if wrong { Outcome::Failed } else { Outcome::Passed };
        let attempt = AttemptResult {
            attempt: 1,
            outcome,
            reason: String::new(),
            message: String::new(),
            exit_code: None,
            started_at: None,
            finished_at: None,
            junit: Some(summary),
            artifacts: Vec::new(),
            warnings: suite.report.warnings.clone(),
        };
        let step = StepResult {
            name: "report".to_owned(),
            outcome: Some(outcome),
            attempts: vec![attempt],
            ..StepResult::default()
        };
        let mut cluster =
            ClusterResult { cluster: suite.name.clone(), steps: vec![step], ..ClusterResult::default() };
        workflow::fold::cluster(&mut cluster, true);
        workflow::junit::add_counts(&mut status.counts, cluster.counts);
        status.clusters.push(cluster);
        cases.reports.push((suite.name, "report".to_owned(), 1, suite.report));
    }
    match format {
        ReportFormat::Ctrf => report::ctrf::report("merged", "", &status, &cases),
        ReportFormat::Github => report::github::summary("merged", &status),
        _ => report::html::report("merged", &status, &cases),
    }
}
