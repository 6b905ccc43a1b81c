//! Requests to one server of artifacts, charts or large files, called registry here: logged in when it asks for that, redirected
//! where it keeps its blobs.

mod login;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::Error;
use login::Challenge;

/// How long one answer may take, its body included.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Redirects followed: registries keep blobs one step away.
const MAX_REDIRECTS: usize = 5;

/// User name and password or token.
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub user: String,
    /// By what.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Talks to one registry.
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    registry: String,
    scheme: &'static str,
    login: Option<Login>,
    /// The header that the registry let us in by.
    authorization: Option<String>,
    /// More for the registry, and for nobody that it redirects to.
    own: HeaderMap,
}

/// What is asked.
struct Question<'a> {
    accept: &'a str,
    /// What is sent, with its kind.
    sent: Option<(&'a str, Bytes)>,
    /// Bytes of the answer at most.
    most: usize,
}

/// An answer.
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(registry: &str, plain_http: bool, login: Option<Login>) -> Result<Self, Error> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
            operation: "prepare TLS".to_owned(),
            registry: registry.to_owned(),
            source,
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(Box::new(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let builder = if plain_http { builder.https_or_http() } else { builder.https_only() };
        let http = legacy::Client::builder(TokioExecutor::new())
            .build(builder.enable_http1().enable_http2().build());
        let scheme = if plain_http { "http" } else { "https" };
        Ok(Self {
            http,
            registry: registry.to_owned(),
            scheme,
            login,
            authorization: None,
            own: HeaderMap::new(),
        })
    }

    /// Says at once who asks, where that is known: of servers that say 401 in a way of their own.
    pub(crate) fn known(mut self) -> Self {
        self.authorization = self.basic();
        self
    }

    /// Sends these headers, too.
    pub(crate) fn with(mut self, headers: HeaderMap) -> Self {
        self.own = headers;
        self
    }

    /// Gets a path of the registry; an answer other than 200 is an error.
    pub(crate) async fn get(&mut self, path: &str, accept: &str, most: usize) -> Result<Got, Error> {
        self.ask(path, &Question { accept, sent: None, most }).await
    }

    /// Posts to a path of the registry; `kind` is what is sent and what is answered. An answer other than 200 is an error.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        kind: &str,
        body: Bytes,
        most: usize,
    ) -> Result<Got, Error> {
        self.ask(path, &Question { accept: kind, sent: Some((kind, body)), most }).await
    }

    async fn ask(&mut self, path: &str, question: &Question<'_>) -> Result<Got, Error> {
        let got = self.follow(path, question).await?;
        let got = match (got.status, challenge(&got.headers)) {
            (StatusCode::UNAUTHORIZED, Some(challenge)) if self.authorization.is_none() => {
                self.log_in(&challenge).await?;
                self.follow(path, question).await?
            }
            _ => got,
        };
        if got.status == StatusCode::OK {
            return Ok(got);
        }
        let (operation, registry) = (format!("{} {path}", question.method()), self.registry.clone());
        Err(Error::Refused { operation, registry, status: got.status })
    }

    async fn follow(&self, path: &str, question: &Question<'_>) -> Result<Got, Error> {
        let invalid = || Error::Invalid(format!("{}{path} is no address", self.registry));
        let mut uri: Uri =
            format!("{}://{}{path}", self.scheme, self.registry).parse().map_err(|_| invalid())?;
        let home = uri.authority().cloned();
        for _ in 0..=MAX_REDIRECTS {
            // Who else is sent to learns nothing of how we got in here.
            let own = uri.authority() == home.as_ref() && uri.scheme_str() == Some(self.scheme);
            let authorization = self.authorization.as_deref().filter(|_| own);
            let got = self.send(&uri, question, authorization, own).await?;
            // What is posted is for whom it was meant.
            if !got.status.is_redirection() || question.sent.is_some() {
                return Ok(got);
            }
            let location = got.headers.get(LOCATION).and_then(|location| location.to_str().ok());
            uri = location.and_then(|location| onward(&uri, location)).ok_or_else(invalid)?;
        }
        Err(Error::Invalid(format!("{}{path} leads in circles", self.registry)))
    }

    async fn send(
        &self,
        uri: &Uri,
        question: &Question<'_>,
        authorization: Option<&str>,
        own: bool,
    ) -> Result<Got, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
            operation: format!("{} {}", question.method(), uri.path()),
            registry: uri.authority().map_or_else(String::new, ToString::to_string),
            source,
        };
        let mut request = Request::builder().method(question.method()).uri(uri.clone());
        request = request.header(ACCEPT, question.accept);
        for (name, value) in self.own.iter().filter(|_| own) {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut body = Full::default();
        if let Some((kind, sent)) = &question.sent {
            request = request.header(CONTENT_TYPE, *kind);
            body = Full::new(sent.clone());
        }
        let request = request.body(body).map_err(|error| failed(Box::new(error)))?;
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| failed(Box::new(error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, question.most).collect().await.map_err(failed)?.to_bytes();
            Ok(Got { status: head.status, headers: head.headers, body })
        };
        let timed = tokio::time::timeout(TIMEOUT, answer).await;
        timed.unwrap_or_else(|_| Err(failed(format!("no answer within {} s", TIMEOUT.as_secs()).into())))
    }

    fn basic(&self) -> Option<String> {
        self.login.as_ref().map(|Login { user, password }| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        })
    }

    async fn log_in(&mut self, challenge: &Challenge) -> Result<(), Error> {
        let basic = self.basic();
        self.authorization = match challenge {
            Challenge::Basic => basic,
            Challenge::Bearer { .. } => {
                let invalid = || Error::Invalid(format!("{} asks for a token nowhere", self.registry));
                let uri: Uri = challenge.token_uri().and_then(|uri| uri.parse().ok()).ok_or_else(invalid)?;
                // Passwords go over TLS alone, unless a person said that this registry has none.
                if self.scheme == "https" && uri.scheme_str() != Some("https") {
                    return Err(Error::Invalid(format!("{} sends for a token without TLS", self.registry)));
                }
                let question = Question { accept: "application/json", sent: None, most: 1 << 20 };
                let got = self.send(&uri, &question, basic.as_deref(), false).await?;
                if got.status != StatusCode::OK {
                    let operation = "a request for a token".to_owned();
                    let registry = self.registry.clone();
                    return Err(Error::Refused { operation, registry, status: got.status });
                }
                login::token(&got.body).map(|token| format!("Bearer {token}"))
            }
        };
        Ok(())
    }
}

impl Question<'_> {
    fn method(&self) -> Method {
        if self.sent.is_some() { Method::POST } else { Method::GET }
    }
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().find_map(|value| Challenge::read(value.to_str().ok()?))
}

/// Where a redirect leads.
fn onward(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') {
        let (scheme, authority) = (from.scheme_str()?, from.authority()?);
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let to: Uri = location.parse().ok()?;
    // Never from TLS to none.
    let keeps = to.scheme_str() == Some("https") || from.scheme_str() == Some("http");
    (keeps && to.authority().is_some()).then_some(to)
}
