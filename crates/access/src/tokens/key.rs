//! The key that signs tokens, and what the world may know of it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use super::TokenError;
use crate::files::{Visibility, read_optional, write_atomically};

/// An ECDSA P-256 or RSA key. Does not print.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    pub(super) id: String,
    jwk: Jwk,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new ECDSA P-256 key that lives in memory only.
    ///
    /// # Errors
    /// [`TokenError::Key`] when the machine yields none.
    pub fn ephemeral() -> Result<Self, TokenError> {
        let pair = KeyPair::generate().map_err(|error| TokenError::Key { detail: error.to_string() })?;
        Self::from_pem(&pair.serialize_pem())
    }

    /// The key kept in `path` as PKCS #8 PEM, made on first use.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`], [`TokenError::Key`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let file = |source| TokenError::KeyFile { path: path.to_owned(), source };
        if let Some(pem) = read_optional(path).map_err(file)? {
            return Self::from_pem(&pem);
        }
        let pair = KeyPair::generate().map_err(|error| TokenError::Key { detail: error.to_string() })?;
        let pem = pair.serialize_pem();
        write_atomically(path, pem.as_bytes(), Visibility::Private).map_err(file)?;
        Self::from_pem(&pem)
    }

    /// Of a PKCS #8 PEM private key: ECDSA P-256 signs ES256, RSA signs RS256.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let bad = |detail: String| TokenError::Key { detail };
        let pair = KeyPair::from_pem(pem).map_err(|error| bad(error.to_string()))?;
        let (algorithm, encoding) = if pair.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem.as_bytes()))
        } else if pair.is_compatible(&rcgen::PKCS_RSA_SHA256) {
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem.as_bytes()))
        } else {
            return Err(bad("only ECDSA P-256 and RSA keys sign tokens".to_owned()));
        };
        let encoding = encoding.map_err(|error| bad(error.to_string()))?;
        // The key's id is the digest of its public key, as upstream's: the same key has the same id everywhere.
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        let mut jwk = Jwk::from_encoding_key(&encoding, algorithm).map_err(|error| bad(error.to_string()))?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| bad(error.to_string()))?;
        Ok(Self { algorithm, encoding, decoding, id, jwk })
    }

    pub(super) fn key_set(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk.clone()] }
    }

    pub(super) fn algorithm_name(&self) -> &'static str {
        if self.algorithm == Algorithm::RS256 { "RS256" } else { "ES256" }
    }
}
