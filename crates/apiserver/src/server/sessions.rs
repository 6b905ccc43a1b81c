//! Connections that were upgraded: they outlive their request, but not the server.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube_objects::{Reason, Status};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sessions at once: each may hold about 1 MB when both its ends are slow.
const SESSIONS: usize = 2048;

/// How long sessions may take to say goodbye when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A connection whose protocol is no longer HTTP.
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// The upgraded connections of a server.
pub(crate) struct Sessions {
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Sessions {
    /// None yet; all end when `stop` does.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(SESSIONS)), tracker: TaskTracker::new(), stop }
    }

    /// Runs `session` over the connection of a request that is about to be answered 101.
    ///
    /// # Errors
    /// 429 when there are too many.
    pub(crate) fn start<F>(
        &self,
        upgrade: OnUpgrade,
        session: impl FnOnce(Upgraded) -> F + Send + 'static,
    ) -> Result<(), Status>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::new(Reason::TooManyRequests, "too many connections are open through this server")
        })?;
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let run = async {
                match upgrade.await {
                    Ok(upgraded) => session(TokioIo::new(upgraded)).await,
                    Err(error) => tracing::debug!(%error, "a connection was not upgraded after all"),
                }
            };
            stop.run_until_cancelled(run).await;
            drop(place);
        });
        Ok(())
    }

    /// Waits until all have ended; the server's stop has been told to them.
    pub(crate) async fn drain(&self) {
        self.tracker.close();
        let _ = tokio::time::timeout(DRAIN_LIMIT, self.tracker.wait()).await;
    }
}
