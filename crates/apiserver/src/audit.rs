//! The audit log: who asked for what, and what came of it (`audit.k8s.io/v1`).
//!
//! * [`policy`]: which requests are recorded, and how much of each. Pure.
//! * [`event`]: what is written, to upstream's letter.
//! * [`record`]: one request's record, from its reception to the end of its answer.
//! * [`sink`]: bounded queues towards the outputs; what does not fit is dropped and counted.
//! * [`log`], [`webhook`]: the outputs.
//!
//! It must never wait without a bound, never hold more than its queues allow, and never write a body that the policy
//! does not ask for.

mod event;
mod log;
mod policy;
mod record;
mod sink;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use policy::{Policy, PolicyError};
pub(crate) use record::{Decided, Record};
pub use sink::Mode;
use sink::{Batches, Sink};

/// What is recorded, and where it goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which requests are recorded.
    pub policy: Policy,
    /// To a file; `None`: to none.
    pub log: Option<LogOptions>,
    /// To a webhook; `None`: to none.
    pub webhook: Option<WebhookOptions>,
}

/// The log file (upstream's flags `--audit-log-*` and their defaults).
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Where; `-` is the standard output.
    pub path: PathBuf,
    /// Bytes after which a file is closed under a name with the time; 0: never.
    pub max_size_bytes: u64,
    /// How long closed files are kept; zero: for ever.
    pub max_age: Duration,
    /// How many closed files are kept; 0: all.
    pub max_backups: usize,
    /// Whether requests wait for it.
    pub mode: Mode,
    /// Leaves bodies out of events larger than this; `None`: never.
    pub truncate_bytes: Option<usize>,
}

impl LogOptions {
    /// Upstream's defaults.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_size_bytes: 100 << 20,
            max_age: Duration::from_secs(366 * 24 * 3600),
            max_backups: 100,
            mode: Mode::Blocking,
            truncate_bytes: None,
        }
    }
}

/// The webhook (upstream's flags `--audit-webhook-*` and their defaults).
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// A kubeconfig that names the server and how to reach it.
    pub kubeconfig: PathBuf,
    /// Whether requests wait for it.
    pub mode: Mode,
    /// Events in one request, at most.
    pub max_batch: usize,
    /// How long an event waits for others to share its request; not at all where requests wait for it.
    pub max_wait: Duration,
    /// How long the first retry waits; each further one half as long again.
    pub initial_backoff: Duration,
    /// Leaves bodies out of events larger than this; `None`: never.
    pub truncate_bytes: Option<usize>,
}

impl WebhookOptions {
    /// Upstream's defaults.
    #[must_use]
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            mode: Mode::Batch,
            max_batch: 400,
            max_wait: Duration::from_secs(30),
            initial_backoff: Duration::from_secs(10),
            truncate_bytes: None,
        }
    }
}

/// An output could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log file cannot be written.
    #[error("failed to open the audit log `{}`", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The webhook's kubeconfig cannot be used.
    #[error("failed to prepare the audit webhook of `{}`", path.display())]
    Webhook {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Records requests. One per server.
#[derive(Debug)]
pub(crate) struct Auditor {
    policy: Policy,
    sinks: Vec<Sink>,
}

/// Upstream truncates events of more than 100 kB and batches of more than 10 MB when asked to.
const MAX_BATCH_BYTES: usize = 10 << 20;

impl Auditor {
    /// Opens the outputs. They write until `shutdown`, then what is still queued.
    ///
    /// # Errors
    /// [`AuditError`].
    pub(crate) async fn start(
        options: Options,
        shutdown: &CancellationToken,
    ) -> Result<Arc<Self>, AuditError> {
        let mut sinks = Vec::new();
        if let Some(log) = options.log {
            let batches = Batches { events: 1, bytes: MAX_BATCH_BYTES, wait: Duration::ZERO };
            let (sink, queue) = Sink::new("log", log.mode, log.truncate_bytes, batches);
            let path = log.path.clone();
            let file = log::File::open(log).map_err(|source| AuditError::Log { path, source })?;
            log::start(file, queue);
            sinks.push(sink);
        }
        if let Some(webhook) = options.webhook {
            // A request that waits for its event does not wait for those of others.
            let wait = if webhook.mode == Mode::Batch { webhook.max_wait } else { Duration::ZERO };
            let batches = Batches { events: webhook.max_batch.max(1), bytes: MAX_BATCH_BYTES, wait };
            let (sink, queue) = Sink::new("webhook", webhook.mode, webhook.truncate_bytes, batches);
            webhook::start(webhook, queue, shutdown.clone()).await?;
            sinks.push(sink);
        }
        Ok(Arc::new(Self { policy: options.policy, sinks }))
    }

    /// Hands an event to every output; `false` when a strict one could not take it.
    async fn process(&self, event: &Arc<event::Event>) -> bool {
        let mut taken = true;
        for sink in &self.sinks {
            let done = sink.process(event).await;
            taken &= done || !sink.is_strict();
        }
        taken
    }

    /// The same without waiting: at the end of a body, where nothing can wait.
    fn offer(&self, event: &Arc<event::Event>) {
        for sink in &self.sinks {
            sink.offer(event);
        }
    }

    /// What each output has taken and dropped so far.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        self.sinks.iter().map(Sink::counts)
    }
}

#[cfg(test)]
mod tests;
