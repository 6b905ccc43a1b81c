//! [`Options`] in, [`Service`] to run, [`Handle`] to reach it in process.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use access::{Authenticator, Authorizer, TokenIssuer, TokenVerifier};
use http_body_util::BodyExt;
use kube_objects::UserInfo;
use storage::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Chain;
use crate::admission::object_rules::ObjectRules;
use crate::admission::pod_security::PodSecurityConfiguration;
use crate::admission::write_rights::WriteRights;
use crate::aggregation::{self, Aggregation, FrontProxy};
use crate::audit::{self, Auditor};
use crate::catalogue::Catalogue;
use crate::extension::{Body, Extension};
use crate::metrics::{self, Metrics};
use crate::node_connection::NodeConnection;
use crate::registry::bootstrap::{self, Facts};
use crate::registry::fence::Fence;
use crate::registry::objects::ObjectAccess;
use crate::registry::parsed::ParsedObjects;
use crate::served::ServedKinds;
use crate::server::connectors::Connector;
use crate::server::limiter::{Limiter, Limits};
use crate::server::sessions::Sessions;
use crate::server::{InProcess, Server};
use crate::watch_cache::{HistoryBounds, WatchCache};
use crate::webhook_client::WebhookClient;

mod advertised;
mod bootstrap_tokens;
mod bound;
mod definitions;
mod relations;
pub(crate) mod roles;
mod upgrading;

