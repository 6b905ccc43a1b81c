//! The certificate authority of one control plane: ECDSA P-256, one self-signed root, no intermediates.
//!
//! It names the subject of what it signs for joining agents itself: their request contributes its public key and nothing
//! else. Only [`CertificateAuthority::sign_request`] takes the subject from a request, which somebody has approved.

mod issue;
mod pin;
mod requests;
pub mod rotation;
mod subject;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;

use crate::files::{Visibility, read_optional, write_atomically};

pub use issue::{ClientSubject, Issued, ServerNames, requested_pin, signing_request};
pub use pin::{Pin, pin_of_certificate};
pub use requests::{Requested, not_after, read_request};

/// How long a root is valid. Long, because replacing a root means touching every client; ten years is upstream
/// kubeadm's choice too.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far before now a certificate's validity begins, for peers whose clocks are behind.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a certificate without its key: nothing can be signed, and making a new root would orphan every client.
    #[error("{} exists but its key {} does not; restore the key, or remove the certificate to make a new authority", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate found.
        certificate: PathBuf,
        /// The key missing.
        key: PathBuf,
    },
    /// A certificate or key does not parse, or does not belong together.
    #[error("{subject} is not usable: {detail}")]
    Unusable {
        /// What: a path, `the signing request`.
        subject: String,
        /// Why.
        detail: String,
    },
    /// Signing failed.
    #[error("cannot sign {subject}")]
    Sign {
        /// What was to be signed.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// Signs certificates. Its key never leaves it and is not printed.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The certificates that clients have to trust: this one first, then those of a rotation under way.
    bundle_pem: String,
    /// Of a rotation: the next or the previous one.
    others: Vec<CertificateDer<'static>>,
    pin: Pin,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// A new authority that lives in memory only, for ephemeral clusters and tests.
    ///
    /// # Errors
    /// [`CertificateError::Sign`] when the machine yields no key.
    pub fn ephemeral(common_name: &str) -> Result<Self, CertificateError> {
        let key = generate_key(common_name)?;
        let pem = self_sign(common_name, &key)?;
        Self::from_pem(common_name, &pem, key)
    }

    /// The authority kept in `directory` as `ca.crt` and `ca.key`, made on first use. The key is written first: a crash
    /// between the two leaves a key without a certificate, from which the next call goes on.
    ///
    /// # Errors
    /// [`CertificateError::File`], [`CertificateError::KeyMissing`], [`CertificateError::Unusable`].
    pub fn open(directory: &Path, common_name: &str) -> Result<Self, CertificateError> {
        let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        std::fs::create_dir_all(directory).map_err(|source| CertificateError::File {
            action: "create",
            path: directory.to_owned(),
            source,
        })?;
        rotation::settle(directory)?;
        let key = match (read(&certificate_path)?, read(&key_path)?) {
            (Some(pem), Some(key)) => return Self::kept(directory, &pem, &key),
            (Some(_), None) => {
                return Err(CertificateError::KeyMissing { certificate: certificate_path, key: key_path });
            }
            (None, Some(key)) => parse_key(&key, &key_path)?,
            (None, None) => {
                let key = generate_key(common_name)?;
                write(&key_path, key.serialize_pem().as_bytes(), Visibility::Private)?;
                key
            }
        };
        let pem = self_sign(common_name, &key)?;
        write(&certificate_path, pem.as_bytes(), Visibility::Public)?;
        Self::from_pem(&certificate_path.display().to_string(), &pem, key)
    }

    /// What [`Self::open`] would answer, of files that are there already; nothing is made or mended. For who has it open and
    /// finds that a file has changed.
    ///
    /// # Errors
    /// As [`Self::open`]; [`CertificateError::Unusable`] also while a step of a rotation is half done.
    pub fn read(directory: &Path) -> Result<Self, CertificateError> {
        let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        match (read(&certificate_path)?, read(&key_path)?) {
            (Some(pem), Some(key)) => Self::kept(directory, &pem, &key),
            _ => Err(CertificateError::KeyMissing { certificate: certificate_path, key: key_path }),
        }
    }

    fn kept(directory: &Path, pem: &str, key: &str) -> Result<Self, CertificateError> {
        let key = parse_key(key, &directory.join("ca.key"))?;
        let own = Self::from_pem(&directory.join("ca.crt").display().to_string(), pem, key)?;
        own.with_others(rotation::others(directory)?)
    }

    fn from_pem(subject: &str, pem: &str, key: KeyPair) -> Result<Self, CertificateError> {
        let unusable = |detail: String| CertificateError::Unusable { subject: subject.to_owned(), detail };
        let parsed = ::pem::parse(pem).map_err(|error| unusable(error.to_string()))?;
        let certificate = CertificateDer::from(parsed.into_contents());
        let pin = pin_of_certificate(&certificate)?;
        if pin != Pin::of_public_key(&rcgen::PublicKeyData::subject_public_key_info(&key)) {
            return Err(unusable("the key beside it belongs to another certificate".to_owned()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, certificate, bundle_pem: pem.to_owned(), others: Vec::new(), pin })
    }

    fn with_others(mut self, others: Vec<String>) -> Result<Self, CertificateError> {
        for pem in others {
            let unusable = |error: ::pem::PemError| CertificateError::Unusable {
                subject: "another certificate of the authority".to_owned(),
                detail: error.to_string(),
            };
            let parsed = ::pem::parse(&pem).map_err(unusable)?;
            self.others.push(CertificateDer::from(parsed.into_contents()));
            self.bundle_pem.push_str(&pem);
        }
        Ok(self)
    }

    /// The certificates a client has to trust, as PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// Every root whose certificates are good: its own, and during a rotation the next or previous one.
    pub fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.certificate).chain(&self.others)
    }

    /// The root certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a joining client compares the root with.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }
}

fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    read_optional(path).map_err(|source| CertificateError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, content: &[u8], visibility: Visibility) -> Result<(), CertificateError> {
    write_atomically(path, content, visibility).map_err(|source| CertificateError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn parse_key(pem: &str, path: &Path) -> Result<KeyPair, CertificateError> {
    // The parser's own error is told, never the text it was given.
    KeyPair::from_pem(pem).map_err(|error| CertificateError::Unusable {
        subject: path.display().to_string(),
        detail: error.to_string(),
    })
}

fn generate_key(subject: &str) -> Result<KeyPair, CertificateError> {
    KeyPair::generate().map_err(|source| CertificateError::Sign { subject: subject.to_owned(), source })
}

fn self_sign(common_name: &str, key: &KeyPair) -> Result<String, CertificateError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    issue::set_validity(&mut params, ROOT_VALIDITY, CLOCK_TOLERANCE);
    let certificate = params
        .self_signed(key)
        .map_err(|source| CertificateError::Sign { subject: common_name.to_owned(), source })?;
    Ok(certificate.pem())
}

#[cfg(test)]
mod tests;
