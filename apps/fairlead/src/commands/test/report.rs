//! `fairlead test report`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fleet_objects::test_run::TestRun;
use kube::{Client, ResourceExt as _};
use workflow::junit::{self, write};
use workflow::report::{self, Cases};

use super::artifacts;
use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Exit code as of `fairlead test run --watch`; of a run that has not ended: 0.
#[derive(Args, Debug)]
pub(crate) struct ReportArguments {
    /// Which run
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    name: Option<String>,
    /// Merge JUnit files instead, one suite per file; no hub is needed
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
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
    /// JUnit XML, one suite per cluster
    Junit,
    /// Markdown, as GitHub Actions shows it as a job's summary
    Github,
}

pub(crate) async fn run(global: &Global, arguments: &ReportArguments) -> Result<Code, Failure> {
    let Some(name) = &arguments.name else { return merge(arguments) };
    let client = connection::hub(global).await?;
    let run = super::get(&client, global, name).await?;
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
        ReportFormat::Junit => report::junit(&name, &status, &cases(client, global, &name, run).await),
    })
}

/// The cases of every JUnit file that the hub has; of the others the status names the failed ones.
async fn cases(client: &Client, global: &Global, name: &str, run: &TestRun) -> Cases {
    let mut cases = Cases::default();
    for kept in artifacts::kept(run).iter().filter(|kept| kept.artifact.junit) {
        match artifacts::fetch(client, global, name, kept).await {
            Ok(content) => {
                if let Ok(report) = junit::read::report(&content) {
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
        let report =
            junit::read::report(&content).with_context(|| path.display().to_string()).map_err(usage)?;
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
        ReportFormat::Github => {
            return Err(Failure::usage("merged files have no job summary: -o table, json or junit"));
        }
        ReportFormat::Json => {
            let counts: Vec<_> = suites
                .iter()
                .map(|suite| serde_json::json!({"file": suite.name, "counts": suite.report.counts()}))
                .collect();
            output::data(&format!("{:#}\n", serde_json::Value::from(counts)))?;
        }
    }
    Ok(if wrong { Code::Negative } else { Code::Ok })
}
