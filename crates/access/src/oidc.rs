//! People's tokens of OpenID Connect issuers, as Kubernetes' structured authentication takes them: the issuer's keys are
//! found through its discovery document, kept, and asked for again when a token names one that is not known.
//!
//! A name or group that only this server gives (`system:…`, an agent's) is never taken from a token, whatever an issuer says.
//! This module opens no connection: a [`Fetch`] does. It must never say a token.

pub mod configuration;
pub mod expressions;
mod user;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use kube_objects::UserInfo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use configuration::{AuthenticationConfiguration, ConfigurationError, IssuerConfiguration};

/// Tokens longer than this are refused unread; those of large directories have a few kB of groups.
const MAX_TOKEN: usize = 64 << 10;
/// How long keys are used without looking again.
const KEYS_AGE: Duration = Duration::from_secs(3600);
/// How often an issuer is asked at most, whatever keys tokens name.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// What issuers sign with: never a secret that both sides share.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Gets documents of issuers.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// The body of a 200 answer, of at most a megabyte. `authority`: a PEM bundle that the server's certificate is checked
    /// against; the machine's when none. Must end within some seconds.
    ///
    /// # Errors
    /// Why not, for the log.
    async fn get(&self, url: &str, authority: Option<&str>) -> Result<Vec<u8>, String>;
}

/// Why a token is not accepted. Never carries the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The issuer's keys are not to be had.
    #[error("the keys of {issuer} cannot be read: {why}")]
    Keys {
        /// Whose.
        issuer: String,
        /// Why.
        why: String,
    },
    /// No JWT, or of an algorithm that nobody should use.
    #[error("it is no token that an issuer signs")]
    Malformed,
    /// Signed by somebody else.
    #[error("its signature is not the issuer's")]
    Signature,
    /// Too late or too early.
    #[error("it has expired or is not valid yet")]
    Time,
    /// Meant for somebody else.
    #[error("it is for none of the audiences {0:?}")]
    Audience(Vec<String>),
    /// A claim is missing or is not what it must be.
    #[error("its claim {0:?} is missing or not as it must be")]
    Claim(String),
    /// An expression has no value for this token, or one that is of no use.
    #[error("{field} {expression:?} cannot be used: {why}")]
    Expression {
        /// Where it stands in the configuration.
        field: String,
        /// What it says.
        expression: String,
        /// Why.
        why: String,
    },
    /// A rule about claims or users does not hold.
    #[error("the rule {expression:?} does not hold{}", explained(.message))]
    Rule {
        /// What it says.
        expression: String,
        /// What its author says of it; may be empty.
        message: String,
    },
    /// A name or group that only this server gives.
    #[error("{0:?} is a name that only this server gives")]
    Reserved(String),
}

