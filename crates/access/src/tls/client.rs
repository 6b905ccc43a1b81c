//! The dialling side: trust in a known root, or, for joining, in whatever root matches a pin.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError as RustlsCertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::verifier::{Rule, Shown, Verifier};
use super::{TlsError, provider};
use crate::certificates::{Pin, pin_of_certificate};
use crate::secret::Secret;

/// The certificate and key a client shows.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate (chain) as PEM.
    pub certificate_pem: String,
    /// Its key as PEM.
    pub key_pem: Secret,
}

impl ClientIdentity {
    /// As rustls takes it.
    pub(super) fn certified(&self) -> Result<rustls::sign::CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsError::new("the client certificate")(bad("it is not PEM")))?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.reveal().as_bytes())
            .map_err(|_| TlsError::new("the client key")(bad("it is not PEM")))?;
        rustls::sign::CertifiedKey::from_der(chain, key, &provider())
            .map_err(TlsError::new("the client certificate"))
    }
}

/// Trusts servers whose certificate one of the roots of `bundle_pem` signed.
///
/// # Errors
/// [`TlsError`] when the bundle holds no certificate, or the identity does not parse.
pub fn client_config(bundle_pem: &str, identity: Option<&ClientIdentity>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle_pem.as_bytes()) {
        let certificate = certificate.map_err(|_| TlsError::new("the CA bundle")(bad("it is not PEM")))?;
        roots.add(certificate).map_err(TlsError::new("the CA bundle"))?;
    }
    if roots.is_empty() {
        return Err(TlsError::new("the CA bundle")(bad("it holds no certificate")));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::new("the CA bundle")(bad(&error.to_string())))?;
    build(verifier, identity)
}

/// Trusts servers whose chain, as sent, holds a certificate with this pin that signed it (or is it). For the first
/// contact of a joining cluster, which knows the pin and nothing else. The server has to send its root along with its
/// own certificate, or be the pinned certificate itself.
///
/// # Errors
/// [`TlsError`] when the crypto provider supports no usable protocol version.
pub fn pinned_client_config(pin: &Pin) -> Result<ClientConfig, TlsError> {
    build(Verifier::new(Pinned(pin.clone())), None)
}

fn build(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::new("the protocol versions"))?
        // Named "dangerous" because verification is replaced: both verifiers given here do verify.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::new("the client certificate")(bad("it is not PEM")))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.reveal().as_bytes())
        .map_err(|_| TlsError::new("the client key")(bad("it is not PEM")))?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::new("the client certificate"))
}

fn bad(why: &str) -> rustls::Error {
    rustls::Error::General(why.to_owned())
}

/// Builds trust in the one certificate of the chain that has the pinned key, then verifies as usual under it.
#[derive(Debug)]
struct Pinned(Pin);

impl Rule for Pinned {
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let pinned = shown
            .intermediates
            .iter()
            .find(|certificate| pin_of_certificate(certificate).is_ok_and(|pin| pin == self.0))
            .ok_or_else(|| {
                rustls::Error::General(format!("the server's certificate chain does not hold {}", self.0))
            })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| RustlsCertificateError::BadEncoding)?;
        let Shown { end_entity, server_name, ocsp_response, now, .. } = *shown;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now).map(drop)
    }
}
