//! People's requests, from the hub to this cluster's own API server, over a connection that the agent dials.
//!
//! The hub says on whose behalf; the agent asks its API server as that person, under a name that says that the hub vouches
//! for it ([`PREFIX`]), so that the cluster's RBAC decides and its audit log names the person. A hub that was taken over is
//! somebody under that prefix and nobody else: no local user, group or service account, and never `system:masters`. The
//! agent reaches its own API server and dials nothing that a request names.

mod administrators;
mod forward;
mod person;

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::access::{MAX_REQUESTS, PROTOCOL, STREAM_WINDOW, TUNNEL_WINDOW};
use agent_protocol::endpoint;
use http::{Request, StatusCode, header};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

pub(crate) use administrators::keep_binding;

/// Stands before the names of users and groups that a hub vouches for, as Open Cluster Management's cluster-proxy has it.
pub const PREFIX: &str = "cluster:hub:";

/// Tunnels at once: the one in use, and its successor while that one's last requests end.
const TUNNELS: usize = 2;

/// How often the hub is asked for a sign of life, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What a request's head may take; a person of a thousand groups fits.
const HEADERS: u32 = 128 << 10;

/// What people of the hub may do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The ClusterRole that the hub's administrators (its `system:masters`) get; `None`: the agent binds them to none.
    pub administrators: Option<String>,
}

impl Default for Options {
    /// They may look.
    fn default() -> Self {
        Self { administrators: Some("view".to_owned()) }
    }
}

/// Dials tunnels; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tunnels {
    cluster: Client,
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Tunnels {
    pub(crate) fn new(cluster: Client, shutdown: CancellationToken) -> Self {
        Self { cluster, places: Arc::new(Semaphore::new(TUNNELS)), shutdown }
    }

    /// Dials one, unless there are enough. Returns at once; what fails is asked for again by the hub.
    pub(crate) fn open(&self, hub: Result<Client, Error>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let own = self.clone();
        tokio::spawn(async move {
            let serving = async { own.serve(hub?).await };
            let served = own.shutdown.run_until_cancelled(Box::pin(serving)).await;
            if let Some(Err(error)) = served {
                tracing::debug!(error = %error.chain(), "a tunnel ended");
            }
            drop(place);
        });
    }

    async fn serve(&self, hub: Client) -> Result<(), Error> {
        let request = Request::get(endpoint::TUNNEL)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(kube::client::Body::empty())
            .map_err(|error| Error::Invalid(format!("cannot build a request: {error}")))?;
        let mut response = hub.send(request).await.map_err(Error::hub("open a tunnel"))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = response.status().as_u16();
            return Err(Error::Refused { operation: "open a tunnel", code, message: String::new() });
        }
        let lost = |error: hyper::Error| Error::Invalid(format!("the tunnel to the hub: {error}"));
        let connection = hyper::upgrade::on(&mut response).await.map_err(lost)?;
        let cluster = self.cluster.clone();
        let service = hyper::service::service_fn(move |request| {
            let cluster = cluster.clone();
            async move { Ok::<_, std::convert::Infallible>(forward::forward(cluster, request).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(MAX_REQUESTS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TUNNEL_WINDOW)
            .max_header_list_size(HEADERS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        builder.serve_connection(connection, service).await.map_err(lost)
    }
}
