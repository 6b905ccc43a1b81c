//! `fairlead test flaky`

use clap::Args;
use fleet_objects::test_run::{TestRun, TestRunStatus};
use kube::Api;
use kube::api::ListParams;
use workflow::report::history::{self, Entry, workflow_of};

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Find steps and cases that come and go by themselves, over the runs of a workflow. Exit code 1: there are some.
#[derive(Args, Debug)]
pub(crate) struct FlakyArguments {
    /// The workflow [default: all runs of the namespace]
    workflow: Option<String>,
    /// How many of the newest runs to look at
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    last: usize,
    /// Also what is not flaky: pass rates, durations and their trend
    #[arg(long)]
    all: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, arguments: &FlakyArguments) -> Result<Code, Failure> {
    let runs: Api<TestRun> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    let mut found = runs.list(&ListParams::default()).await.map_err(api("cannot list test runs"))?.items;
    if let Some(workflow) = &arguments.workflow {
        found.retain(|run| workflow_of(run) == *workflow);
    }
    found.sort_by_key(|run| run.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let newest = found.len().saturating_sub(arguments.last);
    let statuses: Vec<&TestRunStatus> =
        found[newest..].iter().filter_map(|run| run.status.as_ref()).collect();
    let mut entries = history::entries(&statuses);
    let flaky = entries.iter().any(Entry::is_flaky);
    if !arguments.all {
        entries.retain(Entry::is_flaky);
    }
    match arguments.output {
        Format::Json => output::data(&format!("{}\n", output::json(&entries)?))?,
        Format::Yaml => output::data(&output::yaml(&entries)?)?,
        Format::Name => output::data(&entries.iter().map(name).collect::<String>())?,
        Format::Table | Format::Wide if entries.is_empty() => {
            output::progress(&format!("nothing is flaky in {} runs", statuses.len()));
        }
        Format::Table | Format::Wide => output::data(&history::table(&entries))?,
    }
    Ok(if flaky { Code::Negative } else { Code::Ok })
}

fn name(entry: &Entry) -> String {
    let case = entry.case.iter().map(|case| format!("/{case}")).collect::<String>();
    format!("{}/{}{case}\n", entry.cluster, entry.step)
}
