//! What the cluster is: its version and nodes, told when they change.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{ClusterFacts, RecordBody};
use fleet_objects::NodeCount;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::outbox::Outbox;

/// How often the version is looked at; upgrades are rare.
const VERSION_EVERY: Duration = Duration::from_secs(60);
/// Changes of nodes are gathered this long: a whole pool coming up is one report.
const GATHER: Duration = Duration::from_millis(200);

/// Follows the cluster until `shutdown`.
pub(crate) async fn run(client: Client, outbox: Outbox, agent_version: String, shutdown: CancellationToken) {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher::watcher(nodes, watcher::Config::default()).default_backoff());
    let mut ready: BTreeMap<String, bool> = BTreeMap::new();
    let mut listed: BTreeMap<String, bool> = BTreeMap::new();
    let mut version: Option<String> = None;
    let mut told: Option<ClusterFacts> = None;
    let mut ask = tokio::time::interval(VERSION_EVERY);
    let mut synced = false;
    loop {
        let mut tell = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ask.tick() => {
                match client.apiserver_version().await {
                    Ok(info) => version = Some(info.git_version),
                    Err(_) if version.is_none() => ask.reset_after(Duration::from_secs(2)),
                    Err(_) => {}
                }
                true
            }
            event = events.next() => match event {
                Some(Ok(event)) => {
                    let done = matches!(event, Event::InitDone);
                    take(event, &mut ready, &mut listed);
                    synced |= done;
                    synced
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "cannot follow the nodes");
                    false
                }
                None => return,
            },
            () = tokio::time::sleep(GATHER), if differs(&told, &version, &ready, &agent_version, synced) => true,
        };
        tell &= synced;
        if tell && differs(&told, &version, &ready, &agent_version, synced) {
            let Some(facts) = facts(&version, &ready, &agent_version) else { continue };
            // A full outbox: said again at the next look.
            if outbox.append(RecordBody::ClusterFacts(facts.clone())).await.is_ok() {
                told = Some(facts);
            }
        }
    }
}

fn differs(
    told: &Option<ClusterFacts>,
    version: &Option<String>,
    ready: &BTreeMap<String, bool>,
    agent_version: &str,
    synced: bool,
) -> bool {
    synced && facts(version, ready, agent_version).is_some_and(|facts| told.as_ref() != Some(&facts))
}

fn facts(
    version: &Option<String>,
    ready: &BTreeMap<String, bool>,
    agent_version: &str,
) -> Option<ClusterFacts> {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let nodes =
        NodeCount { total: count(ready.len()), ready: count(ready.values().filter(|ready| **ready).count()) };
    let kubernetes_version = version.clone()?;
    Some(ClusterFacts { kubernetes_version, nodes, agent_version: agent_version.to_owned() })
}

fn take(event: Event<Node>, ready: &mut BTreeMap<String, bool>, listed: &mut BTreeMap<String, bool>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(node) => drop(listed.insert(node.name_any(), is_ready(&node))),
        Event::InitDone => *ready = std::mem::take(listed),
        Event::Apply(node) => drop(ready.insert(node.name_any(), is_ready(&node))),
        Event::Delete(node) => drop(ready.remove(&node.name_any())),
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
