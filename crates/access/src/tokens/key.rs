//! The keys of tokens: the one that signs, those that verify, and what the world may know of them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::TokenError;
use crate::files::{Visibility, read_optional, write_atomically};

/// What a PEM block of a public key is called (RFC 7468).
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// The public half of a key: verifies tokens, and stands in the key set.
#[derive(Clone)]
pub struct VerificationKey {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    pub(super) jwk: Jwk,
    id: String,
    der: Vec<u8>,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// Of a PEM public key (`PUBLIC KEY`): ECDSA P-256 or RSA.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let block = ::pem::parse(pem).map_err(|error| unusable(error.to_string()))?;
        if block.tag() != PUBLIC_KEY {
            return Err(unusable(format!("it is a {}, not a {PUBLIC_KEY}", block.tag())));
        }
        Self::from_der(block.contents())
    }

    fn from_der(der: &[u8]) -> Result<Self, TokenError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| unusable(error.to_string()))?;
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // The key's id is the digest of its public key, as upstream's: the same key has the same id everywhere.
        let id = encode(&Sha256::digest(der));
        let (algorithm, mut jwk) = match info.parsed().map_err(|error| unusable(error.to_string()))? {
            PublicKey::EC(point) => match point.data() {
                // An uncompressed point of P-256: 4, x, y (SEC 1).
                [4, coordinates @ ..] if coordinates.len() == 64 => {
                    let (x, y) = coordinates.split_at(32);
                    (Algorithm::ES256, json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}))
                }
                _ => return Err(unusable("of elliptic curves only P-256 is supported".to_owned())),
            },
            PublicKey::RSA(key) => {
                let trimmed = |number: &[u8]| {
                    let zeros = number.iter().take_while(|byte| **byte == 0).count();
                    encode(number.get(zeros..).unwrap_or_default())
                };
                (
                    Algorithm::RS256,
                    json!({"kty": "RSA", "n": trimmed(key.modulus), "e": trimmed(key.exponent)}),
                )
            }
            _ => return Err(unusable("only ECDSA P-256 and RSA keys verify tokens".to_owned())),
        };
        jwk["kid"] = id.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = algorithm_name(algorithm).into();
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|error| unusable(error.to_string()))?;
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { algorithm, decoding, jwk, id, der: der.to_vec() })
    }

    /// What the tokens it verifies name it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        ::pem::encode(&::pem::Pem::new(PUBLIC_KEY, self.der.clone()))
    }
}

pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::RS256 { "RS256" } else { "ES256" }
}

fn unusable(detail: String) -> TokenError {
    TokenError::Key { detail }
}

/// An ECDSA P-256 or RSA key. Does not print.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) encoding: EncodingKey,
    pub(super) public: VerificationKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new ECDSA P-256 key that lives in memory only.
    ///
    /// # Errors
    /// [`TokenError::Key`] when the machine yields none.
    pub fn ephemeral() -> Result<Self, TokenError> {
        Self::from_pem(&generate()?)
    }

    /// The key kept in `path` as PKCS #8 PEM, made on first use.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`], [`TokenError::Key`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let file = |source| TokenError::KeyFile { path: path.to_owned(), source };
        match read_optional(path).map_err(file)? {
            Some(pem) => Self::from_pem(&pem),
            None => Self::create(path),
        }
    }

    /// A new key in `path`, in the place of what is there.
    pub(super) fn create(path: &Path) -> Result<Self, TokenError> {
        let pem = generate()?;
        write_atomically(path, pem.as_bytes(), Visibility::Private)
            .map_err(|source| TokenError::KeyFile { path: path.to_owned(), source })?;
        Self::from_pem(&pem)
    }

    /// Of a PKCS #8 PEM private key: ECDSA P-256 signs ES256, RSA signs RS256.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let pair = KeyPair::from_pem(pem).map_err(|error| unusable(error.to_string()))?;
        let public = VerificationKey::from_der(&pair.subject_public_key_info())?;
        let encoding = match public.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        Ok(Self { encoding: encoding.map_err(|error| unusable(error.to_string()))?, public })
    }

    /// The half that may be shown.
    #[must_use]
    pub fn public(&self) -> &VerificationKey {
        &self.public
    }
}

fn generate() -> Result<String, TokenError> {
    let pair = KeyPair::generate().map_err(|error| TokenError::Key { detail: error.to_string() })?;
    Ok(pair.serialize_pem())
}
