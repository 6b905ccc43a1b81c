//! Signatures of an artifact, as `cosign sign --key` makes them: in a bundle that refers to it (`bundle`), or beside it under a
//! tag (`beside`). One good signature is enough; what else lies there takes nothing from it.
//!
//! Keys are ECDSA on P-256 or Ed25519, in PEM. What a transparency log or a certificate says is not looked at.

mod beside;
mod bundle;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Fetched, Place};
use crate::client::Client;
use crate::error::Error;

/// Keys at most.
const MAX_KEYS: usize = 10;
/// Reasons told of an artifact that is not signed.
const MAX_SAID: usize = 5;
/// What a SubjectPublicKeyInfo of each kind begins with (RFC 5480, RFC 8410); the key itself follows.
pub(super) const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
pub(super) const EDWARDS: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key.
pub(super) struct Key(UnparsedPublicKey<Vec<u8>>);

impl Key {
    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}

/// The keys of a PEM text.
pub(super) fn keys(pem: &str) -> Result<Vec<Key>, Error> {
    let invalid = |why: &str| Error::Invalid(format!("the public keys of signers: {why}"));
    let mut keys = Vec::new();
    for block in pem.split("-----BEGIN ").skip(1) {
        let block = block
            .strip_prefix("PUBLIC KEY-----")
            .ok_or_else(|| invalid("only PUBLIC KEY blocks are taken"))?;
        let (body, _) =
            block.split_once("-----END PUBLIC KEY-----").ok_or_else(|| invalid("a block has no end"))?;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| invalid("a block is not base64"))?;
        let algorithm: (&'static dyn VerificationAlgorithm, &[u8]) = match () {
            () if der.len() == P256.len() + 65 && der.starts_with(&P256) => {
                (&ECDSA_P256_SHA256_ASN1, &der[P256.len()..])
            }
            () if der.len() == EDWARDS.len() + 32 && der.starts_with(&EDWARDS) => {
                (&ED25519, &der[EDWARDS.len()..])
            }
            () => return Err(invalid("one is neither ECDSA on P-256 nor Ed25519")),
        };
        keys.push(Key(UnparsedPublicKey::new(algorithm.0, algorithm.1.to_vec())));
    }
    match keys.len() {
        0 => Err(invalid("there is none")),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(invalid("there are more than 10")),
    }
}

/// Checks that public keys of signers can be read.
///
/// # Errors
/// When they cannot, or there are too many or none.
pub fn check_keys(pem: &str) -> Result<(), Error> {
    keys(pem).map(drop)
}

/// Whether one of the keys signed an artifact.
pub(super) async fn verify(
    client: &mut Client,
    place: &Place<'_>,
    artifact: &Fetched,
    keys: &[Key],
) -> Result<(), Error> {
    let mut said = Reasons::default();
    if beside::verify(client, place, &artifact.digest, keys, &mut said).await
        || bundle::verify(client, place, artifact, keys, &mut said).await
    {
        return Ok(());
    }
    let what = format!("artifact {}@{}", place.repository, artifact.digest);
    Err(Error::NotSigned { what, said: said.told() })
}

/// Why what was found is no signature of an allowed signer, each reason once.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    fn say(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.0.len() < MAX_SAID && !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }

    fn told(self) -> String {
        if self.0.is_empty() { "no signature is there".to_owned() } else { self.0.join("; ") }
    }
}

/// What both ways say.
const BY_OTHERS: &str = "it is signed by others";
const OF_ANOTHER: &str = "its signature is of another artifact";
