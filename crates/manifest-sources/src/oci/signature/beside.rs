//! Signatures under a tag: at `sha256-DIGEST.sig` of the artifact's repository lies a manifest whose layers are small JSON texts
//! that name the digest; each layer's annotation is a signature of its text. So `cosign` signed before its third version.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{BY_OTHERS, Key, OF_ANOTHER, Reasons};
use crate::client::Client;
use crate::oci::{Place, blob, manifest};

const SIGNED: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// A text that names a digest is some 300 bytes.
const MAX_TEXT: usize = 64 << 10;
/// Signatures looked at.
const MAX_SIGNATURES: usize = 50;

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

/// Whether one of the keys signed a digest; else `said` says why not.
pub(super) async fn verify(
    client: &mut Client,
    place: &Place<'_>,
    digest: &str,
    keys: &[Key],
    said: &mut Reasons,
) -> bool {
    let tag = format!("{}.sig", digest.replace(':', "-"));
    let signatures = match manifest(client, &Place { version: &tag, ..*place }).await {
        Ok(found) => found.manifest,
        Err(error) if error.is_absent() => return false,
        Err(error) => {
            said.say(format!("its signatures cannot be read: {}", error.chain()));
            return false;
        }
    };
    for layer in signatures.layers.iter().filter(|layer| layer.media_type == SIGNED).take(MAX_SIGNATURES) {
        let signature = layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
        let Some(signature) = signature else { continue };
        let body = match blob(client, place, &layer.digest, MAX_TEXT).await {
            Ok(body) => body,
            Err(error) => {
                said.say(format!("a signature cannot be read: {}", error.chain()));
                continue;
            }
        };
        if !keys.iter().any(|key| key.signed(&body, &signature)) {
            said.say(BY_OTHERS);
        } else if names(&body, digest) {
            return true;
        } else {
            said.say(OF_ANOTHER);
        }
    }
    false
}

/// A good signature of something else is none of this.
fn names(text: &[u8], digest: &str) -> bool {
    let text: Option<Text> = serde_json::from_slice(text).ok();
    text.is_some_and(|text| {
        text.critical.image.docker_manifest_digest == digest
            && text.critical.kind == "cosign container image signature"
    })
}
