//! `fairlead cluster …`

mod ephemeral;
pub(crate) mod keys;
mod lifecycle;
pub(crate) mod serve;

use api_machinery::selector::LabelSelector;
use clap::{Args, Subcommand};
use fleet_objects::Cluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// List clusters
    List(ListArguments),
    /// Show one cluster
    Get(GetArguments),
    /// Set and remove labels
    Label(LabelArguments),
    /// Let a cluster in that has joined and waits
    Approve(ApproveArguments),
    /// Give a cluster nothing new and take nothing from it, for a time
    Pause(lifecycle::NameArguments),
    /// Go on after a pause
    Resume(lifecycle::NameArguments),
    /// Take every profile off a cluster, as rollouts let it
    Drain(lifecycle::UndoArguments),
    /// Refuse a cluster's agent from now on; what the cluster holds stays in it
    Revoke(lifecycle::UndoArguments),
    /// Remove a cluster from the fleet; its agent and what it holds stay in it
    Remove(lifecycle::RemoveArguments),
    /// Run an embedded Kubernetes cluster
    Serve(Box<serve::ServeArguments>),
    /// Run a command with an embedded cluster of its own
    Ephemeral(ephemeral::EphemeralArguments),
    /// Rotate the keys that sign service-account tokens of an embedded cluster or a hub
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only clusters with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct GetArguments {
    /// Which cluster
    name: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct LabelArguments {
    /// Which cluster
    name: String,
    /// KEY=VALUE to set, KEY- to remove
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    labels: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ApproveArguments {
    /// Which cluster
    name: String,
    /// The uid of its kube-system namespace, as its owner told you: no other cluster is let in
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
}

const HEADER: [&str; 8] = ["NAME", "READY", "CONNECTED", "VERSION", "NODES", "APPLIED", "LABELS", "AGE"];

pub(crate) async fn run(global: &Global, command: ClusterCommand) -> Result<Code, Failure> {
    let command = match command {
        ClusterCommand::Serve(arguments) => return serve::run(*arguments).await,
        ClusterCommand::Ephemeral(arguments) => return Box::pin(ephemeral::run(arguments)).await,
        ClusterCommand::Keys(command) => return keys::run(&command),
        command => command,
    };
    let client = connection::hub(global).await?;
    match command {
        ClusterCommand::Serve(_) | ClusterCommand::Ephemeral(_) | ClusterCommand::Keys(_) => {}
        ClusterCommand::Pause(arguments) => return lifecycle::pause(client, &arguments.name).await,
        ClusterCommand::Resume(arguments) => return lifecycle::resume(client, &arguments.name).await,
        ClusterCommand::Drain(arguments) => return lifecycle::drain(client, &arguments).await,
        ClusterCommand::Revoke(arguments) => return lifecycle::revoke(client, &arguments).await,
        ClusterCommand::Remove(arguments) => return lifecycle::remove(client, &arguments).await,
        ClusterCommand::List(arguments) => {
            let clusters = list(client, arguments.selector.as_deref()).await?;
            output::objects(arguments.output, "cluster", &HEADER, &clusters, row)?;
        }
        ClusterCommand::Get(arguments) => {
            let clusters: Api<Cluster> = Api::all(client);
            let found = clusters.get(&arguments.name).await;
            let found = found.map_err(api(format!("cannot get cluster {}", arguments.name)))?;
            output::object(arguments.output, "cluster", &HEADER, &found, row)?;
        }
        ClusterCommand::Approve(arguments) => approve(client, &arguments).await?,
        ClusterCommand::Label(arguments) => {
            let patch = serde_json::json!({"metadata": {"labels": label_patch(&arguments.labels)?}});
            let clusters: Api<Cluster> = Api::all(client);
            clusters
                .patch(&arguments.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(api(format!("cannot label cluster {}", arguments.name)))?;
            output::progress(&format!("labelled cluster {}", arguments.name));
        }
    }
    Ok(Code::Ok)
}

async fn approve(client: Client, arguments: &ApproveArguments) -> Result<(), Failure> {
    let name = &arguments.name;
    let clusters: Api<Cluster> = Api::all(client);
    let found = clusters.get(name).await.map_err(api(format!("cannot get cluster {name}")))?;
    let uid = found.status.and_then(|status| status.kube_system_uid);
    if let Some(wanted) = arguments.uid.as_ref().filter(|wanted| uid.as_ref() != Some(wanted)) {
        let has = uid.unwrap_or_else(|| "none yet".to_owned());
        return Err(Failure::negative(format!("cluster {name} has uid {has}, not {wanted}: not approved")));
    }
    if !found.spec.pending {
        output::progress(&format!("cluster {name} is a member already"));
        return Ok(());
    }
    // Under the version that was looked at: what joins under this name meanwhile is not what was approved.
    let version = found.metadata.resource_version;
    let patch = serde_json::json!({"metadata": {"resourceVersion": version}, "spec": {"pending": false}});
    let patched = clusters.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map_err(api(format!("cannot approve cluster {name}")))?;
    output::progress(&format!("approved cluster {name}"));
    Ok(())
}

/// Prints the fleet's table.
pub(crate) async fn show(client: Client) -> Result<(), Failure> {
    let clusters = list(client, None).await?;
    output::objects(Format::Table, "cluster", &HEADER, &clusters, row)
}

/// Clusters of the fleet, by name.
pub(crate) async fn list(client: Client, selector: Option<&str>) -> Result<Vec<Cluster>, Failure> {
    let clusters: Api<Cluster> = Api::all(client.clone());
    let mut params = ListParams::default();
    if let Some(selector) = selector {
        params = params.labels(selector);
    }
    let mut found = match clusters.list(&params).await {
        Ok(all) => all.items,
        Err(kube::Error::Api(status)) if status.code == 403 => of_projects(&client, selector).await?,
        Err(error) => return Err(api("cannot list clusters")(error)),
    };
    found.sort_by_key(ResourceExt::name_any);
    Ok(found)
}

/// The clusters of the projects that somebody has a role in: who may not list clusters may look at those.
async fn of_projects(client: &Client, selector: Option<&str>) -> Result<Vec<Cluster>, Failure> {
    let selector = selector.map(str::parse::<LabelSelector>).transpose();
    let selector = selector.map_err(|error| Failure::usage(error.to_string()))?;
    let request = http::Request::get("/fleet/v1/clusters").body(Vec::new());
    let request = request.map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    let all: kube::api::ObjectList<Cluster> =
        client.request(request).await.map_err(api("cannot list clusters"))?;
    let wanted = |cluster: &Cluster| {
        selector
            .as_ref()
            .is_none_or(|selector| selector.matches(|key| cluster.labels().get(key).map(String::as_str)))
    };
    Ok(all.items.into_iter().filter(wanted).collect())
}

fn row(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status.clone().unwrap_or_default();
    let nodes = status.nodes.map_or_else(String::new, |nodes| format!("{}/{}", nodes.ready, nodes.total));
    let applied = status.assignments.map_or_else(String::new, |sum| format!("{}/{}", sum.applied, sum.total));
    let labels: Vec<_> = cluster.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        cluster.name_any(),
        readiness(cluster, &status.conditions),
        condition(&status.conditions, "Connected"),
        status.kubernetes_version.unwrap_or_default(),
        nodes,
        applied,
        labels.join(","),
        output::age(cluster.metadata.creation_timestamp.as_ref()),
    ]
}

/// What a person decided about a cluster goes before what is said of it.
fn readiness(cluster: &Cluster, conditions: &[Condition]) -> String {
    let spec = &cluster.spec;
    match () {
        () if spec.revoked => "Revoked".to_owned(),
        () if spec.pending => "Pending".to_owned(),
        () if spec.paused => format!("{},Paused", condition(conditions, "Ready")),
        () => condition(conditions, "Ready"),
    }
}

fn condition(conditions: &[Condition], kind: &str) -> String {
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone())
}

fn label_patch(labels: &[String]) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    let mut patch = serde_json::Map::new();
    for label in labels {
        if let Some((key, value)) = label.split_once('=') {
            patch.insert(key.to_owned(), value.into());
        } else if let Some(key) = label.strip_suffix('-') {
            patch.insert(key.to_owned(), serde_json::Value::Null);
        } else {
            return Err(Failure::usage(format!("{label:?} is neither KEY=VALUE nor KEY-")));
        }
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_decided_about_a_cluster_is_shown() {
        for (spec, expected) in [
            (serde_json::json!({}), "Unknown"),
            (serde_json::json!({"revoked": true, "pending": true}), "Revoked"),
            (serde_json::json!({"pending": true}), "Pending"),
            (serde_json::json!({"paused": true}), "Unknown,Paused"),
        ] {
            let cluster = Cluster::new("dev", serde_json::from_value(spec).expect("a spec"));
            assert_eq!(row(&cluster)[1], expected);
        }
    }

    #[test]
    fn labels_are_set_and_removed() {
        let patch = label_patch(&["region=eu".into(), "old-".into()]).expect("valid");
        assert_eq!(serde_json::Value::from(patch), serde_json::json!({"region": "eu", "old": null}));
        assert_eq!(label_patch(&["nothing".into()]).expect_err("invalid").code, Code::Usage);
    }
}
