//! The verbs on objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_machinery::protobuf;
use http::{HeaderMap, Response, header};
use jiff::Timestamp;
use kube_objects::{Reason, Status, UserInfo};
use parking_lot::Mutex;
use serde_json::Value;

use crate::catalogue::Resource;
use crate::extension::Body;
use crate::http::body;
use crate::http::negotiation::{self, Accepted, Format, Offer, View};
use crate::http::response::{self, Style};
use crate::registry::objects::not_served;
use crate::registry::strategy::RequestContext;
use crate::request_info::{Query, ResourcePath};
use crate::server::{Authentic, Server};
use crate::watch_cache::EncodedObject;

pub(crate) mod component_status;
mod connect;
pub(crate) mod conversion;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_options;
pub(crate) mod log;
pub(crate) mod metadata;
pub(crate) mod patch;
mod pods;
pub(crate) mod subresource;
pub(crate) mod update;
pub(crate) mod view;
pub(crate) mod watch;
mod write_options;

/// What admission had to say for the audit log, among a response's extensions.
#[derive(Clone, Debug)]
pub(crate) struct AuditAnnotations(pub(crate) BTreeMap<String, String>);

/// How the content type of a server-side apply begins, in whatever language it is written.
const APPLY_PATCH: &str = "application/apply-patch";
/// An object as a write left it, or would have left it.
pub(crate) struct WriteOutcome {
    pub(crate) object: Value,
    /// The same, as the bytes that are stored; `None` when nothing was stored, or in another version.
    pub(crate) encoded: Option<EncodedObject>,
}

/// One request about one resource.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) user: UserInfo,
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) accepted: Accepted,
    pub(crate) style: Style,
    pub(crate) now: Timestamp,
    pub(crate) dry_run: bool,
    pub(crate) warnings: Mutex<Vec<String>>,
    /// Annotations of the audit event.
    pub(crate) audit: Mutex<BTreeMap<String, String>>,
    /// Keys that stand twice in the request's document.
    pub(crate) duplicates: Mutex<Vec<String>>,
}

impl Call {
    /// What strategies may know.
    pub(crate) fn context<'a>(&'a self, name: &'a str) -> RequestContext<'a> {
        RequestContext {
            user: &self.user,
            resource: &self.resource,
            namespace: self.namespace(),
            name,
            subresource: (!self.path.subresource.is_empty()).then_some(self.path.subresource.as_str()),
            dry_run: self.dry_run,
            now: self.now,
            objects: self.server.objects.as_ref(),
            facts: &self.server.facts,
            authorizer: self.server.authorizer.as_deref(),
        }
    }

    /// "" for cluster-scoped resources, even for namespaces, whose path carries their own name there.
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.path.namespace } else { "" }
    }

    /// 404 for the object asked for.
    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.resource.gvr.group, &self.resource.gvr.resource, name)
    }

    /// 409 about the object asked for.
    pub(crate) fn conflict(&self, name: &str, why: &str) -> Status {
        Status::conflict(&self.resource.gvr.group, &self.resource.gvr.resource, name, why)
    }

    /// Tells the client something in a header.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings.lock().push(warning);
    }

    /// The name that changes are recorded under.
    pub(crate) fn field_manager(&self) -> String {
        if let Some(manager) = self.query.text("fieldManager") {
            return manager.to_owned();
        }
        let agent = self.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let name: String =
            agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        if name.is_empty() { "unknown".to_owned() } else { name.chars().take(128).collect() }
    }

    /// Whether an object's kept bytes are what this request wants to see.
    pub(crate) fn wants_plain(&self) -> bool {
        self.accepted.view == View::Object && self.wants_json() && conversion::is_identity(&self.resource)
    }

    /// Whether it wants JSON as it is kept: on one line.
    pub(crate) fn wants_json(&self) -> bool {
        self.style.format == Format::Json && !self.style.pretty
    }

    /// What a write came to, as this request wants to see it: from the bytes that were stored, if that is them.
    pub(crate) fn answer_write(&self, code: u16, outcome: WriteOutcome) -> Response<Body> {
        match outcome.encoded.filter(|_| self.wants_plain()) {
            Some(encoded) => response::encoded(code, encoded.to_bytes(), self.style),
            None => self.answer(code, outcome.object),
        }
    }

    /// An object as this request wants to see it, with the warnings collected so far.
    pub(crate) fn answer(&self, code: u16, object: Value) -> Response<Body> {
        let shown = view::object(self, conversion::served(&self.resource, object));
        response::object(code, &shown, self.style)
    }

    fn content_type(&self) -> Option<&str> {
        self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }

    /// The request's document.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Value, Status> {
        match body::encoding(self.content_type())? {
            body::Encoding::Json => self.decode_json(bytes),
            encoding => body::decode(encoding, bytes),
        }
    }

    /// The request's document, which is JSON; notes what stands twice in it.
    pub(crate) fn decode_json(&self, bytes: &[u8]) -> Result<Value, Status> {
        let decoded = api_machinery::json::decode(bytes).map_err(|error| body::undecodable(&error))?;
        *self.duplicates.lock() = decoded.duplicates;
        Ok(decoded.value)
    }

    /// Whether it is a server-side apply: field ownership then follows from the merge.
    pub(crate) fn applying(&self) -> bool {
        self.content_type().is_some_and(|kind| kind.starts_with(APPLY_PATCH))
    }
}

