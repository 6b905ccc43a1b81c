//! The serving side: a certificate that can be replaced while serving, and client certificates that are optional.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::client::ClientIdentity;
use super::verifier::Verifier;
use super::{TlsError, provider};
use crate::certificates::Issued;

/// The certificate a server shows; replaced without a restart. Cheap to clone; all clones show the same.
#[derive(Clone)]
pub struct ServerCertificate(Arc<ArcSwap<CertifiedKey>>);

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerCertificate(…)")
    }
}

impl ServerCertificate {
    /// Shows `issued`.
    ///
    /// # Errors
    /// [`TlsError`] when the key cannot sign.
    pub fn new(issued: &Issued) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(certified(issued)?))))
    }

    /// Shows a certificate (with its chain) and key from elsewhere, from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`] when they are no PEM, or do not belong together; the certificate shown is then still the old one.
    pub fn replace_pem(&self, given: &ClientIdentity) -> Result<(), TlsError> {
        let certified = given.certified()?;
        certified.keys_match().map_err(TlsError::new("the server certificate"))?;
        self.0.store(Arc::new(certified));
        Ok(())
    }

    /// Shows `issued` from the next handshake on; running connections keep what they have.
    ///
    /// # Errors
    /// [`TlsError`] when the key cannot sign; the certificate shown is then still the old one.
    pub fn replace(&self, issued: &Issued) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(issued)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Serves with `certificate`, over HTTP/2 and HTTP/1.1, and asks for a client certificate without insisting. The
/// connection's peer certificates go to [`crate::Authenticator::verify_peer`].
///
/// # Errors
/// [`TlsError`] when the crypto provider supports no usable protocol version.
pub fn server_config(certificate: &ServerCertificate) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::new("the protocol versions"))?
        .with_client_cert_verifier(Verifier::of_clients())
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certified(issued: &Issued) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(issued.chain(), issued.private_key(), &provider())
        .map_err(TlsError::new("the server certificate"))
}
