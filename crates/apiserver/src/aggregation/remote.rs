//! One aggregated API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use access::tls::{ClientIdentity, proxy_client_config};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kind_rules::json::{integer, list, text, truth};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::extension::Body;
use crate::http::body::full;
use crate::registry::strategy::Objects;
use crate::service_resolver::{self, Destination};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The largest discovery document that is read: twice what a server with every built-in kind has.
const DOCUMENT_BYTES: usize = 4 << 20;

/// What a server said it serves.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its version's part of an APIGroupDiscoveryList; null while it has never answered.
    pub(super) version: Value,
    /// Its entry in the index of OpenAPI v3.
    pub(super) openapi: Option<String>,
    /// Its part of OpenAPI v2.
    pub(super) swagger: Option<Value>,
}

/// Connections that are kept for later requests. More requests than this at once have connections of their own.
const KEPT_CONNECTIONS: usize = 32;

/// How long an unused connection is kept: less than servers let one idle (Go's default is two minutes), and short enough
/// that a renewed identity is soon the only one shown.
const KEPT_IDLE: Duration = Duration::from_secs(60);

/// A connection between or within requests, and when it was last given one.
struct Pooled {
    sender: http1::SendRequest<Body>,
    used: Instant,
}

/// Where a group version is served, and what is known of it.
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(super) priority: (i64, i64),
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    /// As the APIService's status says, or will in a moment.
    available: AtomicBool,
    tls: Result<Arc<ClientConfig>, String>,
    connections: Mutex<Vec<Pooled>>,
    pub(super) known: ArcSwap<Known>,
}

impl Remote {
    /// Of an APIService; `None` for one of this server's own.
    pub(super) fn read(object: &Value, identity: Option<&ClientIdentity>) -> Option<Self> {
        let spec = &object["spec"];
        let service = spec.get("service").filter(|service| service.is_object())?;
        let conditions = list(&object["status"], "conditions");
        let bundle = STANDARD.decode(text(spec, "caBundle")).unwrap_or_default();
        let tls = proxy_client_config(&bundle, truth(spec, "insecureSkipTLSVerify"), identity);
        Some(Self {
            name: text(&object["metadata"], "name").to_owned(),
            group: text(spec, "group").to_owned(),
            version: text(spec, "version").to_owned(),
            priority: (integer(spec, "groupPriorityMinimum"), integer(spec, "versionPriority")),
            namespace: text(service, "namespace").to_owned(),
            service: text(service, "name").to_owned(),
            port: u16::try_from(integer(service, "port")).ok().filter(|port| *port != 0).unwrap_or(443),
            available: AtomicBool::new(
                conditions.iter().any(|own| own["type"] == "Available" && own["status"] == "True"),
            ),
            connections: Mutex::default(),
            tls: tls.map(Arc::new).map_err(|error| error.to_string()),
            known: ArcSwap::default(),
        })
    }

    /// Whether it answered when it was last looked at.
    pub(super) fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Notes whether it answers, before its APIService says so: who reads there that it does finds it so.
    pub(super) fn set_available(&self, answers: bool) {
        self.available.store(answers, Ordering::Release);
    }

    /// Goes on with what was known before: what this server saw itself is newer than what the cache holds of the
    /// condition it wrote a moment ago.
    pub(super) fn keep(&self, before: &Self) {
        self.set_available(before.is_available());
        self.known.store(before.known.load_full());
    }

    /// `SERVICE.NAMESPACE.svc`, which its certificate has to be for.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Where its group version is.
    pub(super) fn root(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// A connection that waits for a request; the unused and the ended are let go on the way.
    fn idle(&self) -> Option<http1::SendRequest<Body>> {
        let mut kept = self.connections.lock();
        kept.retain(|own| {
            !own.sender.is_closed() && (own.used.elapsed() < KEPT_IDLE || !own.sender.is_ready())
        });
        let index = kept.iter().position(|own| own.sender.is_ready())?;
        Some(kept.swap_remove(index).sender)
    }

    /// Keeps a connection that was just given a request: it takes the next one when the answer has been read.
    fn keep_open(&self, sender: http1::SendRequest<Body>) {
        let mut kept = self.connections.lock();
        if kept.len() < KEPT_CONNECTIONS {
            kept.push(Pooled { sender, used: Instant::now() });
        }
    }

    /// A new connection.
    async fn connect(&self, objects: &dyn Objects) -> Result<http1::SendRequest<Body>, String> {
        match tokio::time::timeout(CONNECT_LIMIT, self.dial(objects)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(format!("dial tcp {}: i/o timeout", self.host())),
        }
    }

    async fn dial(&self, objects: &dyn Objects) -> Result<http1::SendRequest<Body>, String> {
        let tls = self.tls.clone()?;
        let destination =
            service_resolver::resolve(objects, &self.namespace, &self.service, self.port).await?;
        let stream = match &destination {
            Destination::Address(address) => TcpStream::connect(address).await,
            Destination::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await,
        };
        let stream = stream.map_err(|error| format!("dial tcp {}: connect: {error}", self.host()))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.host()).map_err(|error| error.to_string())?;
        let secured = TlsConnector::from(tls).connect(name, stream).await;
        let secured = secured.map_err(|error| format!("tls: {error}"))?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(secured)).await.map_err(|error| error.to_string())?;
        // Ends with the connection: when it is let go, upgraded and ended, or closed from there.
        tokio::spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "a connection to an aggregated API server ended");
            }
        });
        Ok(sender)
    }

    /// Reads a document as the aggregator itself, over a connection of its own: whether the server answers now is the
    /// question.
    pub(super) async fn get(
        &self,
        objects: &dyn Objects,
        path: &str,
        accept: &'static str,
    ) -> Result<(u16, Bytes), String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "system:kube-aggregator"),
            ("x-remote-group", "system:masters"),
            ("accept", accept),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut request = Request::get(path).body(full(Bytes::new())).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let response = self.send_anew(objects, request).await?;
        let code = response.status().as_u16();
        let read = Limited::new(response.into_body(), DOCUMENT_BYTES).collect().await;
        Ok((code, read.map_err(|error| error.to_string())?.to_bytes()))
    }

    /// Sends a request over a connection that is there, or a new one.
    pub(super) async fn send(
        &self,
        objects: &dyn Objects,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let host = HeaderValue::from_str(&self.host()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(http::header::HOST, host);
        while let Some(mut sender) = self.idle() {
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    self.keep_open(sender);
                    return Ok(answer);
                }
                // It was closed from there before anything was sent: another connection may take the request.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().to_string()),
                },
            }
        }
        self.send_anew(objects, request).await
    }

    /// Sends a request over a new connection.
    async fn send_anew(
        &self,
        objects: &dyn Objects,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let host = HeaderValue::from_str(&self.host()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(http::header::HOST, host);
        let mut sender = self.connect(objects).await?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        self.keep_open(sender);
        Ok(answer)
    }
}