fn explained(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

struct Keys {
    set: Arc<JwkSet>,
    read: Instant,
}

struct Issuer {
    configuration: IssuerConfiguration,
    keys: Mutex<Option<Keys>>,
    /// When it was asked last, whether it answered or not.
    asked: Mutex<Option<Instant>>,
    /// One asks, the others wait.
    turn: tokio::sync::Mutex<()>,
}

/// The issuers that a server trusts; replaced without a restart.
pub struct Issuers {
    all: ArcSwap<Vec<Arc<Issuer>>>,
    fetch: Arc<dyn Fetch>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all.load();
        f.debug_list().entries(all.iter().map(|issuer| &issuer.configuration.url)).finish()
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

impl Issuers {
    /// Nobody is asked before the first token comes.
    #[must_use]
    pub fn new(configurations: Vec<IssuerConfiguration>, fetch: Arc<dyn Fetch>) -> Self {
        let issuers = Self { all: ArcSwap::default(), fetch };
        issuers.replace(configurations);
        issuers
    }

    /// Trusts these from the next token on, and no others. Of those that stay as they are the keys stay known.
    pub fn replace(&self, configurations: Vec<IssuerConfiguration>) {
        let before = self.all.load();
        let issuer = |configuration: IssuerConfiguration| {
            let known = before.iter().find(|known| known.configuration == configuration);
            known.cloned().unwrap_or_else(|| {
                Arc::new(Issuer {
                    configuration,
                    keys: Mutex::default(),
                    asked: Mutex::default(),
                    turn: tokio::sync::Mutex::default(),
                })
            })
        };
        self.all.store(Arc::new(configurations.into_iter().map(issuer).collect()));
    }

    /// Whose token this claims to be; nothing is verified.
    fn of(&self, token: &str) -> Option<Arc<Issuer>> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok().filter(|_| token.len() <= MAX_TOKEN)?;
        let claims: Unverified = serde_json::from_slice(&bytes).ok()?;
        self.all.load().iter().find(|issuer| issuer.configuration.url == claims.iss).cloned()
    }

    /// Whether a token claims to be of one of the issuers.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        self.of(token).is_some()
    }

    /// The user of a token, without `system:authenticated`.
    ///
    /// # Errors
    /// [`OidcError`]; of [`OidcError::Keys`] safe to retry.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<UserInfo, OidcError> {
        let issuer = self.of(token).ok_or(OidcError::Malformed)?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| OidcError::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(OidcError::Malformed);
        }
        let id = header.kid.as_deref();
        let claims = match self.verified(&issuer, token, id, header.alg, false).await? {
            Some(claims) => claims,
            // A key that is not known may be a new one.
            None => self.verified(&issuer, token, id, header.alg, true).await?.ok_or(OidcError::Signature)?,
        };
        user::of(&issuer.configuration, claims, now)
    }

    /// The claims of a token that one of the issuer's keys signed; `None`: none of those that are known.
    async fn verified(
        &self,
        issuer: &Issuer,
        token: &str,
        id: Option<&str>,
        algorithm: Algorithm,
        anew: bool,
    ) -> Result<Option<Map<String, Value>>, OidcError> {
        let keys = self.keys(issuer, anew).await?;
        let named = |key: &&Jwk| id.is_none() || key.common.key_id.as_deref() == id;
        for key in keys.keys.iter().filter(named) {
            let Ok(decoding) = DecodingKey::from_jwk(key) else { continue };
            let mut validation = Validation::new(algorithm);
            validation.set_issuer(&[&issuer.configuration.url]);
            validation.set_required_spec_claims(&["iss"]);
            // Times and audiences are checked below, against the caller's clock.
            (validation.validate_aud, validation.validate_exp) = (false, false);
            if let Ok(decoded) = jsonwebtoken::decode::<Map<String, Value>>(token, &decoding, &validation) {
                return Ok(Some(decoded.claims));
            }
        }
        Ok(None)
    }

    /// The issuer's keys: those that are known, unless they are old or must be looked at anew. An issuer that does not answer
    /// takes nothing back: keys that are known go on counting.
    async fn keys(&self, issuer: &Issuer, anew: bool) -> Result<Arc<JwkSet>, OidcError> {
        let known = || {
            let keys = issuer.keys.lock();
            keys.as_ref().map(|keys| (Arc::clone(&keys.set), keys.read.elapsed() < KEYS_AGE))
        };
        let before = known();
        if let Some((set, true)) = before.as_ref().filter(|_| !anew) {
            return Ok(Arc::clone(set));
        }
        let _turn = issuer.turn.lock().await;
        let now = known();
        let asked_lately = issuer.asked.lock().is_some_and(|asked| asked.elapsed() < ASK_AGAIN);
        if let Some((set, fresh)) = &now
            && (asked_lately || (*fresh && !anew))
        {
            return Ok(Arc::clone(set));
        }
        if asked_lately {
            let why = "it did not answer a moment ago".to_owned();
            return Err(OidcError::Keys { issuer: issuer.configuration.url.clone(), why });
        }
        *issuer.asked.lock() = Some(Instant::now());
        match self.read(&issuer.configuration).await {
            Ok(set) => {
                let set = Arc::new(set);
                *issuer.keys.lock() = Some(Keys { set: Arc::clone(&set), read: Instant::now() });
                Ok(set)
            }
            Err(why) => {
                tracing::warn!(issuer = %issuer.configuration.url, %why, "an issuer's keys cannot be read");
                now.map(|(set, _)| set)
                    .ok_or_else(|| OidcError::Keys { issuer: issuer.configuration.url.clone(), why })
            }
        }
    }

    async fn read(&self, configuration: &IssuerConfiguration) -> Result<JwkSet, String> {
        let authority = configuration.certificate_authority.as_deref();
        let document = self.fetch.get(&configuration.discovery_url, authority).await?;
        let found: Discovery = serde_json::from_slice(&document)
            .map_err(|error| format!("its discovery document is not readable: {error}"))?;
        if found.issuer != configuration.url {
            return Err(format!("its discovery document is of {:?}", found.issuer));
        }
        if !found.jwks_uri.starts_with("https://") {
            return Err("its keys are not behind https".to_owned());
        }
        let keys = self.fetch.get(&found.jwks_uri, authority).await?;
        serde_json::from_slice(&keys).map_err(|error| format!("its keys are not readable: {error}"))
    }
}

#[cfg(test)]
mod tests;
