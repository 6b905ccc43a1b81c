//! What requests are served from; [`chain`] is the way of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{Attributes, AuthenticationError, Authenticator, Authorizer, PeerCertificate};
use futures::future::BoxFuture;
use http::{Request, Response};
use jiff::Timestamp;
use kube_objects::{Status, UserInfo};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::admission::Chain;
use crate::aggregation::Aggregation;
use crate::audit::Auditor;
use crate::extension::{Body, Extension};
use crate::metrics::Metrics;
use crate::node_connection::NodeConnection;
use crate::registry::bootstrap::Facts;
use crate::registry::objects::ObjectAccess;
use crate::request_info::Query;
use crate::served::ServedKinds;
use crate::service::roles::RoleFeed;
use crate::webhook_client::WebhookClient;

mod chain;
pub(crate) mod connectors;
pub(crate) mod deadline;
mod health;
mod impersonation;
pub(crate) mod limiter;
pub(crate) mod paths;
mod recheck;
pub(crate) mod sessions;

pub(crate) use chain::AUDIT_ID;
use connectors::Connector;

/// What is known of a connection; attached to each of its requests.
#[derive(Clone)]
pub(crate) struct Peer {
    /// What its handshake proved.
    pub(crate) certificate: Option<Result<PeerCertificate, AuthenticationError>>,
    /// Where it comes from.
    pub(crate) address: std::net::IpAddr,
    /// Whether it is a front proxy's, which says in headers who asks.
    pub(crate) front_proxy: bool,
}

/// The identity of an in-process client. Only [`crate::Handle`] attaches it: network requests begin without
/// extensions.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) UserInfo);

/// Everything a request is served from.
pub(crate) struct Server {
    pub(crate) objects: Arc<ObjectAccess>,
    pub(crate) kinds: Arc<ServedKinds>,
    pub(crate) admission: Chain,
    /// Keeps it alive for conversions, which reach it through [`ObjectAccess`].
    pub(crate) _webhooks: Arc<WebhookClient>,
    pub(crate) authenticator: Option<Authenticator>,
    pub(crate) authorizer: Option<Arc<Authorizer>>,
    /// Feeds it; there with an authorizer.
    pub(crate) roles: Option<RoleFeed>,
    pub(crate) tokens: Option<access::TokenIssuer>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) connectors: Vec<Connector>,
    pub(crate) nodes: Option<Arc<dyn NodeConnection>>,
    pub(crate) facts: Facts,
    pub(crate) ready: AtomicBool,
    pub(crate) shutdown: CancellationToken,
    pub(crate) aggregation: Aggregation,
    pub(crate) limiter: limiter::Limiter,
    pub(crate) auditor: Option<Arc<Auditor>>,
    /// How long a request may take that is not long-running.
    pub(crate) request_timeout: std::time::Duration,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) leads_alone: bool,
    pub(crate) metrics: Metrics,
}

/// A request whose sender is known.
pub(crate) struct Authentic {
    pub(crate) user: UserInfo,
    pub(crate) request: Request<Body>,
    pub(crate) query: Query,
}

impl Server {
    /// Checks what a client showed in its handshake.
    pub(crate) fn verify_peer(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
    ) -> Option<Result<PeerCertificate, AuthenticationError>> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        Some(self.authenticator.as_ref()?.verify_peer(chain))
    }

    /// Returns when the authority that vouches for a connection's client is trusted no more.
    pub(crate) async fn distrusted(
        &self,
        certificate: Option<&Result<PeerCertificate, AuthenticationError>>,
    ) {
        match (certificate, &self.authenticator) {
            (Some(Ok(peer)), Some(authenticator)) => authenticator.distrusted(peer).await,
            _ => std::future::pending().await,
        }
    }

    /// Whether a connection is a front proxy's.
    pub(crate) fn is_front_proxy(&self, chain: Option<&[CertificateDer<'static>]>) -> bool {
        let chain = chain.filter(|chain| !chain.is_empty());
        let authenticator = self.authenticator.as_ref();
        chain.zip(authenticator).is_some_and(|(chain, authenticator)| authenticator.is_front_proxy(chain))
    }

    /// Whether start-up is over and shutdown has not begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.shutdown.is_cancelled()
    }

    /// Serves a request; failures are answers.
    pub(crate) fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        chain::serve(self, request)
    }

    pub(crate) fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status> {
        let Some(authorizer) = &self.authorizer else { return Ok(()) };
        let decision = authorizer.authorize(user, attributes);
        if decision.allowed { Ok(()) } else { Err(attributes.forbidden(user, &decision.reason)) }
    }

    /// The time of a request.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
