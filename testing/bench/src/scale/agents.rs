//! Many agents in one process: each with its own key, certificate, outbox, store and connection, and a simulated cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::{JoinToken, TokenGrant};
use anyhow::Context;
use cluster_agent::{Handle, Join, Options, Service, TlsConnector, Trust};
use fleet_objects::SYSTEM_NAMESPACE;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;

use super::cluster::{PATIENCE, SimulatedCluster};

/// Joins under way at once: people do not bring up a fleet all at once, and a hub is not asked to.
const JOINING: usize = 32;

/// An agent with its cluster.
pub(super) struct Member {
    pub(super) cluster: SimulatedCluster,
    handle: Handle,
}

impl Member {
    /// Waits until the agent's stream at the hub is open or not; answers when that was seen.
    pub(super) async fn connected(&self, wanted: bool) -> Option<Instant> {
        let mut status = self.handle.status();
        let known = status.wait_for(|status| status.connected == wanted);
        tokio::time::timeout(PATIENCE, known).await.ok()?.ok()?;
        Some(Instant::now())
    }
}

/// Where agents join.
pub(super) struct Gate {
    pub(super) client: kube::Client,
    pub(super) pin: String,
    pub(super) directory: PathBuf,
    pub(super) stop: CancellationToken,
}

/// Brings up `count` agents; answers them with how long each took to join. `address` says where each finds the hub.
pub(super) async fn start(
    gate: &Gate,
    count: usize,
    address: impl Fn(usize) -> SocketAddr,
) -> anyhow::Result<(Vec<Member>, Vec<Duration>)> {
    let joins = (0..count).map(|index| join(gate, index, address(index)));
    let joined: Vec<(Member, Duration)> = stream::iter(joins).buffered(JOINING).try_collect().await?;
    Ok(joined.into_iter().unzip())
}

async fn join(gate: &Gate, index: usize, hub: SocketAddr) -> anyhow::Result<(Member, Duration)> {
    let name = format!("c{index:05}");
    let token = invite(&gate.client).await?;
    let began = Instant::now();
    let cluster = SimulatedCluster::default();
    let directory = gate.directory.join(&name);
    let service = agent(
        &directory,
        hub,
        cluster.client(),
        gate.pin.clone(),
        Join { token, name, labels: BTreeMap::from([("tier".to_owned(), "scale".to_owned())]) },
    )
    .await?;
    let member = Member { cluster, handle: service.handle() };
    tokio::spawn(Box::pin(service.run(gate.stop.clone())));
    member.connected(true).await.context("an agent did not join in time")?;
    Ok((member, began.elapsed()))
}

async fn agent(
    directory: &Path,
    hub: SocketAddr,
    cluster: kube::Client,
    pin: String,
    join: Join,
) -> anyhow::Result<Service> {
    let connector = Arc::new(TlsConnector::new(&format!("https://{hub}"))?);
    let store = Arc::new(storage::model::MemoryStore::default());
    let mut options = Options::new(connector, directory.to_owned(), store, cluster);
    options.trust = Some(Trust::Pin(pin));
    options.join = Some(join);
    // Thousands of outboxes on one disk say nothing of an agent, which has its own.
    options.outbox.fsync = false;
    Ok(Service::new(options).await?)
}

async fn invite(client: &kube::Client) -> anyhow::Result<String> {
    let token = JoinToken::generate();
    let grant = TokenGrant { ttl: Some(Duration::from_secs(24 * 3600)), ..TokenGrant::default() };
    let secret: Secret = serde_json::from_value(token.secret_object(&grant, Timestamp::now()))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await?;
    Ok(token.reveal())
}
