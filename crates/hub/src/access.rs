//! People's requests to clusters: `…/clusters/NAME/proxy/PATH`, through the connection that the cluster's agent dialled.
//!
//! The API server has authenticated, authorized and audited them before. Here a request is written anew from its path, its
//! body and a few headers, with the person beside it; the agent puts it to its own API server as that person. A request
//! ends with the right to it, with the tunnel, or with the cluster's membership, whichever ends first.

pub(crate) mod head;
mod held;
mod tunnels;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleet_objects::GROUP;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube_objects::{Reason, Status, UserInfo};

use crate::endpoints::{Body, empty, failure};
use crate::replicas::forward;
use crate::service::Shared;
use held::{Held, Holding};

pub(crate) use tunnels::{Tunnels, hold};

/// How long a cluster may take until its answer begins: its own API server gives up after 60 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// What whoever authorized the request says of it, in the request's extensions.
#[derive(Clone)]
pub struct Wanted {
    /// The cluster.
    pub cluster: String,
    /// The path in the cluster, as it was sent; "" for the root.
    pub path: String,
    /// Whether the right to it still holds; asked every two seconds while the request goes on.
    pub holds: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("cluster", &self.cluster)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Serves people's requests to clusters; cheap to clone. It does not keep the hub alive.
#[derive(Clone)]
pub struct Access {
    shared: Weak<Shared>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// Answers one request, whose extensions say who asks ([`UserInfo`]) for what ([`Wanted`]).
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let Some(shared) = self.shared.upgrade().filter(|shared| !shared.stopping.is_cancelled()) else {
            return failure(&Status::new(Reason::ServiceUnavailable, "the hub is shutting down"));
        };
        reach(&shared, request).await.unwrap_or_else(|status| failure(&status))
    }
}

async fn reach(shared: &Arc<Shared>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    let user = request.extensions_mut().remove::<UserInfo>();
    let wanted = request.extensions_mut().remove::<Wanted>();
    let (Some(user), Some(wanted)) = (user, wanted) else {
        return Err(Status::internal("a request to a cluster came without its user"));
    };
    check_cluster(shared, &wanted.cluster)?;
    if !shared.presence.is_here(&wanted.cluster)
        && let (Some(replica), Some(seat)) = (&shared.replica, shared.presence.seat(&wanted.cluster))
    {
        if request.headers().contains_key(forward::FORWARDED) {
            return Err(gone(&wanted.cluster));
        }
        return forward::pass_on(replica, &seat, &user, &wanted.cluster, &wanted.path, request).await;
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let planned = head::plan(&parts, &user, &wanted.path)?;
    let places = shared.tunnels.place(&wanted.cluster)?;
    let tunnel = shared.tunnels.open(&wanted.cluster).await?;
    let mut sender = tunnel.sender.clone();
    let asked = async {
        sender.ready().await?;
        sender.send_request(Request::from_parts(planned.head, body)).await
    };
    let answered = tokio::time::timeout(ANSWER_LIMIT, asked).await;
    let mut answer = answered
        .map_err(|_| {
            Status::new(Reason::Timeout, format!("cluster {} did not answer in time", wanted.cluster))
        })?
        .map_err(|error| {
            tracing::debug!(cluster = %wanted.cluster, %error, "a request through a tunnel failed");
            gone(&wanted.cluster)
        })?;
    let holding = Holding { places, tunnel, stopping: shared.stopping.clone(), holds: wanted.holds };
    let Some(protocol) = planned.upgrade.filter(|_| answer.status() == StatusCode::OK) else {
        let (mut parts, body) = answer.into_parts();
        parts.headers = head::answer_headers(&parts.headers);
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        return Ok(Response::from_parts(parts, Held::new(body, holding).boxed_unsync()));
    };
    let Some(ours) = upgrade else {
        return Err(Status::new(Reason::BadRequest, "this connection cannot be upgraded"));
    };
    let theirs = hyper::upgrade::on(&mut answer);
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    *response.headers_mut() = head::answer_headers(answer.headers());
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    tokio::spawn(async move {
        let copied = async {
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
            // Either end may close; what was under way is passed on first.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
        };
        tokio::select! {
            () = copied => {}
            () = holding.ended() => {}
        }
    });
    Ok(response)
}

fn check_cluster(shared: &Shared, name: &str) -> Result<(), Status> {
    let cluster = shared.clusters.find("", name).ok_or_else(|| Status::not_found(GROUP, "clusters", name))?;
    if cluster.spec.revoked {
        return Err(Status::new(Reason::Forbidden, format!("cluster {name} is revoked")));
    }
    if !shared.presence.is_connected(name) {
        return Err(gone(name));
    }
    Ok(())
}

/// A cluster that cannot be reached now.
fn gone(name: &str) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("cluster {name} is not connected"))
}
