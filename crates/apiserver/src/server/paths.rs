//! Everything that is not objects: health, version, discovery documents.

use std::collections::HashSet;
use std::sync::Arc;

use access::TokenIssuer;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use super::Server;
use crate::aggregation::{Remote, merge, swagger};
use crate::discovery::{AggregatedVersion, Document, Root};
use crate::extension::Body;
use crate::http::body::full;
use crate::http::negotiation::{self, Format, Offer};
use crate::http::response::{self, Style};
use crate::metrics::text::Text;
use crate::registry::objects::not_served;
use crate::request_info::RequestInfo;

/// Asked by probes before any role is written: not authorized, so that nobody sees a 403 while a server starts.
pub(super) fn is_open(info: &RequestInfo) -> bool {
    info.is_read()
        && matches!(info.path.as_str(), "/livez" | "/readyz" | "/healthz" | "/version" | "/version/")
}

/// Everything that is no resource.
pub(super) async fn serve(
    server: &Server,
    info: &RequestInfo,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let first = info.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let health = matches!(first, "livez" | "readyz" | "healthz");
    if !health && !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        ));
    }
    match first {
        _ if health => super::health::serve(server, info).await,
        "version" => Ok(response::object(200, &version(), Style { pretty: true, ..Style::default() })),
        _ => document(server, &info.path, headers),
    }
}

/// The Kubernetes version this server follows, with our build.
pub(crate) const VERSION: &str = concat!("v1.36.0+fairlead-", env!("CARGO_PKG_VERSION"));

/// What `/version` says: the Kubernetes API version this server follows, with our build behind a plus.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36",
        "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": VERSION,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

pub(crate) fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Discovery and the index of paths.
fn document(server: &Server, path: &str, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let path = path.trim_end_matches('/');
    let served = server.kinds.now();
    match path {
        "" => Ok(response::object(
            200,
            &json!({"paths": ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]}),
            Style::default(),
        )),
        "/openapi/v2" => Ok(openapi_v2(server, headers, accept)),
        "/openapi/v3" => {
            let own = served.openapi.index();
            let own = Document { body: own.body.clone(), etag: own.etag() };
            Ok(tagged(&merged(server, &own, merge::into_openapi)?, headers, "application/json"))
        }
        "/.well-known/openid-configuration" => issuer(server, "application/json", TokenIssuer::discovery),
        "/openid/v1/jwks" => issuer(server, "application/jwk-set+json", TokenIssuer::key_set),
        "/metrics" => Ok(response::plain(200, "text/plain; version=0.0.4", metrics(server).into())),
        "/api" | "/apis" => {
            let root = if path == "/api" { Root::Core } else { Root::Groups };
            if let Some((version, kind)) = aggregated(accept) {
                let document = served.discovery.aggregated(root, version);
                if root == Root::Core {
                    return Ok(tagged(document, headers, kind));
                }
                return Ok(tagged(&merged(server, document, merge::into_aggregated)?, headers, kind));
            }
            plain(server, path, headers, accept)
        }
        _ => match path.strip_prefix("/openapi/v3/") {
            Some(version) => {
                let document = served.openapi.group_version(version).ok_or_else(not_served)?;
                Ok(openapi(&document, headers, "application/json"))
            }
            None => plain(server, path, headers, accept),
        },
    }
}

/// The media type of OpenAPI v2 in protobuf. Clients ask for `…v2@v1.0+protobuf`, which is no valid media type: Go's parser
/// refuses it in an answer, so the answer says it with a dot, as upstream does (kube-openapi `pkg/handler`).
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

fn openapi_v2(server: &Server, headers: &HeaderMap, accept: Option<&str>) -> Response<Body> {
    let protobuf = negotiation::clauses(accept.unwrap_or_default())
        .iter()
        .find(|clause| {
            matches!(clause.media.as_str(), "application/json" | "*/*") || clause.media.contains("protobuf")
        })
        .is_some_and(|clause| clause.media.contains("protobuf"));
    let served = server.kinds.now();
    let remotes = server.aggregation.all();
    if !remotes.is_empty() {
        let merged = served.openapi.v2_with(|document| swagger::into_swagger(document, &remotes), protobuf);
        if let Some(merged) = merged {
            let kind = if protobuf { OPENAPI_V2_PROTOBUF } else { "application/json" };
            return openapi(&merged, headers, kind);
        }
    }
    if protobuf {
        return openapi(served.openapi.v2_protobuf(), headers, OPENAPI_V2_PROTOBUF);
    }
    openapi(served.openapi.v2_json(), headers, "application/json")
}

fn openapi(document: &crate::openapi::Document, headers: &HeaderMap, kind: &'static str) -> Response<Body> {
    let document = Document { body: document.body.clone(), etag: document.etag() };
    tagged(&document, headers, kind)
}

/// By which others verify service-account tokens.
fn issuer(
    server: &Server,
    kind: &'static str,
    document: fn(&TokenIssuer) -> Value,
) -> Result<Response<Body>, Status> {
    let tokens = server.tokens.as_ref().ok_or_else(not_served)?;
    let mut answer = response::plain(200, kind, document(tokens).to_string().into());
    // Upstream's bound: keys are rotated seldom, and an old set must not be believed for long.
    let cache = HeaderValue::from_static("public, max-age=3600");
    answer.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(answer)
}

