//! [`Options`] in, [`Service`] to run, [`Handle`] and [`Endpoints`] to reach it.

mod loops;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{JoinToken, PingReport, TokenGrant};
use api_client::{CacheOptions, ObjectCache};
use fleet_objects::{AgentIdentity, Cluster, SYSTEM_NAMESPACE};
use fleet_planner::expressions::{Expressions, NoExpressions};
use fleet_planner::health::{NoObjectExpressions, ObjectExpressions};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Tunnels};
use crate::cluster_status;
use crate::content::{ContentSealer, ContentStore};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::guard::{AgentGuard, Standing};
use crate::inbox::Inbox;
use crate::issuer::CertificateIssuer;
use crate::materialise::RecordHandler;
use crate::presence::Presence;
use crate::projects::{ProjectScopes, Projects};
use crate::quota::{Quota, Quotas};
use crate::record_key::RecordKey;
use crate::registration;
use crate::replicas::Replica;
use crate::test_runs::{self, TestRuns};

/// Where in a hub's directory the key of records lies.
const RECORD_KEY: &str = "records.key";

/// What runs on the process that leads, with its client, until the token is cancelled.
pub type LeaderTask = Arc<dyn Fn(Client, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a hub is made of.
pub struct Options {
    /// The hub's own API, with all rights.
    pub client: Client,
    /// Where inbox and content are kept.
    pub data_dir: PathBuf,
    /// Seals content there.
    pub content_sealer: Option<Arc<dyn ContentSealer>>,
    /// Which life of the hub's store this is: the store's incarnation.
    pub epoch: String,
    /// Signs agents' certificates.
    pub issuer: Arc<dyn CertificateIssuer>,
    /// This release.
    pub version: String,
    /// Where people and programs reach the hub, `https://host:port`; published in ClusterProfiles.
    pub public_url: Option<String>,
    /// How long agents' certificates last.
    pub certificate_ttl: Duration,
    /// Where agents reach the hub, as they are told; `None`: where they were told when they joined.
    pub announce: Option<String>,
    /// How long an agent may be silent before it counts as gone. Agents ping three times as often.
    pub presence_timeout: Duration,
    /// How the inbox is kept.
    pub inbox: durable_log::Options,
    /// Evaluates what people write about clusters. Without it every expression is refused.
    pub expressions: Arc<dyn Expressions>,
    /// Checks health rules of profiles. Without it every rule is refused.
    pub object_expressions: Arc<dyn ObjectExpressions>,
    /// How long test runs are kept.
    pub test_retention: test_runs::Retention,
    /// The OpenTelemetry collector that is told of test runs, if there is one.
    pub telemetry: Option<test_runs::Telemetry>,
    /// What one cluster may ask.
    pub quota: Quota,
    /// What one cluster may send of files of tests.
    pub file_quota: Quota,
    /// Act on records besides the hub itself.
    pub handlers: Vec<Arc<dyn RecordHandler>>,
    /// Empties namespaces on their way out and lets them go; without it none ever goes.
    pub namespaces: Option<LeaderTask>,
    /// One of several processes on one store; `None`: the only one.
    pub replica: Option<Replica>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// With the usual values: certificates for a day, presence within 15 s, an inbox of 256 MiB.
    #[must_use]
    pub fn new(client: Client, data_dir: PathBuf, epoch: String, issuer: Arc<dyn CertificateIssuer>) -> Self {
        Self {
            client,
            data_dir,
            content_sealer: None,
            epoch,
            issuer,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_url: None,
            certificate_ttl: registration::DEFAULT_CERTIFICATE_TTL,
            announce: None,
            presence_timeout: Duration::from_secs(15),
            inbox: durable_log::Options { max_bytes: 256 << 20, ..durable_log::Options::default() },
            expressions: Arc::new(NoExpressions),
            object_expressions: Arc::new(NoObjectExpressions),
            test_retention: test_runs::Retention::default(),
            telemetry: None,
            quota: Quota::default(),
            file_quota: Quota::of_files(),
            handlers: Vec::new(),
            namespaces: None,
            replica: None,
        }
    }
}

/// What every part of the hub needs. A process that leads has another one for that time, whose writes are fenced.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) data_dir: PathBuf,
    pub(crate) epoch: String,
    pub(crate) version: String,
    pub(crate) issuer: Arc<dyn CertificateIssuer>,
    pub(crate) public_url: Option<String>,
    pub(crate) certificate_ttl: Duration,
    pub(crate) announce: Option<String>,
    pub(crate) presence_timeout: Duration,
    pub(crate) presence: Presence,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) content: ContentStore,
    pub(crate) inbox: Inbox,
    pub(crate) clusters: ObjectCache<Cluster>,
    pub(crate) projects: Projects,
    pub(crate) expressions: Arc<dyn Expressions>,
    pub(crate) object_expressions: Arc<dyn ObjectExpressions>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) file_quotas: Arc<Quotas>,
    pub(crate) test_endpoints: test_runs::Endpoints,
    pub(crate) namespaces: Option<LeaderTask>,
    pub(crate) replica: Option<Replica>,
    /// Holds while nobody else has led; of a process that leads.
    pub(crate) fence: Option<storage::Compare>,
    /// Cancelled when the hub ends: open streams end with it, so that agents look for its successor at once.
    pub(crate) stopping: CancellationToken,
}

