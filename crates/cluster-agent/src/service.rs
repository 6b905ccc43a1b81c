//! [`Options`] in, [`Service`] to run, [`Handle`] to reach it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::RecordBody;
use fleet_objects::test_record::TestRecord;
use fleet_objects::test_trigger::{HeldTrigger, TriggerNews};
use fleet_planner::health::{NoObjectExpressions, ObjectExpressions};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use sealing::{BulkKey, Files, Key};
use storage::Store;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::audit::{self, Audit};
use crate::ceiling::{Ceilings, PodStandards};
use crate::connector::{HubConnector, Trust};
use crate::credentials::Credentials;
use crate::enforcer::{self, Enforcer};
use crate::error::Error;
use crate::executor::{self, Executor, RecordSink, SinkError};
use crate::facts;
use crate::hub_client::HubClient;
use crate::link::HubLink;
use crate::notes::Notes;
use crate::outbox::{Outbox, is_full};
use crate::session::Session;
use crate::triggers::{NewsSink, Triggers};
use crate::upload::Upload;
use crate::vault::Vault;

/// Inputs that may wait for the enforcer; watches wait beyond that. Each is one object, some 10 kB.
const ENFORCER_QUEUE: usize = 512;

/// How to join a hub.
#[derive(Clone)]
pub struct Join {
    /// The join token.
    pub token: String,
    /// The name wished for.
    pub name: String,
    /// Labels for a new Cluster.
    pub labels: BTreeMap<String, String>,
}

impl Join {
    pub(crate) fn token_digest(&self) -> String {
        fleet_planner::digest(self.token.trim().as_bytes())
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("name", &self.name).field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// What an agent is made of.
pub struct Options {
    /// Reaches the hub.
    pub connector: Arc<dyn HubConnector>,
    /// What to trust when joining; not needed afterwards.
    pub trust: Option<Trust>,
    /// How to join; not needed afterwards. A new token makes the agent join anew.
    pub join: Option<Join>,
    /// Where credentials, outbox and collected files are.
    pub state_dir: PathBuf,
    /// Where desired state is.
    pub store: Arc<dyn Store>,
    /// The cluster, with the rights of this agent.
    pub cluster: Client,
    /// How the outbox is kept.
    pub outbox: durable_log::Options,
    /// The ceiling of the cluster's owner; where there is no such file, the built-in one holds.
    pub ceiling: PathBuf,
    /// Holds the key that seals what is held on disk; made when it is not there. Kept on another disk it protects this one.
    pub state_key: PathBuf,
    /// Judges pods where the ceiling asks for a standard.
    pub pods: Option<Arc<dyn PodStandards>>,
    /// Judges what the cluster holds by policies; `None`: nothing is judged.
    pub policies: Option<Arc<dyn audit::PolicyEngine>>,
    /// Evaluates health rules of profiles. Without it an object that has one never becomes healthy by it.
    pub expressions: Arc<dyn ObjectExpressions>,
    /// This release.
    pub version: String,
    /// Whether test executions are carried out here.
    pub run_tests: bool,
    /// Test executions under way at once; more wait.
    pub max_tests: usize,
    /// Bytes of files of tests that may wait for the hub on this agent's disk.
    pub max_test_files: u64,
    /// Makes clusters for tests that ask for one of their own.
    pub test_clusters: Option<Arc<dyn executor::EphemeralClusters>>,
    /// What people of the hub may do here; `None`: nobody of the hub reaches this cluster through the agent.
    pub access: Option<access::Options>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("state_dir", &self.state_dir)
            .field("join", &self.join)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// With the usual values: an outbox of 256 MiB, the ceiling in the state directory, tests allowed.
    #[must_use]
    pub fn new(
        connector: Arc<dyn HubConnector>,
        state_dir: PathBuf,
        store: Arc<dyn Store>,
        cluster: Client,
    ) -> Self {
        Self {
            connector,
            trust: None,
            join: None,
            ceiling: state_dir.join("ceiling.yaml"),
            state_key: state_dir.join("state.key"),
            pods: None,
            policies: None,
            expressions: Arc::new(NoObjectExpressions),
            state_dir,
            store,
            cluster,
            outbox: durable_log::Options { max_bytes: 256 << 20, ..durable_log::Options::default() },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run_tests: true,
            max_tests: executor::MAX_CONCURRENT,
            max_test_files: executor::MAX_SPOOL,
            test_clusters: None,
            access: Some(access::Options::default()),
        }
    }
}

/// How the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// The Cluster's name on the hub, once joined.
    pub name: Option<String>,
    /// Whether the hub is reached now.
    pub connected: bool,
    /// The epoch of the hub reached last.
    pub hub_epoch: Option<String>,
    /// Why not, when not.
    pub last_error: Option<String>,
}

/// The agent.
pub struct Service {
    options: Options,
    credentials: Credentials,
    outbox: Outbox,
    vault: Vault,
    notes: Notes,
    ceilings: Ceilings,
    link: HubLink,
    status: watch::Sender<AgentStatus>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Reaches a running agent. Clones share it.
#[derive(Clone)]
pub struct Handle {
    outbox: Outbox,
    status: watch::Receiver<AgentStatus>,
    hub: Client,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl Handle {
    /// How the agent is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// The outbox.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// A client of the hub with the agent's identity; it fails while the agent has not joined.
    #[must_use]
    pub fn hub(&self) -> &Client {
        &self.hub
    }
}

impl Service {
    /// Opens what is on disk; talks to nobody yet.
    ///
    /// # Errors
    /// When the state directory cannot be used, or the ceiling is there and is none.
    pub async fn new(options: Options) -> Result<Self, Error> {
        let credentials = Credentials::open(options.state_dir.join("credentials"))?;
        let path = &options.state_key;
        let key = Arc::new(Key::open_or_make(path).map_err(Error::seal(&path.display().to_string()))?);
        let outbox = Outbox::open(&options.state_dir.join("outbox"), options.outbox, key.clone()).await?;
        let notes = Notes::sealed(options.store.clone(), key.clone());
        let vault = Vault::new(options.store.clone(), key);
        let ceilings = Ceilings::open(options.ceiling.clone(), options.pods.clone())?;
        let (status, _) = watch::channel(AgentStatus {
            name: credentials.identity()?.map(|identity| identity.name),
            ..AgentStatus::default()
        });
        Ok(Self { options, credentials, outbox, vault, notes, ceilings, link: HubLink::default(), status })
    }

