//! Runs tests in this cluster, in pods without rights in a namespace of their own; steps that follow each other share one.
//!
//! Tasks: take `TestExecution`s from the agent's partition of the hub, write them to the agent's store before acting, carry
//! them out step by step, and tell the hub by records. A restarted agent goes on where its notes end: pods have names that
//! follow from the execution, step and attempt, so that it finds them again.
//!
//! Never: takes the absence of an execution for its end (only a deletion that is seen stops one), writes to the hub's API,
//! or gives a test pod a credential.

mod content;
mod files;
mod journal;
mod local;
mod log_follow;
mod pods;
mod results;
mod run;
mod services;
mod watch_pod;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_objects::test_record::TestRecord;
use fleet_objects::test_run::TestExecution;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use storage::Store;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use content::Spool;
pub use local::LocalRuns;

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
    /// Executions under way at once; more wait.
    pub max_concurrent: usize,
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
            max_concurrent: 8,
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
}

/// Where records go: the agent's outbox. `append` answers once the record is durable here; records arrive at the hub in
/// the order of the calls.
#[async_trait]
pub trait RecordSink: Send + Sync + 'static {
    /// Appends one record.
    async fn append(&self, record: TestRecord) -> Result<(), SinkError>;
}

/// Where collected files go: the hub's content store.
#[async_trait]
pub trait ContentUpload: Send + Sync + 'static {
    /// Stores `content` under its digest; doing so again changes nothing. Fails while the hub is away.
    async fn put(&self, sha256: &str, content: Vec<u8>) -> Result<(), SinkError>;
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
    slots: Semaphore,
    /// Turns of concurrency groups, by name.
    groups: parking_lot::Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Shared {
    /// The turns of a concurrency group; the first execution that names it says how many there are.
    fn group(&self, (name, max): (String, u32)) -> Arc<Semaphore> {
        let mut groups = self.groups.lock();
        // A group that nobody holds is forgotten, so that names do not pile up.
        groups.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = || Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(1)));
        Arc::clone(groups.entry(name).or_insert_with(turns))
    }
}

/// The service.
pub struct Executor {
    shared: Arc<Shared>,
    hub: Client,
    upload: Arc<dyn ContentUpload>,
    local: LocalRuns,
    requests: mpsc::Receiver<local::Request>,
}

/// An execution under way.
struct Running {
    cancel: CancellationToken,
    /// What the run says about holding and going on.
    pause: tokio::sync::watch::Sender<Option<bool>>,
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
        store: Arc<dyn Store>,
        records: Arc<dyn RecordSink>,
        upload: Arc<dyn ContentUpload>,
    ) -> Result<Self, Error> {
        let spool = Spool::open(options.spool_dir.clone())?;
        let slots = Semaphore::new(options.max_concurrent.max(1));
        let (local, requests) = LocalRuns::new(Arc::clone(&store));
        let journal = journal::Journal::new(store);
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                cluster,
                journal,
                records,
                spool,
                slots,
                groups: parking_lot::Mutex::default(),
            }),
            hub,
            upload,
            local,
            requests,
        })
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
        let mut tasks = JoinSet::new();
        let mut running = HashMap::new();
        for note in self.shared.journal.load().await? {
            if !note.finished {
                info!(execution = %note.name, "going on with a test execution");
                start(&self.shared, note, &mut running, &mut tasks, &shutdown);
            }
        }
        let uploads = self.shared.spool.clone().deliver(Arc::clone(&self.upload), shutdown.clone());
        let uploads = tokio::spawn(uploads);
        let api: Api<TestExecution> = Api::namespaced(self.hub.clone(), &self.shared.options.partition);
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok((uid, result)) = ended {
                        running.remove(&uid);
                        result?;
                    }
                }
                Some(request) = self.requests.recv() => {
                    self.request(request, &mut running, &mut tasks, &shutdown).await?;
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.event(event, &mut running, &mut tasks, &shutdown).await?,
                    Some(Err(error)) => warn!(%error, "cannot watch test executions at the hub; trying again"),
                    None => break,
                },
            }
        }
        while tasks.join_next().await.is_some() {}
        let _ = uploads.await;
        Ok(())
    }

    async fn request(
        &self,
        request: local::Request,
        running: &mut HashMap<String, Running>,
        tasks: &mut Tasks,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        match request {
            local::Request::Start(uid) => {
                let note = self.shared.journal.get(&uid).await?;
                if let Some(note) = note.filter(|note| !note.finished && !running.contains_key(&uid)) {
                    start(&self.shared, note, running, tasks, shutdown);
                }
            }
            local::Request::Cancel(uid) => {
                if let Some(known) = running.get(&uid) {
                    known.cancel.cancel();
                }
            }
        }
        Ok(())
    }

    async fn event(
        &self,
        event: Event<TestExecution>,
        running: &mut HashMap<String, Running>,
        tasks: &mut Tasks,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        match event {
            Event::Apply(execution) | Event::InitApply(execution) => {
                let Some(uid) = local::uid_of(&execution) else { return Ok(()) };
                if let Some(known) = running.get(&uid) {
                    if execution.spec.cancel {
                        known.cancel.cancel();
                    }
                    let wanted = execution.spec.pause;
                    known.pause.send_if_modified(|own| std::mem::replace(own, wanted) != wanted);
                    return Ok(());
                }
                if local::is_local(&execution)
                    || has_ended(&execution)
                    || self.shared.journal.get(&uid).await?.is_some()
                {
                    return Ok(());
                }
                let note = journal::Note::new(uid, execution.name_any(), execution.spec);
                self.shared.journal.save(&note).await?;
                start(&self.shared, note, running, tasks, shutdown);
            }
            Event::Delete(execution) => {
                let Some(uid) = local::uid_of(&execution) else { return Ok(()) };
                match running.get(&uid) {
                    Some(known) => known.cancel.cancel(),
                    None => self.shared.journal.remove(&uid).await?,
                }
            }
            Event::Init | Event::InitDone => {}
        }
        Ok(())
    }
}

type Tasks = JoinSet<(String, Result<(), Error>)>;

fn start(
    shared: &Arc<Shared>,
    note: journal::Note,
    running: &mut HashMap<String, Running>,
    tasks: &mut Tasks,
    shutdown: &CancellationToken,
) {
    let cancel = CancellationToken::new();
    if note.spec.cancel {
        cancel.cancel();
    }
    let uid = note.uid.clone();
    let (pause, paused) = tokio::sync::watch::channel(note.spec.pause);
    running.insert(uid.clone(), Running { cancel: cancel.clone(), pause });
    let (shared, shutdown) = (Arc::clone(shared), shutdown.clone());
    tasks.spawn(async move {
        let result = Box::pin(run::execution(shared, note, paused, cancel, shutdown)).await;
        (uid, result)
    });
}

/// The hub already knows how it ended: an agent that lost its disk does not run it again.
fn has_ended(execution: &TestExecution) -> bool {
    let result = execution.status.as_ref().and_then(|status| status.result.as_ref());
    result.is_some_and(|result| result.outcome.is_some())
}
