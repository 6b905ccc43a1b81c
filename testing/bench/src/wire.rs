//! A client that costs as little as can be, for it shares the machine with the server that it measures: requests are
//! encoded beforehand, answers are counted and not read, one connection carries one request at a time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where a server is, and who asks.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    tls: TlsConnector,
    http2: bool,
}

impl Target {
    /// The current context of a kubeconfig, with a client certificate in it.
    ///
    /// # Errors
    /// When it cannot be read, or is for a server without TLS or has a token.
    pub async fn of(kubeconfig: &Path, http2: bool) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let uri = &config.cluster_url;
        ensure!(uri.scheme_str() == Some("https"), "{uri} is no https address");
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        ensure!(
            config.auth_info.token.is_none(),
            "the kubeconfig has a token: a client certificate is wanted"
        );
        Ok(Self {
            host: uri.host().context("an address without a host")?.to_owned(),
            port: uri.port_u16().unwrap_or(443),
            tls: TlsConnector::from(Arc::new(tls)),
            http2,
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TokioIo::new(self.tls.connect(name, stream).await?);
        let sender = if self.http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
            let (sender, connection) = builder.handshake(stream).await?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Sender::One(sender)
        };
        let host = HeaderValue::from_str(&format!("{}:{}", self.host, self.port))?;
        Ok(Connection { sender, host })
    }

    /// Sends `count` requests over `in_flight` connections (one for all when it is HTTP/2), each answered before its
    /// connection carries the next. Every answer must be a success.
    ///
    /// # Errors
    /// When one is not.
    pub async fn drive(
        &self,
        in_flight: usize,
        count: usize,
        make: impl Fn(usize) -> Ask + Send + Sync + 'static,
    ) -> anyhow::Result<Vec<Duration>> {
        let (make, next) = (Arc::new(make), Arc::new(AtomicUsize::new(0)));
        let shared = if self.http2 { Some(self.connect().await?) } else { None };
        let mut workers = Vec::new();
        for _ in 0..in_flight {
            let mut connection = match &shared {
                Some(Connection { sender: Sender::Two(sender), host }) => {
                    Connection { sender: Sender::Two(sender.clone()), host: host.clone() }
                }
                _ => self.connect().await?,
            };
            let (make, next) = (Arc::clone(&make), Arc::clone(&next));
            workers.push(tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(times);
                    }
                    let ask = make(n);
                    let began = Instant::now();
                    connection.count(ask).await?;
                    times.push(began.elapsed());
                }
            }));
        }
        let mut times = Vec::with_capacity(count);
        for worker in workers {
            times.extend(worker.await.context("a worker ended")??);
        }
        Ok(times)
    }
}

/// A request as it will be sent.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    content_type: Option<&'static str>,
    body: Bytes,
    gzip: bool,
}

impl Ask {
    /// GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), content_type: None, body: Bytes::new(), gzip: false }
    }

    /// With a body of a type.
    #[must_use]
    pub fn with(
        method: Method,
        path: impl Into<String>,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self { method, path: path.into(), content_type: Some(content_type), body: body.into(), gzip: false }
    }

    /// The answer may be compressed, as Go's clients always allow.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    host: HeaderValue,
}

impl Connection {
    /// Sends a request; answers the body as it comes.
    ///
    /// # Errors
    /// When the answer is no success; it says what the server said.
    pub async fn open(&mut self, ask: Ask) -> anyhow::Result<Incoming> {
        let what = format!("{} {}", ask.method, ask.path);
        let response = self.send(ask).await.with_context(|| what.clone())?;
        let status = response.status();
        if status == StatusCode::OK || status == StatusCode::CREATED {
            return Ok(response.into_body());
        }
        let said = response.into_body().collect().await?.to_bytes();
        bail!("{what}: {status}: {:.500}", String::from_utf8_lossy(&said))
    }

    async fn send(&mut self, ask: Ask) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = ask.method;
        let path = ask.path.as_str();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("bench"));
        if let Some(kind) = ask.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if ask.gzip {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        match &mut self.sender {
            Sender::One(sender) => {
                headers.insert(header::HOST, self.host.clone());
                *request.uri_mut() = path.parse().unwrap_or_default();
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                let host = self.host.to_str().unwrap_or_default();
                *request.uri_mut() = format!("https://{host}{path}").parse().unwrap_or_default();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request, and counts the bytes of its answer.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn count(&mut self, ask: Ask) -> anyhow::Result<usize> {
        let mut body = self.open(ask).await?;
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }

    /// Sends a request, and keeps the first `keep` bytes of its answer at most; the second number is how many came.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn head(&mut self, ask: Ask, keep: usize) -> anyhow::Result<(Vec<u8>, usize)> {
        let mut body = self.open(ask).await?;
        let (mut head, mut bytes) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let Some(data) = frame.data_ref() else { continue };
            bytes += data.len();
            let wanted = keep.saturating_sub(head.len()).min(data.len());
            head.extend_from_slice(&data[..wanted]);
        }
        Ok((head, bytes))
    }
}
