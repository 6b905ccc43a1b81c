//! The workbench: starts, stops and replaces hubs, clusters and agents.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::TokenGrant;
use assembly::cluster::{self, Nodes};
use assembly::hub::{self, Hub};
use assembly::state::StoreOptions;
use cluster_agent::{AgentStatus, Handle, Join, Service, TlsConnector, Trust};
use fleet_objects::{Assignment, Cluster, condition_is_true, partition_namespace};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use storage::Store;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let ends = tokio::time::Instant::now() + LIMIT;
    while !check().await {
        assert!(tokio::time::Instant::now() < ends, "did not happen in {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Agent {
    store: Arc<dyn Store>,
    token: String,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), cluster_agent::Error>>,
}

/// A fleet in one process.
pub(crate) struct Bench {
    dir: TempDir,
    hub_dir: PathBuf,
    /// What holds the hub's objects.
    store: StoreOptions,
    address: SocketAddr,
    /// The URL that agents are started with; the hub's, when there is none.
    pub(crate) joined_at: Option<String>,
    /// Where the hub says that it is.
    pub(crate) announce: Option<String>,
    /// Whom the hub tells of test runs.
    pub(crate) telemetry: Option<::hub::test_runs::Telemetry>,
    /// What is other than usual about its agents.
    settings: fn(&mut cluster_agent::Options),
    hub: Option<Hub>,
    clusters: BTreeMap<String, cluster::Cluster>,
    agents: HashMap<String, Agent>,
}

impl Bench {
    pub(crate) async fn start(names: &[&str]) -> Self {
        Self::start_as(StoreOptions::default(), names, |_| {}).await
    }

    /// With a hub whose objects are in this store.
    pub(crate) async fn start_on(store: StoreOptions, names: &[&str]) -> Self {
        Self::start_as(store, names, |_| {}).await
    }

    /// With agents that are other than usual.
    pub(crate) async fn start_with(names: &[&str], settings: fn(&mut cluster_agent::Options)) -> Self {
        Self::start_as(StoreOptions::default(), names, settings).await
    }

