//! One request's record.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube_objects::{Reason, Status, UserInfo};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Auditor;
use super::event::{AuthenticationMetadata, Event, ObjectReference};
use super::policy::{Level, Stage, Verdict};
use crate::extension::{Body, BoxError};
use crate::handlers::AuditAnnotations;
use crate::http::body::{self, Encoding};
use crate::http::response::Failed;
use crate::request_info::RequestInfo;

/// What upstream keeps of a client's name for itself.
const USER_AGENT_BYTES: usize = 1024;

/// The bodies that are recorded are whole in memory; one that claims more when it is unpacked is not recorded.
const UNPACKED_BYTES: u64 = 64 << 20;

/// How authorization decided, for the annotations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided<'a> {
    pub(crate) allowed: bool,
    pub(crate) reason: &'a str,
}

/// What is recorded of one request.
pub(crate) struct Record {
    auditor: Arc<Auditor>,
    verdict: Verdict,
    event: Mutex<Event>,
    /// Bodies are recorded of requests for resources only.
    resource: bool,
    long_running: bool,
}

impl Record {
    /// Begins one when the policy wants it. `user` is `None` when nobody was recognized.
    pub(crate) fn begin(
        auditor: &Arc<Auditor>,
        audit_id: &str,
        info: &RequestInfo,
        parts: &Parts,
        peer: Option<IpAddr>,
        user: Option<&UserInfo>,
    ) -> Option<Arc<Self>> {
        let attributes = info.attributes();
        let verdict = auditor.policy.evaluate(user, &attributes);
        if verdict.level == Level::None {
            return None;
        }
        let mut event = Event::new(verdict.level, audit_id.to_owned(), Timestamp::now());
        event.request_uri = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        event.verb.clone_from(&attributes.verb);
        event.user = user.cloned().unwrap_or_default();
        event.source_ips = sources(&parts.headers, peer);
        event.user_agent = user_agent(&parts.headers);
        event.object_ref = info.resource.as_ref().map(|_| ObjectReference {
            resource: attributes.resource,
            namespace: attributes.namespace,
            name: attributes.name,
            api_group: attributes.group,
            api_version: attributes.version,
            subresource: attributes.subresource,
            ..ObjectReference::default()
        });
        Some(Arc::new(Self {
            auditor: Arc::clone(auditor),
            verdict,
            event: Mutex::new(event),
            resource: info.resource.is_some(),
            long_running: info.is_long_running(),
        }))
    }

    /// Notes that the request was received; an error when that has to be recorded and could not be.
    pub(crate) async fn received(&self) -> Result<(), Status> {
        if self.stage(Stage::RequestReceived).await {
            return Ok(());
        }
        Err(Status::new(Reason::InternalError, "Internal Server Error: failed to store audit event"))
    }

