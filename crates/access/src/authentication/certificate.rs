//! Client certificates: CN is the user, each O a group (upstream `pkg/authentication/request/x509`).

use std::sync::Arc;

use jiff::Timestamp;
use kube_objects::UserInfo;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AuthenticationError;

/// The key under which upstream tells which credential was used.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Whose signatures on client certificates count: replaced without a restart. Clones share them.
#[derive(Clone, Debug)]
pub struct ClientRoots(Arc<watch::Sender<Roots>>);

/// Each root with what verifies by it alone: which one vouches for a client is remembered, for it may lose our trust.
type Roots = Arc<[(RootId, Arc<dyn ClientCertVerifier>)]>;

/// SHA-256 of a root's certificate.
type RootId = [u8; 32];

impl ClientRoots {
    /// Trusts these CA certificates, of which there must be one at least.
    ///
    /// # Errors
    /// [`AuthenticationError::Certificate`] when one cannot be trusted (no CA certificate), or there is none.
    pub fn new<'a>(
        roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Self, AuthenticationError> {
        Ok(Self(Arc::new(watch::Sender::new(build(roots)?))))
    }

    /// Trusts these from now on, and no others: a client whom a root vouches for that is not among them is nobody any more,
    /// also on a connection that is there already.
    ///
    /// # Errors
    /// As [`Self::new`]; the old ones then stay.
    pub fn replace<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<(), AuthenticationError> {
        self.0.send_replace(build(roots)?);
        Ok(())
    }

    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<PeerCertificate, AuthenticationError> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| refuse("none was sent".to_owned()))?;
        let roots = Arc::clone(&self.0.borrow());
        let mut refused = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (root, verifier) in roots.iter() {
            // The verifier checks the chain, the validity and that the certificate is for client use.
            match verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
                Ok(_) => return PeerCertificate::parse(leaf, *root),
                // What the root that signed it says is told, not that the others did not.
                Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refuse(refused.to_string()))
    }

    pub(super) fn trust(&self, peer: &PeerCertificate) -> bool {
        holds(&self.0.borrow(), peer)
    }

    /// Returns when the root that vouches for this client is trusted no more.
    pub(super) async fn distrusted(&self, peer: &PeerCertificate) {
        let mut roots = self.0.subscribe();
        if roots.wait_for(|roots| !holds(roots, peer)).await.is_err() {
            // Cannot be: the sender is ours.
            std::future::pending().await
        }
    }
}

fn holds(roots: &Roots, peer: &PeerCertificate) -> bool {
    roots.iter().any(|(root, _)| *root == peer.0.root)
}

fn build<'a>(
    given: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> Result<Roots, AuthenticationError> {
    let verifier = |root: &CertificateDer<'static>| -> Result<(RootId, Arc<dyn ClientCertVerifier>), AuthenticationError> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).map_err(|error| refuse(error.to_string()))?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::tls::provider());
        let verifier = builder.build().map_err(|error| refuse(error.to_string()))?;
        Ok((Sha256::digest(root).into(), verifier))
    };
    let roots = given.into_iter().map(verifier).collect::<Result<Roots, _>>()?;
    if roots.is_empty() { Err(refuse("there is no authority".to_owned())) } else { Ok(roots) }
}

/// A client certificate that was good when its connection began. Clones share what it says.
#[derive(Clone, Debug)]
pub struct PeerCertificate(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    user: UserInfo,
    not_after: Timestamp,
    /// Who vouches for it.
    root: RootId,
}

impl PeerCertificate {
    fn parse(leaf: &[u8], root: RootId) -> Result<Self, AuthenticationError> {
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
        Ok(Self(Arc::new(Shown { user, not_after, root })))
    }

    /// Whether its common name is exactly this.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.0.user.username == name
    }

    /// The user, if the certificate is still valid at `now`: connections outlive certificates.
    pub(super) fn user_at(&self, now: Timestamp) -> Result<UserInfo, AuthenticationError> {
        if now > self.0.not_after {
            return Err(refuse(format!("expired at {}", self.0.not_after)));
        }
        Ok(self.0.user.clone())
    }
}

fn refuse(detail: String) -> AuthenticationError {
    AuthenticationError::Certificate { detail }
}