    async fn start_as(
        store: StoreOptions,
        names: &[&str],
        settings: fn(&mut cluster_agent::Options),
    ) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let hub_dir = dir.path().join("hub");
        let mut bench = Self {
            hub_dir,
            store,
            dir,
            address: "127.0.0.1:0".parse().unwrap(),
            announce: None,
            telemetry: None,
            joined_at: None,
            settings,
            hub: None,
            clusters: BTreeMap::new(),
            agents: HashMap::new(),
        };
        bench.start_hub().await;
        for name in names {
            bench.add_cluster(name).await;
            let token = bench.fresh_token().await;
            bench.start_agent(name, token, memory()).await;
        }
        for name in names {
            bench.connected(name).await;
        }
        bench
    }

    pub(crate) async fn start_hub(&mut self) {
        let options = hub::Options {
            directory: self.hub_dir.clone(),
            store: self.store.clone(),
            bind: self.address,
            names: Vec::new(),
            serving: assembly::control_plane::Serving::default(),
            agent_certificate_ttl: None,
            test_retention: Default::default(),
            announce: self.announce.clone(),
            telemetry: self.telemetry.clone(),
            replica_url: None,
        };
        // The last tasks of a hub that was stopped let go of its store a moment later.
        let ends = tokio::time::Instant::now() + LIMIT;
        let hub = loop {
            match Hub::start(options.clone()).await {
                Ok(hub) => break hub,
                Err(error) => {
                    assert!(tokio::time::Instant::now() < ends, "the hub does not start: {error:?}")
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.address = hub.address().unwrap();
        self.hub = Some(hub);
    }

    pub(crate) async fn stop_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            let stop = CancellationToken::new();
            stop.cancel();
            hub.run(stop).await.unwrap();
        }
    }

    pub(crate) fn hub_dir(&self) -> &Path {
        &self.hub_dir
    }

    /// By the names of their keys, how many values of the hub's store are sealed; a snapshot is taken to `file` for it.
    pub(crate) async fn hub_sealed_with(&self, file: &Path) -> BTreeMap<String, usize> {
        let request = http::Request::get(assembly::backup::PATH).body(kube::client::Body::empty()).unwrap();
        let response = self.hub_client().send(request).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        std::fs::write(file, bytes).unwrap();
        assembly::backup::verify_file(file).await.unwrap().sealed
    }

    pub(crate) fn agent_dir(&self, cluster: &str) -> PathBuf {
        self.dir.path().join(format!("agent-{cluster}"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hub listens elsewhere when it is started the next time.
    pub(crate) fn move_hub(&mut self, address: SocketAddr) {
        self.address = address;
    }

    pub(crate) async fn stop_agent(&mut self, name: &str) -> (String, Arc<dyn Store>) {
        let agent = self.agents.remove(name).unwrap();
        agent.stop.cancel();
        agent.task.await.unwrap().unwrap();
        (agent.token, agent.store)
    }

    pub(crate) fn copy_hub(&self) -> PathBuf {
        let copy = self.dir.path().join("hub-copy");
        copy_dir(&self.hub_dir, &copy);
        copy
    }

    pub(crate) fn replace_hub(&mut self, directory: PathBuf) {
        self.hub_dir = directory;
    }

    pub(crate) fn empty_hub(&mut self) {
        self.hub_dir = self.dir.path().join("hub-empty");
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    pub(crate) fn hub_client(&self) -> Client {
        self.hub().client()
    }

    pub(crate) async fn add_cluster(&mut self, name: &str) {
        let options = cluster::Options { nodes: Nodes::Simulated(1), ..cluster::Options::ephemeral(name) };
        let cluster = cluster::Cluster::start(options).await.unwrap();
        self.clusters.insert(name.to_owned(), cluster);
    }

    pub(crate) fn cluster_client(&self, name: &str) -> Client {
        self.clusters[name].client()
    }

    pub(crate) fn config_maps(&self, cluster: &str) -> Api<ConfigMap> {
        Api::namespaced(self.cluster_client(cluster), "default")
    }

    /// Writes the ceiling of a cluster's owner.
    pub(crate) fn ceiling(&self, cluster: &str, text: &str) {
        let dir = self.dir.path().join(format!("agent-{cluster}"));
        std::fs::create_dir_all(&dir).unwrap();
        let head = "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Ceiling\n";
        let next = dir.join("ceiling.next");
        std::fs::write(&next, format!("{head}{text}")).unwrap();
        std::fs::rename(next, dir.join("ceiling.yaml")).unwrap();
    }

    pub(crate) async fn fresh_token(&self) -> String {
        self.hub().handle().create_join_token(&TokenGrant::default()).await.unwrap().reveal()
    }

    pub(crate) fn token(&self, name: &str) -> String {
        self.agents[name].token.clone()
    }

    async fn agent(
        &self,
        cluster: &str,
        join: Join,
        dir: PathBuf,
        pin: &str,
        store: Arc<dyn Store>,
    ) -> Service {
        // As it was told when it joined, whatever became of the hub since.
        let url = self.joined_at.clone().unwrap_or_else(|| format!("https://{}", self.address));
        let connector = Arc::new(TlsConnector::new(&url).unwrap().with_places(&dir));
        // The last tasks of an agent that was stopped let go of its outbox a moment later.
        let ends = tokio::time::Instant::now() + LIMIT;
        loop {
            let cluster = self.cluster_client(cluster);
            let mut options =
                cluster_agent::Options::new(connector.clone(), dir.clone(), store.clone(), cluster);
            options.trust = Some(Trust::Pin(pin.to_owned()));
            options.join = Some(join.clone());
            options.outbox.fsync = false;
            options.pods = Some(Arc::new(assembly::agent::PodSecurityStandards));
            options.policies = Some(Arc::new(assembly::policies::Engine));
            options.expressions = Arc::new(assembly::expressions::Cel::default());
            (self.settings)(&mut options);
            match Service::new(options).await {
                Ok(service) => return service,
                Err(error) => {
                    assert!(tokio::time::Instant::now() < ends, "the agent does not start: {error:?}")
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn start_agent(&mut self, name: &str, token: String, store: Arc<dyn Store>) {
        let labels =
            BTreeMap::from([("tier".to_owned(), "all".to_owned()), ("name".to_owned(), name.to_owned())]);
        let join = Join { token: token.clone(), name: name.to_owned(), labels };
        let dir = self.dir.path().join(format!("agent-{name}"));
        // A hub that is down has no pin to show; a joined agent needs none.
        let pin = self.hub.as_ref().map_or_else(String::new, Hub::pin);
        let service = self.agent(name, join, dir, &pin, store.clone()).await;
        let handle = service.handle();
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        self.agents.insert(name.to_owned(), Agent { store, token, handle, stop, task });
    }

    pub(crate) async fn restart_agent(&mut self, name: &str) {
        let agent = self.agents.remove(name).unwrap();
        agent.stop.cancel();
        agent.task.await.unwrap().unwrap();
        drop(agent.handle);
        self.start_agent(name, agent.token, agent.store).await;
    }

    pub(crate) async fn rejoin(&mut self, name: &str) {
        let agent = self.agents.remove(name).unwrap();
        agent.stop.cancel();
        agent.task.await.unwrap().unwrap();
        drop(agent.handle);
        let token = self.fresh_token().await;
        self.start_agent(name, token, agent.store).await;
    }

    /// Tries to join; answers what kept it out.
    pub(crate) async fn try_join(&self, cluster: &str, token: &str, pin: Option<&str>) -> String {
        let pin = pin.map_or_else(|| self.hub().pin(), str::to_owned);
        self.attempt(cluster, cluster, token, &pin, BTreeMap::new()).await
    }

    pub(crate) async fn try_join_as(&self, cluster: &str, name: &str, token: &str) -> String {
        self.attempt(cluster, name, token, &self.hub().pin(), BTreeMap::new()).await
    }

    /// As an agent that says such labels of itself.
    pub(crate) async fn try_join_with(&self, cluster: &str, token: &str, label: (&str, &str)) -> String {
        let labels = BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]);
        self.attempt(cluster, cluster, token, &self.hub().pin(), labels).await
    }

    async fn attempt(
        &self,
        cluster: &str,
        name: &str,
        token: &str,
        pin: &str,
        labels: BTreeMap<String, String>,
    ) -> String {
        let dir = tempfile::tempdir().unwrap();
        let join = Join { token: token.to_owned(), name: name.to_owned(), labels };
        let service = self.agent(cluster, join, dir.path().to_owned(), pin, memory()).await;
        let mut status: watch::Receiver<AgentStatus> = service.handle().status();
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        let error = tokio::time::timeout(LIMIT, status.wait_for(|status| status.last_error.is_some())).await;
        let error = error.expect("an answer in time").unwrap().last_error.clone().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
        error
    }

    pub(crate) async fn connected(&self, name: &str) {
        let clusters: Api<Cluster> = Api::all(self.hub_client());
        eventually("connected", || async {
            let cluster = clusters.get_opt(name).await.unwrap();
            let status = cluster.and_then(|cluster| cluster.status).unwrap_or_default();
            self.hub().handle().is_connected(name) && condition_is_true(&status.conditions, "Connected")
        })
        .await;
    }

    pub(crate) async fn uid(&self, name: &str) -> String {
        let clusters: Api<Cluster> = Api::all(self.hub_client());
        clusters.get(name).await.unwrap().status.unwrap().kube_system_uid.unwrap()
    }

    /// Records that wait in an agent's outbox.
    pub(crate) fn waiting(&self, name: &str) -> u64 {
        self.agents[name].handle.outbox().waiting()
    }

    /// Repairs the agent has not told the hub of.
    pub(crate) async fn repairs_waiting(&self, name: &str) -> usize {
        let batch = self.agents[name].handle.outbox().batch().await.unwrap();
        let records = batch.map(|batch| batch.records).unwrap_or_default();
        let is = |record: &&agent_protocol::Record| matches!(&record.body, agent_protocol::RecordBody::Event(event) if event.reason == "DriftRepaired");
        records.iter().filter(is).count()
    }

    /// Ends of test executions that the hub has not been told.
    pub(crate) async fn tests_waiting(&self, name: &str) -> usize {
        use fleet_objects::test_record::TestNews;
        let batch = self.agents[name].handle.outbox().batch().await.unwrap();
        let records = batch.map(|batch| batch.records).unwrap_or_default();
        let is = |record: &&agent_protocol::Record| matches!(&record.body, agent_protocol::RecordBody::Test(test) if matches!(test.news, TestNews::Finished { .. }));
        records.iter().filter(is).count()
    }

    pub(crate) fn agent_error(&self, name: &str) -> Option<String> {
        self.agents[name].handle.status().borrow().last_error.clone()
    }

    pub(crate) fn agent_hub_client(&self, name: &str) -> Client {
        self.agents[name].handle.hub().clone()
    }

    pub(crate) async fn put(&self, plural: &str, kind: &str, name: &str, spec: Value) {
        self.put_as("test", plural, kind, name, spec).await.unwrap();
    }

    /// Applies a document under the name of a manager of fields.
    pub(crate) async fn put_as(
        &self,
        manager: &str,
        plural: &str,
        kind: &str,
        name: &str,
        spec: Value,
    ) -> Result<(), kube::Error> {
        let resource = kube::api::ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk(fleet_objects::GROUP, fleet_objects::VERSION, kind),
            plural,
        );
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(self.hub_client(), "default", &resource);
        let version = format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION);
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        api.patch(name, &PatchParams::apply(manager).force(), &Patch::Apply(object)).await.map(drop)
    }

    /// Why the hub does not take a document: the causes, `field: message`.
    pub(crate) async fn refused(&self, plural: &str, kind: &str, name: &str, spec: Value) -> Vec<String> {
        let outcome = self.put_as("test", plural, kind, name, spec).await;
        let Err(kube::Error::Api(status)) = outcome else {
            panic!("{kind} {name} was not refused: {outcome:?}")
        };
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{status:?}");
        assert!(
            status.message.starts_with(&format!("{kind}.{} {name:?} is invalid: ", fleet_objects::GROUP))
        );
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    /// What a Source has brought, whatever it is.
    pub(crate) async fn brought(&self, profile: &str, spec: Value) {
        self.put_as("fairlead-source", "profiles", "Profile", profile, spec).await.unwrap();
    }

    pub(crate) async fn profile(&self, name: &str, spec: Value) {
        self.put("profiles", "Profile", name, spec).await;
    }

    pub(crate) async fn place(&self, profile: &str, selector: Value, variables: Value) {
        let spec = json!({"profile": profile, "clusterSelector": selector, "variables": variables});
        self.put("placements", "Placement", profile, spec).await;
    }

    pub(crate) async fn label(&self, cluster: &str, key: &str, value: &str) {
        let clusters: Api<Cluster> = Api::all(self.hub_client());
        let patch = json!({"metadata": {"labels": {key: value}}});
        clusters.patch(cluster, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn applied(&self, cluster: &str, assignment: &str) {
        let api: Api<Assignment> = Api::namespaced(self.hub_client(), &partition_namespace(cluster));
        eventually(&format!("{assignment} applied in {cluster}"), || async {
            let found = api.get_opt(assignment).await.unwrap();
            found.is_some_and(|assignment| {
                let status = assignment.status.unwrap_or_default();
                status.observed_generation == assignment.spec.generation
                    && condition_is_true(&status.conditions, "Ready")
            })
        })
        .await;
    }

    pub(crate) async fn stop(mut self) {
        for (_, agent) in self.agents.drain() {
            agent.stop.cancel();
            agent.task.await.unwrap().unwrap();
        }
        self.stop_hub().await;
        for (_, cluster) in std::mem::take(&mut self.clusters) {
            let stop = CancellationToken::new();
            stop.cancel();
            cluster.run(stop).await.unwrap();
        }
    }
}

pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(storage::model::MemoryStore::default())
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
