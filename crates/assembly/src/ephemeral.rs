//! A cluster for one test run or one command, gone afterwards: everything in memory, nothing installed, nobody asked.
//!
//! A test run needs somebody to hold its objects and somebody to carry it out. Here both live in the process: a second,
//! silent API server with the fleet's kinds and the hub's controller of test runs, and the agent's executor towards the
//! embedded cluster. They are the same parts as in a fleet, so a workflow means the same in a CI job as in a cluster.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use apiserver::{Body, Extension};
use async_trait::async_trait;
use bytes::Bytes;
use cluster_agent::executor::{self, ContentUpload, Executor, LargeFile, RecordSink, SinkError};
use fleet_objects::partition_namespace;
use fleet_objects::test_record::TestRecord;
use fleet_objects::test_run::TestExecution;
use hub::ContentStore;
use hub::test_runs::{self, ArtifactStore, TestRuns};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition as Awaited, await_condition};
use kube::{Api, Client};
use kube_objects::UserInfo;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Nodes};
use crate::control_plane::{ControlPlane, Plan, Serving};
use crate::error::{AssemblyError, Cause};
use crate::state::{Opened, State, StoreOptions};
use crate::test_clusters::TestClusters;

/// What a throw-away test bed is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster.
    pub cluster: crate::cluster::Options,
    /// Where logs and collected files lie while it lives; the caller removes it.
    pub directory: PathBuf,
    /// Steps get a kubeconfig of the cluster, with all rights; it must listen where its pods reach it.
    pub access: bool,
}

/// What carries out test runs in a cluster, without a hub and an agent. Dropping it stops it.
pub struct TestRunner {
    hub: ControlPlane,
    /// What the silent API server answers with; it holds no more than a weak reference.
    endpoints: Arc<OnceLock<test_runs::Endpoints>>,
}

impl std::fmt::Debug for TestRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestRunner").finish_non_exhaustive()
    }
}

impl TestRunner {
    /// Starts what carries out test runs in the cluster that `cluster` reaches and that is called `name`. Logs and files lie
    /// in `directory` while it lives.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(cluster: Client, name: &str, directory: &Path) -> Result<Self, AssemblyError> {
        let endpoints = Arc::new(OnceLock::new());
        let hub = silent_hub(Arc::downgrade(&endpoints)).await?;
        Self { hub, endpoints }.carry_out(cluster, name, directory, None).await
    }

    async fn carry_out(
        mut self,
        cluster: Client,
        name: &str,
        directory: &Path,
        kubeconfig: Option<String>,
    ) -> Result<Self, AssemblyError> {
        let hub = &mut self.hub;
        let failed = |cause: Cause| AssemblyError::new("failed to start what carries out tests", cause);
        let client = hub.client("system:fairlead:hub");
        introduce(&client, name).await.map_err(|error| failed(error.into()))?;
        let content = ContentStore::open(directory.join("content"), None);
        let content = content.map_err(|error| failed(error.into()))?;
        let logs = test_runs::Options {
            log_dir: directory.join("logs"),
            // Read by the person whose directory it is.
            log_key: hub::RecordKey::default(),
            artifact_dir: directory.join("artifacts"),
            // Nobody shares it, and it is gone afterwards: the agent's part bounds it.
            max_run_bytes: u64::MAX,
            retention: None,
            notify: Default::default(),
        };
        let runs = TestRuns::new(logs, client.clone(), Arc::new(content.clone()));
        let runs = runs.map_err(|error| failed(error.into()))?;
        // Set here and nowhere else.
        let _ = self.endpoints.set(runs.endpoints());
        let records = Arc::new(Direct { handler: runs.handler(), cluster: name.to_owned() });
        let Opened { store, .. } = State::Ephemeral.open_store(&StoreOptions::default(), &[]).await?;
        let executor = Executor::new(
            executor::Options::new(name, directory.join("collected")),
            cluster,
            client.clone(),
            store.into(),
            records,
            Arc::new(Kept { content, artifacts: runs.artifacts(), hub: client, cluster: name.to_owned() }),
        )
        .map_err(|error| failed(error.into()))?
        .with_clusters(Some(Arc::new(TestClusters)))
        .with_own_cluster(kubeconfig);
        let stop = hub.tasks.stop.clone();
        hub.tasks.spawn("test runs", async move { Box::pin(runs.run(stop)).await });
        let stop = hub.tasks.stop.clone();
        hub.tasks.spawn("test executor", async move { Box::pin(executor.run(stop)).await });
        Ok(self)
    }

    /// Where test runs are made and read, as on a hub.
    #[must_use]
    pub fn hub(&self) -> Client {
        self.hub.client("kubernetes-admin")
    }

    /// Ends every part.
    ///
    /// # Errors
    /// What made a part end before.
    pub async fn stop(self) -> Result<(), AssemblyError> {
        let ended = CancellationToken::new();
        ended.cancel();
        self.hub.tasks.finish(ended).await
    }
}

/// A cluster with everything that carries out test runs in it. Dropping it stops it.
#[derive(Debug)]
pub struct TestBed {
    cluster: Cluster,
    runner: TestRunner,
}

