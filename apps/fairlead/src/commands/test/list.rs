//! `fairlead test list` and `fairlead test get`

use clap::Args;
use fleet_objects::test_run::{ClusterResult, TestRun};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use workflow::fold;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct GetArguments {
    /// Which run
    name: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

const HEADER: [&str; 9] =
    ["NAME", "RESULT", "PRIORITY", "CLUSTERS", "QUEUED", "PASSED", "FAILED", "ERRORS", "AGE"];

pub(crate) async fn list(global: &Global, arguments: &ListArguments) -> Result<Code, Failure> {
    let runs: Api<TestRun> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    let mut found = runs.list(&ListParams::default()).await.map_err(api("cannot list test runs"))?.items;
    found.sort_by_key(|run| run.metadata.creation_timestamp.as_ref().map(|time| time.0));
    output::objects(arguments.output, "testrun", &HEADER, &found, row)?;
    Ok(Code::Ok)
}

pub(crate) async fn get(global: &Global, arguments: &GetArguments) -> Result<Code, Failure> {
    let run = super::get(&connection::hub(global).await?, global, &arguments.name).await?;
    output::object(arguments.output, "testrun", &HEADER, &run, row)?;
    Ok(Code::Ok)
}

fn row(run: &TestRun) -> Vec<String> {
    let status = run.status.clone().unwrap_or_default();
    let ended = status.clusters.iter().filter(|cluster| cluster.outcome.is_some()).count();
    let counts = [status.counts.passed, status.counts.failed, status.counts.errors].map(|n| n.to_string());
    let waits = |cluster: &&ClusterResult| cluster.outcome.is_none() && cluster.reason == fold::QUEUED;
    let queued = status.clusters.iter().filter(waits).count();
    let priority = run.spec.priority.or(status.workflow.as_ref().and_then(|workflow| workflow.priority));
    let mut row = vec![
        run.name_any(),
        super::condition(run).0,
        format!("{:?}", priority.unwrap_or_default()),
        format!("{ended}/{}", status.clusters.len()),
        queued.to_string(),
    ];
    row.extend(counts);
    row.push(output::age(run.metadata.creation_timestamp.as_ref()));
    row
}
