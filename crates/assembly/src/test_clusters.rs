//! Clusters for test executions that ask for one of their own: in this process, in memory, on simulated nodes.

use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use cluster_agent::executor::{EphemeralCluster, EphemeralClusters};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::Scope;
use kube::{Api, Client};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use workflow::plan::PlannedCluster;

use crate::cluster::{Cluster, Nodes, Options};
use crate::error::AssemblyError;

/// Who applies what a cluster is seeded with.
const MANAGER: &str = "fairlead-seed";
/// Their name in kubeconfigs and the names of their nodes.
const NAME: &str = "ephemeral";

/// Makes them.
#[derive(Clone, Copy, Debug)]
pub struct TestClusters;

struct Made {
    cluster: Cluster,
    kubeconfig: String,
}

#[async_trait]
impl EphemeralClusters for TestClusters {
    async fn start(&self, _: &str, wanted: &PlannedCluster) -> Result<Box<dyn EphemeralCluster>, String> {
        // Pods come from other addresses than this machine's own; clients need a certificate of the cluster's authority.
        let bind = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let nodes = Nodes::Simulated(wanted.nodes);
        let options = Options { bind, nodes, ..Options::ephemeral(NAME) };
        let told = |error: AssemblyError| format!("{error}: {}", causes(&error));
        let cluster = Box::pin(Cluster::start(options.clone())).await.map_err(told)?;
        crate::ephemeral::usable(&cluster.client(), &options).await.map_err(told)?;
        for object in &wanted.seed {
            apply(&cluster.client(), object).await.map_err(told)?;
        }
        let kubeconfig = cluster.kubeconfig(NAME).map_err(told)?;
        let kubeconfig = kubeconfig.ok_or_else(|| "it does not listen".to_owned())?;
        Ok(Box::new(Made { cluster, kubeconfig }))
    }
}

#[async_trait]
impl EphemeralCluster for Made {
    fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    async fn stop(self: Box<Self>) {
        let now = CancellationToken::new();
        now.cancel();
        if let Err(error) = self.cluster.run(now).await {
            tracing::warn!(%error, "a part of an ephemeral cluster did not end well");
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut out = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push(cause.to_string());
        source = cause.source();
    }
    out.join(": ")
}

/// Puts one object into a cluster, by server-side apply.
///
/// # Errors
/// When it is no object, or the cluster refuses it.
pub async fn apply(client: &Client, value: &Value) -> Result<(), AssemblyError> {
    let told = || {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        format!("cannot apply {} {}", text(&value["kind"]), text(&value["metadata"]["name"]))
    };
    let failed = |cause: crate::error::Cause| AssemblyError::new(told(), cause);
    let object: DynamicObject =
        serde_json::from_value(value.clone()).map_err(|error| failed(error.into()))?;
    let types = object.types.clone().ok_or_else(|| failed("it has no apiVersion".into()))?;
    let name = object.metadata.name.clone().ok_or_else(|| failed("it has no metadata.name".into()))?;
    let kind = kube::core::GroupVersionKind::try_from(&types).map_err(|error| failed(error.into()))?;
    let found = kube::discovery::pinned_kind(client, &kind).await;
    let (resource, capabilities) = found.map_err(|error| failed(error.into()))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let applied = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(value)).await;
    applied.map(drop).map_err(|error| failed(error.into()))
}
