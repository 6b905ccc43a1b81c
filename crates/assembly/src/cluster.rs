//! An embedded cluster: API server, controllers, scheduler and node agents in one process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use access::certificates::ServerNames;
use apiserver::Catalogue;
use apiserver::metrics::{Sample, Source};
use kube_objects::UserInfo;
use node_agent::runtime::PodRuntime;
use node_agent::runtime::simulated::{Simulated, SimulatedOptions};
use reconcile::TaskStatus;
use tokio_util::sync::CancellationToken;

use crate::containers::Containers;
use crate::control_plane::{ControlPlane, Plan, Serving};
use crate::error::AssemblyError;
use crate::leader::{self, Candidate};
use crate::nodes::LocalNodes;
use crate::reach::reached_at;
use crate::state::{State, StoreOptions};

/// The service network of every embedded cluster: upstream's usual one.
const SERVICE_CIDR: &str = "10.96.0.0/12";
/// Its first address: the Service `kubernetes`.
const SERVICE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));

/// What nodes a cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// This many simulated ones; pods run nowhere.
    Simulated(usize),
    /// One that runs real containers.
    Containers(Containers),
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name: in kubeconfigs and node names.
    pub name: String,
    /// Where it keeps its state.
    pub state: State,
    /// What holds its objects.
    pub store: StoreOptions,
    /// Where it listens; `None`: in process only.
    pub bind: Option<SocketAddr>,
    /// Its nodes.
    pub nodes: Nodes,
    /// Whether controllers and scheduler run. Without them it is an API server alone, in which nothing happens by itself:
    /// what tests of operators want, that play the other parts themselves.
    pub controllers: bool,
    /// How it treats requests.
    pub serving: Serving,
}

impl Options {
    /// An ephemeral cluster with one simulated node, reached in process only.
    #[must_use]
    pub fn ephemeral(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Ephemeral,
            store: StoreOptions::default(),
            bind: None,
            nodes: Nodes::Simulated(1),
            controllers: true,
            serving: Serving::default(),
        }
    }
}

/// A running cluster. Dropping it stops it.
pub struct Cluster {
    plane: ControlPlane,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts everything; returns when the API server is ready. Nodes register within moments after.
    ///
    /// # Errors
    /// When the state cannot be opened, the address not listened on, or the container runtime does not answer.
    pub async fn start(options: Options) -> Result<Self, AssemblyError> {
        let nodes = Arc::new(LocalNodes::default());
        let queues = Arc::new(OnceLock::new());
        let mut plane = ControlPlane::start(Plan {
            name: options.name.clone(),
            state: options.state.clone(),
            store: options.store.clone(),
            bind: options.bind,
            names: server_names(options.bind),
            catalogue: Catalogue::cluster(),
            connectors: Vec::new(),
            write_rights: None,
            object_rules: None,
            extensions: Vec::new(),
            nodes: Some(Arc::clone(&nodes) as Arc<dyn apiserver::NodeConnection>),
            service_cidr: Some(SERVICE_CIDR.to_owned()),
            serving: options.serving.clone(),
            metrics: vec![workqueues(Arc::clone(&queues))],
            controllers: options.controllers,
        })
        .await?;
        plane.ready().await?;
        plane.start_credentials();
        if options.controllers {
            // Set here and nowhere else.
            let _ = queues.set(start_controllers(&mut plane, &options.name));
        }
        for agent in node_options(&options, plane.server.address()).into_iter().enumerate() {
            start_node(&mut plane, &nodes, agent, &options).await?;
        }
        Ok(Self { plane })
    }

    /// Where its API server listens; `None`: in process only.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.plane.server.address()
    }

    /// A client in process with all rights.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.plane.client("kubernetes-admin")
    }

    /// The administrator's kubeconfig; `None` when it does not listen.
    ///
    /// # Errors
    /// When the certificate cannot be issued.
    pub fn kubeconfig(&self, name: &str) -> Result<Option<String>, AssemblyError> {
        let address = self.address().map(reached_at);
        address.map(|address| self.plane.identity.kubeconfig(name, address)).transpose()
    }

    /// Runs until `shutdown`, then ends every part. Containers of real nodes go on running.
    ///
    /// # Errors
    /// What made a part end before.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AssemblyError> {
        self.plane.tasks.finish(shutdown).await
    }
}

/// What pods and other machines call the server: its own address and that of the Service `kubernetes`.
fn server_names(bind: Option<SocketAddr>) -> ServerNames {
    let mut names = ServerNames::default();
    names.addresses.push(SERVICE_ADDRESS);
    names.addresses.extend(bind.map(|address| reached_at(address).ip()));
    names
}

