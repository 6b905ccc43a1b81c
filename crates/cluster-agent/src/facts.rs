//! What the cluster is: its version, nodes and properties, told when they change.

mod properties;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{ClusterFacts, RecordBody};
use fleet_objects::NodeCount;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hold::Holds;
use crate::outbox::Outbox;
use properties::NodeFacts;

/// How often version, API groups and About API are looked at; upgrades are rare.
const VERSION_EVERY: Duration = Duration::from_secs(60);
/// How often the owner's hold is looked at; before a change begins it is looked at besides.
const HOLD_EVERY: Duration = Duration::from_secs(5);
/// Changes of nodes are gathered this long: a whole pool coming up is one report.
const GATHER: Duration = Duration::from_millis(200);
/// After an outbox had no room for it.
const FULL: Duration = Duration::from_secs(5);
/// The cluster's properties as it says them itself (KEP-2149); most clusters do not serve it.
const ABOUT: &str = "/apis/about.k8s.io/v1alpha1/clusterproperties?limit=64";

/// What is known so far.
#[derive(Default)]
struct Known {
    version: Option<String>,
    nodes: BTreeMap<String, NodeFacts>,
    /// A list under way.
    listed: BTreeMap<String, NodeFacts>,
    /// What the cluster says of itself.
    said: BTreeMap<String, String>,
    /// What it serves.
    groups: Vec<String>,
    /// Why its owner lets no change in.
    hold: Option<String>,
    synced: bool,
    agent_version: String,
}

/// Follows the cluster until `shutdown`.
pub(crate) async fn run(client: Client, outbox: Outbox, agent_version: String, shutdown: CancellationToken) {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher::watcher(nodes, watcher::Config::default()).default_backoff());
    let mut known = Known { agent_version, ..Known::default() };
    let mut told: Option<ClusterFacts> = None;
    let mut ask = tokio::time::interval(VERSION_EVERY);
    let mut ask_owner = tokio::time::interval(HOLD_EVERY);
    ask_owner.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due: Option<Instant> = None;
    loop {
        let facts = known.facts();
        let news = facts.is_some() && facts != told;
        // From the first change on, so that a cluster whose nodes never rest is told of too.
        due = news.then(|| due.unwrap_or_else(|| Instant::now() + GATHER));
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ask.tick() => {
                match client.apiserver_version().await {
                    Ok(info) => {
                        known.version = Some(info.git_version);
                        known.said = about(&client).await.unwrap_or(known.said);
                        known.groups = groups(&client).await.unwrap_or(known.groups);
                    }
                    Err(_) if known.version.is_none() => ask.reset_after(Duration::from_secs(2)),
                    Err(_) => {}
                }
            }
            _ = ask_owner.tick() => {
                // A cluster that does not answer changes nothing.
                if let Ok(holds) = Holds::read(&client).await {
                    known.hold = holds.everything();
                }
            }
            event = events.next() => match event {
                Some(Ok(event)) => known.take(event),
                Some(Err(error)) => tracing::debug!(%error, "cannot follow the nodes"),
                None => return,
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some(facts) = facts else { continue };
                if outbox.append(RecordBody::ClusterFacts(facts.clone())).await.is_ok() {
                    told = Some(facts);
                } else {
                    // A full outbox.
                    due = Some(Instant::now() + FULL);
                }
            }
        }
    }
}

/// What the cluster says of itself; `None` when it did not answer, which changes nothing.
async fn about(client: &Client) -> Option<BTreeMap<String, String>> {
    let request = http::Request::get(ABOUT).body(Vec::new()).ok()?;
    match client.request::<serde_json::Value>(request).await {
        Ok(list) => Some(properties::about(&list)),
        Err(kube::Error::Api(status)) if status.code == 404 => Some(BTreeMap::new()),
        Err(_) => None,
    }
}

/// What the cluster serves; `None` when it did not answer, which changes nothing.
async fn groups(client: &Client) -> Option<Vec<String>> {
    client.list_api_groups().await.ok().map(|list| properties::api_groups(&list))
}

impl Known {
    /// Once the nodes were listed and the version is known.
    fn facts(&self) -> Option<ClusterFacts> {
        let kubernetes_version = self.version.clone().filter(|_| self.synced)?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let ready = self.nodes.values().filter(|node| node.ready).count();
        Some(ClusterFacts {
            properties: properties::properties(&kubernetes_version, self.nodes.values(), &self.said),
            api_groups: self.groups.clone(),
            hold: self.hold.clone(),
            kubernetes_version,
            nodes: NodeCount { total: count(self.nodes.len()), ready: count(ready) },
            agent_version: self.agent_version.clone(),
        })
    }

    fn take(&mut self, event: Event<Node>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(node) => drop(self.listed.insert(node.name_any(), NodeFacts::of(&node))),
            Event::InitDone => {
                self.nodes = std::mem::take(&mut self.listed);
                self.synced = true;
            }
            Event::Apply(node) => drop(self.nodes.insert(node.name_any(), NodeFacts::of(&node))),
            Event::Delete(node) => drop(self.nodes.remove(&node.name_any())),
        }
    }
}
