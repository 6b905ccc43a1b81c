//! Connections through the server: `exec`, `attach` and `portforward` of pods, `proxy` of pods, services and nodes
//! (upstream's `rest.Connecter`s).

use access::authorization::forbidden;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use kube_objects::{Reason, Status};
use serde_json::{Map, Value, json};
use streams::upgrade::{self, Refusal, Upgrade};

use super::{Call, pods};
use crate::extension::Body;
use crate::http::{body, response};
use crate::node_connection::NodeConnection;
use crate::request_info::ResourcePath;
use std::sync::Arc;

mod exec;
mod log;
mod port_forward;
mod proxy;

/// A request that becomes a connection.
pub(crate) struct Incoming {
    /// Without its headers, which the call has.
    pub(super) parts: Parts,
    pub(super) body: Body,
    pub(super) upgrade: Option<OnUpgrade>,
    pub(super) verb: &'static str,
}

impl Incoming {
    pub(crate) fn new(mut parts: Parts, body: Body, verb: &'static str) -> Self {
        let upgrade = parts.extensions.remove();
        Self { parts, body, upgrade, verb }
    }
}

/// Whether requests to this path are connections.
pub(crate) fn connects(path: &ResourcePath) -> bool {
    path.group.is_empty()
        && matches!(
            (path.resource.as_str(), path.subresource.as_str()),
            ("pods", "attach" | "exec" | "portforward" | "proxy") | ("services" | "nodes", "proxy")
        )
}

/// Whether a log is asked for over a WebSocket, as browsers do.
pub(crate) fn is_socket_log(path: &ResourcePath, headers: &HeaderMap) -> bool {
    let log = path.group.is_empty() && path.resource == "pods" && path.subresource == "log";
    log && upgrade::requested(headers) == Some(Upgrade::WebSocket)
}

/// Serves one.
pub(crate) async fn serve(call: &Call, incoming: Incoming) -> Result<Response<Body>, Status> {
    if call.path.subresource == "log" {
        // A read like any other: admission is for connections.
        return log::serve(call, incoming).await;
    }
    call.admit_connection(&mut options(call)).await?;
    match call.path.subresource.as_str() {
        "exec" | "attach" => exec::serve(call, incoming).await,
        "portforward" => port_forward::serve(call, incoming).await,
        _ => proxy::serve(call, incoming).await,
    }
}

/// The request's parameters as the document admission sees.
fn options(call: &Call) -> Value {
    let kind = crate::admission::subresource_kind(&call.resource, Some(&call.path.subresource));
    let mut fields = Map::new();
    for key in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.flag(key) {
            fields.insert(key.to_owned(), true.into());
        }
    }
    let text = |key: &str| call.query.text(key).map(str::to_owned);
    match call.path.subresource.as_str() {
        "exec" | "attach" => {
            fields.extend(text("container").map(|name| ("container".to_owned(), name.into())));
            let command: Vec<&str> = call.query.all("command").collect();
            if !command.is_empty() {
                fields.insert("command".to_owned(), json!(command));
            }
        }
        "portforward" => {
            fields.clear();
            let ports = streams::port_forward::ports(call.query.all("ports")).unwrap_or_default();
            if !ports.is_empty() {
                fields.insert("ports".to_owned(), json!(ports));
            }
        }
        _ => {
            fields.clear();
            let path = if call.path.tail.is_empty() { text("path") } else { Some(call.path.tail.clone()) };
            fields.extend(path.map(|path| ("path".to_owned(), path.into())));
        }
    }
    fields.insert("apiVersion".to_owned(), kind.api_version().into());
    fields.insert("kind".to_owned(), kind.kind.into());
    Value::Object(fields)
}

impl Call {
    /// A browser's WebSocket comes as GET, but who may only read must not run commands: `create` is asked for too
    /// (upstream's feature AuthorizePodWebsocketUpgradeCreatePermission).
    fn authorize_create(&self, verb: &str) -> Result<(), Status> {
        let Some(authorizer) = self.server.authorizer.as_ref().filter(|_| verb != "create") else {
            return Ok(());
        };
        let path = &self.path;
        let wanted = access::Attributes {
            version: path.version.clone(),
            ..access::Attributes::resource("create", &path.group, &path.resource, &path.namespace, &path.name)
                .with_subresource(&path.subresource)
        };
        let decision = authorizer.authorize(&self.user, &wanted);
        if decision.allowed {
            return Ok(());
        }
        Err(forbidden(&path.group, &path.resource, &path.name, &decision.reason))
    }

    /// The nodes; 503 for a server that has none.
    pub(super) fn nodes(&self) -> Result<Arc<dyn NodeConnection>, Status> {
        self.server.nodes.clone().ok_or_else(|| {
            let subresource = &self.path.subresource;
            let message =
                format!("this server has no connection to its nodes: {subresource} is not available");
            Status::new(Reason::ServiceUnavailable, message)
        })
    }
}

fn upgrade_required() -> Status {
    Status::new(Reason::BadRequest, "Upgrade request required")
}

/// What a request that cannot be upgraded is answered.
fn refused(refusal: &Refusal) -> Response<Body> {
    let kind = "text/plain; charset=utf-8";
    let mut answer = response::plain(refusal.code.as_u16(), kind, refusal.message.clone().into());
    refusal.write(answer.headers_mut());
    answer
}

/// The 101.
fn switching(head: Response<()>) -> Response<Body> {
    debug_assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
    head.map(|()| body::full(bytes::Bytes::new()))
}

/// Told where a session stops that ended badly.
fn ended(kind: &str, pod: &pods::Target, outcome: Result<(), streams::StreamError>) {
    if let Err(error) = outcome {
        let reference = &pod.reference;
        tracing::debug!(%error, kind, namespace = reference.namespace, pod = reference.name, "a session ended early");
    }
}
