//! `nodes/proxy`: what of a kubelet's own endpoints a node answers here. The agents of nodes have no HTTP server; the
//! API server answers for them.

use http::request::Parts;
use http::{Method, Response};
use kube_objects::{Reason, Status};
use serde_json::json;

use super::target::split;
use super::text;
use crate::extension::Body;
use crate::handlers::Call;
use crate::http::response::{self, Style};
use crate::registry::strategy::Objects as _;

/// The port kubelets listen on.
const KUBELET_PORT: &str = "10250";

/// Serves one.
pub(super) async fn serve(call: &Call, parts: &Parts, tail: &str) -> Result<Response<Body>, Status> {
    let whole = &call.path.name;
    let invalid = || Status::new(Reason::BadRequest, format!("invalid node request {whole:?}"));
    let named = split(whole).ok_or_else(invalid)?;
    let node = call.server.objects.get("", "nodes", "", named.name).await?;
    node.ok_or_else(|| Status::not_found("", "nodes", named.name))?;
    if !matches!(named.port, "" | KUBELET_PORT) {
        return Err(super::unreachable(format!("node {} listens on no port but its agent's", named.name)));
    }
    if tail.is_empty() && matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(super::to_root(parts));
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(text(405, "405: Method Not Allowed"));
    }
    match tail.trim_end_matches('/') {
        "/healthz" | "/healthz/ping" | "/healthz/syncloop" => {
            let healthy = call.nodes()?.is_healthy(named.name).await?;
            Ok(if healthy { text(200, "ok") } else { text(500, "the node's agent does not run") })
        }
        "/pods" => {
            let pods = call.server.objects.list("", "pods", "").await?;
            let own: Vec<_> = pods.into_iter().filter(|pod| pod["spec"]["nodeName"] == named.name).collect();
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": own});
            Ok(response::object(200, &list, Style::default()))
        }
        path => Ok(text(404, format!("404: the agents of this cluster's nodes do not serve {path}\n"))),
    }
}