/// What waits to be worked on, by controller, as upstream's work queues tell it.
fn workqueues(queues: Arc<OnceLock<(controllers::Handle, scheduler::Handle)>>) -> Source {
    Arc::new(move |tell: &mut dyn FnMut(&Sample)| {
        let Some((controllers, scheduler)) = queues.get() else { return };
        let mut all = controllers.statuses();
        all.extend(scheduler.status().map(|status| ("scheduler", status)));
        let mut family = |name, kind, help, value: fn(&TaskStatus) -> u64| {
            for (queue, status) in &all {
                let labels = vec![("name", (*queue).to_owned())];
                tell(&Sample { name, kind, help, labels, value: value(status) as f64 });
            }
        };
        family("workqueue_depth", "gauge", "Keys that wait.", |status| status.queue_depth as u64);
        family("workqueue_adds_total", "counter", "Keys that were taken in.", |status| {
            status.successes + status.failures + (status.queue_depth + status.in_flight) as u64
        });
        family("workqueue_retries_total", "counter", "Keys that failed and came again.", |status| {
            status.failures
        });
    })
}

fn start_controllers(plane: &mut ControlPlane, name: &str) -> (controllers::Handle, scheduler::Handle) {
    let candidate = |lease: &'static str, client: kube::Client| {
        plane.shared.then(|| Candidate {
            client,
            lease,
            identity: leader::identity(name),
            namespace: leader::NAMESPACE,
        })
    };
    let manager = plane.client_of(UserInfo::component("system:kube-controller-manager"));
    let scheduler = plane.client_of(UserInfo::component("system:kube-scheduler"));
    let controllers = candidate("kube-controller-manager", manager.clone());
    let scheduling = candidate("kube-scheduler", scheduler.clone());
    // The one cache that grows with what runs in the cluster; both read it.
    let pods = controllers::pods::cache(manager.clone());
    let mut options = controllers::Options::new(manager);
    options.identities = plane.controllers();
    options.pods = Some(pods.clone());
    options.root_certificate = Some(plane.identity.authority.now().bundle_pem().to_owned());
    let (service, stop) = (controllers::Service::new(options), plane.tasks.stop.clone());
    let working = service.handle();
    plane
        .tasks
        .spawn("controllers", async move { leader::lead(controllers, stop, |stop| service.run(stop)).await });
    let mut options = scheduler::Options::new(scheduler);
    options.pods = Some(pods);
    let scheduler = scheduler::Service::new(options);
    let (placing, stop) = (scheduler.handle(), plane.tasks.stop.clone());
    plane
        .tasks
        .spawn("scheduler", async move { leader::lead(scheduling, stop, |stop| scheduler.run(stop)).await });
    (working, placing)
}

fn node_options(options: &Options, address: Option<SocketAddr>) -> Vec<node_agent::Options> {
    let api_server = address.map(|address| format!("https://{}", reached_at(address)));
    let one = |name: String| node_agent::Options {
        api_server: api_server.clone(),
        ..node_agent::Options::new(name)
    };
    match &options.nodes {
        Nodes::Simulated(count) => (0..*count)
            .map(|index| {
                let mut node = one(format!("{}-{index}", options.name));
                // What a simulated node offers is nobody's hardware; enough for any manifest one would try.
                for (resource, amount) in [("cpu", "64"), ("memory", "256Gi"), ("pods", "1000")] {
                    node.capacity.insert(resource.to_owned(), amount.to_owned());
                }
                node
            })
            .collect(),
        Nodes::Containers(containers) => {
            let mut node = one(options.name.clone());
            node.pods_dir.clone_from(&containers.pods_dir);
            vec![node]
        }
    }
}

async fn start_node(
    plane: &mut ControlPlane,
    nodes: &LocalNodes,
    (number, options): (usize, node_agent::Options),
    cluster: &Options,
) -> Result<(), AssemblyError> {
    let name = options.node_name.clone();
    let failed = |cause: crate::error::Cause| {
        AssemblyError::new(format!("failed to start the agent of node {name}"), cause)
    };
    let runtime: Arc<dyn PodRuntime> = match &cluster.nodes {
        Nodes::Simulated(_) => Arc::new(Simulated::new(SimulatedOptions::of_node(number))),
        Nodes::Containers(containers) => {
            crate::containers::runtime(containers, &cluster.name, &options).await?
        }
    };
    let client = plane.client_of(UserInfo::node(&name));
    let service =
        node_agent::Service::new(options.clone(), client, runtime).map_err(|error| failed(error.into()))?;
    nodes.add(service.handle());
    let stop = plane.tasks.stop.clone();
    plane.tasks.spawn(&format!("agent of node {name}"), async move { Box::pin(service.run(stop)).await });
    Ok(())
}
