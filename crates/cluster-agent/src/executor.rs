//! Runs tests in this cluster, in pods without rights in a namespace of their own; steps that follow each other share one.
//!
//! Tasks: take `TestExecution`s from the agent's partition of the hub, write them to the agent's store before acting, carry
//! them out step by step, and tell the hub by records. A restarted agent goes on where its notes end: pods have names that
//! follow from the execution, step and attempt, so that it finds them again. More executions than there are places wait
//! in the notes, higher classes first ([`queue`]); values of secrets are masked before anything leaves ([`secrets`]).
//!
//! Never: takes the absence of an execution for its end (only a deletion that is seen stops one), writes to the hub's API,
//! or gives a test pod a credential.

mod clusters;
mod content;
mod dispatch;
mod files;
mod give;
mod journal;
mod local;
mod log_follow;
mod pods;
mod queue;
mod results;
mod run;
mod secrets;
mod services;
mod take;
mod together;
mod watch_pod;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_objects::test_record::TestRecord;
use fleet_objects::test_run::TestExecution;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use sealing::Files;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use clusters::{EphemeralCluster, EphemeralClusters};
pub(crate) use content::DAMAGED;
pub use content::{MAX_SPOOL, Spool};
pub use local::LocalRuns;

use crate::notes::Notes;
use dispatch::Dispatch;

/// Executions under way at once unless said otherwise: their pods fit on one usual node (110 pods) with services beside
/// them.
pub const MAX_CONCURRENT: usize = 32;
/// Events of the hub that are taken in together.
const BATCH: usize = 128;

/// How tests run here.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's partition on the hub: `cluster-<name>`.
    pub partition: String,
    /// Namespace of the test pods in this cluster; made if absent.
    pub namespace: String,
    /// Image of the step runner and the collector.
    pub tool_image: String,
    /// Where collected files wait for the hub.
    pub spool_dir: PathBuf,
    /// Bytes of collected files that may wait for the hub; what is beyond is not kept, and the run says so.
    pub max_spool_bytes: u64,
    /// Executions under way at once; more wait.
    pub max_concurrent: usize,
    /// How collected files are kept meanwhile.
    pub files: Files,
}

impl Options {
    /// The usual values for a cluster.
    #[must_use]
    pub fn new(cluster: &str, spool_dir: PathBuf) -> Self {
        Self {
            partition: format!("cluster-{cluster}"),
            namespace: "fairlead-tests".to_owned(),
            tool_image: "fairlead.dev/tool:latest".to_owned(),
            spool_dir,
            max_spool_bytes: MAX_SPOOL,
            max_concurrent: MAX_CONCURRENT,
            files: Files::default(),
        }
    }
}

/// Why something could not be handed on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No room: what can be left out must be.
    #[error("the outbox is full")]
    Full,
    /// It may work later.
    #[error("cannot hand on: {0}")]
    Unavailable(String),
    /// The other side does not know what it is of; it may learn of that later.
    #[error("the other side does not know the execution")]
    Unknown,
    /// It never will work.
    #[error("refused: {0}")]
    Refused(String),
}

/// Where records go: the agent's outbox. `append` answers once the record is durable here; records arrive at the hub in
/// the order of the calls.
#[async_trait]
pub trait RecordSink: Send + Sync + 'static {
    /// Appends one record.
    async fn append(&self, record: TestRecord) -> Result<(), SinkError>;
}

/// A file of the spool that is too large for memory.
#[derive(Clone, Debug)]
pub struct LargeFile {
    /// Name of the execution it is of.
    pub execution: String,
    /// Uid of the execution.
    pub uid: String,
    /// Digest of its content.
    pub sha256: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes of its content.
    pub size: u64,
    /// How it is kept there.
    pub files: Files,
}

impl LargeFile {
    /// Its content from this byte on, at most so much. Blocks.
    ///
    /// # Errors
    /// As the file system's; [`std::io::ErrorKind::InvalidData`] when it was damaged.
    pub fn piece(&self, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
        let mut input = self.files.read(&self.path, content::PLACE)?;
        input.seek(offset)?;
        input.next(most)
    }
}

/// Where collected files go: to the hub.
#[async_trait]
pub trait ContentUpload: Send + Sync + 'static {
    /// Stores `content` under its digest; doing so again changes nothing. Fails while the hub is away.
    async fn put(&self, sha256: &str, content: Vec<u8>) -> Result<(), SinkError>;

    /// Hands on a file, from where the other side has it; answers when it has it whole and durable. May be dropped at any
    /// moment and asked again.
    async fn send(&self, file: &LargeFile) -> Result<(), SinkError>;
}

