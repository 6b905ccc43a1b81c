//! Bringing a fleet up, and keeping it up.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::child::Nursery;
use super::directory::{self, Held};
use super::error::UpError;
use super::event::{Event, Report};
use super::plan::{self, Clusters, HUB, Layout, Memory, RuntimeChoice, RuntimeKind};
use super::readiness::{self, Server};
use super::{fleet, sample};

/// How long the sample test may take before `up` no longer waits for it.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub directory: PathBuf,
    /// Which clusters.
    pub clusters: Clusters,
    /// Which kind of nodes.
    pub runtime: RuntimeChoice,
    /// How long until everything has to be ready.
    pub timeout: Duration,
    /// The program to run: this one.
    pub executable: PathBuf,
    /// What a new fleet is given: objects of the hub.
    pub samples: Vec<Value>,
}

/// What is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What runs pods.
    pub runtime: RuntimeKind,
    /// Where the hub listens.
    pub hub: SocketAddr,
    /// The hub's kubeconfig.
    pub hub_kubeconfig: PathBuf,
    /// Each cluster with its kubeconfig.
    pub clusters: Vec<(String, PathBuf)>,
    /// How long it took.
    pub took: Duration,
}

/// A fleet that is up. Dropping it kills its processes; [`Up::run`] ends them in order.
#[derive(Debug)]
pub struct Up {
    nursery: Nursery,
    layout: Layout,
    summary: Summary,
    _held: Held,
}

/// Brings everything up; returns when every agent is connected and, the first time, the samples are applied and tested.
///
/// # Errors
/// When something does not become ready in time, or `stop` was cancelled first; everything has been ended again then.
pub async fn start(options: Options, report: Report, stop: &CancellationToken) -> Result<Up, UpError> {
    let begun = Instant::now();
    let directory = std::path::absolute(&options.directory);
    let layout = Layout { root: directory.map_err(UpError::file("find", &options.directory))? };
    let held = directory::hold(&layout)?;
    let leftovers = directory::end_leftovers(&layout).await?;
    if !leftovers.is_empty() {
        report(Event::Leftovers(leftovers));
    }
    let nursery = Nursery {
        layout: layout.clone(),
        executable: options.executable.clone(),
        report,
        children: Vec::new(),
    };
    let mut rise = Rise { memory: directory::read_memory(&layout)?, layout, nursery, begun };
    let limit = options.timeout;
    let risen = tokio::select! {
        risen = tokio::time::timeout(limit, Box::pin(rise.bring_up(&options))) => risen.unwrap_or_else(|_| {
            let logs = rise_logs(&options.directory);
            Err(UpError::Timeout { what: "the start".to_owned(), limit, logs })
        }),
        () = stop.cancelled() => Err(UpError::Interrupted),
    };
    match risen {
        Ok(summary) => Ok(Up { nursery: rise.nursery, layout: rise.layout, summary, _held: held }),
        Err(error) => {
            rise.nursery.end().await;
            super::stop::end_containers(&rise.layout).await?;
            directory::remove(&rise.layout.pid(plan::SUPERVISOR))?;
            Err(error)
        }
    }
}

/// What this machine lacks for real containers; `None` when it has everything.
fn missing_for_containers() -> Option<String> {
    node_agent::runtime::containerd::unavailable().map(|missing| missing.to_string())
}

fn rise_logs(directory: &Path) -> PathBuf {
    Layout { root: directory.to_owned() }.logs()
}

impl Up {
    /// What is up.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Says in the directory that everything is ready, keeps it so until `stop`, then ends all in order.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), UpError> {
        let text = serde_json::to_string(&self.summary).unwrap_or_default();
        let ready = self.layout.ready();
        let said = crate::identity::write_private(&ready, &text).map_err(UpError::file("write", &ready));
        if said.is_ok() {
            stop.cancelled().await;
        }
        self.nursery.end().await;
        super::stop::end_containers(&self.layout).await?;
        directory::remove(&ready)?;
        directory::remove(&self.layout.pid(plan::SUPERVISOR))?;
        said
    }
}

/// A fleet on its way up.
struct Rise {
    layout: Layout,
    memory: Memory,
    nursery: Nursery,
    begun: Instant,
}

impl Rise {
    async fn bring_up(&mut self, options: &Options) -> Result<Summary, UpError> {
        let names = plan::clusters(&options.clusters, &self.memory).map_err(UpError::Invalid)?;
        let (runtime, why) = plan::runtime(options.runtime, &self.memory, missing_for_containers())
            .map_err(|missing| UpError::Containers(missing.into()))?;
        self.report(Event::Runtime { kind: runtime, why });
        let (hub, servers) = self.start_servers(&names, runtime).await?;
        self.remember(&hub, &names, &servers, runtime)?;
        let first = !self.memory.sampled && !options.samples.is_empty();
        self.connect_agents(&hub, &names).await?;
        if first {
            self.apply_samples(&hub, &names, &options.samples).await?;
        }
        let clusters = names.iter().map(|name| (name.clone(), self.layout.kubeconfig(name))).collect();
        Ok(Summary {
            runtime,
            hub: hub.address,
            hub_kubeconfig: self.layout.kubeconfig(HUB),
            clusters,
            took: self.begun.elapsed(),
        })
    }

