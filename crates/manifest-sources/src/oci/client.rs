//! Requests to one registry: logged in when it asks for that, redirected where it keeps its blobs.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Login;
use super::login::{self, Challenge};
use crate::error::Error;

/// How long one answer may take, its body included.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Redirects followed: registries keep blobs one step away.
const MAX_REDIRECTS: usize = 5;

/// Talks to one registry.
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    registry: String,
    scheme: &'static str,
    login: Option<Login>,
    /// The header that the registry let us in by.
    authorization: Option<String>,
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
        Ok(Self { http, registry: registry.to_owned(), scheme, login, authorization: None })
    }

    /// Gets a path of the registry; an answer other than 200 is an error.
    pub(crate) async fn get(&mut self, path: &str, accept: &str, most: usize) -> Result<Got, Error> {
        let got = self.follow(path, accept, most).await?;
        let got = match (got.status, challenge(&got.headers)) {
            (StatusCode::UNAUTHORIZED, Some(challenge)) if self.authorization.is_none() => {
                self.log_in(&challenge).await?;
                self.follow(path, accept, most).await?
            }
            _ => got,
        };
        if got.status == StatusCode::OK {
            return Ok(got);
        }
        let (operation, registry) = (format!("GET {path}"), self.registry.clone());
        Err(Error::Refused { operation, registry, status: got.status })
    }

    async fn follow(&self, path: &str, accept: &str, most: usize) -> Result<Got, Error> {
        let invalid = || Error::Invalid(format!("{}{path} is no address", self.registry));
        let mut uri: Uri =
            format!("{}://{}{path}", self.scheme, self.registry).parse().map_err(|_| invalid())?;
        let home = uri.authority().cloned();
        for _ in 0..=MAX_REDIRECTS {
            // Who else is sent to learns nothing of how we got in here.
            let own = uri.authority() == home.as_ref() && uri.scheme_str() == Some(self.scheme);
            let authorization = self.authorization.as_deref().filter(|_| own);
            let got = self.send(&uri, accept, authorization, most).await?;
            if !got.status.is_redirection() {
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
        accept: &str,
        authorization: Option<&str>,
        most: usize,
    ) -> Result<Got, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Registry {
            operation: format!("GET {}", uri.path()),
            registry: uri.authority().map_or_else(String::new, ToString::to_string),
            source,
        };
        let mut request = Request::get(uri.clone()).header(ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| failed(Box::new(error)))?;
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| failed(Box::new(error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(failed)?.to_bytes();
            Ok(Got { status: head.status, headers: head.headers, body })
        };
        let timed = tokio::time::timeout(TIMEOUT, answer).await;
        timed.unwrap_or_else(|_| Err(failed(format!("no answer within {} s", TIMEOUT.as_secs()).into())))
    }

    async fn log_in(&mut self, challenge: &Challenge) -> Result<(), Error> {
        let basic = self.login.as_ref().map(|Login { user, password }| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        self.authorization = match challenge {
            Challenge::Basic => basic,
            Challenge::Bearer { .. } => {
                let invalid = || Error::Invalid(format!("{} asks for a token nowhere", self.registry));
                let uri: Uri = challenge.token_uri().and_then(|uri| uri.parse().ok()).ok_or_else(invalid)?;
                // Passwords go over TLS alone, unless a person said that this registry has none.
                if self.scheme == "https" && uri.scheme_str() != Some("https") {
                    return Err(Error::Invalid(format!("{} sends for a token without TLS", self.registry)));
                }
                let got = self.send(&uri, "application/json", basic.as_deref(), 1 << 20).await?;
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
