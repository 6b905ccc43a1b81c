//! The way of every request, in upstream's order (`pkg/server/config.go`, DefaultBuildHandlerChain): a panic is an
//! answer, not the end of the connection; what the request asks for; its deadline; who sends it; whom it acts as; whose
//! turn it is; whether it may; and only then what serves it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use access::authentication::{Bearer, Credentials};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use kube_objects::{Reason, Status, UserInfo};
use tower::ServiceExt;

use super::limiter::Class;
use super::{Authentic, InProcess, Peer, Server, deadline, paths};
use crate::extension::{Body, Extension, ExtensionService};
use crate::handlers;
use crate::http::response;
use crate::request_info::RequestInfo;

/// The header by which one request is found again in every server's audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Serves a request; failures are answers. Boxed, so that callers need not prove the whole server's future.
pub(super) fn serve(server: Arc<Server>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
    let (parts, body) = request.into_parts();
    Box::pin(async move {
        let audit_id = audit_id(&parts.headers);
        let info = Arc::new(RequestInfo::of(&parts.method, &parts.uri));
        let extension = server.extensions.iter().find(|extension| extension.serves(&info.path)).cloned();
        let mut response = match deadline::of(&info, extension.is_some(), server.request_timeout) {
            Ok(limit) => {
                let answering = answer(server, parts, body, Arc::clone(&info), extension);
                let answering = AssertUnwindSafe(answering).catch_unwind();
                let answered = match limit {
                    Some(limit) => tokio::time::timeout(limit, answering).await,
                    None => Ok(answering.await),
                };
                match answered {
                    Ok(Ok(response)) => response,
                    Ok(Err(_)) => panicked(&info),
                    Err(_) => response::status(&deadline::exceeded()),
                }
            }
            Err(status) => response::status(&status),
        };
        let headers = response.headers_mut();
        if let (Some(id), false) = (audit_id, headers.contains_key(&AUDIT_ID)) {
            headers.insert(AUDIT_ID, id);
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        }
        response
    })
}

/// The client's own, as it says it, or a new one.
fn audit_id(headers: &HeaderMap) -> Option<HeaderValue> {
    match headers.get(AUDIT_ID).filter(|value| !value.is_empty()) {
        Some(given) => Some(given.clone()),
        None => HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok(),
    }
}

/// What went wrong is in the log: the panic hook wrote it there.
fn panicked(info: &RequestInfo) -> Response<Body> {
    tracing::error!(verb = %info.verb, path = %info.path, "serving a request panicked");
    plain_error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "This request caused apiserver to panic. Look in the logs for details.\n",
    )
}

/// An error outside of Kubernetes' conventions: text, as Go's `http.Error` writes it.
fn plain_error(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response =
        response::plain(code.as_u16(), "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn answer(
    server: Arc<Server>,
    parts: Parts,
    body: Body,
    info: Arc<RequestInfo>,
    extension: Option<Extension>,
) -> Response<Body> {
    let answered = match extension {
        Some(extension) => extended(&server, parts, body, &info, extension).await,
        None => authenticated(server, parts, body, info).await,
    };
    answered.unwrap_or_else(|status| {
        let mut response = response::status(&status);
        if status.reason == Some(Reason::Forbidden) {
            let nosniff = HeaderValue::from_static("nosniff");
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        }
        response
    })
}

/// Another's endpoint: it authenticates and bounds its requests itself when it is open to everybody.
async fn extended(
    server: &Server,
    mut parts: Parts,
    body: Body,
    info: &RequestInfo,
    extension: Extension,
) -> Result<Response<Body>, Status> {
    match user_of(server, &parts).await {
        Ok(user) => {
            if !extension.anonymous {
                server.authorize(&user, &info.attributes())?;
            }
            parts.extensions.insert(user);
        }
        Err(_) if extension.anonymous => {}
        Err(status) => return Err(status),
    }
    Ok(extend(extension.service, Request::from_parts(parts, body)).await)
}

/// Boxed, so that callers need not prove the extension's future.
fn extend(service: ExtensionService, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
    let answered = service.oneshot(request).map(|answered| match answered {
        Ok(response) => response,
        Err(never) => match never {},
    });
    Box::pin(answered)
}

async fn authenticated(
    server: Arc<Server>,
    mut parts: Parts,
    body: Body,
    info: Arc<RequestInfo>,
) -> Result<Response<Body>, Status> {
    let user = user_of(&server, &parts).await?;
    // No credential goes further than this.
    parts.headers.remove(header::AUTHORIZATION);
    let attributes = info.attributes();
    let user = match server.impersonate(&user, &attributes, &mut parts.headers)? {
        Some(acting) => acting.user,
        None => user,
    };
    let (class, seat) = server.limiter.admit(&user, &info).await;
    let Ok(seat) = seat else { return Ok(too_many(&server, class)) };
    let allowed = paths::is_open(&info) || {
        server.authorize(&user, &attributes)?;
        true
    };
    debug_assert!(allowed, "a refusal has returned");
    let mut response = dispatch(Arc::clone(&server), user, parts, body, &info).await?;
    drop(seat);
    classified(&server, class, &mut response);
    Ok(response)
}

async fn dispatch(
    server: Arc<Server>,
    user: UserInfo,
    parts: Parts,
    body: Body,
    info: &RequestInfo,
) -> Result<Response<Body>, Status> {
    let Some(path) = &info.resource else {
        return paths::serve(&server, info, &parts.method, &parts.headers);
    };
    let verb = match &info.verb {
        std::borrow::Cow::Borrowed(verb) => *verb,
        std::borrow::Cow::Owned(_) => "get",
    };
    let authentic = Authentic { user, request: Request::from_parts(parts, body), query: info.query.clone() };
    Box::pin(handlers::serve(server, authentic, path.clone(), verb)).await
}

/// Upstream's answer, which is text.
fn too_many(server: &Server, class: Class) -> Response<Body> {
    let mut response =
        plain_error(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    classified(server, class, &mut response);
    response
}

/// Says which FlowSchema and priority level a request was counted in, where those objects exist.
fn classified(server: &Server, class: Class, response: &mut Response<Body>) {
    const GROUP: &str = "flowcontrol.apiserver.k8s.io";
    for (header, resource, name) in [
        ("x-kubernetes-pf-flowschema-uid", "flowschemas", class.schema),
        ("x-kubernetes-pf-prioritylevel-uid", "prioritylevelconfigurations", class.level),
    ] {
        let found = server.objects.cache.storage(GROUP, resource).and_then(|cache| cache.get("", name));
        if let Some(value) = found.and_then(|object| HeaderValue::from_str(&object.uid).ok()) {
            response.headers_mut().insert(HeaderName::from_static(header), value);
        }
    }
}

/// Who sends a request. A credential that is bad is refused, never taken for none.
async fn user_of(server: &Server, parts: &Parts) -> Result<UserInfo, Status> {
    if let Some(InProcess(user)) = parts.extensions.get::<InProcess>() {
        return Ok(user.clone());
    }
    let Some(authenticator) = &server.authenticator else { return Err(unauthorized()) };
    let peer = parts.extensions.get::<Peer>();
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credentials = Credentials {
        peer: peer.and_then(|peer| peer.certificate.as_ref()),
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

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}
