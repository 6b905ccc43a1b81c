//! Signatures beside an artifact, as `cosign sign --key` makes them: under the tag `sha256-DIGEST.sig` of its repository lies a
//! manifest whose layers are small JSON texts that name the digest; each layer's annotation is a signature of its text.
//!
//! Keys are ECDSA on P-256 or Ed25519, in PEM. What a transparency log or a certificate says is not looked at.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::client::{Client, Got};
use super::{Place, check, manifest};
use crate::error::Error;

const SIGNED: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// A text that names a digest is some 300 bytes.
const MAX_TEXT: usize = 64 << 10;
/// Keys at most, and signatures looked at.
const MAX_KEYS: usize = 10;
const MAX_SIGNATURES: usize = 50;
/// What a SubjectPublicKeyInfo of each kind begins with (RFC 5480, RFC 8410); the key itself follows.
pub(super) const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const EDWARDS: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key.
pub(super) struct Key(UnparsedPublicKey<Vec<u8>>);

#[derive(Deserialize)]
struct Text {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
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

/// Whether one of the keys signed a digest.
pub(super) async fn verify(
    client: &mut Client,
    place: &Place<'_>,
    digest: &str,
    keys: &[Key],
) -> Result<(), Error> {
    let not_signed =
        |said: String| Error::NotSigned { what: format!("artifact {}@{digest}", place.repository), said };
    let tag = format!("{}.sig", digest.replace(':', "-"));
    let beside = Place { version: &tag, ..*place };
    let (_, signatures) = manifest(client, &beside)
        .await
        .map_err(|error| not_signed(format!("its signatures cannot be read: {}", error.chain())))?;
    let mut said = "no signature is there".to_owned();
    for layer in signatures.layers.iter().filter(|layer| layer.media_type == SIGNED).take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok())
        else {
            continue;
        };
        let path = format!("/v2/{}/blobs/{}", place.repository, layer.digest);
        let Got { body, .. } = client.get(&path, "*/*", MAX_TEXT).await?;
        check(&body, &layer.digest, place.repository)?;
        if !keys.iter().any(|key| key.0.verify(&body, &signature).is_ok()) {
            "it is signed by others".clone_into(&mut said);
            continue;
        }
        // A good signature of something else is none of this.
        let text: Option<Text> = serde_json::from_slice(&body).ok();
        let names_it = text.is_some_and(|text| {
            text.critical.image.docker_manifest_digest == digest
                && text.critical.kind == "cosign container image signature"
        });
        if names_it {
            return Ok(());
        }
        "its signature is of another artifact".clone_into(&mut said);
    }
    Err(not_signed(said))
}