impl TestBed {
    /// Starts everything; returns when a test run can be made.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(options: Options) -> Result<Self, AssemblyError> {
        let name = options.cluster.name.clone();
        let endpoints = Arc::new(OnceLock::new());
        let cluster = async {
            let cluster = Box::pin(Cluster::start(options.cluster.clone())).await?;
            usable(&cluster.client(), &options.cluster).await.map(|()| cluster)
        };
        let (cluster, hub) = tokio::try_join!(cluster, silent_hub(Arc::downgrade(&endpoints)))?;
        let runner = TestRunner { hub, endpoints };
        let kubeconfig = if options.access { cluster.kubeconfig(&name)? } else { None };
        let runner = runner.carry_out(cluster.client(), &name, &options.directory, kubeconfig).await?;
        Ok(Self { cluster, runner })
    }

    /// Where test runs are made and read, as on a hub.
    #[must_use]
    pub fn hub(&self) -> Client {
        self.runner.hub()
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Ends every part.
    ///
    /// # Errors
    /// What made a part end before.
    pub async fn stop(self) -> Result<(), AssemblyError> {
        let ended = CancellationToken::new();
        ended.cancel();
        let tests = self.runner.stop().await;
        tests.and(self.cluster.run(ended).await)
    }
}

/// Waits until pods can be made and placed: the default service account is there and every node is ready.
///
/// # Errors
/// When the cluster does not answer.
pub async fn usable(client: &Client, options: &crate::cluster::Options) -> Result<(), AssemblyError> {
    let failed = |error: kube::runtime::wait::Error| {
        AssemblyError::new(format!("failed to wait for cluster {}", options.name), error.into())
    };
    if options.controllers {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let there = |account: Option<&ServiceAccount>| account.is_some();
        await_condition(accounts, "default", there).await.map_err(failed)?;
    }
    let nodes = match &options.nodes {
        Nodes::Simulated(count) => (0..*count).map(|index| format!("{}-{index}", options.name)).collect(),
        Nodes::Containers(_) => vec![options.name.clone()],
    };
    for node in nodes {
        let all: Api<Node> = Api::all(client.clone());
        await_condition(all, &node, NodeReady).await.map_err(failed)?;
    }
    Ok(())
}

struct NodeReady;

impl Awaited<Node> for NodeReady {
    fn matches_object(&self, node: Option<&Node>) -> bool {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|found| found.type_ == "Ready" && found.status == "True"))
    }
}

/// An API server with the fleet's kinds that listens nowhere.
async fn silent_hub(endpoints: Weak<OnceLock<test_runs::Endpoints>>) -> Result<ControlPlane, AssemblyError> {
    let mut plane = Box::pin(ControlPlane::start(Plan {
        name: "tests".to_owned(),
        state: State::Ephemeral,
        store: StoreOptions::default(),
        bind: None,
        names: access::certificates::ServerNames::default(),
        catalogue: crate::hub::catalogue()?,
        connectors: Vec::new(),
        write_rights: None,
        object_rules: None,
        extensions: vec![extension(endpoints)],
        nodes: None,
        service_cidr: None,
        serving: Serving::default(),
        metrics: Vec::new(),
        controllers: false,
    }))
    .await?;
    plane.ready().await?;
    Ok(plane)
}

/// The one cluster of this hub, as if its agent had joined.
async fn introduce(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(partition_namespace(name)), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let clusters: Api<fleet_objects::Cluster> = Api::all(client.clone());
    let cluster = fleet_objects::Cluster::new(name, fleet_objects::ClusterSpec::default());
    clusters.create(&PostParams::default(), &cluster).await?;
    let connected = Condition {
        type_: "Connected".to_owned(),
        status: "True".to_owned(),
        reason: "Embedded".to_owned(),
        message: "the cluster is part of this process".to_owned(),
        observed_generation: None,
        last_transition_time: Time(jiff::Timestamp::now()),
    };
    let status = fleet_objects::ClusterStatus { conditions: vec![connected], ..Default::default() };
    let patch = Patch::Merge(serde_json::json!({ "status": status }));
    clusters.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

fn extension(endpoints: Weak<OnceLock<test_runs::Endpoints>>) -> Extension {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let endpoints = endpoints.upgrade().and_then(|endpoints| endpoints.get().cloned());
        let user = request.extensions().get::<UserInfo>().cloned();
        let request = request.map(drop);
        async move {
            Ok(match (endpoints, user) {
                (Some(endpoints), Some(user)) => endpoints.answer(&user, &request).await,
                _ => crate::hub::starting(),
            })
        }
    });
    Extension {
        prefix: "/fleet/v1/".to_owned(),
        anonymous: false,
        service: tower::util::BoxCloneSyncService::new(service),
    }
}

/// Records go straight to the hub's handler: the two live and end together, so nothing needs to be kept between them.
struct Direct {
    handler: test_runs::Handler,
    cluster: String,
}

#[async_trait]
impl RecordSink for Direct {
    async fn append(&self, record: TestRecord) -> Result<(), SinkError> {
        let handled = self.handler.handle(&self.cluster, record).await;
        handled.map_err(|error| SinkError::Unavailable(error.to_string()))
    }
}

struct Kept {
    content: ContentStore,
    artifacts: Arc<ArtifactStore>,
    hub: Client,
    cluster: String,
}

#[async_trait]
impl ContentUpload for Kept {
    async fn put(&self, _: &str, content: Vec<u8>) -> Result<(), SinkError> {
        let stored = self.content.put(Bytes::from(content)).await;
        stored.map(drop).map_err(|error| SinkError::Unavailable(error.to_string()))
    }

    async fn send(&self, file: &LargeFile) -> Result<(), SinkError> {
        let executions: Api<TestExecution> =
            Api::namespaced(self.hub.clone(), &partition_namespace(&self.cluster));
        let found = executions.get_opt(&file.execution).await;
        let found = found.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        let run = found.ok_or(SinkError::Unknown)?.spec.run.uid;
        let adopted = self.artifacts.adopt(&run, &file.sha256, file.path.clone()).await;
        adopted.map_err(|error| SinkError::Unavailable(error.to_string()))
    }
}
