//! The connections that agents have dialled for people's requests: one per cluster, asked for when somebody needs it and
//! let go when nobody does. A cluster that nobody reaches costs two idle channels here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::access::{MAX_REQUESTS, STREAM_WINDOW, TUNNEL_WINDOW};
use fleet_objects::AgentIdentity;
use hyper::client::conn::http2;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube_objects::{Reason, Status};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::gone;
use crate::endpoints::Body;
use crate::guard::Standing;
use crate::service::Shared;

/// Requests to all clusters at once; each may hold 300 kB here while both its ends are slow.
const ALL_REQUESTS: usize = 4096;

/// How long an agent may take to dial (a handshake, over a slow line), and how often it is asked.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
const DIALS: u32 = 3;

/// How often a tunnel asks whether its agent is still a member, and whether somebody still uses it.
const LOOK: Duration = Duration::from_secs(2);

/// A tunnel that nobody used for so many looks is let go: five minutes.
const IDLE_LOOKS: u32 = 150;

/// How often the other end is asked for a sign of life, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A way to a cluster.
#[derive(Clone)]
pub(crate) struct Tunnel {
    pub(super) sender: http2::SendRequest<Body>,
    /// Cancelled when the connection has ended.
    pub(super) ended: CancellationToken,
}

/// Of all clusters that somebody wanted to reach or whose agent is here.
pub(crate) struct Tunnels {
    lines: Mutex<HashMap<String, Arc<Line>>>,
    places: Arc<Semaphore>,
}

/// Of one cluster.
struct Line {
    /// Counts up when somebody waits for a tunnel; presence streams pass it on.
    asks: watch::Sender<u64>,
    open: watch::Sender<Option<Tunnel>>,
    places: Arc<Semaphore>,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self { lines: Mutex::default(), places: Arc::new(Semaphore::new(ALL_REQUESTS)) }
    }
}

impl Tunnels {
    fn line(&self, cluster: &str) -> Arc<Line> {
        let mut lines = self.lines.lock();
        let line = lines.entry(cluster.to_owned()).or_insert_with(|| {
            let places = usize::try_from(MAX_REQUESTS).unwrap_or(usize::MAX);
            Arc::new(Line {
                asks: watch::Sender::new(0),
                open: watch::Sender::new(None),
                places: Arc::new(Semaphore::new(places)),
            })
        });
        Arc::clone(line)
    }

    /// Forgets clusters that are none any more.
    pub(crate) fn retain(&self, known: impl Fn(&str) -> bool) {
        self.lines.lock().retain(|name, _| known(name));
    }

    /// Changes whenever somebody waits for the cluster's tunnel.
    pub(crate) fn asks(&self, cluster: &str) -> watch::Receiver<u64> {
        self.line(cluster).asks.subscribe()
    }

    /// A request's place among the cluster's and the hub's.
    ///
    /// # Errors
    /// 429 when all are taken.
    pub(super) fn place(&self, cluster: &str) -> Result<[OwnedSemaphorePermit; 2], Status> {
        let too_many = |what: &str| {
            Status::new(Reason::TooManyRequests, format!("too many requests go through this hub to {what}"))
        };
        let own = Arc::clone(&self.line(cluster).places).try_acquire_owned();
        let own = own.map_err(|_| too_many(&format!("cluster {cluster}")))?;
        let all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| too_many("clusters"))?;
        Ok([own, all])
    }

    /// The cluster's tunnel; its agent is asked to dial one when there is none.
    ///
    /// # Errors
    /// 503 when it does not come.
    pub(super) async fn open(&self, cluster: &str) -> Result<Tunnel, Status> {
        let line = self.line(cluster);
        let mut open = line.open.subscribe();
        let alive =
            |tunnel: &Option<Tunnel>| tunnel.as_ref().is_some_and(|tunnel| !tunnel.ended.is_cancelled());
        for _ in 0..DIALS {
            if !alive(&open.borrow()) {
                line.asks.send_modify(|asks| *asks = asks.wrapping_add(1));
            }
            // Asked again, for the stream that heard it may have been one that nobody reads any more.
            let found = tokio::time::timeout(DIAL_LIMIT, open.wait_for(alive)).await;
            if let Some(tunnel) = found.ok().and_then(Result::ok).and_then(|tunnel| tunnel.clone()) {
                return Ok(tunnel);
            }
        }
        Err(gone(cluster))
    }
}

/// Keeps the tunnel that an agent dialled until it ends: by either side, by five minutes without use, or with the agent's
/// membership.
pub(crate) async fn hold(shared: Arc<Shared>, agent: AgentIdentity, upgrade: OnUpgrade) {
    match upgrade.await {
        Ok(upgraded) => {
            if let Err(error) = serve(&shared, &agent, upgraded).await {
                tracing::debug!(cluster = %agent.name, %error, "a tunnel ended");
            }
        }
        Err(error) => tracing::debug!(cluster = %agent.name, %error, "a tunnel was not opened after all"),
    }
}

async fn serve(shared: &Arc<Shared>, agent: &AgentIdentity, upgraded: Upgraded) -> Result<(), hyper::Error> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let (sender, connection) = builder.handshake(upgraded).await?;
    let ended = CancellationToken::new();
    // Whoever goes through it learns of its end, however this function is left.
    let _ended = ended.clone().drop_guard();
    let line = shared.tunnels.line(&agent.name);
    line.open.send_replace(Some(Tunnel { sender, ended }));
    let unwanted = async {
        let mut idle = 0;
        while idle < IDLE_LOOKS && shared.standing(agent) == Standing::Good {
            tokio::time::sleep(LOOK).await;
            let all = usize::try_from(MAX_REQUESTS).unwrap_or(usize::MAX);
            idle = if line.places.available_permits() == all { idle + 1 } else { 0 };
        }
    };
    tokio::select! {
        ended = connection => ended,
        () = unwanted => Ok(()),
        () = shared.stopping.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_takes_so_many_requests_and_leaves_the_others_theirs() {
        let tunnels = Tunnels::default();
        let held: Vec<_> = (0..MAX_REQUESTS).map(|_| tunnels.place("dev").unwrap()).collect();
        let refused = tunnels.place("dev").unwrap_err();
        assert_eq!((refused.code, refused.reason), (429, Some(Reason::TooManyRequests)));
        assert!(tunnels.place("prod").is_ok());
        drop(held);
        assert!(tunnels.place("dev").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_dial_is_asked_and_then_given_up() {
        let tunnels = Tunnels::default();
        let asks = tunnels.asks("dev");
        let refused = tunnels.open("dev").await.map(drop).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (503, "cluster dev is not connected"));
        assert!(asks.has_changed().unwrap());
    }
}
