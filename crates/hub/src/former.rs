//! Partitions of clusters that are no more: what is left of them at the hub goes. Nothing is thereby taken away from anybody: an
//! agent whose Cluster is gone is refused, and to one that were not the absence of an assignment says nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::{AgentIdentity, Cluster, partition_cluster, partition_namespace};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::registration::{self, AGENT_RIGHTS};
use crate::service::Shared;

/// Clusters deleted within this time are looked at together.
const GATHER: Duration = Duration::from_millis(200);
/// While a partition is on its way out, and after a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(5);

/// Removes them until `shutdown`: at the start, and when a Cluster is gone.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let gone = Arc::new(Notify::new());
    let wake = Arc::clone(&gone);
    shared.clusters.on_change(move |change| {
        if change.new.is_none() {
            wake.notify_one();
        }
    });
    if shutdown.run_until_cancelled(shared.clusters.has_synced()).await.is_none() {
        return;
    }
    loop {
        let done = pass(&shared).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "partitions of former clusters stay for now"
            );
            false
        });
        let wait = async {
            if done {
                gone.notified().await;
            } else {
                drop(tokio::time::timeout(RETRY, gone.notified()).await);
            }
            tokio::time::sleep(GATHER).await;
        };
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Answers whether nothing is left to do.
async fn pass(shared: &Shared) -> Result<bool, Error> {
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let all = api.list_metadata(&ListParams::default()).await.map_err(Error::api("list partitions"))?;
    let mut there = BTreeSet::new();
    let mut done = true;
    for namespace in all.items {
        let name = namespace.name_any();
        let Some(cluster) = partition_cluster(&name) else { continue };
        if namespace.metadata.deletion_timestamp.is_some() {
            done = false;
        } else if shared.clusters.find("", cluster).is_none() && is_former(shared, cluster).await? {
            remove(&api, &namespace).await?;
            done = false;
        }
        there.insert(name);
    }
    for cluster in shared.clusters.list() {
        done &= restore(shared, &cluster, &there).await?;
    }
    Ok(done)
}

/// Whether it is a partition as a join makes it, and its Cluster is gone. The store is asked: the cache may be late.
async fn is_former(shared: &Shared, cluster: &str) -> Result<bool, Error> {
    let failed = || Error::api(format!("look at the partition of cluster {cluster}"));
    let clusters: Api<Cluster> = Api::all(shared.client.clone());
    if clusters.get_opt(cluster).await.map_err(failed())?.is_some() {
        return Ok(false);
    }
    let rights: Api<RoleBinding> = Api::namespaced(shared.client.clone(), &partition_namespace(cluster));
    Ok(rights.get_opt(AGENT_RIGHTS).await.map_err(failed())?.is_some())
}

async fn remove(api: &Api<Namespace>, namespace: &PartialObjectMeta<Namespace>) -> Result<(), Error> {
    let ObjectMeta { name, uid, .. } = &namespace.metadata;
    let name = name.clone().unwrap_or_default();
    let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&name, &params).await {
        Ok(_) => tracing::info!(%name, "the partition of a former cluster is removed"),
        Err(error) if api_client::error::is_not_found(&error) => {}
        Err(error) => return Err(Error::api(format!("remove partition {name}"))(error)),
    }
    Ok(())
}

/// Makes the partition of a member that has none: one that joined in the moment in which its name's former one went.
async fn restore(shared: &Shared, cluster: &Cluster, there: &BTreeSet<String>) -> Result<bool, Error> {
    let (name, status) = (cluster.name_any(), cluster.status.as_ref());
    let Some(uid) = status.and_then(|status| status.kube_system_uid.clone()) else { return Ok(true) };
    if cluster.metadata.deletion_timestamp.is_some() || there.contains(&partition_namespace(&name)) {
        return Ok(true);
    }
    registration::write_partition(&shared.client, &AgentIdentity { name, uid }).await.map(|()| true)
}
