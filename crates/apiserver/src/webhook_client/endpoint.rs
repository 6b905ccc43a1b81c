//! One webhook's connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foundation::causes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::WebhookError;
use super::answer::refusal;
use super::config::{ClientConfig, Target};
use crate::registry::strategy::Objects;
use crate::service_resolver::{self, Destination};

/// Connections kept without a request on them: what a burst of writes leaves, not its whole width.
const MAX_IDLE: usize = 16;
/// A connection unused for longer is closed (Go's default transport: 90 s).
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// Bound of an answer: the largest request body (3 MiB) as a base64 patch, and some room.
const MAX_ANSWER_BYTES: usize = 5 << 20;

/// A webhook's connections and how to make more.
pub(super) struct Endpoint {
    config: ClientConfig,
    connector: TlsConnector,
    name: ServerName<'static>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

type Connection = SendRequest<Full<Bytes>>;

/// Why one attempt failed.
enum Attempt {
    /// A kept connection was closed in the meantime.
    Stale,
    Failed(String),
}

impl Endpoint {
    pub(super) fn new(config: ClientConfig) -> Result<Self, WebhookError> {
        let mut tls = access::tls::backend_client_config(&config.ca_bundle)
            .map_err(|error| WebhookError::Config(causes::in_line(&error)))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = config.server_name();
        let name = ServerName::try_from(name.clone())
            .map_err(|_| WebhookError::Config(format!("{name:?} cannot be the name of a server")))?;
        Ok(Self { config, connector: TlsConnector::from(Arc::new(tls)), name, idle: Mutex::default() })
    }

    /// Posts `body` and reads the whole answer.
    pub(super) async fn call(
        &self,
        objects: &dyn Objects,
        body: Bytes,
        url: &str,
        timeout: Duration,
    ) -> Result<Value, WebhookError> {
        let transport = |why: String| WebhookError::Transport { url: url.to_owned(), why };
        let answered = loop {
            let (connection, kept) = match self.take() {
                Some(connection) => (connection, true),
                None => (self.connect(objects).await.map_err(transport)?, false),
            };
            match self.exchange(connection, body.clone(), timeout, kept).await {
                Ok(answered) => break answered,
                // Each failure uses up one kept connection, so this ends.
                Err(Attempt::Stale) => {}
                Err(Attempt::Failed(why)) => return Err(transport(why)),
            }
        };
        let (code, bytes) = answered;
        if !(200..300).contains(&code) {
            return Err(WebhookError::Refused(Box::new(refusal(code, &bytes))));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            WebhookError::Malformed(format!("couldn't get version/kind; json parse error: {error}"))
        })
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some((since, connection)) = idle.pop() {
            if since.elapsed() < IDLE_LIMIT && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !connection.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        body: Bytes,
        timeout: Duration,
        kept: bool,
    ) -> Result<(u16, Bytes), Attempt> {
        let failed = |why: String| if kept { Attempt::Stale } else { Attempt::Failed(why) };
        connection.ready().await.map_err(|error| failed(causes::in_line(&error)))?;
        let request = Request::post(self.config.path_and_query(timeout))
            .header(header::HOST, self.config.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|error| Attempt::Failed(error.to_string()))?;
        let response =
            connection.send_request(request).await.map_err(|error| failed(causes::in_line(&error)))?;
        let code = response.status().as_u16();
        let read = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let bytes = read.map_err(|error| Attempt::Failed(error.to_string()))?.to_bytes();
        self.keep(connection);
        Ok((code, bytes))
    }

    async fn connect(&self, objects: &dyn Objects) -> Result<Connection, String> {
        let dialled = match &self.config.target {
            Target::Host { host, port, .. } => TcpStream::connect((host.as_str(), *port)).await,
            Target::Service { namespace, name, port } => {
                match service_resolver::resolve(objects, namespace, name, *port).await? {
                    Destination::Address(address) => TcpStream::connect(address).await,
                    Destination::Name(host, port) => TcpStream::connect((host.as_str(), port)).await,
                }
            }
        };
        let stream = dialled.map_err(|error| {
            format!("dial tcp {}: connect: {}", self.config.authority(), explain_io(&error))
        })?;
        // A small answer to a small request: waiting to fill a packet only costs time.
        let _ = stream.set_nodelay(true);
        let secured = self.connector.connect(self.name.clone(), stream).await;
        let secured = secured.map_err(|error| explain_tls(&error))?;
        let (sender, driver) =
            handshake(TokioIo::new(secured)).await.map_err(|error| causes::in_line(&error))?;
        // Ends with the connection: when the sender is dropped or the peer closes.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        Ok(sender)
    }
}

fn explain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    }
}

/// The common failures of verification in Go's words.
fn explain_tls(error: &std::io::Error) -> String {
    use rustls::CertificateError as Bad;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return error.get_ref().map_or_else(|| error.to_string(), |inner| format!("tls: {inner}"));
    };
    let why = match why {
        // A root of the same name with another key is not that authority either.
        Bad::UnknownIssuer | Bad::BadSignature => "x509: certificate signed by unknown authority".to_owned(),
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            format!("x509: certificate has expired or is not yet valid: {why}")
        }
        Bad::NotValidForName => "x509: certificate is not valid for the requested name".to_owned(),
        Bad::NotValidForNameContext { expected, presented } => {
            format!("x509: certificate is valid for {}, not {}", presented.join(", "), expected.to_str())
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
