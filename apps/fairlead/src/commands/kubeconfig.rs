//! `fairlead kubeconfig`

use anyhow::Context as _;
use clap::Args;
use fleet_objects::Cluster;
use kube::Api;
use kube::config::Kubeconfig;

use crate::arguments::Global;
use crate::connection;
use crate::failure::{Code, Failure};
use crate::output;

#[derive(Args, Debug)]
pub(crate) struct KubeconfigArguments {
    /// Of this cluster of `fairlead up` instead of the hub
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The cluster, whatever it is and wherever, through the hub and as whom the hub knows you
    #[arg(long, requires = "cluster", conflicts_with = "path")]
    through_hub: bool,
    /// Print where the file is instead of what it holds
    #[arg(long)]
    path: bool,
}

pub(crate) async fn run(global: &Global, arguments: &KubeconfigArguments) -> Result<Code, Failure> {
    if let (true, Some(cluster)) = (arguments.through_hub, &arguments.cluster) {
        fleet_objects::check_cluster_name(cluster).map_err(|error| Failure::usage(error.to_string()))?;
        check_known(global, cluster).await?;
        output::data(&output::yaml(&through_hub(connection::kubeconfig(global)?, global, cluster)?)?)?;
        return Ok(Code::Ok);
    }
    let path = match &arguments.cluster {
        Some(cluster) => {
            fleet_objects::check_cluster_name(cluster).map_err(|error| Failure::usage(error.to_string()))?;
            connection::state_dir(global)?.join(format!("{cluster}.kubeconfig"))
        }
        None => connection::kubeconfig_path(global)?.ok_or_else(|| {
            Failure::new(Code::Unreachable, anyhow::Error::msg("no hub is known")).hint("fairlead up")
        })?,
    };
    if !path.exists() {
        let message = format!("there is no kubeconfig {}", path.display());
        return Err(Failure::new(Code::Unreachable, anyhow::Error::msg(message)).hint("fairlead up"));
    }
    if arguments.path {
        output::data(&format!("{}\n", path.display()))?;
    } else {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        output::data(&text)?;
    }
    Ok(Code::Ok)
}

/// A name that nobody has is a typing mistake. A hub that cannot be asked now, or that does not say, hinders nobody.
async fn check_known(global: &Global, name: &str) -> Result<(), Failure> {
    let clusters: Api<Cluster> = Api::all(connection::hub_once(global).await?);
    match clusters.get_metadata_opt(name).await {
        Ok(None) => {
            Err(Failure::usage(format!("the hub knows no cluster {name}")).hint("fairlead cluster list"))
        }
        Ok(Some(_)) => Ok(()),
        Err(error) => {
            output::progress(&format!("the hub did not say whether there is a cluster {name}: {error}"));
            Ok(())
        }
    }
}

/// The hub's kubeconfig with one context, which leads to the cluster. The credentials are the hub's: it says who asks.
fn through_hub(mut config: Kubeconfig, global: &Global, name: &str) -> Result<Kubeconfig, Failure> {
    let unusable = |what: &str| Failure::new(Code::Unreachable, anyhow::Error::msg(what.to_owned()));
    let chosen = global.context.clone().or_else(|| config.current_context.clone());
    let context = config.contexts.into_iter().find(|own| Some(&own.name) == chosen.as_ref());
    let mut context = context.ok_or_else(|| unusable("the kubeconfig of the hub has no such context"))?;
    let inner = context.context.as_mut().ok_or_else(|| unusable("the context of the hub is empty"))?;
    config.clusters.retain(|own| own.name == inner.cluster);
    config.auth_infos.retain(|own| Some(&own.name) == inner.user.as_ref());
    let hub = config.clusters.first_mut().and_then(|own| {
        own.name = name.to_owned();
        own.cluster.as_mut()
    });
    let hub = hub.ok_or_else(|| unusable("the context of the hub names no cluster"))?;
    let server = hub.server.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
    hub.server = Some(format!("{server}{}", fleet_objects::cluster_proxy_path(name)));
    inner.cluster = name.to_owned();
    inner.namespace = None;
    context.name = name.to_owned();
    config.current_context = Some(name.to_owned());
    config.contexts = vec![context];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_through_the_hub_keeps_its_credentials_and_nothing_else() {
        let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "hub",
            "clusters": [{"name": "hub", "cluster": {"server": "https://hub:6443/", "certificate-authority-data": "QQ=="}},
                {"name": "other", "cluster": {"server": "https://other"}}],
            "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "ada", "namespace": "team"}},
                {"name": "other", "context": {"cluster": "other", "user": "eve"}}],
            "users": [{"name": "ada", "user": {"token": "t"}}, {"name": "eve", "user": {"token": "e"}}]}"#;
        let hub: Kubeconfig = serde_json::from_str(text).expect("a kubeconfig");
        let global = Global { kubeconfig: None, context: None, dir: None, namespace: "default".to_owned() };
        let made = through_hub(hub, &global, "prod").expect("a way");
        let made = serde_json::to_value(&made).expect("JSON");
        let server = "https://hub:6443/apis/fleet.fairlead.dev/v1alpha1/clusters/prod/proxy";
        assert_eq!(made["clusters"][0]["cluster"]["server"], server);
        assert_eq!(made["clusters"][0]["cluster"]["certificate-authority-data"], "QQ==");
        assert_eq!(made["users"][0]["user"]["token"], "t");
        assert_eq!(
            (made["users"].as_array().map(Vec::len), &made["current-context"]),
            (Some(1), &"prod".into())
        );
        let context = &made["contexts"][0]["context"];
        assert_eq!((&context["cluster"], &context["user"]), (&"prod".into(), &"ada".into()));
        assert!(context["namespace"].is_null(), "the hub's namespaces are not the cluster's");
    }
}
