//! Test runs at the hub: a `TestRun` becomes a `TestExecution` in the partition of every chosen cluster, and what agents
//! report becomes the run's status, its log and its artifacts.
//!
//! Never: decides anything a cluster needs in order to go on, or counts a result twice (a record says what it is about,
//! and the first one counts).

mod artifacts;
mod controller;
mod endpoints;
mod files;
mod fired;
mod handler;
mod logs;
mod notify;
mod resolve;
mod retention;
pub(crate) mod triggers;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub(crate) use artifacts::Chunk;
pub use artifacts::{ArtifactStore, MAX_RUN_BYTES};
pub use endpoints::{Body, Endpoints};
pub use handler::Handler;
pub use logs::{LogStore, Piece};
pub use notify::Telemetry;
pub use retention::Retention;

/// How test runs are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where logs are kept.
    pub log_dir: PathBuf,
    /// Seals them.
    pub log_key: crate::RecordKey,
    /// Where files are kept that are too large for memory.
    pub artifact_dir: PathBuf,
    /// Bytes of such files that one run may keep.
    pub max_run_bytes: u64,
    /// How long runs are kept; `None`: until somebody deletes them.
    pub retention: Option<Retention>,
    /// Who is told besides webhooks.
    pub notify: Notify,
}

/// How others are told of test runs.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    /// Where people reach the hub: the source of events.
    pub source: String,
    /// This release.
    pub version: String,
    /// The OpenTelemetry collector, if there is one.
    pub telemetry: Option<Telemetry>,
}

/// Reads collected files by their digest.
#[async_trait]
pub trait ContentSource: Send + Sync + 'static {
    /// The content, or `None` when the hub does not have it (yet).
    async fn content(&self, sha256: &str) -> Result<Option<Bytes>, std::io::Error>;

    /// Whether there is such content.
    async fn has(&self, sha256: &str) -> Result<bool, std::io::Error> {
        Ok(self.content(sha256).await?.is_some())
    }

    /// Removes content that nothing names any more. What was stored or asked to be stored within the last hour stays:
    /// the record that names it may be on its way.
    async fn forget(&self, sha256: &str) -> Result<(), std::io::Error>;
}

/// Why test runs cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log directory cannot be used.
    #[error("test runs: cannot use {}", path.display())]
    Logs {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The hub's own API refused or failed.
    #[error("test runs: cannot {operation}")]
    Api {
        /// What was to be done.
        operation: &'static str,
        /// Why not.
        source: Box<kube::Error>,
    },
}

/// The service: everything the hub does about test runs.
pub struct TestRuns {
    client: Client,
    logs: Arc<LogStore>,
    artifacts: Arc<ArtifactStore>,
    content: Arc<dyn ContentSource>,
    options: Options,
}

impl TestRuns {
    /// `client` is the hub's own, with all rights.
    ///
    /// # Errors
    /// When the log directory cannot be made.
    pub fn new(options: Options, client: Client, content: Arc<dyn ContentSource>) -> Result<Self, Error> {
        let logs = Arc::new(LogStore::open(options.log_dir.clone(), options.log_key.clone())?);
        let artifacts =
            ArtifactStore::open(options.artifact_dir.clone(), options.max_run_bytes, &options.log_key)?;
        Ok(Self { client, logs, artifacts, content, options })
    }

    /// The same with another client: for the time in which a process leads.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self {
            client,
            logs: Arc::clone(&self.logs),
            artifacts: Arc::clone(&self.artifacts),
            content: Arc::clone(&self.content),
            options: self.options.clone(),
        }
    }

    /// What takes in the agents' records.
    #[must_use]
    pub fn handler(&self) -> Handler {
        Handler::new(self.client.clone(), Arc::clone(&self.logs), Arc::clone(&self.artifacts))
    }

    /// What answers `GET /fleet/v1/testruns/…`.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        let (logs, artifacts) = (Arc::clone(&self.logs), Arc::clone(&self.artifacts));
        Endpoints::new(self.client.clone(), logs, artifacts, Arc::clone(&self.content))
    }

    /// Files that are too large for memory.
    #[must_use]
    pub fn artifacts(&self) -> Arc<ArtifactStore> {
        Arc::clone(&self.artifacts)
    }

    /// Keeps runs and executions in step until `shutdown`.
    ///
    /// # Errors
    /// Never at present: what fails is tried again.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        tokio::join!(
            controller::run(self.client.clone(), shutdown.clone()),
            triggers::run(self.client.clone(), shutdown.clone()),
            notify::run(self.client.clone(), self.options.notify.clone(), shutdown.clone()),
            self.sweep(shutdown)
        );
        Ok(())
    }

    /// Removes what retention says, until `shutdown`.
    async fn sweep(&self, shutdown: CancellationToken) {
        let Some(retention) = self.options.retention.clone() else { return };
        let (client, log_dir) = (self.client.clone(), self.options.log_dir.clone());
        let artifact_dir = self.artifacts.dir().to_owned();
        let sweep =
            retention::Sweep { client, log_dir, artifact_dir, retention, content: self.content.as_ref() };
        sweep.run(shutdown).await;
    }
}
