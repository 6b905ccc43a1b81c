//! The hub's view of a fleet that comes up.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{JoinToken, TokenGrant};
use fleet_objects::{Cluster, SYSTEM_NAMESPACE};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::PostParams;
use kube::{Api, Client};

use super::error::UpError;
use super::plan::Invitation;
use super::readiness::Server;

/// How long a token made by `up` is good: it is used within moments.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// Between two looks at an object.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a one-use token for a cluster.
pub(crate) async fn invite(hub: &Server, cluster: &str) -> Result<Invitation, UpError> {
    let what = || format!("make a join token for cluster {cluster}");
    let labels = BTreeMap::from([("stage".to_owned(), cluster.to_owned())]);
    let grant = TokenGrant {
        cluster: Some(cluster.to_owned()),
        labels,
        ttl: Some(TOKEN_LIFE),
        ..TokenGrant::default()
    };
    let token = JoinToken::generate();
    let secret: Secret = serde_json::from_value(token.secret_object(&grant, jiff::Timestamp::now()))
        .map_err(|error| UpError::Request { what: what(), source: error.into() })?;
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await.map_err(UpError::request(what()))?;
    Ok(Invitation { token: token.reveal(), pin: hub.pin.clone() })
}

/// Waits until the hub has made its namespaces.
pub(crate) async fn system_namespace(hub: &Client) -> Result<(), UpError> {
    let namespaces: Api<Namespace> = Api::all(hub.clone());
    let what = format!("read namespace {SYSTEM_NAMESPACE}");
    while namespaces.get_opt(SYSTEM_NAMESPACE).await.map_err(UpError::request(what.clone()))?.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Whether the hub knows the cluster as one that has joined.
pub(crate) async fn has_joined(hub: &Client, cluster: &str) -> Result<bool, UpError> {
    let found = Api::<Cluster>::all(hub.clone()).get_opt(cluster).await;
    let found = found.map_err(UpError::request(format!("read cluster {cluster}")))?;
    Ok(found.and_then(|cluster| cluster.status).is_some_and(|status| status.registration.is_some()))
}

/// Waits until a cluster's status is as wanted. Never gives up: the caller does.
pub(crate) async fn until(
    hub: &Client,
    cluster: &str,
    wanted: impl Fn(&Cluster) -> bool,
) -> Result<(), UpError> {
    let clusters: Api<Cluster> = Api::all(hub.clone());
    let what = format!("read cluster {cluster}");
    loop {
        let found = clusters.get_opt(cluster).await.map_err(UpError::request(what.clone()))?;
        if found.is_some_and(|cluster| wanted(&cluster)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the agent's stream is open.
pub(crate) fn connected(cluster: &Cluster) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Connected" && condition.status == "True")
}

/// Whether everything assigned to it is applied, and that is something.
pub(crate) fn applied(cluster: &Cluster) -> bool {
    let sum = cluster.status.as_ref().and_then(|status| status.assignments);
    sum.is_some_and(|sum| sum.total > 0 && sum.applied == sum.total)
}
