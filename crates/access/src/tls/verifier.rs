//! What verifying a peer has in common, whoever it is: its signatures are checked, always; which certificates are good is a
//! [`Rule`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::provider;

/// A server's certificate as it is shown in a handshake.
pub(super) struct Shown<'a> {
    pub(super) end_entity: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) server_name: &'a ServerName<'a>,
    pub(super) ocsp_response: &'a [u8],
    pub(super) now: UnixTime,
}

/// Which servers' certificates are good.
pub(super) trait Rule: fmt::Debug + Send + Sync + 'static {
    /// Whether this one is.
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error>;
}

/// Every certificate whose key the server holds.
#[derive(Debug)]
pub(super) struct AnyCertificate;

impl Rule for AnyCertificate {
    fn check(&self, _: &Shown<'_>) -> Result<(), rustls::Error> {
        Ok(())
    }
}

/// Verifies servers by a rule.
#[derive(Debug)]
pub(super) struct Verifier<R> {
    rule: R,
    provider: Arc<CryptoProvider>,
}

impl<R: Rule> Verifier<R> {
    pub(super) fn new(rule: R) -> Arc<Self> {
        Arc::new(Self { rule, provider: provider() })
    }
}

/// Any client certificate whose key the client holds, or none: whose it is is decided later, in words.
#[derive(Debug)]
pub(super) struct ProofOfPossession;

impl Verifier<ProofOfPossession> {
    pub(super) fn of_clients() -> Arc<Self> {
        Arc::new(Self { rule: ProofOfPossession, provider: provider() })
    }
}

/// The three methods that rustls asks of verifiers of either side.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl<R: Rule> ServerCertVerifier for Verifier<R> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.rule.check(&Shown { end_entity, intermediates, server_name, ocsp_response, now })?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Verifier<ProofOfPossession> {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a client with one certificate sends it whoever issued it, and is then told what is wrong with it.
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