/// Serves a resource request whose sender may make it.
pub(crate) async fn serve(
    server: Arc<Server>,
    authentic: Authentic,
    path: ResourcePath,
    verb: &'static str,
) -> Result<Response<Body>, Status> {
    let resource = server
        .kinds
        .catalogue()
        .find(&path.group, &path.version, &path.resource)
        .cloned()
        .ok_or_else(not_served)?;
    check_path(&resource, &path, verb)?;
    let (mut parts, request_body) = authentic.request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_log = path.subresource == "log" || connect::connects(&path);
    let accepted = if is_log {
        Accepted::default()
    } else {
        negotiation::negotiate(accept, offer(&resource, &path, verb))?
    };
    let applies = |kind: &str| kind.starts_with(APPLY_PATCH);
    let content = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let dry_run = if connect::connects(&path) {
        false
    } else {
        write_options::check(verb, &authentic.query, content.is_some_and(applies))?
    };
    let call = Call {
        now: server.now(),
        style: Style::of(accepted.format, &parts.headers, authentic.query.flag("pretty")),
        server,
        user: authentic.user,
        resource,
        path,
        query: authentic.query,
        headers: std::mem::take(&mut parts.headers),
        accepted,
        dry_run,
        warnings: Mutex::default(),
        audit: Mutex::default(),
        duplicates: Mutex::default(),
    };
    if connect::connects(&call.path) || connect::is_socket_log(&call.path, &call.headers) {
        let incoming = connect::Incoming::new(parts, request_body, verb);
        let answered = connect::serve(&call, incoming).await;
        return Ok(finished(&call, answered));
    }
    let bytes = match verb {
        "get" | "list" | "watch" => bytes::Bytes::new(),
        _ => body::read(request_body).await?,
    };
    if let Some(warning) = call.resource.defined_version().and_then(|version| version.deprecation.clone()) {
        call.warn(warning);
    }
    if let Some(warning) = deprecation(&call.resource) {
        call.warn(warning.to_owned());
    }
    if verb == "watch" {
        let warnings = call.warnings.lock().clone();
        let mut response = watch::serve(call).await?;
        response::warn(&mut response, &warnings);
        return Ok(response);
    }
    let answered = match (verb, call.path.subresource.as_str()) {
        ("list", "") if call.resource.virtual_only => component_status::list(&call).await,
        ("get", "") if call.resource.virtual_only => component_status::get(&call).await,
        ("list", "") => list::serve(&call).await,
        ("get", "") => get::serve(&call).await,
        ("create", "") if call.resource.virtual_only => subresource::review(&call, &bytes).await,
        ("create", "") => create::serve(&call, &bytes).await,
        ("update", "") => update::serve(&call, &bytes).await,
        ("patch", "") => patch::serve(&call, &bytes).await,
        ("delete", "") => delete::serve(&call, &bytes).await,
        ("deletecollection", "") => delete::collection(&call, &bytes).await,
        _ => subresource::serve(&call, verb, &bytes).await,
    };
    Ok(finished(&call, answered))
}

/// What every request for a built-in kind that is going away is told (upstream's `APILifecycleDeprecated`).
fn deprecation(resource: &Resource) -> Option<&'static str> {
    let gvr = &resource.gvr;
    match (gvr.group.as_str(), gvr.version.as_str(), gvr.resource.as_str()) {
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// An answer with what was noted on the way.
fn finished(call: &Call, answered: Result<Response<Body>, Status>) -> Response<Body> {
    let mut response = match answered {
        Ok(response) => response,
        Err(status) => response::status_in(&status, call.style.format),
    };
    response::warn(&mut response, &call.warnings.lock());
    let annotations = std::mem::take(&mut *call.audit.lock());
    if !annotations.is_empty() {
        response.extensions_mut().insert(AuditAnnotations(annotations));
    }
    response
}

/// What an answer can be written as.
fn offer(resource: &Resource, path: &ResourcePath, verb: &str) -> Offer {
    Offer {
        views: path.subresource.is_empty() && resource.verbs.iter().any(|verb| verb == "get"),
        // What subresources answer (Scale, TokenRequest …) is built in, whatever its parent is.
        protobuf: protobuf::has_form(&resource.api_version(), &resource.kind)
            || !path.subresource.is_empty() && !resource.custom,
        stream: verb == "watch",
    }
}

fn check_path(resource: &Resource, path: &ResourcePath, verb: &str) -> Result<(), Status> {
    let verbs = if path.subresource.is_empty() {
        &resource.verbs
    } else {
        &resource.subresource(&path.subresource).ok_or_else(not_served)?.verbs
    };
    if !path.tail.is_empty() && path.subresource != "proxy" {
        return Err(not_served());
    }
    let not_allowed = || {
        let message = "the server does not allow this method on the requested resource";
        Err(Status::new(Reason::MethodNotAllowed, message))
    };
    let nowhere = resource.namespaced && path.namespace.is_empty() && path.name.is_empty();
    // In upstream's words: what can be listed but not watched is asked for by the same path and method.
    if verb == "watch" && !verbs.iter().any(|own| own == verb) && verbs.iter().any(|own| own == "list") {
        let message = format!("watch is not supported on resources of kind \"{}\"", resource.gvr.resource);
        return Err(Status::new(Reason::MethodNotAllowed, message));
    }
    if !verbs.iter().any(|own| own == verb) || nowhere && verb == "create" {
        return not_allowed();
    }
    let single = !path.name.is_empty();
    if resource.namespaced && path.namespace.is_empty() && single {
        return Err(Status::new(
            Reason::BadRequest,
            "an empty namespace may not be set during creation or when naming an object",
        ));
    }
    if !resource.namespaced && !path.namespace.is_empty() && resource.gvr.resource != "namespaces" {
        return Err(not_served());
    }
    let wants_name = matches!(verb, "update" | "patch" | "delete") || !path.subresource.is_empty();
    let takes_none = verb == "create" && path.subresource.is_empty();
    if wants_name && !single || takes_none && single {
        return not_allowed();
    }
    Ok(())
}
