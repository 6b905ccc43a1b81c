//! Takes keys from a queue and runs a reconciler on them.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use foundation::{
    backoff::Backoff,
    random::{SharedRandom, SystemRandom},
};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    queue::{Key, Queue},
    status::StatusHandle,
};

/// Brings one key's object nearer to what it should be.
pub trait Reconciler: Send + Sync + 'static {
    /// Names what is reconciled.
    type Key: Key;
    /// Why a reconciliation failed.
    type Error: fmt::Display + Send + 'static;

    /// Does it. Called for one key at a time at most once at a time; must be idempotent, since a key comes back after
    /// every change, every failure and every restart.
    ///
    /// # Errors
    /// Whatever kept the reconciler from finishing; the key comes back after a growing delay.
    fn reconcile(&self, key: Self::Key) -> impl Future<Output = Result<Action, Self::Error>> + Send;

    /// The least time to wait before a retry after `error`, when the error says so (a server's `Retry-After`).
    fn retry_after(&self, _error: &Self::Error) -> Option<Duration> {
        None
    }
}

/// What should follow a reconciliation that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until the next change.
    Done,
    /// Come back after this time even if nothing changes.
    RequeueAfter(Duration),
}

/// How a driver works.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// Appears in logs.
    pub name: &'static str,
    /// Reconciliations that may run at the same time, at least 1.
    pub concurrency: usize,
    /// How failed keys come back.
    pub backoff: Backoff,
    /// Where jitter comes from.
    pub random: SharedRandom,
    /// How long running reconciliations may go on after shutdown was asked for before they are dropped.
    pub grace: Duration,
}

impl DriverOptions {
    /// 4 at a time; retries from 5 ms to 30 s; 5 s of grace.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            concurrency: 4,
            backoff: Backoff::new(Duration::from_millis(5), Duration::from_secs(30)),
            random: SystemRandom::shared(),
            grace: Duration::from_secs(5),
        }
    }

    /// With another number of reconciliations at a time.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }
}

/// Runs one reconciler over one queue.
pub struct Driver<R: Reconciler> {
    reconciler: Arc<R>,
    queue: Queue<R::Key>,
    options: DriverOptions,
    status: StatusHandle<R::Key>,
}

impl<R: Reconciler> fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("name", &self.options.name).field("queue", &self.queue).finish()
    }
}

impl<R: Reconciler> Driver<R> {
    /// A driver that takes from `queue`. A queue serves one driver.
    #[must_use]
    pub fn new(reconciler: Arc<R>, queue: Queue<R::Key>, options: DriverOptions) -> Self {
        Self { reconciler, queue, options, status: StatusHandle::new() }
    }

    /// Reads the status while the driver runs.
    #[must_use]
    pub fn status(&self) -> StatusHandle<R::Key> {
        self.status.clone()
    }

    /// Works until `shutdown`, then lets running reconciliations end within the grace period and drops the rest.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks: JoinSet<Result<Action, R::Error>> = JoinSet::new();
        // Few entries: at most `concurrency`.
        let mut running: Vec<(Id, R::Key)> = Vec::new();
        loop {
            self.status.set_load(self.queue.depth(), running.len());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = tasks.join_next_with_id() => self.settle(&mut running, ended),
                key = self.queue.take(), if running.len() < self.options.concurrency.max(1) => {
                    let reconciler = Arc::clone(&self.reconciler);
                    let task_key = key.clone();
                    let handle = tasks.spawn(async move { reconciler.reconcile(task_key).await });
                    running.push((handle.id(), key));
                }
            }
        }
        let drain = async {
            while let Some(ended) = tasks.join_next_with_id().await {
                self.settle(&mut running, ended);
            }
        };
        if tokio::time::timeout(self.options.grace, drain).await.is_err() {
            tracing::warn!(
                task = self.options.name,
                "dropping reconciliations that outlast the shutdown grace"
            );
        }
    }

    fn settle(
        &self,
        running: &mut Vec<(Id, R::Key)>,
        ended: Result<(Id, Result<Action, R::Error>), JoinError>,
    ) {
        let (id, outcome) = match ended {
            Ok((id, Ok(action))) => (id, Ok(action)),
            Ok((id, Err(error))) => {
                (id, Err((error.to_string(), self.reconciler.retry_after(&error).unwrap_or_default())))
            }
            Err(error) => {
                (error.id(), Err((format!("the reconciliation broke off: {error}"), Duration::ZERO)))
            }
        };
        let Some(place) = running.iter().position(|(running_id, _)| *running_id == id) else { return };
        let (_, key) = running.swap_remove(place);
        match outcome {
            Ok(action) => {
                self.status.succeeded(&key);
                self.queue.finish(&key);
                if let Action::RequeueAfter(delay) = action {
                    self.queue.add_after(key, delay);
                }
            }
            Err((error, at_least)) => {
                let failures = self.status.failed(&key, error.clone());
                let delay = self.options.backoff.delay(failures, &*self.options.random).max(at_least);
                // One failure is daily business (a conflict); repeated ones are worth a person's eye.
                if failures >= 5 {
                    tracing::warn!(
                        task = self.options.name,
                        ?key,
                        failures,
                        error,
                        "reconciliation keeps failing"
                    );
                } else {
                    tracing::debug!(task = self.options.name, ?key, failures, error, "reconciliation failed");
                }
                self.queue.finish(&key);
                self.queue.add_after(key, delay);
            }
        }
    }
}
