//! `sha256:<hex>` of a certificate's public key: what a joining cluster is given to recognise its hub by.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CertificateError;

/// The SHA-256 digest of a SubjectPublicKeyInfo. It survives a renewed root certificate with the same key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of a public key in DER.
    #[must_use]
    pub fn of_public_key(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = CertificateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unusable = |detail: &str| CertificateError::Unusable {
            subject: format!("the pin {text:?}"),
            detail: detail.to_owned(),
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(|| unusable("it must begin with sha256:"))?;
        let mut digest = [0_u8; 32];
        hex::decode_to_slice(digits, &mut digest)
            .map_err(|_| unusable("sha256: must be followed by 64 hexadecimal digits"))?;
        Ok(Self(digest))
    }
}

/// The pin of `certificate`'s public key.
///
/// # Errors
/// [`CertificateError::Unusable`] when it is no X.509 certificate.
pub fn pin_of_certificate(certificate: &[u8]) -> Result<Pin, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| CertificateError::Unusable {
        subject: "a certificate".to_owned(),
        detail: error.to_string(),
    })?;
    Ok(Pin::of_public_key(parsed.public_key().raw))
}