    /// Reaches the agent.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { outbox: self.outbox.clone(), status: self.status.subscribe(), hub: self.link.client() }
    }

    /// Runs until `shutdown`. Enforcement begins at once, whether or not the hub is there.
    ///
    /// # Errors
    /// When the agent's own store fails, or the outbox is damaged.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { options, credentials, outbox, vault, notes, ceilings, link, status } = self;
        // When one part fails, the others end with it.
        let shutdown = shutdown.child_token();
        let (inputs, received) = mpsc::channel(ENFORCER_QUEUE);
        let held_changed = Arc::new(Notify::new());
        let (policies, held_policies) = watch::channel(None);
        let enforcer = Enforcer::new(enforcer::Parts {
            vault: vault.clone(),
            outbox: outbox.clone(),
            cluster: options.cluster.clone(),
            ceilings: ceilings.clone(),
            expressions: options.expressions.clone(),
            inputs: inputs.clone(),
            held_changed: held_changed.clone(),
            policies: options.policies.is_some().then_some(policies),
        });
        let executor = options.run_tests.then(|| {
            run_tests(&options, &ceilings, (&outbox, notes), &link, status.subscribe(), shutdown.clone())
        });
        let facts =
            facts::run(options.cluster.clone(), outbox.clone(), options.version.clone(), shutdown.clone());
        let conversation = async {
            // The hub knows a cluster by this uid; without the cluster there is nothing to say either.
            let Some(cluster_uid) = cluster_uid(&options.cluster, &shutdown).await else { return };
            let session = Session {
                connector: options.connector.clone(),
                credentials,
                trust: options.trust.clone(),
                join: options.join.clone(),
                cluster_uid,
                version: options.version.clone(),
                link: link.clone(),
                vault,
                ceilings: ceilings.clone(),
                outbox: outbox.clone(),
                enforcer: inputs,
                held_changed,
                tunnels: options
                    .access
                    .as_ref()
                    .map(|_| access::Tunnels::new(options.cluster.clone(), shutdown.clone())),
                status,
                last_held: Mutex::new(None),
            };
            Box::pin(session.run(shutdown.clone())).await;
        };
        let administrators = async {
            if let Some(access) = options.access.clone() {
                access::keep_binding(options.cluster.clone(), access, shutdown.clone()).await;
            }
        };
        let policies = async {
            if let Some(engine) = options.policies.clone() {
                let audit = Audit::new(options.cluster.clone(), outbox.clone(), engine, held_policies);
                Box::pin(audit.run(shutdown.clone())).await;
            }
        };
        let tests = async {
            match executor {
                Some(executor) => Box::pin(executor).await,
                None => Ok(()),
            }
        };
        let _guard = shutdown.clone().drop_guard();
        let enforcement = ending(enforcer.run(received, shutdown.clone()), shutdown.clone());
        let tests = ending(tests, shutdown.clone());
        let follow_ceiling = ceilings.clone().run(shutdown.clone());
        let (enforced, (), (), (), tested, (), ()) =
            tokio::join!(enforcement, facts, conversation, follow_ceiling, tests, administrators, policies);
        enforced.and(tested)
    }
}

/// Ends the other parts when this one fails.
async fn ending(
    part: impl Future<Output = Result<(), Error>>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let ended = part.await;
    if ended.is_err() {
        shutdown.cancel();
    }
    ended
}

/// Tests run once the agent knows its name.
async fn run_tests(
    options: &Options,
    ceilings: &Ceilings,
    (outbox, notes): (&Outbox, Notes),
    link: &HubLink,
    mut status: watch::Receiver<AgentStatus>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let name = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        known = status.wait_for(|status| status.name.is_some()) => match known {
            Ok(status) => status.name.clone().unwrap_or_default(),
            Err(_) => return Ok(()),
        },
    };
    let hub = link.client();
    let key = BulkKey::drawn(&options.state_key, "files of tests").map_err(Error::seal("files of tests"))?;
    let files = Files::sealed(Arc::new(key));
    let executor = Executor::new(
        executor::Options {
            max_concurrent: options.max_tests,
            max_spool_bytes: options.max_test_files,
            files,
            ..executor::Options::new(&name, options.state_dir.join("collected"))
        },
        ceilings.guarded(options.cluster.clone()),
        hub.clone(),
        notes.clone(),
        Arc::new(outbox.clone()),
        Arc::new(Upload(HubClient::new(hub))),
    );
    let failed = |error: executor::Error| Error::Invalid(error.to_string());
    let executor = executor.map_err(failed)?.with_clusters(options.test_clusters.clone());
    let triggers = Triggers {
        partition: fleet_objects::partition_namespace(&name),
        hub: link.client(),
        cluster: ceilings.guarded(options.cluster.clone()),
        notes,
        news: Arc::new(outbox.clone()),
        runs: executor.local(),
    };
    let ended = tokio::try_join!(executor.run(shutdown.clone()), triggers.run(shutdown));
    ended.map(|((), ())| ()).map_err(failed)
}

