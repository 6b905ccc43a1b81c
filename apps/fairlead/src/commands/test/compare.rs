//! `fairlead test compare`

use clap::Args;
use fleet_objects::test_run::TestRun;
use kube::Client;
use workflow::report::compare::{self, Change, Difference};
use workflow::report::told::{self, Told};

use super::report;
use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Say what changed from one run to another, case by case and cluster by cluster. Exit code 1: something broke.
#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    /// The earlier run
    before: String,
    /// The later run
    after: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, arguments: &CompareArguments) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let before = super::get(&client, global, &arguments.before).await?;
    let after = super::get(&client, global, &arguments.after).await?;
    let (before, after) = (told(&client, global, &before).await, told(&client, global, &after).await);
    let differences = compare::runs(&before, &after);
    match arguments.output {
        Format::Yaml => output::data(&output::yaml(&differences)?)?,
        Format::Name => output::data(&differences.iter().map(name).collect::<String>())?,
        Format::Table | Format::Wide => output::data(&compare::table(&differences))?,
        Format::Json => output::data(&format!("{}\n", output::json(&differences)?))?,
    }
    let broken = differences.iter().any(|found| matches!(found.change, Change::Broken));
    Ok(if broken { Code::Negative } else { Code::Ok })
}

fn name(found: &Difference) -> String {
    format!("{}/{}/{}\n", found.cluster, found.class_name, found.name)
}

/// Every case of a run.
pub(super) async fn told(client: &Client, global: &Global, run: &TestRun) -> Vec<Told> {
    let status = run.status.clone().unwrap_or_default();
    // Runs have names of their own; a cluster where nothing ran must be found again in the other.
    told::all("run", &status, &report::cases(client, global, run).await)
}