/// The hub.
pub struct Service {
    shared: Arc<Shared>,
    handlers: Vec<Arc<dyn RecordHandler>>,
    test_runs: TestRuns,
}

/// Reaches a running hub in process. Clones share it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("epoch", &self.shared.epoch).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("epoch", &self.shared.epoch).finish_non_exhaustive()
    }
}

impl Service {
    /// Opens inbox and content. Must be called on a runtime; the API need not answer yet.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub async fn new(options: Options) -> Result<Self, Error> {
        let sealer = options.content_sealer;
        let mut content = ContentStore::open(options.data_dir.join("content"), sealer.clone())?;
        let (inbox, key) = match &options.replica {
            Some(replica) => {
                content = content.shared(Arc::clone(&replica.store));
                let key = RecordKey::open_shared(&replica.store, sealer.as_ref()).await?;
                let (store, max_bytes) = (Arc::clone(&replica.store), options.inbox.max_bytes);
                (Inbox::open_shared(store, max_bytes, key.clone()).await?, key)
            }
            None => {
                let key = RecordKey::open(&options.data_dir.join(RECORD_KEY), sealer.as_ref())?;
                (Inbox::open(options.data_dir.join("inbox"), options.inbox, key.clone()).await?, key)
            }
        };
        let clusters = ObjectCache::start(
            Api::all(options.client.clone()),
            CacheOptions::new("clusters").strip(tighten),
        );
        let projects = Projects::start(options.client.clone());
        let logs = test_runs::Options {
            log_dir: options.data_dir.join("test-logs"),
            log_key: key,
            artifact_dir: options.data_dir.join("test-artifacts"),
            max_run_bytes: options.test_retention.max_run_bytes,
            retention: Some(options.test_retention),
            notify: test_runs::Notify {
                source: options.public_url.clone().unwrap_or_else(|| "/fairlead/hub".to_owned()),
                version: options.version.clone(),
                telemetry: options.telemetry,
            },
        };
        let test_runs = TestRuns::new(logs, options.client.clone(), Arc::new(content.clone()))?;
        let handlers = options.handlers;
        let shared = Shared {
            test_endpoints: test_runs.endpoints(),
            stopping: CancellationToken::new(),
            client: options.client,
            data_dir: options.data_dir,
            epoch: options.epoch,
            version: options.version,
            issuer: options.issuer,
            public_url: options.public_url,
            certificate_ttl: options.certificate_ttl,
            announce: options.announce,
            presence_timeout: options.presence_timeout,
            presence: Presence::new(options.presence_timeout),
            tunnels: Arc::default(),
            content,
            inbox,
            clusters,
            projects,
            expressions: options.expressions,
            object_expressions: options.object_expressions,
            quotas: Arc::new(Quotas::new(options.quota)),
            file_quotas: Arc::new(Quotas::new(options.file_quota)),
            namespaces: options.namespaces,
            replica: options.replica,
            fence: None,
        };
        Ok(Self { shared: Arc::new(shared), handlers, test_runs })
    }

    /// Reaches the hub.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Adds a handler of records. It may need the handle, so it may come after [`Service::new`].
    pub fn add_handler(&mut self, handler: Arc<dyn RecordHandler>) {
        self.handlers.push(handler);
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the hub's own namespace cannot be made within a minute; afterwards what fails is tried again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let _stopping = self.shared.stopping.clone().drop_guard();
        loops::prepare(&self.shared, &shutdown).await?;
        let Self { shared, handlers, test_runs } = self;
        let ends_streams = {
            let (shutdown, stopping) = (shutdown.clone(), shared.stopping.clone());
            async move {
                shutdown.cancelled().await;
                stopping.cancel();
            }
        };
        let ((), told, ()) = tokio::join!(
            ends_streams,
            Box::pin(loops::lead(&shared, &handlers, &test_runs, &shutdown)),
            loops::beside(&shared, &shutdown),
        );
        told
    }
}