#[async_trait::async_trait]
impl NewsSink for Outbox {
    async fn append_news(&self, news: TriggerNews) -> Result<(), SinkError> {
        match self.append(RecordBody::Trigger(Box::new(news))).await {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) => Err(SinkError::Full),
            Err(error) => Err(SinkError::Unavailable(error.to_string())),
        }
    }

    async fn append_orphans(&self, orphans: Vec<HeldTrigger>) -> Result<(), SinkError> {
        match self.append(RecordBody::OrphanedTriggers(orphans)).await {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) => Err(SinkError::Full),
            Err(error) => Err(SinkError::Unavailable(error.to_string())),
        }
    }
}

#[async_trait::async_trait]
impl RecordSink for Outbox {
    async fn append(&self, record: TestRecord) -> Result<(), SinkError> {
        match self.append(RecordBody::Test(Box::new(record))).await {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) => Err(SinkError::Full),
            Err(error) => Err(SinkError::Unavailable(error.to_string())),
        }
    }
}

/// The uid of kube-system: waits for the cluster to answer; `None` at shutdown.
async fn cluster_uid(client: &Client, shutdown: &CancellationToken) -> Option<String> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut said = false;
    loop {
        match api.get("kube-system").await {
            Ok(namespace) => {
                if let Some(uid) = namespace.uid() {
                    return Some(uid);
                }
            }
            Err(error) if !said => {
                tracing::warn!(%error, "this cluster's API does not answer; waiting");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}
