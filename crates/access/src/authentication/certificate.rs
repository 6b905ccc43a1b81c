//! Client certificates: CN is the user, each O a group (upstream `pkg/authentication/request/x509`).

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use kube_objects::UserInfo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AuthenticationError;

/// The key under which upstream tells which credential was used.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Whose signatures on client certificates count: replaced without a restart. Clones share them.
#[derive(Clone, Debug)]
pub struct ClientRoots(Arc<ArcSwap<Roots>>);

#[derive(Debug)]
struct Roots(Arc<dyn ClientCertVerifier>);

impl ClientRoots {
    /// Trusts these CA certificates, of which there must be one at least.
    ///
    /// # Errors
    /// [`AuthenticationError::Certificate`] when one cannot be trusted (no CA certificate), or there is none.
    pub fn new<'a>(
        roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Self, AuthenticationError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(build(roots)?))))
    }

    /// Trusts these from the next connection on, and no others: of connections that are there already, what was decided
    /// stands.
    ///
    /// # Errors
    /// As [`Self::new`]; the old ones then stay.
    pub fn replace<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<(), AuthenticationError> {
        self.0.store(Arc::new(build(roots)?));
        Ok(())
    }

    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<PeerCertificate, AuthenticationError> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| refuse("none was sent".to_owned()))?;
        // The verifier checks the chain, the validity and that the certificate is for client use.
        self.0
            .load()
            .0
            .verify_client_cert(leaf, intermediates, UnixTime::now())
            .map_err(|error| refuse(error.to_string()))?;
        PeerCertificate::parse(leaf)
    }
}

fn build<'a>(
    given: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> Result<Roots, AuthenticationError> {
    let mut roots = RootCertStore::empty();
    for root in given {
        roots.add(root.clone()).map_err(|error| refuse(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::tls::provider())
        .build()
        .map(Roots)
        .map_err(|error| refuse(error.to_string()))
}

/// A client certificate that was good when its connection began.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    user: UserInfo,
    not_after: Timestamp,
}

impl PeerCertificate {
    fn parse(leaf: &[u8]) -> Result<Self, AuthenticationError> {
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| refuse(error.to_string()))?;
        let subject = certificate.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|_| refuse("its subject is not text".to_owned()))
        };
        // The last CN, as Go's parser fills the field; certificates of ours have one.
        let username = subject
            .iter_common_name()
            .last()
            .map(text)
            .transpose()?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| refuse("its subject has no common name".to_owned()))?;
        let groups = subject.iter_organization().map(text).collect::<Result<Vec<_>, _>>()?;
        let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
            .map_err(|error| refuse(error.to_string()))?;
        let mut user = UserInfo { username, groups, ..UserInfo::default() };
        let id = format!("X509SHA256={}", hex::encode(Sha256::digest(leaf)));
        user.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        Ok(Self { user, not_after })
    }

    /// Whether its common name is exactly this.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.user.username == name
    }

    /// The user, if the certificate is still valid at `now`: connections outlive certificates.
    pub(super) fn user_at(&self, now: Timestamp) -> Result<UserInfo, AuthenticationError> {
        if now > self.not_after {
            return Err(refuse(format!("expired at {}", self.not_after)));
        }
        Ok(self.user.clone())
    }
}

fn refuse(detail: String) -> AuthenticationError {
    AuthenticationError::Certificate { detail }
}
