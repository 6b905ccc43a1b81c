//! From a connection's certificate and a request's bearer token to a user.
//!
//! Order as upstream: certificate, service-account token, an issuer's token, static token, anonymous. A credential that is presented and
//! bad is an error (401), never anonymous: a client with an expired token must not silently become someone else.

mod certificate;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::UserInfo;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use crate::certificates::CertificateAuthority;
use crate::oidc::{Issuers, OidcError};
use crate::tokens::{TokenError, TokenVerifier};

pub use certificate::{ClientRoots, PeerCertificate};

/// Everyone who was authenticated.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who was not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// Why a request's credentials are not accepted: the text is for the log and the 401's message, and holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The client certificate is no good.
    #[error("client certificate: {detail}")]
    Certificate {
        /// Expired, of another authority, not for client use.
        detail: String,
    },
    /// The bearer token is no good.
    #[error("bearer token: {0}")]
    Token(#[from] Arc<TokenError>),
    /// The bearer token claims to be of an issuer that is trusted, and is no good.
    #[error("bearer token: {0}")]
    Issuer(#[from] OidcError),
    /// The bearer token is nobody's.
    #[error("bearer token: not known here")]
    UnknownToken,
    /// There are no credentials, and anonymous requests are off, or not let in at that path.
    #[error("no credentials")]
    Missing,
}

/// What came with a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The connection's client certificate, as verified once per connection by [`Authenticator::verify_peer`].
    pub peer: Option<&'a Result<PeerCertificate, AuthenticationError>>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<Bearer<'a>>,
    /// The path that is asked for.
    pub path: &'a str,
}

/// Whether and where requests without credentials are let in, as `system:anonymous`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// Whether at all.
    pub enabled: bool,
    /// At these paths, to the letter; at all where none is named.
    pub paths: Vec<String>,
}

impl Anonymous {
    fn lets_in(&self, path: &str) -> bool {
        self.enabled && (self.paths.is_empty() || self.paths.iter().any(|known| known == path))
    }
}

/// A bearer token that does not print.
#[derive(Clone, Copy)]
pub struct Bearer<'a>(pub &'a str);

impl std::fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl<'a> Bearer<'a> {
    /// The token in an `Authorization` header's value; `None` when it carries another scheme or nothing.
    #[must_use]
    pub fn from_header(value: &'a str) -> Option<Self> {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(Self(token))
    }
}

/// Tokens that are kept elsewhere: bootstrap tokens in Secrets.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// The user of a token; `None` when it is no token of this source, or no good any more. Must not tell by its
    /// duration how much of a token is right.
    async fn user(&self, token: Bearer<'_>) -> Option<UserInfo>;
}

/// Who it is, and for which audiences the credential speaks (empty: the API server's own).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The user, its groups completed.
    pub user: UserInfo,
    /// For `TokenReview`.
    pub audiences: Vec<String>,
}

/// Turns credentials into users. Cheap to share behind an `Arc`.
pub struct Authenticator {
    roots: Option<ClientRoots>,
    tokens: Option<Arc<TokenVerifier>>,
    issuers: Option<Arc<Issuers>>,
    source: Option<Arc<dyn TokenSource>>,
    /// Who may say in headers whom a request is from: an authority and the names it may sign for.
    front_proxy: Option<(ClientRoots, Vec<String>)>,
    /// By the token's digest: comparing digests gives nothing away by timing.
    static_tokens: RwLock<BTreeMap<[u8; 32], UserInfo>>,
    anonymous: Anonymous,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// One that knows nobody but, if `anonymous`, `system:anonymous`.
    #[must_use]
    pub fn new(anonymous: bool) -> Self {
        Self {
            roots: None,
            tokens: None,
            issuers: None,
            source: None,
            front_proxy: None,
            static_tokens: RwLock::default(),
            anonymous: Anonymous { enabled: anonymous, paths: Vec::new() },
        }
    }

    /// Lets requests without credentials in as this says, and not as was said before.
    #[must_use]
    pub fn with_anonymous(mut self, anonymous: Anonymous) -> Self {
        self.anonymous = anonymous;
        self
    }

    /// Accepts client certificates of `authority`.
    ///
    /// # Errors
    /// [`AuthenticationError::Certificate`] when its root cannot be trusted (not a CA certificate).
    pub fn with_certificates(
        mut self,
        authority: &CertificateAuthority,
    ) -> Result<Self, AuthenticationError> {
        self.roots = Some(ClientRoots::new(authority.roots())?);
        Ok(self)
    }

    /// Accepts client certificates that `roots` signed, in the place of others given before.
    #[must_use]
    pub fn with_client_roots(mut self, roots: ClientRoots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Accepts service-account tokens.
    #[must_use]
    pub fn with_tokens(mut self, verifier: Arc<TokenVerifier>) -> Self {
        self.tokens = Some(verifier);
        self
    }

    /// Accepts people's tokens of these issuers.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Arc<Issuers>) -> Self {
        self.issuers = Some(issuers);
        self
    }

