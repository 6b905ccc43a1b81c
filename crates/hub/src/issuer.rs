//! The port through which the hub gets certificates signed. Whoever assembles the hub gives the implementation.

use std::time::Duration;

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSubject {
    /// The common name: the user.
    pub common_name: String,
    /// The organization: the group.
    pub organization: String,
}

/// A signed certificate.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// Which authority signed it: `sha256:…` of its key.
    pub authority: String,
}

/// Why no certificate was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is malformed or its signature does not fit its key.
    #[error("the certificate signing request is not usable: {0}")]
    BadRequest(String),
    /// The authority failed.
    #[error("the certificate authority failed: {0}")]
    Authority(String),
}

/// Signs client certificates.
pub trait CertificateIssuer: Send + Sync + 'static {
    /// SHA-256 (hexadecimal) of the public key of a request, after checking the request's own signature: proof that the
    /// sender has the private key.
    ///
    /// # Errors
    /// [`IssueError::BadRequest`].
    fn requested_key(&self, csr_pem: &str) -> Result<String, IssueError>;

    /// Signs the request's key for `subject`; everything else in the request is ignored.
    ///
    /// # Errors
    /// As the request or the authority is at fault.
    fn issue(
        &self,
        csr_pem: &str,
        subject: &CertificateSubject,
        validity: Duration,
    ) -> Result<IssuedCertificate, IssueError>;

    /// The authorities an agent should trust, PEM.
    fn ca_bundle(&self) -> String;
}
