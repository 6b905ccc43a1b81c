//! One request: who asks, what for, may they, and to whom it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::authentication::{Bearer, Credentials};
use access::{Attributes, AuthenticationError, Authenticator, Authorizer, PeerCertificate};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use jiff::Timestamp;
use kube_objects::{Reason, Status, UserInfo};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admission::Chain;
use crate::catalogue::Catalogue;
use crate::discovery::Discovery;
use crate::extension::{Body, Extension, ExtensionService};
use crate::handlers;
use crate::http::response;
use crate::node_connection::NodeConnection;
use crate::openapi::OpenApi;
use crate::registry::bootstrap::Facts;
use crate::registry::objects::ObjectAccess;
use crate::request_info::{Query, ResourcePath, parse_path, verb};

mod impersonation;
pub(crate) mod paths;

/// What a connection's handshake proved; attached to each of its requests.
#[derive(Clone)]
pub(crate) struct Peer(pub(crate) Option<Result<PeerCertificate, AuthenticationError>>);

/// The identity of an in-process client. Only [`crate::Handle`] attaches it: network requests begin without
/// extensions.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) UserInfo);

/// Everything a request is served from.
pub(crate) struct Server {
    pub(crate) objects: Arc<ObjectAccess>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) admission: Chain,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) authenticator: Option<Authenticator>,
    pub(crate) authorizer: Option<Arc<Authorizer>>,
    pub(crate) tokens: Option<access::TokenIssuer>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) nodes: Option<Arc<dyn NodeConnection>>,
    pub(crate) facts: Facts,
    pub(crate) ready: AtomicBool,
    pub(crate) shutdown: CancellationToken,
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

    /// Whether start-up is over and shutdown has not begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.shutdown.is_cancelled()
    }

    /// Serves a request; failures are answers. Boxed, so that callers need not prove the whole server's future.
    pub(crate) fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            match self.route(request).await {
                Ok(response) => response,
                Err(status) => response::status(&status),
            }
        })
    }

    async fn route(self: Arc<Self>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let extension = self.extensions.iter().find(|extension| extension.serves(&path)).cloned();
        let in_process = request.extensions().get::<InProcess>().cloned();
        let peer = request.extensions().get::<Peer>().cloned();
        let bearer = request.headers().get(header::AUTHORIZATION).cloned();
        let user = match self.authenticate(in_process, peer, bearer).await {
            Ok(user) => Some(user),
            Err(_) if paths::is_public(&path) => None,
            Err(_) if extension.as_ref().is_some_and(|extension| extension.anonymous) => None,
            Err(status) => return Err(status),
        };
        if let Some(extension) = extension {
            if let Some(user) = user {
                if !extension.anonymous {
                    self.authorize(&user, &Attributes::path(&method_verb(request.method()), &path))?;
                }
                request.extensions_mut().insert(user);
            }
            return Ok(extend(extension.service, request).await);
        }
        if paths::is_public(&path) {
            return paths::public(&self, &path, request.uri().query().unwrap_or_default());
        }
        let user = user.ok_or_else(unauthorized)?;
        let user = self.impersonate(user, request.headers())?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let Some(resource_path) = parse_path(&path) else {
            self.authorize(&user, &Attributes::path(&method_verb(request.method()), &path))?;
            return paths::document(&self, &path, request.method(), request.headers());
        };
        let verb = verb(request.method(), &resource_path, &query);
        self.authorize(&user, &attributes(verb, &resource_path, &query))?;
        let authentic = Authentic { user, request, query };
        Box::pin(handlers::serve(self, authentic, resource_path, verb)).await
    }

    // Takes parts, not the request: its body may not be shared between threads while this waits.
    async fn authenticate(
        &self,
        in_process: Option<InProcess>,
        peer: Option<Peer>,
        bearer: Option<HeaderValue>,
    ) -> Result<UserInfo, Status> {
        if let Some(InProcess(user)) = in_process {
            return Ok(user);
        }
        let Some(authenticator) = &self.authenticator else { return Err(unauthorized()) };
        let bearer = bearer.as_ref().and_then(|value| value.to_str().ok());
        let credentials = Credentials {
            peer: peer.as_ref().and_then(|peer| peer.0.as_ref()),
            bearer: bearer.and_then(Bearer::from_header),
        };
        match authenticator.authenticate(credentials).await {
            Ok(authenticated) => Ok(authenticated.user),
            Err(error) => {
                tracing::debug!(%error, "unable to authenticate a request");
                Err(unauthorized())
            }
        }
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

/// Boxed for the same reason as [`Server::handle`].
fn extend(service: ExtensionService, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
    let answered = service.oneshot(request).map(|answered| match answered {
        Ok(response) => response,
        Err(never) => match never {},
    });
    Box::pin(answered)
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn method_verb(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}

fn attributes(verb: &str, path: &ResourcePath, query: &Query) -> Attributes {
    // A list or watch of one name by field selector is authorized as that name, as upstream does.
    let selected = query
        .get("fieldSelector")
        .filter(|_| path.name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection"))
        .and_then(|text| text.split(',').find_map(|part| part.strip_prefix("metadata.name=")))
        .map(|name| name.trim_start_matches('=').to_owned());
    Attributes {
        version: path.version.clone(),
        ..Attributes::resource(
            verb,
            &path.group,
            &path.resource,
            &path.namespace,
            selected.as_deref().unwrap_or(&path.name),
        )
        .with_subresource(&path.subresource)
    }
}
