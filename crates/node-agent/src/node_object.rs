//! The `Node` and its lease.
//!
//! The lease is the heartbeat; the node object itself is written only when something in it changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::options::Options;
use crate::runtime::{PodRuntime, Version};

/// Where node leases live.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Keeps the node object and its lease.
pub struct Registration {
    client: kube::Client,
    options: Options,
    runtime: Arc<dyn PodRuntime>,
    uid: Option<String>,
}

impl Registration {
    /// For the node of these options.
    #[must_use]
    pub fn new(client: kube::Client, options: Options, runtime: Arc<dyn PodRuntime>) -> Self {
        Self { client, options, runtime, uid: None }
    }

    /// Keeps both up to date until dropped. `registered` is told once the node is there.
    pub async fn run(mut self, registered: tokio::sync::watch::Sender<bool>) {
        let renewal = (self.options.lease_duration / 4).max(Duration::from_millis(100));
        let mut next_status = tokio::time::Instant::now();
        loop {
            if tokio::time::Instant::now() >= next_status {
                match self.sync().await {
                    Ok(()) => {
                        next_status = tokio::time::Instant::now() + self.options.status_period;
                        let _ = registered.send(true);
                    }
                    Err(error) => {
                        tracing::warn!(%error, node = self.options.node_name, "the node could not be registered");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        continue;
                    }
                }
            }
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, node = self.options.node_name, "the node's lease could not be renewed");
            }
            tokio::time::sleep(renewal.min(self.options.status_period)).await;
        }
    }

    /// Creates the node, or writes what changed in its labels and status.
    async fn sync(&mut self) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let name = self.options.node_name.clone();
        let labels = self.labels();
        let found = match api.get_opt(&name).await? {
            Some(node) => node,
            None => {
                let status = self.status(None).await;
                let node = Node {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        labels: Some(labels.clone()),
                        ..ObjectMeta::default()
                    },
                    status: Some(status),
                    ..Node::default()
                };
                match api.create(&PostParams::default(), &node).await {
                    Ok(node) => node,
                    Err(kube::Error::Api(status)) if status.code == 409 => api.get(&name).await?,
                    Err(error) => return Err(error),
                }
            }
        };
        self.uid.clone_from(&found.metadata.uid);
        let own = found.metadata.labels.as_ref();
        if labels.iter().any(|(key, value)| own.and_then(|own| own.get(key)) != Some(value)) {
            let patch = json!({ "metadata": { "labels": labels } });
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        let status = self.status(found.status.as_ref()).await;
        if found.status.as_ref() != Some(&status) {
            let patch = json!({ "status": status });
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        }
        Ok(())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.options.labels.clone();
        labels.insert("kubernetes.io/hostname".to_owned(), self.options.node_name.clone());
        labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
        labels.insert("kubernetes.io/arch".to_owned(), architecture().to_owned());
        labels
    }

    /// The status as it should be; conditions keep their times while they don't change.
    async fn status(&self, old: Option<&NodeStatus>) -> NodeStatus {
        let version = self.runtime.version().await;
        let network = self.runtime.network_problem().await;
        let capacity: BTreeMap<String, Quantity> =
            capacity(&self.options).into_iter().map(|(name, value)| (name, Quantity(value))).collect();
        let mut conditions = vec![
            no_pressure("MemoryPressure", "KubeletHasSufficientMemory"),
            no_pressure("DiskPressure", "KubeletHasNoDiskPressure"),
            no_pressure("PIDPressure", "KubeletHasSufficientPID"),
        ];
        conditions.push(match &version {
            Ok(version) => {
                let ready = format!("{} is answering", version.name);
                let message = match &network {
                    // Pods still run, on the machine's own network: said plainly, but no reason not to use the node.
                    Some(problem) => format!("{ready}; pods use the machine's network: {problem}"),
                    None => ready,
                };
                condition("Ready", true, "KubeletReady", &message)
            }
            Err(error) => condition("Ready", false, "KubeletNotReady", &error.to_string()),
        });
        for condition in &mut conditions {
            settle(condition, old);
        }
        // Others' conditions are theirs to keep.
        for theirs in old.and_then(|old| old.conditions.as_ref()).into_iter().flatten() {
            if !conditions.iter().any(|own| own.type_ == theirs.type_) {
                conditions.push(theirs.clone());
            }
        }
        NodeStatus {
            capacity: Some(capacity.clone()),
            allocatable: Some(capacity),
            conditions: Some(conditions),
            addresses: Some(vec![
                address("InternalIP", &self.options.address),
                address("Hostname", &self.options.node_name),
            ]),
            node_info: Some(node_info(version.ok())),
            daemon_endpoints: Some(NodeDaemonEndpoints::default()),
            ..old.cloned().unwrap_or_default()
        }
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let name = &self.options.node_name;
        let seconds = i32::try_from(self.options.lease_duration.as_secs().max(1)).unwrap_or(i32::MAX);
        let now = MicroTime(Timestamp::now());
        let patch = json!({ "spec": {
            "holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now,
        }});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
        let owner = self.uid.clone().map(|uid| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid,
                ..OwnerReference::default()
            }]
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                owner_references: owner,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(seconds),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        api.create(&PostParams::default(), &lease).await.map(drop)
    }
}

fn address(kind: &str, address: &str) -> NodeAddress {
    NodeAddress { type_: kind.to_owned(), address: address.to_owned() }
}

fn no_pressure(kind: &str, reason: &str) -> NodeCondition {
    condition(kind, false, reason, "this agent does not measure it")
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..NodeCondition::default()
    }
}

/// Times: of the last transition, and of the last writing, which is also the last heartbeat of this condition.
fn settle(condition: &mut NodeCondition, old: Option<&NodeStatus>) {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH));
    let before = old
        .and_then(|old| old.conditions.as_ref())
        .and_then(|list| list.iter().find(|before| before.type_ == condition.type_));
    let same_status = before.filter(|before| before.status == condition.status);
    condition.last_transition_time =
        same_status.and_then(|before| before.last_transition_time.clone()).or(Some(now.clone()));
    let unchanged = same_status
        .is_some_and(|before| before.reason == condition.reason && before.message == condition.message);
    condition.last_heartbeat_time =
        same_status.filter(|_| unchanged).and_then(|before| before.last_heartbeat_time.clone()).or(Some(now));
}

/// What the machine has, where the options don't say.
fn capacity(options: &Options) -> BTreeMap<String, String> {
    let mut capacity = options.capacity.clone();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    capacity.entry("cpu".to_owned()).or_insert_with(|| cpus.to_string());
    capacity.entry("memory".to_owned()).or_insert_with(|| format!("{}Ki", memory_kib().unwrap_or(1 << 20)));
    capacity.entry("pods".to_owned()).or_insert_with(|| "110".to_owned());
    capacity.entry("ephemeral-storage".to_owned()).or_insert_with(|| "10Gi".to_owned());
    capacity
}

fn memory_kib() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn node_info(version: Option<Version>) -> NodeSystemInfo {
    let read =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let os = read("/etc/os-release");
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        machine_id: read("/etc/machine-id"),
        system_uuid: read("/etc/machine-id"),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        os_image: os.unwrap_or("Linux").to_owned(),
        operating_system: "linux".to_owned(),
        container_runtime_version: version.map_or_else(
            || "unknown".to_owned(),
            |version| format!("{}://{}", version.name, version.version),
        ),
        kubelet_version: concat!("v1.36.0-fairlead-", env!("CARGO_PKG_VERSION")).to_owned(),
        kube_proxy_version: String::new(),
        ..NodeSystemInfo::default()
    }
}
