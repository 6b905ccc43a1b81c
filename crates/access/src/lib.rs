//! Who a request comes from and what it may do: certificates and TLS, tokens, RBAC.
//!
//! Tasks: keep a certificate authority ([`certificates`]) and the TLS configurations built on it ([`tls`]); issue and
//! verify service-account tokens ([`tokens`]); take people's tokens of OpenID Connect issuers ([`oidc`]); turn a connection's credentials into a `UserInfo` ([`authentication`]);
//! decide by RBAC what that user may do ([`authorization`]); and carry the roles a cluster is born with
//! ([`bootstrap`]).
//!
//! It must never read objects from a store (callers feed the authorizer and answer the lookups), never take an identity
//! from a header, and never let a key or token reach `Debug` or a log.

pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod certificates;
mod files;
pub mod oidc;
pub mod secret;
pub mod tls;
pub mod tokens;

pub use authentication::{Authenticated, AuthenticationError, Authenticator, Credentials, PeerCertificate};
pub use authorization::{Attributes, Authorizer, Decision};
pub use certificates::{CertificateAuthority, CertificateError, Issued};
pub use secret::Secret;
pub use tokens::{TokenError, TokenIssuer, TokenVerifier};
