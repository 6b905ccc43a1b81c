//! `fairlead diff`

mod dry_run;
mod gather;
mod show;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use fleet_planner::preview::{Preview, preview};

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure};
use crate::{connection, documents, output};

/// Show what fleet documents would change in each cluster, before it is done. Nothing is changed. Exit code 0: nothing would
/// change; 1: something would; greater: it could not be told
#[derive(Args, Debug)]
pub(crate) struct DiffArguments {
    /// File or directory of Profile, Placement and Cluster documents; - for stdin
    #[arg(long, short = 'f', value_name = "DIR|FILE", required_unless_present = "without")]
    from: Option<PathBuf>,
    /// As if this placement or profile were gone; may be given several times
    #[arg(long, value_name = "placement/NAME|profile/NAME")]
    without: Vec<String>,
    /// Look at these clusters only
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    clusters: Vec<String>,
    /// Ask the API server of each cluster that would change by a dry run too: what it says against the change, and who owns
    /// fields of it
    #[arg(long)]
    server: bool,
    /// How to print: a table tells clusters with the same changes together
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, arguments: DiffArguments) -> Result<Code, Failure> {
    let documents = arguments.from.as_deref().map(documents::read).transpose()?.unwrap_or_default();
    let client = connection::hub(global).await?;
    let mut fleet = gather::Fleet::read(&client).await?;
    for document in &documents {
        fleet.overlay(&client, global, document).await?;
    }
    for gone in &arguments.without {
        fleet.remove(gone, &global.namespace)?;
    }
    let wanted: BTreeSet<&str> = arguments.clusters.iter().map(String::as_str).collect();
    if let Some(unknown) = wanted.iter().find(|name| !fleet.has_cluster(name)) {
        return Err(Failure::usage(format!("there is no cluster {unknown}")).hint("fairlead cluster list"));
    }
    let prepared = fleet.prepare(&client).await?;
    let expressions = assembly::expressions::Cel::default();
    let placements = prepared.asked();
    let input = prepared.input(&placements, &expressions);
    let Preview { mut changes, unchosen } = preview(&input, &prepared.affected);
    changes.retain(|cluster, _| wanted.is_empty() || wanted.contains(cluster.as_str()));
    if arguments.server {
        dry_run::run(&client, &input, &prepared.affected, &mut changes).await;
    }
    let looked_at = if wanted.is_empty() { prepared.clusters.len() } else { wanted.len() };
    match arguments.output {
        Format::Table | Format::Wide => output::data(&show::text(&changes, &unchosen, looked_at))?,
        Format::Name => {
            output::data(&changes.keys().map(|name| format!("cluster/{name}\n")).collect::<String>())?
        }
        Format::Json => {
            let json = serde_json::to_string_pretty(&show::machine(&changes, &unchosen, looked_at));
            output::data(&(json.map_err(anyhow::Error::new)? + "\n"))?;
        }
        Format::Yaml => output::data(&output::yaml(&show::machine(&changes, &unchosen, looked_at))?)?,
    }
    Ok(match () {
        // What such a placement would do once it can choose, nobody can tell.
        () if !unchosen.is_empty() => Code::Partial,
        () if changes.is_empty() => Code::Ok,
        () => Code::Negative,
    })
}