    /// Whom the request acts as.
    pub(crate) fn acts_as(&self, user: &UserInfo, constraint: &str) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(user.clone());
        if !constraint.is_empty() {
            let impersonation_constraint = constraint.to_owned();
            event.authentication_metadata = Some(AuthenticationMetadata { impersonation_constraint });
        }
    }

    /// What authorization said.
    pub(crate) fn decided(&self, decision: Decided<'_>) {
        let word = if decision.allowed { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", word);
        self.annotate("authorization.k8s.io/reason", decision.reason);
    }

    /// Notes something; the first word under a key counts, as upstream.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.event.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Whether it wants to see the request's body: for the object itself, or for the name of a new one.
    pub(crate) fn wants_body(&self, info: &RequestInfo) -> bool {
        self.resource
            && !self.long_running
            && matches!(&*info.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
            && (self.verdict.level >= Level::Request || &*info.verb == "create")
    }

    /// Notes the request's object, or patch, as it came.
    pub(crate) fn requested(&self, content_type: Option<&str>, verb: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(mut object) = document(content_type, bytes) else { return };
        let mut event = self.event.lock();
        if let Some(reference) = event.object_ref.as_mut().filter(|_| verb != "patch") {
            let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            for (field, key) in [
                (&mut reference.namespace, "namespace"),
                (&mut reference.name, "name"),
                (&mut reference.uid, "uid"),
                (&mut reference.resource_version, "resourceVersion"),
            ] {
                if field.is_empty() {
                    *field = of(key);
                }
            }
        }
        if self.verdict.level >= Level::Request {
            if self.verdict.omit_managed_fields {
                without_managed_fields(&mut object);
            }
            event.request_object = Some(object);
        }
    }

    /// Notes an answer whose making panicked.
    pub(crate) async fn panicked(&self) {
        self.event.lock().response_status = Some(json!({
            "metadata": {}, "status": "Failure", "message": "APIServer panic'd", "reason": "InternalError", "code": 500,
        }));
        self.stage(Stage::Panic).await;
    }

    /// Notes the refusal of a request that nobody recognized sent.
    pub(crate) async fn unrecognized(&self, headers: &HeaderMap, certificate: bool) {
        let mut tried = Vec::new();
        let scheme = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
        let scheme = scheme.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        tried.extend(["basic", "bearer"].iter().filter(|own| **own == scheme));
        if certificate {
            tried.push("x509");
        }
        let message = if tried.is_empty() {
            "Authentication failed, no credentials provided".to_owned()
        } else {
            format!("Authentication failed, attempted: {}", tried.join(", "))
        };
        self.event.lock().response_status = Some(json!({"metadata": {}, "message": message, "code": 401}));
        self.stage(Stage::ResponseStarted).await;
    }

    /// Notes an answer; what is still to come of it is noted when it ends.
    pub(crate) async fn answered(self: Arc<Self>, response: Response<Body>) -> Response<Body> {
        let code = response.status().as_u16();
        {
            let mut event = self.event.lock();
            if let Some(AuditAnnotations(annotations)) = response.extensions().get() {
                for (key, value) in annotations {
                    event.annotations.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            event.response_status = Some(match response.extensions().get::<Failed>() {
                Some(Failed(status)) => status_of(&status.to_json(), code),
                None => json!({"metadata": {}, "code": code}),
            });
        }
        if self.long_running {
            self.stage(Stage::ResponseStarted).await;
            let (parts, body) = response.into_parts();
            return Response::from_parts(parts, Followed { body, record: Some(self) }.boxed_unsync());
        }
        let deletes = self.event.lock().verb == "delete";
        let response = if self.resource && (self.verdict.level == Level::RequestResponse || deletes) {
            self.with_object(response).await
        } else {
            response
        };
        self.stage(Stage::ResponseComplete).await;
        response
    }

    /// Notes the answer's object. Answers that do not last are whole in memory already.
    async fn with_object(&self, response: Response<Body>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) => {
                let failed = Status::internal(error);
                return crate::http::response::status(&failed);
            }
        };
        let header = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let plain = match header(header::CONTENT_ENCODING) {
            Some("gzip") => unpacked(&bytes),
            _ => Some(bytes.clone()),
        };
        let object = plain.and_then(|plain| document(header(header::CONTENT_TYPE), &plain));
        if let Some(mut object) = object {
            let mut event = self.event.lock();
            if object["kind"] == "Status" {
                event.response_status = Some(status_of(&object, parts.status.as_u16()));
            }
            if self.verdict.level == Level::RequestResponse {
                if self.verdict.omit_managed_fields {
                    without_managed_fields(&mut object);
                }
                event.response_object = Some(object);
            }
        }
        Response::from_parts(parts, body::full(bytes))
    }

    async fn stage(&self, stage: Stage) -> bool {
        match self.at(stage) {
            Some(event) => self.auditor.process(&event).await,
            None => true,
        }
    }

    fn at(&self, stage: Stage) -> Option<Arc<Event>> {
        if !self.verdict.records(stage) {
            return None;
        }
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => Timestamp::now(),
        };
        Some(Arc::new(event.clone()))
    }

    fn ended(&self) {
        if let Some(event) = self.at(Stage::ResponseComplete) {
            self.auditor.offer(&event);
        }
    }
}

/// The fields of a Status that are recorded.
fn status_of(status: &Value, code: u16) -> Value {
    let mut kept = json!({"metadata": {}});
    for key in ["status", "message", "reason", "details"] {
        if let Some(value) = status.get(key) {
            kept[key] = value.clone();
        }
    }
    kept["code"] = json!(code);
    kept
}

/// A body as JSON; `None` for what is none of Kubernetes' encodings.
fn document(content_type: Option<&str>, bytes: &[u8]) -> Option<Value> {
    let kind = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    let encoding = match kind {
        "application/apply-patch+yaml" => Encoding::Yaml,
        kind if kind.ends_with("json") => Encoding::Json,
        kind => body::encoding(Some(kind)).ok()?,
    };
    body::decode(encoding, bytes).ok()
}

fn unpacked(bytes: &Bytes) -> Option<Bytes> {
    let mut whole = Vec::new();
    let read =
        flate2::read::GzDecoder::new(bytes.as_ref()).take(UNPACKED_BYTES).read_to_end(&mut whole).ok()?;
    (u64::try_from(read).ok()? < UNPACKED_BYTES).then(|| whole.into())
}

fn without_managed_fields(object: &mut Value) {
    let remove = |value: &mut Value| {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(object);
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        remove(item);
    }
    for row in object.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(shown) = row.get_mut("object") {
            remove(shown);
        }
    }
}

/// Where a request comes from: what proxies say, then the connection (upstream `utilnet.SourceIPs`).
fn sources(headers: &HeaderMap, peer: Option<IpAddr>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut found: Vec<IpAddr> =
        text("x-forwarded-for").split(',').filter_map(|part| part.trim().parse().ok()).collect();
    if let Ok(real) = text("x-real-ip").trim().parse::<IpAddr>()
        && !found.contains(&real)
    {
        found.push(real);
    }
    // A client in this process is as near as one on the loopback.
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if found.last() != Some(&peer) {
        found.push(peer);
    }
    found.iter().map(ToString::to_string).collect()
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let agent = agent.unwrap_or_default();
    if agent.len() <= USER_AGENT_BYTES {
        return agent.into_owned();
    }
    format!("{}...TRUNCATED", &agent[..agent.floor_char_boundary(USER_AGENT_BYTES)])
}

/// A long-running answer's body: its end, or its client's, is the request's.
struct Followed {
    body: Body,
    record: Option<Arc<Record>>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = polled
            && let Some(record) = self.record.take()
        {
            record.ended();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.ended();
        }
    }
}
