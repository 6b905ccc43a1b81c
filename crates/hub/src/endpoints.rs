//! The endpoints under `/fleet/v1/`. Who asks comes from the request's `UserInfo` alone, which the API server set after
//! authentication; what an agent sends never says who it is.

mod access;
mod artifacts;
mod stream;
mod values;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use agent_protocol::{CaBundle, PingReport, access as access_protocol, endpoint};
use bytes::Bytes;
use fleet_objects::AgentIdentity;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube_objects::{Reason, Status, UserInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::{BoxError, Service};

use crate::service::Shared;
use access::Caller;

/// The body of requests and answers.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A registration request: a signing request and a few labels.
const MAX_REGISTRATION: usize = 64 << 10;
/// A batch of the outbox; agents send at most 1 MiB at once unless one record is larger.
const MAX_OUTBOX: usize = 20 << 20;
/// A piece of content: what the largest profile or collected file may take.
const MAX_CONTENT: usize = 64 << 20;

/// Serves the endpoints; cheap to clone. It does not keep the hub alive: the server that holds it is what the hub's own
/// client holds.
#[derive(Clone)]
pub struct Endpoints {
    shared: Weak<Shared>,
}

/// Serves one request.
struct Router {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Endpoints {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let endpoints = self.clone();
        Box::pin(async move { Ok(endpoints.answer(request).await) })
    }
}

impl Endpoints {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let Some(shared) = self.shared.upgrade().filter(|shared| !shared.stopping.is_cancelled()) else {
            return failure(&Status::new(Reason::ServiceUnavailable, "the hub is shutting down"));
        };
        Router { shared }.route(request).await.unwrap_or_else(|status| failure(&status))
    }
}

impl Router {
    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let user = request.extensions().get::<UserInfo>().cloned();
        let caller = Caller::of(user);
        if let Caller::Agent(agent) = &caller {
            self.at_home(agent, request.uri().path())?;
            self.within_quota(agent, &request)?;
        }
        let path = request.uri().path().to_owned();
        match (request.method().clone(), path.as_str()) {
            (Method::GET, endpoint::CA) => json(&CaBundle {
                ca_pem: self.shared.issuer.ca_bundle(),
                hub_url: self.shared.announce.clone(),
            }),
            (Method::POST, endpoint::JOIN) => {
                let token = bearer(&request)?;
                json(&self.shared.join(&token, read(request, MAX_REGISTRATION).await?).await?)
            }
            (Method::POST, endpoint::REATTEST) => {
                json(&self.shared.reattest(read(request, MAX_REGISTRATION).await?).await?)
            }
            (Method::POST, endpoint::RENEW) => {
                let agent = self.agent(&caller).await?;
                json(&self.shared.renew(&agent, read(request, MAX_REGISTRATION).await?).await?)
            }
            (Method::GET, endpoint::STREAM) => {
                let agent = self.agent(&caller).await?;
                if self.shared.replica.is_some() {
                    self.shared.quotas.came(&agent.name, Instant::now());
                    self.shared.file_quotas.came(&agent.name, Instant::now());
                }
                Ok(stream::open(&self.shared, &agent))
            }
            (Method::GET, endpoint::TUNNEL) => {
                let agent = self.agent(&caller).await?;
                tunnel(&self.shared, agent, request)
            }
            (Method::POST, endpoint::PING) => {
                let agent = self.agent(&caller).await?;
                self.shared.presence.heard(&agent.name);
                // Earlier agents say nothing.
                if let Some(report) = read::<Option<PingReport>>(request, MAX_REGISTRATION).await? {
                    self.shared.take_ping(&agent.name, report).await?;
                }
                Ok(empty(StatusCode::NO_CONTENT))
            }
            (Method::POST, endpoint::OUTBOX) => {
                let agent = self.agent(&caller).await?;
                let batch = read(request, MAX_OUTBOX).await?;
                self.shared.presence.heard(&agent.name);
                json(&self.shared.inbox.accept(&agent, batch).await?)
            }
            (method, path) => self.route_named(method, path, &caller, request).await,
        }
    }

    async fn route_named(
        &self,
        method: Method,
        path: &str,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let parts: Vec<&str> = path.strip_prefix(endpoint::PREFIX).unwrap_or_default().split('/').collect();
        match (method, parts.as_slice()) {
            (Method::GET, ["content", digest]) => {
                self.may_read_content(caller, digest).await?;
                let content = self.shared.content.get(digest).await?;
                let bytes = content.ok_or_else(|| not_found(format!("there is no content {digest}")))?;
                Ok(respond(StatusCode::OK, "application/octet-stream", bytes))
            }
            (Method::PUT, ["content", digest]) => {
                self.may_write_content(caller).await?;
                let bytes = collect(request, MAX_CONTENT).await?;
                let found = fleet_planner::digest(&bytes);
                if found != *digest {
                    let message = format!("the body's SHA-256 is {found}, not {digest}");
                    return Err(Status::new(Reason::BadRequest, message));
                }
                self.shared.content.put(bytes).await?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            (method, ["artifacts", execution, uid, digest]) => {
                let agent = self.agent(caller).await?;
                self.artifact(&agent, &method, (*execution, *uid, *digest), request).await
            }
            (Method::GET, ["clusters"]) => json(&self.reachable(caller).await?),
            (Method::GET, ["values", namespace, name, key]) => {
                let agent = self.agent(caller).await?;
                let value = self.value_of(&agent, namespace, name, key).await?;
                Ok(respond(StatusCode::OK, "application/octet-stream", value))
            }
            (Method::GET, ["clusters", name, "records"]) => {
                let uid = self.may_read_records(caller, name).await?;
                let from = query(request.uri().query().unwrap_or_default())
                    .get("from")
                    .map_or(Ok(0), |from| from.parse());
                let from =
                    from.map_err(|_| Status::new(Reason::BadRequest, "from must be a whole number"))?;
                json(&self.shared.inbox.page(&uid, from).await?)
            }
            (_, ["testruns", ..]) => match caller {
                Caller::Person(user) => {
                    // Without the body, which is not `Sync` and not wanted.
                    let request = request.map(drop);
                    Ok(self.shared.test_endpoints.answer(user, &request).await)
                }
                Caller::Agent(_) => Err(Status::new(Reason::Forbidden, "agents may not read test runs")),
                Caller::Nobody => Err(Status::new(Reason::Unauthorized, "credentials are needed")),
            },
            _ => Err(not_found(format!("there is nothing at {path}"))),
        }
    }

    /// Of several processes one serves an agent: where it opened a stream last. Else each would let it have a quota of its own.
    fn at_home(&self, agent: &AgentIdentity, path: &str) -> Result<(), Status> {
        let begins = [endpoint::STREAM, endpoint::TUNNEL, endpoint::CA].contains(&path);
        if begins || self.shared.replica.is_none() || self.shared.presence.serves(&agent.name) {
            return Ok(());
        }
        let message = format!("the agent of cluster {} has no stream at this process of the hub", agent.name);
        Err(Status::new(Reason::ServiceUnavailable, message))
    }

    /// Before anything of the request is read. A body that does not say how long it is counts as the longest.
    fn within_quota(&self, agent: &AgentIdentity, request: &Request<Body>) -> Result<(), Status> {
        let bytes = request.body().size_hint().exact().unwrap_or(MAX_CONTENT as u64);
        // Files must not hold up what says that the cluster is there and what came of its tests.
        let files = request.uri().path().starts_with(endpoint::ARTIFACTS);
        let quotas = if files { &self.shared.file_quotas } else { &self.shared.quotas };
        quotas.take(&agent.name, bytes, Instant::now()).map_err(|wait| {
            let message = format!(
                "cluster {} asks more than one cluster may; again in {} ms",
                agent.name,
                wait.as_millis()
            );
            Status::new(Reason::TooManyRequests, message)
        })
    }

    /// The agent that asks, when it is a member in good standing.
    async fn agent(&self, caller: &Caller) -> Result<AgentIdentity, Status> {
        match caller {
            Caller::Agent(identity) => {
                self.shared.check_member(identity).await?;
                Ok(identity.clone())
            }
            Caller::Nobody => Err(Status::new(Reason::Unauthorized, "a client certificate is needed")),
            Caller::Person(_) => Err(Status::new(Reason::Forbidden, "only agents may use this endpoint")),
        }
    }
}

