//! Trust in the servers that others configure by a CA bundle: webhooks and aggregated API servers.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::verifier::{AnyCertificate, Rule, Shown, Verifier};
use super::{ClientIdentity, TlsError, provider};

/// Trusts servers whose certificate a root of `bundle_pem` signed, or whose very certificate stands in the bundle (a
/// self-signed serving certificate, which Go's verifier accepts too). An empty bundle means the system's roots.
///
/// # Errors
/// [`TlsError`] when the bundle is no PEM, or there are no roots at all.
pub fn backend_client_config(bundle_pem: &[u8]) -> Result<ClientConfig, TlsError> {
    let bad = |why: &str| TlsError::new("the CA bundle")(rustls::Error::General(why.to_owned()));
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    if bundle_pem.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in CertificateDer::pem_slice_iter(bundle_pem) {
            let certificate = certificate.map_err(|_| bad("it is not PEM"))?;
            own.push(certificate.clone().into_owned());
            roots.add(certificate).map_err(TlsError::new("the CA bundle"))?;
        }
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate"));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| bad(&error.to_string()))?;
    verified_by(Bundle { inner, own })
}

/// Believes every server, whatever certificate it has: for what is known by its address (pods), or what its owner said
/// need not be verified.
///
/// # Errors
/// [`TlsError`] when the crypto provider supports no usable protocol version.
pub fn unverified_client_config() -> Result<ClientConfig, TlsError> {
    verified_by(AnyCertificate)
}

fn verified_by(rule: impl Rule) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::new("the protocol versions"))?
        // Named "dangerous" because verification is replaced: by the rule.
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(rule))
        .with_no_client_auth())
}

/// The same for a server that is told who asks: shows it `identity`. `insecure`: whatever certificate it has is good,
/// which an APIService may say of its own server.
///
/// # Errors
/// [`TlsError`] when the bundle or the identity cannot be used.
pub fn proxy_client_config(
    bundle_pem: &[u8],
    insecure: bool,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let mut config = if insecure { unverified_client_config()? } else { backend_client_config(bundle_pem)? };
    if let Some(identity) = identity {
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.certified()?));
    }
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The usual verification, and equality with a certificate of the bundle where the usual one wants a chain.
#[derive(Debug)]
struct Bundle {
    inner: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Bundle {
    fn verify_own(
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(end_entity).map_err(|_| bad())?;
        let seconds = i64::try_from(now.as_secs()).map_err(|_| bad())?;
        let time = ASN1Time::from_timestamp(seconds).map_err(|_| bad())?;
        let validity = parsed.validity();
        if time < validity.not_before {
            return Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if time > validity.not_after {
            return Err(rustls::Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(())
    }
}

impl Rule for Bundle {
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let Shown { end_entity, intermediates, server_name, ocsp_response, now } = *shown;
        if self.own.iter().any(|own| own == end_entity) {
            return Self::verify_own(end_entity, server_name, now);
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map(drop)
    }
}
