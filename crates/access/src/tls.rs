//! TLS configurations over the certificate authority.
//!
//! The server asks for a client certificate but lets the handshake succeed with a bad one or none: whether the
//! certificate is good is decided per request by [`crate::Authenticator`], so that a client with an expired certificate
//! is told so in words instead of by a broken connection. What the handshake does check is that the client holds the
//! certificate's key.

mod backend;
mod client;
mod server;
mod verifier;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use backend::{backend_client_config, proxy_client_config, unverified_client_config};
pub use client::{ClientIdentity, client_config, pinned_client_config};
pub use server::{ServerCertificate, server_config};

/// A TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {subject} for TLS")]
pub struct TlsError {
    /// What.
    pub subject: &'static str,
    /// Why.
    pub source: rustls::Error,
}

impl TlsError {
    fn new(subject: &'static str) -> impl Fn(rustls::Error) -> Self {
        move |source| Self { subject, source }
    }
}

/// The one crypto provider of the tree.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