/// Turns an agent's connection around: requests come back over it.
fn tunnel(
    shared: &Arc<Shared>,
    agent: AgentIdentity,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let asked = request.headers().get(header::UPGRADE).is_some_and(|own| own == access_protocol::PROTOCOL);
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().filter(|_| asked);
    let upgrade = upgrade.ok_or_else(|| {
        let message = format!("an upgrade to {} is needed", access_protocol::PROTOCOL);
        Status::new(Reason::BadRequest, message)
    })?;
    tokio::spawn(crate::access::hold(Arc::clone(shared), agent, upgrade));
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(access_protocol::PROTOCOL));
    Ok(response)
}

fn not_found(message: String) -> Status {
    Status::new(Reason::NotFound, message)
}

fn bearer(request: &Request<Body>) -> Result<String, Status> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    token.ok_or_else(|| {
        Status::new(Reason::Unauthorized, "a join token is needed: Authorization: Bearer <token>")
    })
}

async fn collect(request: Request<Body>, max: usize) -> Result<Bytes, Status> {
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::new(Reason::BadRequest, format!("the body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            let mut status =
                Status::new(Reason::RequestEntityTooLarge, format!("the body is larger than {max} bytes"));
            status.code = 413;
            return Err(status);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

async fn read<T: DeserializeOwned>(request: Request<Body>, max: usize) -> Result<T, Status> {
    let body = collect(request, max).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Status::new(Reason::BadRequest, format!("the body is not valid: {error}")))
}

fn query(text: &str) -> HashMap<&str, &str> {
    text.split('&').filter_map(|pair| pair.split_once('=')).collect()
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Status> {
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    Ok(respond(StatusCode::OK, "application/json", bytes.into()))
}

pub(crate) fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(code, "application/json", status.to_json().to_string().into())
}

pub(crate) fn empty(code: StatusCode) -> Response<Body> {
    respond(code, "application/json", Bytes::new())
}

fn respond(code: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response =
        Response::new(Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
