//! What a node agent is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How an agent behaves; [`Options::new`] gives upstream's values.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name.
    pub node_name: String,
    /// Labels beside `kubernetes.io/{hostname,os,arch}`.
    pub labels: BTreeMap<String, String>,
    /// The node's own address, shown as `hostIP`; `127.0.0.1` unless told.
    pub address: String,
    /// `cpu`, `memory`, `pods`, `ephemeral-storage`; what is missing is read from the machine.
    pub capacity: BTreeMap<String, String>,
    /// The first delay before a failing container is started again; doubles. 10 s upstream.
    pub back_off_initial: Duration,
    /// The longest such delay. 5 min upstream.
    pub back_off_max: Duration,
    /// How long the lease is valid without renewal (40 s upstream); it is renewed four times as often.
    pub lease_duration: Duration,
    /// How often the node's conditions are looked at; written only when they changed.
    pub status_period: Duration,
    /// How often a worker looks at its pod although nothing happened.
    pub resync_period: Duration,
    /// How often configuration volumes and tokens are read again.
    pub volume_period: Duration,
    /// Where volumes and logs of pods lie; used by runtimes that mount volumes.
    pub pods_dir: PathBuf,
    /// Name servers for pods of `dnsPolicy: ClusterFirst`; empty gives them the machine's own.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// `https://host:port` of the API server as pods reach it: becomes `KUBERNETES_SERVICE_HOST` and `_PORT` when set.
    pub api_server: Option<String>,
}

impl Options {
    /// Upstream's values for a node of this name.
    #[must_use]
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            labels: BTreeMap::new(),
            address: "127.0.0.1".to_owned(),
            capacity: BTreeMap::new(),
            back_off_initial: Duration::from_secs(10),
            back_off_max: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            status_period: Duration::from_secs(10),
            resync_period: Duration::from_secs(60),
            volume_period: Duration::from_secs(60),
            pods_dir: PathBuf::from("/var/lib/fairlead/pods"),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            api_server: None,
        }
    }
}