/// What a server is made of.
pub struct Options {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Which kinds are served.
    pub catalogue: Catalogue,
    /// Who network requests come from; `None`: nobody is let in over the network. Without its token verifier, which
    /// the server adds when `token_issuer` is given.
    pub authenticator: Option<Authenticator>,
    /// What users may do; fed by the server with the roles it stores. `None`: everything.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Issues service-account tokens; `None` answers `serviceaccounts/token` 404 and accepts none.
    pub token_issuer: Option<TokenIssuer>,
    /// TLS; `None` with a `bind` is refused: credentials never travel in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where to listen; `None`: in process only.
    pub bind: Option<SocketAddr>,
    /// Endpoints that are not Kubernetes objects.
    pub extensions: Vec<Extension>,
    /// Subresources that lead elsewhere.
    pub connectors: Vec<Connector>,
    /// How `pods/log` reaches nodes; `None` answers such requests 503.
    pub nodes: Option<Arc<dyn NodeConnection>>,
    /// What pods are held to where namespaces say nothing, and who is exempt.
    pub pod_security: PodSecurityConfiguration,
    /// What writes of some things need besides the right to write them.
    pub write_rights: Option<Arc<dyn WriteRights>>,
    /// What objects of some kinds keep to beyond their schema.
    pub object_rules: Option<Arc<dyn ObjectRules>>,
    /// What start-up objects depend on.
    pub facts: Facts,
    /// How many requests run at once.
    pub limits: Limits,
    /// How long a request may take that is not long-running.
    pub request_timeout: std::time::Duration,
    /// By what aggregated API servers know this one; `None`: they are asked without an identity.
    pub front_proxy: Option<FrontProxy>,
    /// What is recorded of requests, and where; `None`: nothing.
    pub audit: Option<audit::Options>,
    /// Whether scheduler and controller manager work in this process without asking for a lease: how they are is told by
    /// `componentstatuses`, which else looks at their leases.
    pub leads_alone: bool,
    /// What else `/metrics` tells.
    pub metrics: Vec<metrics::Source>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("bind", &self.bind)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A server in process only, with nothing plugged in and everybody allowed everything.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, catalogue: Catalogue) -> Self {
        let facts = Facts { cluster: catalogue.is_cluster(), ..Facts::default() };
        Self {
            store,
            catalogue,
            authenticator: None,
            authorizer: None,
            token_issuer: None,
            tls: None,
            bind: None,
            extensions: Vec::new(),
            connectors: Vec::new(),
            nodes: None,
            pod_security: PodSecurityConfiguration::default(),
            write_rights: None,
            object_rules: None,
            facts,
            limits: Limits::default(),
            request_timeout: crate::server::deadline::REQUEST_TIMEOUT,
            front_proxy: None,
            audit: None,
            leads_alone: false,
            metrics: Vec::new(),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store could not be read.
    #[error("failed to load the objects from the store")]
    Load(#[source] StoreError),
    /// The address could not be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An address without TLS.
    #[error("refused to listen on {0} without TLS: credentials would travel in the clear")]
    WithoutTls(SocketAddr),
    /// An output of the audit log could not be prepared.
    #[error("failed to start the audit log")]
    Audit(#[source] audit::AuditError),
    /// The start-up objects could not be written.
    #[error("failed to write the objects a server starts with")]
    Bootstrap(#[source] Box<kube::Error>),
}

/// A server that has loaded its objects and listens, but does not accept yet.
pub struct Service {
    server: Arc<Server>,
    listener: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
    handle: Handle,
    ready: watch::Sender<bool>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.handle.address).finish_non_exhaustive()
    }
}

impl Service {
    /// Loads the store's objects and binds the address.
    ///
    /// # Errors
    /// [`ServiceError`]; nothing is left running.
    pub async fn new(options: Options) -> Result<Self, ServiceError> {
        let listener = listen(options.bind, options.tls).await?;
        let address = listener.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let kinds = Arc::new(ServedKinds::new(options.catalogue));
        let shutdown = CancellationToken::new();
        let cache = WatchCache::start(
            Arc::clone(&options.store),
            Arc::clone(&kinds),
            HistoryBounds::default(),
            shutdown.clone(),
        )
        .await
        .map_err(ServiceError::Load)?;
        let objects = Arc::new(ObjectAccess {
            store: options.store,
            cache,
            kinds: Arc::clone(&kinds),
            webhooks: OnceLock::new(),
            requests: metrics::StoreRequests::default(),
            parsed: ParsedObjects::default(),
        });
        let authenticator = match (options.authenticator, &options.token_issuer) {
            (Some(authenticator), Some(issuer)) => {
                let bound = Arc::new(bound::StoredObjects(Arc::clone(&objects)));
                let verifier = TokenVerifier::new(issuer.clone(), bound);
                Some(authenticator.with_tokens(Arc::new(verifier)))
            }
            (authenticator, _) => authenticator,
        };
        let authenticator = authenticator.map(|authenticator| {
            let tokens = bootstrap_tokens::StoredTokens(Arc::clone(&objects));
            authenticator.with_token_source(Arc::new(tokens))
        });
        let roles = options.authorizer.as_ref().map(|authorizer| {
            if objects.cache.storage("", "nodes").is_some() {
                authorizer.set_relations(Arc::new(relations::StoredRelations(Arc::clone(&objects.cache))));
            }
            roles::RoleFeed::start(authorizer, &objects.cache, &shutdown)
        });
        definitions::follow(Arc::clone(&objects), shutdown.clone());
        let auditor = match options.audit {
            Some(audit) => Some(Auditor::start(audit, &shutdown).await.map_err(ServiceError::Audit)?),
            None => None,
        };
        let mut facts = options.facts;
        facts.advertise_address = facts.advertise_address.or_else(|| address.and_then(advertised::of));
        if let Some(proxy) = &options.front_proxy {
            facts.front_proxy_authority.clone_from(&proxy.authority_pem);
        }
        let webhooks = Arc::new(WebhookClient::new(Arc::clone(&objects) as _));
        let converting: Weak<WebhookClient> = Arc::downgrade(&webhooks);
        // Set here and nowhere else, so that it cannot be set already.
        let _ = objects.webhooks.set(converting);
        let server = Arc::new(Server {
            admission: Chain::new(
                &objects,
                &webhooks,
                options.pod_security,
                options.write_rights,
                options.object_rules,
            ),
            _webhooks: webhooks,
            objects,
            kinds,
            authenticator,
            authorizer: options.authorizer,
            roles,
            tokens: options.token_issuer,
            extensions: options.extensions,
            connectors: options.connectors,
            nodes: options.nodes,
            facts,
            ready: AtomicBool::new(false),
            sessions: Sessions::new(shutdown.clone()),
            shutdown,
            aggregation: Aggregation::new(options.front_proxy),
            limiter: Limiter::new(options.limits),
            request_timeout: options.request_timeout,
            auditor,
            leads_alone: options.leads_alone,
            metrics: Metrics::new(options.metrics),
        });
        let (ready, is_ready) = watch::channel(false);
        let handle = Handle { server: Arc::clone(&server), address, ready: is_ready };
        Ok(Self { server, listener, handle, ready })
    }

    /// Reaches the server in process; requests are answered already before [`Service::run`].
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes the start-up objects, becomes ready, and serves until `shutdown`.
    ///
    /// # Errors
    /// [`ServiceError::Bootstrap`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let Self { server, listener, handle, ready } = self;
        let stop = server.shutdown.clone();
        let _stop_on_return = stop.clone().drop_guard();
        let accepting = listener.map(|(listener, tls)| {
            let (server, stop) = (Arc::clone(&server), stop.clone());
            tokio::spawn(crate::http::server::serve(listener, tls, server, stop))
        });
        let client = handle.client(UserInfo::new("system:apiserver", &["system:masters"]));
        let bootstrap = bootstrap::ensure(&client, &server.facts);
        match shutdown.run_until_cancelled(Box::pin(bootstrap)).await {
            Some(Err(error)) => return Err(ServiceError::Bootstrap(Box::new(error))),
            Some(Ok(())) => {
                // Who waits for readiness acts under the roles that were just written.
                if let Some(roles) = &server.roles {
                    roles.settle(&server.objects).await;
                }
                server.ready.store(true, Ordering::Release);
                ready.send_replace(true);
                tokio::spawn(aggregation::follow(Arc::clone(&server)));
                shutdown.cancelled().await;
            }
            None => {}
        }
        stop.cancel();
        server.sessions.drain().await;
        if let Some(accepting) = accepting {
            let _ = accepting.await;
        }
        Ok(())
    }
}

async fn listen(
    bind: Option<SocketAddr>,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<Option<(TcpListener, Arc<rustls::ServerConfig>)>, ServiceError> {
    let Some(address) = bind else { return Ok(None) };
    let Some(tls) = tls else { return Err(ServiceError::WithoutTls(address)) };
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServiceError::Listen { address, source })?;
    Ok(Some((listener, tls)))
}

/// Reaches a server in process. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    server: Arc<Server>,
    address: Option<SocketAddr>,
    ready: watch::Receiver<bool>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Handle {
    /// A client that acts as `user`, without sockets and TLS; authorization applies as to anybody.
    #[must_use]
    pub fn client(&self, user: UserInfo) -> kube::Client {
        let server = Arc::clone(&self.server);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (server, user) = (Arc::clone(&server), user.clone());
            async move {
                let mut request = request
                    .map(|body| body.map_err(|error| Box::new(error) as crate::BoxError).boxed_unsync());
                request.extensions_mut().clear();
                if request.headers().contains_key(http::header::UPGRADE) {
                    return Ok::<_, Infallible>(upgrading::request(server, user, request).await);
                }
                request.extensions_mut().insert(InProcess(user));
                Ok::<_, Infallible>(server.handle(request).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// The same, but what it writes the store takes only as long as the fence holds. Whatever it reads.
    #[must_use]
    pub fn fenced_client(&self, user: UserInfo, fence: Fence) -> kube::Client {
        let server = Arc::clone(&self.server);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (server, user, fence) = (Arc::clone(&server), user.clone(), fence.clone());
            async move {
                let mut request = request
                    .map(|body| body.map_err(|error| Box::new(error) as crate::BoxError).boxed_unsync());
                request.extensions_mut().clear();
                request.extensions_mut().insert(InProcess(user));
                Ok::<_, Infallible>(fence.around(server.handle(request)).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Serves one request in process as `user`.
    pub async fn request(&self, user: UserInfo, mut request: http::Request<Body>) -> http::Response<Body> {
        request.extensions_mut().insert(InProcess(user));
        Arc::clone(&self.server).handle(request).await
    }

    /// Serves one request as if it came over a connection without a certificate: who asks is what its headers prove.
    pub async fn network_request(&self, request: http::Request<Body>) -> http::Response<Body> {
        Arc::clone(&self.server).handle(request).await
    }

    /// Where it listens; `None`: in process only.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Who authenticates network requests: for static tokens.
    #[must_use]
    pub fn authenticator(&self) -> Option<&Authenticator> {
        self.server.authenticator.as_ref()
    }

    /// Waits until the start-up objects are there. `false` when the server ended first.
    pub async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// Whether it is ready now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.server.is_ready()
    }
}
