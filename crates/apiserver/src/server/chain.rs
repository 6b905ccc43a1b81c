//! The way of every request, in upstream's order (`pkg/server/config.go`, DefaultBuildHandlerChain): a panic is an
//! answer, not the end of the connection; what the request asks for; its deadline; who sends it; whom it acts as; whose
//! turn it is; whether it may; and only then what serves it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use access::authentication::{Bearer, Credentials};
use access::{Attributes, Decision};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use kube_objects::{Reason, Status, UserInfo};
use tower::ServiceExt;

use super::limiter::Class;
use super::{Authentic, InProcess, Peer, Server, connectors, deadline, paths, recheck};
use crate::aggregation;
use crate::audit::{Decided, Record};
use crate::extension::{Body, Extension, ExtensionService};
use crate::handlers;
use crate::http::{body, response};
use crate::request_info::RequestInfo;
use crate::service::roles::RoleFeed;

/// The header by which one request is found again in every server's audit log.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What is known of a request besides itself, for whoever answers when serving it fails.
struct Exchange {
    audit_id: HeaderValue,
    info: RequestInfo,
    /// Set once it is known who asks, if the policy records it.
    record: OnceLock<Arc<Record>>,
}

/// Serves a request; failures are answers. Boxed, so that callers need not prove the whole server's future.
pub(super) fn serve(server: Arc<Server>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
    let (parts, body) = request.into_parts();
    let since = Instant::now();
    Box::pin(async move {
        let info = RequestInfo::of(&parts.method, &parts.uri);
        let exchange =
            Arc::new(Exchange { audit_id: audit_id(&parts.headers), info, record: OnceLock::new() });
        let extension =
            server.extensions.iter().find(|extension| extension.serves(&exchange.info.path)).cloned();
        let limit = deadline::of(&exchange.info, extension.is_some(), server.request_timeout);
        let answered = match limit {
            Ok(limit) => {
                within(limit, answer(Arc::clone(&server), parts, body, Arc::clone(&exchange), extension))
                    .await
            }
            Err(status) => Some(response::status(&status)),
        };
        let panicked = answered.is_none();
        let mut response = answered.unwrap_or_else(|| panic_answer(&exchange.info));
        if let Some(record) = exchange.record.get().map(Arc::clone) {
            if panicked {
                record.panicked().await;
            } else {
                response = record.answered(response).await;
            }
        }
        let served = is_served(&server, &exchange.info, response.status());
        response = server.metrics.requests.answered(&exchange.info, served, since, response);
        let headers = response.headers_mut();
        headers.entry(AUDIT_ID).or_insert_with(|| exchange.audit_id.clone());
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        response
    })
}

/// Whether what is asked for is one of a bounded set: a resource of ours, or a path that leads somewhere.
fn is_served(server: &Server, info: &RequestInfo, status: StatusCode) -> bool {
    match &info.resource {
        Some(path) => {
            let catalogue = server.kinds.catalogue();
            let found = catalogue.find(&path.group, &path.version, &path.resource);
            found.is_some_and(|own| {
                path.subresource.is_empty() || own.subresource(&path.subresource).is_some()
            })
        }
        None => {
            let known = ["/api", "/healthz", "/livez", "/metrics", "/openapi/v2", "/readyz", "/version"];
            status.is_success() && known.contains(&info.path.as_str())
        }
    }
}

/// Answers in time, with a 504, or, when it panics, with nothing.
async fn within(
    limit: Option<Duration>,
    answering: impl Future<Output = Response<Body>>,
) -> Option<Response<Body>> {
    let answering = AssertUnwindSafe(answering).catch_unwind();
    let answered = match limit {
        Some(limit) => tokio::time::timeout(limit, answering).await,
        None => Ok(answering.await),
    };
    match answered {
        Ok(answered) => answered.ok(),
        Err(_) => Some(response::status(&deadline::exceeded())),
    }
}