impl Handle {
    /// What holds agents to their partitions.
    #[must_use]
    pub fn agent_guard(&self) -> AgentGuard {
        AgentGuard::new(&self.shared)
    }

    /// In which namespaces roles count for clusters.
    #[must_use]
    pub fn project_scopes(&self) -> ProjectScopes {
        ProjectScopes::new(&self.shared)
    }

    /// The endpoints under `/fleet/v1/`.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::new(&self.shared)
    }

    /// People's requests to clusters.
    #[must_use]
    pub fn access(&self) -> Access {
        Access::new(&self.shared)
    }

    /// The content store.
    #[must_use]
    pub fn content(&self) -> &ContentStore {
        &self.shared.content
    }

    /// Seals its files anew that are not sealed as is wanted now. What fails is said and left to the next time.
    pub async fn seal_anew(&self) {
        loops::seal_files(&self.shared).await;
    }

    /// The inbox.
    #[must_use]
    pub fn inbox(&self) -> &Inbox {
        &self.shared.inbox
    }

    /// Invites one cluster.
    ///
    /// # Errors
    /// When the token cannot be stored.
    pub async fn create_join_token(&self, grant: &TokenGrant) -> Result<JoinToken, Error> {
        registration::ensure_namespace(&self.shared.client, SYSTEM_NAMESPACE).await?;
        let token = JoinToken::generate();
        let object = token.secret_object(grant, jiff::Timestamp::now());
        let secret: Secret =
            serde_json::from_value(object).map_err(|error| Error::Invalid(error.to_string()))?;
        let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), SYSTEM_NAMESPACE);
        api.create(&PostParams::default(), &secret).await.map_err(Error::api("store a join token"))?;
        Ok(token)
    }

    /// Whether a cluster's agent is connected now.
    #[must_use]
    pub fn is_connected(&self, cluster: &str) -> bool {
        self.shared.presence.is_connected(cluster)
    }
}

impl Shared {
    /// How an agent stands, by the cache alone: asked for every request, so nothing is waited for. Until the cache is
    /// complete, the roles (which name every agent with its uid) decide alone.
    pub(crate) fn standing(&self, identity: &AgentIdentity) -> Standing {
        match self.clusters.find("", &identity.name) {
            Some(cluster) if registration::is_member(&cluster, identity) => Standing::Good,
            None if !self.clusters.status().synced => Standing::Good,
            _ => Standing::Bad,
        }
    }

    /// Writes what a ping says, when it says something new.
    pub(crate) async fn take_ping(&self, cluster: &str, report: PingReport) -> Result<(), Error> {
        let Some(report) = self.presence.reported(cluster, report) else { return Ok(()) };
        let written = cluster_status::update(&self.client, cluster, |status| {
            cluster_status::take_ping(status, &report)
        });
        written.await.map(drop).inspect_err(|_| self.presence.unreport(cluster))
    }
}

/// There are thousands of them for as long as the hub runs, and reading leaves a list with room for what does not come.
fn tighten(cluster: &mut Cluster) {
    if let Some(status) = &mut cluster.status {
        status.api_groups.shrink_to_fit();
        status.held.shrink_to_fit();
        status.conditions.shrink_to_fit();
    }
}
