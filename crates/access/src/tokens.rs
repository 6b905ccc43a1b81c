//! Service-account tokens: JWTs signed by this control plane, bound to the life of objects.
//!
//! ES256 with keys of our own: one signs, several may verify, so that keys can be rotated. A token names its ServiceAccount's uid (and perhaps a pod's, secret's or node's); it
//! ends with the objects it is bound to, which the verifier asks a [`BoundObjects`] about. Claims as in upstream
//! `pkg/serviceaccount/claims.go`.

mod claims;
mod issue;
mod key;
mod ring;
mod verify;

use std::path::PathBuf;

use async_trait::async_trait;

pub(crate) use claims::service_account_user;
pub use claims::{BoundReference, TokenRequest};
pub use issue::{IssuedToken, TokenIssuer};
pub use key::{SigningKey, VerificationKey};
pub use ring::{KeptKey, KeyDirectory, KeyRing};
pub use verify::{TokenVerifier, VerifiedToken};

/// The shortest life a token may be asked for, in seconds (upstream's rule).
pub const MINIMUM_SECONDS: u64 = 600;
/// The longest: 2^32 seconds (upstream's rule).
pub const MAXIMUM_SECONDS: u64 = 1 << 32;
/// What a request without `expirationSeconds` gets.
pub const DEFAULT_SECONDS: u64 = 3600;

/// What can be wrong with a token or with making one. Never carries the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The signing key could not be read or written.
    #[error("cannot use the token key {}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The signing key is no ECDSA P-256 or RSA key.
    #[error("the token key is not usable: {detail}")]
    Key {
        /// Why.
        detail: String,
    },
    /// Signing failed.
    #[error("cannot sign a token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// Bad signature, wrong issuer, expired, malformed.
    #[error("{0}")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    /// The claims lack what a token of ours has.
    #[error("its claims are not those of a service-account token: {0}")]
    Claims(&'static str),
    /// It is meant for someone else.
    #[error("it is for the audiences {actual:?}, not for any of {expected:?}")]
    Audience {
        /// Whom it is for.
        actual: Vec<String>,
        /// Who was asked.
        expected: Vec<String>,
    },
    /// What it is bound to is gone or was made anew.
    #[error("the {kind} {namespace}/{name} it is bound to has been deleted")]
    Unbound {
        /// `serviceaccount`, `pod`, `secret`, `node`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What a token can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundKind {
    /// A `v1.ServiceAccount`.
    ServiceAccount,
    /// A `v1.Pod`.
    Pod,
    /// A `v1.Secret`.
    Secret,
    /// A `v1.Node`; the namespace is empty.
    Node,
}

impl BoundKind {
    /// As it stands in claims.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccount",
            Self::Pod => "pod",
            Self::Secret => "secret",
            Self::Node => "node",
        }
    }
}

/// Answers which objects exist now.
#[async_trait]
pub trait BoundObjects: Send + Sync + 'static {
    /// The uid of the object, or `None` when there is none, or when its deletion grace has run out for more than a
    /// minute (upstream lets a terminating pod's token live that long).
    async fn uid(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<String>;
}

#[cfg(test)]
mod tests;