fn metrics(server: &Server) -> String {
    let mut known = Text::default();
    server.metrics.write(&mut known);
    server.objects.requests.write(&mut known);
    server.admission.write_metrics(&mut known);
    known.family("apiserver_watch_events_total", "counter", "Events told to watchers.");
    let mut seen = HashSet::new();
    let catalogue = server.kinds.catalogue();
    // Two versions may share a storage, and so its watchers.
    for resource in catalogue.storages().filter(|resource| seen.insert(&resource.storage)) {
        let told = server.objects.cache.of(resource).map_or(0, |cache| cache.told());
        if told > 0 {
            let own = &resource.gvr;
            let labels =
                [("group", own.group.as_str()), ("version", &own.version), ("resource", &own.resource)];
            known.number("apiserver_watch_events_total", &labels, told as f64);
        }
    }
    let mut text = known.finish();
    text.push_str("# TYPE apiserver_storage_objects gauge\n");
    for resource in server.kinds.catalogue().resources() {
        if let Some(cache) = server.objects.cache.of(resource) {
            let name = resource.gvr.group_resource();
            text.push_str(&format!("apiserver_storage_objects{{resource=\"{name}\"}} {}\n", cache.len()));
        }
    }
    text.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
    let kinds = ["readOnly", "mutating"];
    for (kind, running) in kinds.iter().zip(server.limiter.running()) {
        text.push_str(&format!("apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {running}\n"));
    }
    text.push_str("# TYPE apiserver_current_inqueue_requests gauge\n");
    for (kind, waiting) in kinds.iter().zip(server.limiter.waiting()) {
        text.push_str(&format!("apiserver_current_inqueue_requests{{request_kind=\"{kind}\"}} {waiting}\n"));
    }
    text.push_str("# TYPE apiserver_flowcontrol_rejected_requests_total counter\n");
    text.push_str(&format!("apiserver_flowcontrol_rejected_requests_total {}\n", server.limiter.refused()));
    if let Some(auditor) = &server.auditor {
        let counts: Vec<_> = auditor.counts().collect();
        text.push_str("# TYPE apiserver_audit_event_total counter\n");
        let taken: u64 = counts.iter().map(|(_, taken, _)| taken).sum();
        text.push_str(&format!("apiserver_audit_event_total {taken}\n"));
        text.push_str("# TYPE apiserver_audit_error_total counter\n");
        for (plugin, _, dropped) in counts {
            text.push_str(&format!("apiserver_audit_error_total{{plugin=\"{plugin}\"}} {dropped}\n"));
        }
    }
    text
}

fn plain(
    server: &Server,
    path: &str,
    headers: &HeaderMap,
    accept: Option<&str>,
) -> Result<Response<Body>, Status> {
    let served = server.kinds.now();
    let own = served.discovery.plain(path);
    let remotes = server.aggregation.all();
    let shared = match (own, path.strip_prefix("/apis/")) {
        (Some(document), None) if path == "/apis" => merged(server, document, merge::into_groups)?,
        (own, Some(name)) if remotes.iter().any(|remote| remote.group == name) => {
            let own = own.map(|document| serde_json::from_slice(&document.body)).transpose();
            let group =
                merge::group(own.map_err(Status::internal)?, name, &remotes).ok_or_else(not_served)?;
            Document::of(&group)
        }
        (Some(document), _) => document.clone(),
        (None, _) => return Err(not_served()),
    };
    let document = &shared;
    let accepted = negotiation::negotiate(accept, Offer::DOCUMENT)?;
    if accepted.format == Format::Yaml {
        let value: Value = serde_json::from_slice(&document.body).map_err(Status::internal)?;
        return Ok(response::object(200, &value, Style { format: Format::Yaml, ..Style::default() }));
    }
    Ok(tagged(document, headers, "application/json"))
}

/// A document of ours with what aggregated servers add to it.
fn merged(
    server: &Server,
    document: &Document,
    add: fn(&mut Value, &[Arc<Remote>]),
) -> Result<Document, Status> {
    let remotes = server.aggregation.all();
    if remotes.is_empty() {
        return Ok(document.clone());
    }
    let mut value: Value = serde_json::from_slice(&document.body).map_err(Status::internal)?;
    add(&mut value, &remotes);
    Ok(Document::of(&value))
}

/// The aggregated version a client would rather have than the plain document.
fn aggregated(accept: Option<&str>) -> Option<(AggregatedVersion, &'static str)> {
    for clause in negotiation::clauses(accept.unwrap_or_default()) {
        if clause.media != "application/json" {
            continue;
        }
        let view = clause.parameter("as")?;
        if clause.parameter("g") != Some("apidiscovery.k8s.io") || view != "APIGroupDiscoveryList" {
            continue;
        }
        let Some(version) = clause.parameter("v").and_then(AggregatedVersion::parse) else { continue };
        return Some((
            version,
            match version {
                AggregatedVersion::V2 => {
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                }
                AggregatedVersion::V2Beta1 => {
                    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
                }
            },
        ));
    }
    None
}

fn tagged(document: &Document, headers: &HeaderMap, kind: &'static str) -> Response<Body> {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known == Some(document.etag.as_str()) {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let style = Style::of(Format::Json, headers, false);
        let mut response = response::encoded(200, document.body.clone(), style);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    if let Ok(tag) = HeaderValue::from_str(&document.etag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