    /// Starts hub and clusters together; returns when all are ready.
    async fn start_servers(
        &mut self,
        names: &[String],
        runtime: RuntimeKind,
    ) -> Result<(Server, Vec<Server>), UpError> {
        let hub_dir = self.layout.hub();
        let listen = self.free_address(HUB, self.memory.hub);
        let hub = self.serve(plan::hub(&self.layout, listen), HUB, &hub_dir)?;
        let mut clusters = Vec::new();
        for name in names {
            let dir = self.layout.cluster(name);
            let listen = self.memory.clusters.get(name).copied().flatten();
            let listen = self.free_address(name, listen);
            let plan = plan::cluster(&self.layout, name, listen, runtime);
            clusters.push(self.serve(plan, name, &dir)?);
        }
        futures::try_join!(hub, try_join_all(clusters))
    }

    /// Starts a server; the future waits until it is ready.
    fn serve(
        &mut self,
        plan: plan::ChildPlan,
        name: &str,
        dir: &Path,
    ) -> Result<impl Future<Output = Result<Server, UpError>> + use<>, UpError> {
        std::fs::create_dir_all(dir).map_err(UpError::file("make", dir))?;
        let kubeconfig = self.layout.admin_kubeconfig(dir);
        // That of an earlier run; the new one appears when the server is ready.
        directory::remove(&kubeconfig)?;
        directory::link(&kubeconfig, &self.layout.kubeconfig(name))?;
        let child = self.nursery.start(plan);
        let hopeless = self.nursery.children[child].hopeless();
        let plan = Arc::clone(&self.nursery.children[child].plan);
        let (report, begun, name) = (self.nursery.report.clone(), self.begun, name.to_owned());
        Ok(async move {
            let server = tokio::select! {
                server = readiness::server(&kubeconfig) => server?,
                error = hopeless => return Err(error),
            };
            plan.lock().settle(server.address);
            report(Event::Ready { name, after: begun.elapsed() });
            Ok(server)
        })
    }

    /// The remembered address, unless somebody else has taken it.
    fn free_address(&self, name: &str, remembered: Option<SocketAddr>) -> Option<SocketAddr> {
        let address = remembered?;
        if TcpListener::bind(address).is_ok() {
            return Some(address);
        }
        self.report(Event::AddressTaken { name: name.to_owned(), address: address.to_string() });
        None
    }

    fn remember(
        &mut self,
        hub: &Server,
        names: &[String],
        servers: &[Server],
        runtime: RuntimeKind,
    ) -> Result<(), UpError> {
        self.memory.hub = Some(hub.address);
        self.memory.runtime = Some(runtime);
        for (name, server) in names.iter().zip(servers) {
            self.memory.clusters.insert(name.clone(), Some(server.address));
        }
        directory::write_memory(&self.layout, &self.memory)
    }

    /// Starts every agent, with a token where its cluster has not joined yet; returns when all are connected.
    async fn connect_agents(&mut self, hub: &Server, names: &[String]) -> Result<(), UpError> {
        fleet::system_namespace(&hub.client).await?;
        let invitations = try_join_all(names.iter().map(|name| self.invitation(hub, name))).await?;
        let mut waits = Vec::new();
        for (name, invitation) in names.iter().zip(invitations) {
            let dir = self.layout.agent(name);
            std::fs::create_dir_all(&dir).map_err(UpError::file("make", dir))?;
            let child = self.nursery.start(plan::agent(&self.layout, name, hub.address, invitation.as_ref()));
            let hopeless = self.nursery.children[child].hopeless();
            let (report, begun) = (self.nursery.report.clone(), self.begun);
            waits.push(async move {
                tokio::select! {
                    connected = fleet::until(&hub.client, name, fleet::connected) => connected?,
                    error = hopeless => return Err(error),
                }
                report(Event::Connected { cluster: name.clone(), after: begun.elapsed() });
                Ok(())
            });
        }
        try_join_all(waits).await?;
        Ok(())
    }

    async fn invitation(&self, hub: &Server, name: &str) -> Result<Option<plan::Invitation>, UpError> {
        // Both have to remember: either side's state may have been deleted.
        let agent_knows = crate::agent::has_joined(&self.layout.agent(name));
        if agent_knows && fleet::has_joined(&hub.client, name).await? {
            return Ok(None);
        }
        fleet::invite(hub, name).await.map(Some)
    }

    async fn apply_samples(
        &mut self,
        hub: &Server,
        names: &[String],
        samples: &[Value],
    ) -> Result<(), UpError> {
        sample::apply(&hub.client, samples).await?;
        if sample::placements(samples) > 0 {
            try_join_all(names.iter().map(|name| fleet::until(&hub.client, name, fleet::applied))).await?;
        }
        self.memory.sampled = true;
        directory::write_memory(&self.layout, &self.memory)?;
        self.report(Event::SampleApplied { clusters: names.len(), after: self.begun.elapsed() });
        if let Some(workflow) = sample::workflow(samples) {
            let result = tokio::time::timeout(TEST_LIMIT, sample::test(&hub.client, workflow)).await;
            // The fleet is up whatever a test says.
            let result = match result {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => format!("could not be run: {error}"),
                Err(_) => "has not ended".to_owned(),
            };
            self.report(Event::SampleTest { result, after: self.begun.elapsed() });
        }
        Ok(())
    }

    fn report(&self, event: Event) {
        (self.nursery.report)(event);
    }
}