    /// Believes the front proxies that `authority` (a CA certificate) signed for one of `names`.
    ///
    /// # Errors
    /// [`AuthenticationError::Certificate`] when the authority cannot be trusted.
    pub fn with_front_proxy(
        mut self,
        authority: &rustls_pki_types::CertificateDer<'static>,
        names: Vec<String>,
    ) -> Result<Self, AuthenticationError> {
        self.front_proxy = Some((ClientRoots::new([authority])?, names));
        Ok(self)
    }

    /// Whether a connection's certificates are a front proxy's, whose word on who asks counts.
    #[must_use]
    pub fn is_front_proxy(&self, chain: &[rustls_pki_types::CertificateDer<'_>]) -> bool {
        let Some((roots, names)) = &self.front_proxy else { return false };
        roots.verify(chain).is_ok_and(|peer| names.iter().any(|name| peer.is_named(name)))
    }

    /// Accepts the tokens of `source`, after all others.
    #[must_use]
    pub fn with_token_source(mut self, source: Arc<dyn TokenSource>) -> Self {
        self.source = Some(source);
        self
    }

    /// Accepts `token` as `user` from now on: bootstrap and in-process use. Only a digest of it is kept.
    pub fn add_static_token(&self, token: &str, user: UserInfo) {
        self.static_tokens.write().insert(digest(token), user);
    }

    /// Forgets a static token.
    pub fn remove_static_token(&self, token: &str) {
        self.static_tokens.write().remove(&digest(token));
    }

    /// Checks the certificates a client showed in its handshake: signature chain, validity now, client usage. Done once
    /// per connection; whether it has expired, and whether its authority is still trusted, is looked at with every request.
    ///
    /// # Errors
    /// [`AuthenticationError::Certificate`].
    pub fn verify_peer(
        &self,
        chain: &[rustls_pki_types::CertificateDer<'_>],
    ) -> Result<PeerCertificate, AuthenticationError> {
        match &self.roots {
            Some(roots) => roots.verify(chain),
            None => Err(AuthenticationError::Certificate {
                detail: "this server accepts no client certificates".to_owned(),
            }),
        }
    }

    /// Returns when the authority that vouches for a client is trusted no more: its connection is to end then, with
    /// everything that goes on in it.
    pub async fn distrusted(&self, peer: &PeerCertificate) {
        match &self.roots {
            Some(roots) => roots.distrusted(peer).await,
            None => std::future::pending().await,
        }
    }

    fn user_of(&self, peer: &PeerCertificate) -> Result<UserInfo, AuthenticationError> {
        if self.roots.as_ref().is_some_and(|roots| !roots.trust(peer)) {
            let detail = "the authority that issued it is not trusted any more".to_owned();
            return Err(AuthenticationError::Certificate { detail });
        }
        peer.user_at(Timestamp::now())
    }

    /// The user of a request to the API server itself.
    ///
    /// # Errors
    /// [`AuthenticationError`]: answer 401.
    pub async fn authenticate(
        &self,
        credentials: Credentials<'_>,
    ) -> Result<Authenticated, AuthenticationError> {
        let mut refused = None;
        match credentials.peer {
            Some(Ok(peer)) => match self.user_of(peer) {
                Ok(user) => return Ok(authenticated(user, Vec::new())),
                Err(error) => refused = Some(error),
            },
            Some(Err(error)) => refused = Some(error.clone()),
            None => {}
        }
        if let Some(Bearer(token)) = credentials.bearer {
            return self.authenticate_token(token, &[]).await;
        }
        match refused {
            Some(error) => Err(error),
            None if self.anonymous.lets_in(credentials.path) => Ok(Authenticated {
                user: UserInfo::new(ANONYMOUS, &[UNAUTHENTICATED]),
                audiences: Vec::new(),
            }),
            None => Err(AuthenticationError::Missing),
        }
    }

    /// The user of a bearer token for one of `audiences` (empty: the API server's own), as `TokenReview` asks.
    ///
    /// # Errors
    /// [`AuthenticationError::Token`], [`AuthenticationError::UnknownToken`].
    pub async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Authenticated, AuthenticationError> {
        if let Some(user) = self.static_tokens.read().get(&digest(token)).cloned() {
            return Ok(authenticated(user, audiences.to_vec()));
        }
        if let Some(issuers) = self.issuers.as_ref().filter(|issuers| issuers.knows(token)) {
            // They are for this server alone: it has no other audience that it could be asked about.
            return match audiences {
                [] => Ok(authenticated(issuers.user(token, Timestamp::now()).await?, Vec::new())),
                _ => Err(AuthenticationError::UnknownToken),
            };
        }
        match &self.tokens {
            Some(verifier) if verifier.is_ours(token) => {
                let verified = verifier.verify(token, audiences, Timestamp::now()).await.map_err(Arc::new)?;
                Ok(authenticated(verified.user, verified.audiences))
            }
            _ => match &self.source {
                Some(source) => {
                    let user = source.user(Bearer(token)).await.ok_or(AuthenticationError::UnknownToken)?;
                    Ok(authenticated(user, audiences.to_vec()))
                }
                None => Err(AuthenticationError::UnknownToken),
            },
        }
    }
}

fn authenticated(mut user: UserInfo, audiences: Vec<String>) -> Authenticated {
    if !user.in_group(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Authenticated { user, audiences }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests;
