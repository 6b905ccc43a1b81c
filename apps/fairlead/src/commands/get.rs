//! `fairlead get KIND`: one list of what many clusters hold.

pub(super) mod fetch;
pub(super) mod kinds;
mod print;

use clap::Args;
use futures::StreamExt as _;
use kube::Client;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure};
use crate::{connection, output};
use fetch::{Found, Query};

/// Clusters asked at once.
const AT_ONCE: usize = 32;

/// Show objects of many clusters in one list, asked of the clusters themselves through the hub. Exit code 4: not every
/// cluster answered, and which is said on stderr; 3: none did.
#[derive(Args, Debug)]
pub(crate) struct GetArguments {
    /// What: pods, deploy, deployments.apps, nodes … as kubectl takes it
    kind: String,
    /// Only the object of this name
    name: Option<String>,
    /// Clusters by name
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", required_unless_present_any = ["cluster_selector", "all_clusters"])]
    clusters: Vec<String>,
    /// Clusters by label, like region=eu,tier!=test
    #[arg(long, value_name = "SELECTOR")]
    cluster_selector: Option<String>,
    /// Every cluster
    #[arg(long, conflicts_with_all = ["clusters", "cluster_selector"])]
    all_clusters: bool,
    /// Only objects with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// In every namespace of a cluster instead of that of --namespace
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// How to print; json and yaml name each object's cluster in the annotation fleet.fairlead.dev/cluster
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, arguments: GetArguments) -> Result<Code, Failure> {
    let client = connection::hub_once(global).await?;
    let clusters = chosen(&client, &arguments).await?;
    let query = Query {
        kind: arguments.kind.clone(),
        name: arguments.name,
        namespace: (!arguments.all_namespaces).then(|| global.namespace.clone()),
        selector: arguments.selector,
        table: matches!(arguments.output, Format::Table | Format::Wide),
    };
    let asked = clusters.into_iter().map(|cluster| {
        let (client, query) = (client.clone(), query.clone());
        async move {
            let found = fetch::fetch(&client, &cluster, &query).await;
            (cluster, found)
        }
    });
    // In the order of the clusters' names, whoever answers first.
    let answers: Vec<(String, Result<Found, Failure>)> =
        futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
    let total = answers.len();
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for (cluster, answer) in answers {
        match answer {
            Ok(answer) => found.push((cluster, answer)),
            Err(failure) => failed.push((cluster, failure)),
        }
    }
    print::print(arguments.output, &arguments.kind, &found, query.namespace.is_none())?;
    for (cluster, failure) in &failed {
        let why = failure.error.as_ref().map_or_else(String::new, |error| format!("{error:#}"));
        output::progress(&format!("cluster {cluster}: {why}"));
    }
    Ok(match failed.first() {
        None => Code::Ok,
        Some(_) if failed.len() < total => Code::Partial,
        Some((_, failure)) => failure.code,
    })
}

/// The clusters asked for, by name.
async fn chosen(client: &Client, arguments: &GetArguments) -> Result<Vec<String>, Failure> {
    if !arguments.clusters.is_empty() && arguments.cluster_selector.is_none() {
        let mut names = arguments.clusters.clone();
        for name in &names {
            fleet_objects::check_cluster_name(name).map_err(|error| Failure::usage(error.to_string()))?;
        }
        names.sort();
        names.dedup();
        return Ok(names);
    }
    let listed = super::cluster::list(client.clone(), arguments.cluster_selector.as_deref()).await?;
    let names: Vec<String> = listed.iter().map(kube::ResourceExt::name_any).collect();
    let among = |name: &String| arguments.clusters.is_empty() || arguments.clusters.contains(name);
    let names: Vec<String> = names.into_iter().filter(among).collect();
    if names.is_empty() {
        output::progress("no cluster is chosen");
    }
    Ok(names)
}
