//! A server of the suite's own beside it, called by the subject: admission and conversion webhooks, an aggregated API.
//!
//! It listens with HTTPS on the address by which this machine reaches the subject. A subject elsewhere may not reach back: who
//! waits for its first call asks [`Extension::was_reached`], and skips when no connection ever came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use base64::Engine as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::subject::Subject;

/// The longest body read: an admission review carries at most two objects of 3 MiB.
const BODY_BYTES: usize = 8 << 20;

/// What the subject asks.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its document; null when there is none.
    pub body: Value,
}

/// Code and document that a call is answered with.
pub type Reply = (u16, Value);

/// Answers calls.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Reply> + Send + Sync>;

/// A running server; ends when dropped.
pub struct Extension {
    address: SocketAddr,
    authority_pem: String,
    reached: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Extension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extension").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Extension {
    /// Starts one that `handler` answers for. Its certificate names its address and `names`.
    ///
    /// # Errors
    /// When no certificate can be made or no port is free.
    pub async fn start(subject: &Subject, names: &[String], handler: Handler) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((subject.own_address, 0)).await.context("listening for the subject")?;
        let address = listener.local_addr()?;
        let mut names = names.to_vec();
        names.push(address.ip().to_string());
        let (authority_pem, chain, key) =
            certificates(names).context("certificates for the subject's calls")?;
        let mut config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let reached = Arc::new(AtomicBool::new(false));
        let accepting = accept(listener, TlsAcceptor::from(Arc::new(config)), handler, Arc::clone(&reached));
        Ok(Self { address, authority_pem, reached, task: tokio::spawn(accepting) })
    }

    /// Whether the subject ever opened a connection to it.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://ADDRESS/PATH`; `path` begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Who signed its certificate, as `caBundle` takes it.
    #[must_use]
    pub fn authority(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.authority_pem)
    }
}

type Certificates = (String, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// An authority and a certificate of it for `names`.
fn certificates(names: Vec<String>) -> anyhow::Result<Certificates> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "conformance");
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "conformance extension");
    leaf.use_authority_key_identifier_extension = true;
    leaf.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let leaf = leaf.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| anyhow::anyhow!(text))?;
    Ok((authority.pem(), vec![leaf.der().clone()], private))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, handler: Handler, reached: Arc<AtomicBool>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        reached.store(true, Ordering::Release);
        connections.spawn(connection(stream, tls.clone(), Arc::clone(&handler)));
        while connections.try_join_next().is_some() {}
    }
}

/// A connection that fails is the subject's matter: its answer to the client says so.
async fn connection(stream: TcpStream, tls: TlsAcceptor, handler: Handler) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move { answer(request, &handler).await }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, handler: &Handler) -> http::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let bytes = match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Response::builder().status(413).body(Full::default()),
    };
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    let (code, document) = handler(call).await;
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::from(document.to_string()))
}