/// Why the executor stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its notes cannot be read or written.
    #[error("test executions: {operation}")]
    Store {
        /// What was to be done.
        operation: &'static str,
        /// Why not.
        source: storage::StoreError,
    },
    /// A note cannot be understood.
    #[error("test executions: the note {key} in the agent's store cannot be read")]
    Note {
        /// Its key.
        key: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The spool directory cannot be used.
    #[error("test executions: cannot use the directory {}", path.display())]
    Spool {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What every execution needs.
pub(crate) struct Shared {
    options: Options,
    cluster: Client,
    journal: journal::Journal,
    records: Arc<dyn RecordSink>,
    spool: Spool,
    clusters: Option<clusters::Places>,
    /// A kubeconfig of this cluster, for every execution that asks for no cluster of its own.
    own_cluster: Option<String>,
}

/// The service.
pub struct Executor {
    shared: Arc<Shared>,
    hub: Client,
    upload: Arc<dyn ContentUpload>,
    local: LocalRuns,
    requests: mpsc::Receiver<local::Request>,
}

impl Executor {
    /// `cluster` reaches this cluster, `hub` the agent's partition.
    ///
    /// # Errors
    /// When the spool directory cannot be made.
    pub fn new(
        options: Options,
        cluster: Client,
        hub: Client,
        notes: Notes,
        records: Arc<dyn RecordSink>,
        upload: Arc<dyn ContentUpload>,
    ) -> Result<Self, Error> {
        let spool = Spool::open(options.spool_dir.clone(), options.max_spool_bytes, options.files.clone())?;
        let (local, requests) = LocalRuns::new(notes.clone());
        let journal = journal::Journal::new(notes);
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                cluster,
                journal,
                records,
                spool,
                clusters: None,
                own_cluster: None,
            }),
            hub,
            upload,
            local,
            requests,
        })
    }

    /// With what makes clusters for executions that ask for one; without it they do not run. Before [`Executor::run`].
    #[must_use]
    pub fn with_clusters(mut self, clusters: Option<Arc<dyn EphemeralClusters>>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.clusters = clusters.map(clusters::Places::new);
        }
        self
    }

    /// With a kubeconfig of this very cluster, to which `KUBECONFIG` leads in every step that has no cluster of its own. For
    /// clusters that are there for tests alone: whoever has it has its rights. Before [`Executor::run`].
    #[must_use]
    pub fn with_own_cluster(mut self, kubeconfig: Option<String>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.own_cluster = kubeconfig;
        }
        self
    }

    /// Begins executions without a hub.
    #[must_use]
    pub fn local(&self) -> LocalRuns {
        self.local.clone()
    }

    /// Runs until `shutdown`; executions under way go on at the next start.
    ///
    /// # Errors
    /// When the agent's own store fails.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut dispatch = Dispatch::new(Arc::clone(&self.shared), shutdown.clone());
        dispatch.load().await?;
        let losses = Arc::new(results::ByRecords(Arc::clone(&self.shared)));
        let uploads = self.shared.spool.clone().deliver(Arc::clone(&self.upload), losses, shutdown.clone());
        let uploads = tokio::spawn(uploads);
        let api: Api<TestExecution> = Api::namespaced(self.hub.clone(), &self.shared.options.partition);
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        // What has arrived is taken on together, so that it is made durable together.
        let mut events = std::pin::pin!(events.ready_chunks(BATCH));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                joined = dispatch.joined() => dispatch.ended(joined).await?,
                Some(request) = self.requests.recv() => self.request(request, &mut dispatch).await?,
                events = events.next() => match events {
                    Some(events) => self.events(events, &mut dispatch).await?,
                    None => break,
                },
            }
        }
        dispatch.finish().await;
        let _ = uploads.await;
        Ok(())
    }

    async fn request(&self, request: local::Request, dispatch: &mut Dispatch) -> Result<(), Error> {
        match request {
            local::Request::Start(uid) => {
                let note = self.shared.journal.get(&uid).await?;
                dispatch.take(note.into_iter().filter(|note| !note.finished).collect()).await
            }
            local::Request::Cancel(uid) => dispatch.cancel(&uid).await,
        }
    }

    async fn events(
        &self,
        events: Vec<Result<Event<TestExecution>, watcher::Error>>,
        dispatch: &mut Dispatch,
    ) -> Result<(), Error> {
        let mut new: Vec<journal::Note> = Vec::new();
        for event in events {
            match event {
                Ok(Event::Apply(execution) | Event::InitApply(execution)) => {
                    let Some(uid) = local::uid_of(&execution) else { continue };
                    if new.iter().any(|note| note.uid == uid) {
                        dispatch.take(std::mem::take(&mut new)).await?;
                    }
                    if dispatch.knows(&uid) {
                        if execution.spec.cancel {
                            dispatch.cancel(&uid).await?;
                        }
                        dispatch.pause(&uid, execution.spec.pause).await?;
                    } else if !local::is_local(&execution)
                        && !has_ended(&execution)
                        && self.shared.journal.get(&uid).await?.is_none()
                    {
                        new.push(journal::Note::new(uid, execution.name_any(), execution.spec));
                    }
                }
                Ok(Event::Delete(execution)) => {
                    dispatch.take(std::mem::take(&mut new)).await?;
                    let Some(uid) = local::uid_of(&execution) else { continue };
                    if dispatch.knows(&uid) {
                        dispatch.cancel(&uid).await?;
                    } else {
                        self.shared.journal.remove(&uid).await?;
                    }
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => warn!(%error, "cannot watch test executions at the hub; trying again"),
            }
        }
        dispatch.take(new).await
    }
}

/// The hub already knows how it ended: an agent that lost its disk does not run it again.
fn has_ended(execution: &TestExecution) -> bool {
    let result = execution.status.as_ref().and_then(|status| status.result.as_ref());
    result.is_some_and(|result| result.outcome.is_some())
}
