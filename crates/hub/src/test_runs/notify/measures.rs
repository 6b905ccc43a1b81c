//! Metrics of test runs for an OpenTelemetry collector.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fleet_objects::Cluster;
use fleet_objects::test_run::TestRun;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tracing::warn;
use workflow::otlp::Sender;
use workflow::otlp::metrics::{Meters, Now};
use workflow::report::history::workflow_of;
use workflow::{fold, webhook};

use super::Telemetry;
use crate::outbound::Outbound;

/// Counts; clones share the counts.
#[derive(Clone)]
pub(super) struct Measures {
    client: Client,
    outbound: Outbound,
    telemetry: Option<Telemetry>,
    sender: Sender,
    counted: Arc<Mutex<Counted>>,
}

struct Counted {
    meters: Meters,
    /// Runs under way by uid.
    active: HashMap<String, Active>,
}

struct Active {
    workflow: String,
    /// It waits in every cluster that has not ended.
    pending: bool,
    clusters: Vec<String>,
}

impl Measures {
    pub(super) fn new(
        client: Client,
        outbound: Outbound,
        telemetry: Option<Telemetry>,
        sender: Sender,
    ) -> Self {
        let counted = Counted { meters: Meters::new(Timestamp::now()), active: HashMap::new() };
        Self { client, outbound, telemetry, sender, counted: Arc::new(Mutex::new(counted)) }
    }

    /// Takes note of how a run is. What had ended before this process began is not counted again.
    pub(super) fn take(&self, run: &TestRun) {
        let Some(uid) = run.uid().filter(|_| self.telemetry.is_some()) else { return };
        let mut counted = self.counted.lock();
        if webhook::end(run).is_some() {
            if counted.active.remove(&uid).is_some() {
                counted.meters.ended(run);
            }
            return;
        }
        let clusters = run.status.iter().flat_map(|status| &status.clusters);
        let open: Vec<_> = clusters.filter(|cluster| cluster.outcome.is_none()).collect();
        let pending =
            open.iter().all(|cluster| cluster.started_at.is_none() || cluster.reason == fold::QUEUED);
        let busy = open.iter().filter(|cluster| cluster.started_at.is_some());
        let clusters = busy.map(|cluster| cluster.cluster.clone()).collect();
        counted.active.insert(uid, Active { workflow: workflow_of(run), pending, clusters });
    }

    /// A run is gone.
    pub(super) fn forget(&self, run: &TestRun) {
        if let Some(uid) = run.uid() {
            self.counted.lock().active.remove(&uid);
        }
    }

    /// Sends metrics for ever; without a collector it only waits.
    pub(super) async fn run(&self) {
        let Some(telemetry) = &self.telemetry else { return std::future::pending().await };
        let mut said = false;
        loop {
            tokio::time::sleep(telemetry.interval).await;
            let workers = match self.workers().await {
                Ok(workers) => workers,
                Err(error) => {
                    warn!(%error, "cannot count the clusters for metrics");
                    continue;
                }
            };
            let document = self.document(workers);
            let url = format!("{}/v1/metrics", telemetry.endpoint);
            let headers = super::deliver::headers(&telemetry.headers, "application/json");
            let sent = self.outbound.post(&url, None, &headers, document.to_string().into_bytes());
            match sent.await {
                Ok(_) => said = false,
                Err(error) if !said => {
                    warn!(%error, "the OpenTelemetry collector takes no metrics; trying again");
                    said = true;
                }
                Err(_) => {}
            }
        }
    }

    fn document(&self, workers: [u64; 3]) -> serde_json::Value {
        let counted = self.counted.lock();
        let mut now = Now { workers, ..Now::default() };
        for active in counted.active.values() {
            let own = now.active.entry(active.workflow.clone()).or_default();
            if active.pending {
                own.0 += 1;
            } else {
                own.1 += 1;
            }
        }
        counted.meters.document(&self.sender, Timestamp::now(), &now)
    }

    /// Clusters that run tests, that could, and that are away.
    async fn workers(&self) -> Result<[u64; 3], kube::Error> {
        let all: Api<Cluster> = Api::all(self.client.clone());
        let all = all.list(&ListParams::default()).await?;
        let counted = self.counted.lock();
        let busy: BTreeSet<&String> = counted.active.values().flat_map(|active| &active.clusters).collect();
        let mut out = [0; 3];
        for cluster in all.items {
            let conditions =
                cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let connected = fleet_objects::condition_is_true(conditions, "Connected");
            let state = match (connected, busy.contains(&cluster.name_any())) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
            out[state] += 1;
        }
        Ok(out)
    }
}