/// The client's own, as it says it, or a new one.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let new = || HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
    match headers.get(AUDIT_ID).filter(|value| !value.is_empty()) {
        Some(given) => given.clone(),
        None => new().expect("a UUID is hexadecimal digits and dashes"),
    }
}

/// What went wrong is in the log: the panic hook wrote it there.
fn panic_answer(info: &RequestInfo) -> Response<Body> {
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
    exchange: Arc<Exchange>,
    extension: Option<Extension>,
) -> Response<Body> {
    let answered = match extension {
        Some(extension) => extended(&server, parts, body, &exchange, extension).await,
        None => authenticated(server, parts, body, exchange).await,
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
    exchange: &Exchange,
    extension: Extension,
) -> Result<Response<Body>, Status> {
    match user_of(server, &parts).await {
        Ok(user) => {
            record(server, exchange, &parts, Some(&user)).await?;
            let attributes = exchange.info.attributes();
            let user = acting(server, exchange, user, &attributes, &mut parts.headers)?;
            if !extension.anonymous {
                authorize(server, exchange, &user, &attributes)?;
            }
            parts.extensions.insert(user);
        }
        Err(_) if extension.anonymous => record(server, exchange, &parts, None).await?,
        Err(status) => return Err(refuse(server, exchange, &parts, status).await),
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

/// Begins the record of a request when the policy wants one.
async fn record(
    server: &Server,
    exchange: &Exchange,
    parts: &Parts,
    user: Option<&UserInfo>,
) -> Result<(), Status> {
    let Some(record) = begin(server, exchange, parts, user) else { return Ok(()) };
    record.received().await?;
    // Set nowhere else, and only once in a request's way.
    let _ = exchange.record.set(record);
    Ok(())
}

fn begin(
    server: &Server,
    exchange: &Exchange,
    parts: &Parts,
    user: Option<&UserInfo>,
) -> Option<Arc<Record>> {
    let auditor = server.auditor.as_ref()?;
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.address);
    let id = String::from_utf8_lossy(exchange.audit_id.as_bytes());
    Record::begin(auditor, &id, &exchange.info, parts, peer, user)
}

/// Records a request whose sender was not recognized.
async fn refuse(server: &Server, exchange: &Exchange, parts: &Parts, status: Status) -> Status {
    if let Some(record) = begin(server, exchange, parts, None) {
        let peer = parts.extensions.get::<Peer>();
        record.unrecognized(&parts.headers, peer.is_some_and(|peer| peer.certificate.is_some())).await;
    }
    status
}

fn authorize(
    server: &Server,
    exchange: &Exchange,
    user: &UserInfo,
    attributes: &Attributes,
) -> Result<(), Status> {
    let decision = match &server.authorizer {
        Some(authorizer) if !paths::is_open(&exchange.info) => authorizer.authorize(user, attributes),
        _ => Decision { allowed: true, reason: String::new() },
    };
    if let Some(record) = exchange.record.get() {
        record.decided(Decided { allowed: decision.allowed, reason: &decision.reason });
    }
    if decision.allowed { Ok(()) } else { Err(attributes.forbidden(user, &decision.reason)) }
}

/// As whom a request is served: as its sender, or as whom it asks to act as and may.
fn acting(
    server: &Server,
    exchange: &Exchange,
    user: UserInfo,
    attributes: &Attributes,
    headers: &mut HeaderMap,
) -> Result<UserInfo, Status> {
    let Some(acting) = server.impersonate(&user, attributes, headers)? else { return Ok(user) };
    if let Some(record) = exchange.record.get() {
        record.acts_as(&acting.user, acting.constraint);
    }
    Ok(acting.user)
}

async fn authenticated(
    server: Arc<Server>,
    mut parts: Parts,
    body: Body,
    exchange: Arc<Exchange>,
) -> Result<Response<Body>, Status> {
    let user = match user_of(&server, &parts).await {
        Ok(user) => user,
        Err(status) => return Err(refuse(&server, &exchange, &parts, status).await),
    };
    record(&server, &exchange, &parts, Some(&user)).await?;
    // No credential goes further than this.
    parts.headers.remove(header::AUTHORIZATION);
    aggregation::without_remote_headers(&mut parts.headers);
    let info = &exchange.info;
    let attributes = info.attributes();
    let user = acting(&server, &exchange, user, &attributes, &mut parts.headers)?;
    let (class, seat) = server.limiter.admit(&user, info).await;
    let Ok(seat) = seat else { return Ok(too_many(&server, class)) };
    authorize(&server, &exchange, &user, &attributes)?;
    let body = match exchange.record.get() {
        Some(record) if record.wants_body(info) => {
            let bytes = body::read(body).await?;
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            record.requested(kind, &info.verb, &bytes);
            body::full(bytes)
        }
        _ => body,
    };
    let long = recheck::Long::of(&server, info, &user, &attributes);
    let mut response = match connectors::connected(&server, &user, info, &mut parts)? {
        Some(connector) => {
            // It lasts as long as it likes and bounds itself.
            drop(seat);
            return Ok(extend(connector, Request::from_parts(parts, body)).await);
        }
        None => dispatch(Arc::clone(&server), user, parts, body, info).await?,
    };
    settle(&server, info).await;
    drop(seat);
    if let Some(long) = long {
        response = long.ending_with_its_right(response);
    }
    classified(&server, class, &mut response);
    Ok(response)
}

/// Who has written a role or binding may use it with the next request. Not while the server writes its own at start, for
/// then nobody else has been let in.
async fn settle(server: &Server, info: &RequestInfo) {
    let Some(roles) = server.roles.as_ref().filter(|_| !info.is_read() && server.is_ready()) else { return };
    let Some(path) = &info.resource else { return };
    if RoleFeed::feeds_on(&path.group, &path.resource) {
        roles.settle(&server.objects).await;
    }
}

async fn dispatch(
    server: Arc<Server>,
    user: UserInfo,
    parts: Parts,
    body: Body,
    info: &RequestInfo,
) -> Result<Response<Body>, Status> {
    let remote = match &info.resource {
        Some(path) => server.aggregation.find(&path.group, &path.version),
        None => server.aggregation.find_path(&info.path),
    };
    if let Some(remote) = remote {
        return Box::pin(aggregation::serve(&server, &remote, &user, parts, body)).await;
    }
    let Some(path) = &info.resource else {
        return paths::serve(&server, info, &parts.method, &parts.headers).await;
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
        if let Some(value) = found.and_then(|object| HeaderValue::from_str(object.uid()).ok()) {
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
    if let Some(user) = peer.filter(|peer| peer.front_proxy).and_then(|_| forwarded_user(&parts.headers)) {
        return Ok(user);
    }
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credentials = Credentials {
        peer: peer.and_then(|peer| peer.certificate.as_ref()),
        bearer: bearer.and_then(Bearer::from_header),
        path: parts.uri.path(),
    };
    match authenticator.authenticate(credentials).await {
        Ok(authenticated) => Ok(authenticated.user),
        Err(error) => {
            tracing::debug!(%error, "unable to authenticate a request");
            Err(unauthorized())
        }
    }
}

/// Whom a front proxy says a request is from (upstream `authentication/request/headerrequest`).
fn forwarded_user(headers: &HeaderMap) -> Option<UserInfo> {
    let all = |name: &HeaderName| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let first = |name: &'static str| all(&HeaderName::from_static(name)).into_iter().next();
    let mut user = UserInfo {
        username: first("x-remote-user").filter(|name| !name.is_empty())?,
        uid: first("x-remote-uid").unwrap_or_default(),
        groups: all(&HeaderName::from_static("x-remote-group")),
        ..UserInfo::default()
    };
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("x-remote-extra-") {
            let key = crate::request_info::decode(key, false);
            user.extra.entry(key).or_default().extend(all(name));
        }
    }
    let known = access::authentication::AUTHENTICATED;
    if user.username != access::authentication::ANONYMOUS && !user.in_group(known) {
        user.groups.push(known.to_owned());
    }
    Some(user)
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}
