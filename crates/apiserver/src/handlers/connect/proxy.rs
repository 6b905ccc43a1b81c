//! `proxy` of pods, services and nodes: the request goes on to what runs there (upstream `UpgradeAwareHandler`).

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode, header};
use kube_objects::{Reason, Status};
use serde_json::Value;

use super::{Incoming, pods};
use crate::extension::Body;
use crate::handlers::Call;
use crate::http::{body, response};

mod backend;
mod links;
mod node;
mod target;
mod tls;

use target::Target;

/// Serves one.
pub(super) async fn serve(call: &Call, incoming: Incoming) -> Result<Response<Body>, Status> {
    let tail = if call.path.tail.is_empty() {
        call.query.text("path").map(str::to_owned).unwrap_or_default()
    } else {
        call.path.tail.clone()
    };
    if call.path.resource == "nodes" {
        return node::serve(call, &incoming.parts, &tail).await;
    }
    let target = match call.path.resource.as_str() {
        "services" => target::of_service(call).await?,
        _ => target::of_pod(call).await?,
    };
    let plain = !call.headers.contains_key(header::UPGRADE);
    if tail.is_empty() && matches!(incoming.parts.method, Method::GET | Method::HEAD) && plain {
        return Ok(to_root(&incoming.parts));
    }
    backend::forward(call, incoming, target, &tail).await
}

/// A root without its slash is redirected to the one with it, so that relative links of pages work.
fn to_root(parts: &Parts) -> Response<Body> {
    let uri = &parts.uri;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = Response::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = format!("{}/{query}", uri.path()).parse() {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// 503, as upstream words it.
fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {why}"))
}

/// A text answer.
fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    response::plain(code, "text/plain; charset=utf-8", text.into())
}

/// The port of a container, as written.
fn first_port(pod: &Value) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|container| container["ports"][0]["containerPort"].as_u64());
    ports.next().and_then(|port| u16::try_from(port).ok())
}
