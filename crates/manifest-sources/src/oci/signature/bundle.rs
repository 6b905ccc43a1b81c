//! Signatures in Sigstore bundles that refer to the artifact, as `cosign` makes them from its third version on: a signed in-toto
//! statement that names the artifact's digest, or a signature of the artifact's manifest itself.
//!
//! Formats: cosign's `specs/BUNDLE_SPEC.md`, Sigstore's `sigstore_bundle.proto` (0.3), DSSE 1.0, in-toto's Statement. Only
//! signatures by keys count: whoever is behind a certificate is not found out.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{BY_OTHERS, Key, OF_ANOTHER, Reasons};
use crate::client::Client;
use crate::error::Error;
use crate::oci::{Fetched, Place, blob, referrers};

/// How bundles of every version are called in a list.
const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
/// The version that is understood, in both its spellings.
const UNDERSTOOD: [&str; 2] =
    ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"];
const STATEMENT: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";
/// A signature with its entry of a log takes some ten kilobytes; what else is attested lies there, too.
const MAX_BUNDLE: usize = 1 << 20;
/// Bundles looked at.
const MAX_BUNDLES: usize = 50;
const KEYLESS: &str = "it has a keyless signature (by a certificate, as of Fulcio), and only signatures by keys are \
                       looked at: sign it with a key (cosign sign --key)";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<IgnoredAny>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: Digests,
}

#[derive(Default, Deserialize)]
struct Digests {
    sha256: Option<String>,
}

/// Whether one of the keys signed the artifact in a bundle that refers to it; else `said` says why not.
pub(super) async fn verify(
    client: &mut Client,
    place: &Place<'_>,
    artifact: &Fetched,
    keys: &[Key],
    said: &mut Reasons,
) -> bool {
    let listed = match referrers::list(client, place, &artifact.digest).await {
        Ok(listed) => listed,
        Err(error) => {
            said.say(error.chain());
            return false;
        }
    };
    let mut bundles: Vec<_> =
        listed.into_iter().filter(|referrer| referrer.artifact_type.starts_with(BUNDLES)).collect();
    bundles.sort_by(|a, b| a.digest.cmp(&b.digest));
    bundles.dedup_by(|a, b| a.digest == b.digest);
    if bundles.len() > MAX_BUNDLES {
        said.say(format!("of its {} bundles only {MAX_BUNDLES} are looked at", bundles.len()));
    }
    for referrer in bundles.iter().take(MAX_BUNDLES) {
        let judged = match fetch(client, place, &referrer.digest, &artifact.digest).await {
            Ok(body) => judge(&body, artifact, keys),
            Err(error) => Err(format!("a bundle cannot be read: {}", error.chain())),
        };
        match judged {
            Ok(()) => return true,
            Err(reason) => said.say(reason),
        }
    }
    false
}

/// The bundle that a referrer holds.
async fn fetch(
    client: &mut Client,
    place: &Place<'_>,
    referrer: &str,
    subject: &str,
) -> Result<bytes::Bytes, Error> {
    let fetched = referrers::fetch(client, place, referrer, subject).await?;
    let mut layers = fetched.manifest.layers.iter();
    let Some(layer) = layers.find(|layer| layer.media_type.starts_with(BUNDLES)) else {
        return Err(Error::Invalid(format!("{referrer} holds none")));
    };
    if layer.size > MAX_BUNDLE as u64 {
        return Err(Error::Invalid(format!("it is larger than {MAX_BUNDLE} bytes")));
    }
    blob(client, place, &layer.digest, MAX_BUNDLE).await
}

/// Whether a bundle is a signature of the artifact by one of the keys, and else what it is.
fn judge(bundle: &[u8], artifact: &Fetched, keys: &[Key]) -> Result<(), String> {
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|error| format!("a bundle cannot be read: {error}"))?;
    if !UNDERSTOOD.contains(&bundle.media_type.as_str()) {
        return Err(format!("a bundle is of an unknown kind ({})", shown(&bundle.media_type)));
    }
    let material = &bundle.verification_material;
    if material.certificate.is_some() || material.x509_certificate_chain.is_some() {
        return Err(KEYLESS.to_owned());
    }
    if material.public_key.is_none() {
        return Err("a bundle says of no key that it signed".to_owned());
    }
    match (&bundle.message_signature, &bundle.dsse_envelope) {
        (Some(signature), None) => judge_message(signature, artifact, keys),
        (None, Some(envelope)) => judge_envelope(envelope, artifact, keys),
        _ => Err("a bundle must hold either a signature or an envelope".to_owned()),
    }
}

/// The signature of the manifest itself.
fn judge_message(message: &MessageSignature, artifact: &Fetched, keys: &[Key]) -> Result<(), String> {
    if let Some(told) = &message.message_digest {
        if told.algorithm != "SHA2_256" {
            return Err(format!("a bundle's digest is of an unknown kind ({})", shown(&told.algorithm)));
        }
        if decoded(&told.digest)? != digest::digest(&digest::SHA256, &artifact.body).as_ref() {
            return Err(OF_ANOTHER.to_owned());
        }
    }
    let signature = decoded(&message.signature)?;
    let good = keys.iter().any(|key| key.signed(&artifact.body, &signature));
    if good { Ok(()) } else { Err(BY_OTHERS.to_owned()) }
}

/// The signature of a statement about the manifest.
fn judge_envelope(envelope: &Envelope, artifact: &Fetched, keys: &[Key]) -> Result<(), String> {
    if envelope.payload_type != STATEMENT {
        return Err(format!(
            "a bundle's envelope holds something unknown ({})",
            shown(&envelope.payload_type)
        ));
    }
    // One, though DSSE would take more: Sigstore's bundles have no other.
    let [signature] = envelope.signatures.as_slice() else {
        return Err("a bundle's envelope must have one signature".to_owned());
    };
    let (payload, signature) = (decoded(&envelope.payload)?, decoded(&signature.sig)?);
    let message = encoded(&envelope.payload_type, &payload);
    if !keys.iter().any(|key| key.signed(&message, &signature)) {
        return Err(BY_OTHERS.to_owned());
    }
    let statement: Statement = serde_json::from_slice(&payload)
        .map_err(|error| format!("a bundle's statement cannot be read: {error}"))?;
    if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
        return Err(format!("a bundle's statement is of an unknown kind ({})", shown(&statement.kind)));
    }
    if statement.predicate_type != SIGNS {
        return Err(format!("a bundle attests {} and is no signature", shown(&statement.predicate_type)));
    }
    let names = |subject: &Subject| subject.digest.sha256.as_deref() == Some(own(artifact));
    if statement.subject.iter().any(names) { Ok(()) } else { Err(OF_ANOTHER.to_owned()) }
}

/// What is signed of an envelope: DSSE's "pre-authentication encoding".
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|_| "a bundle cannot be read: it is not base64 where it should be".to_owned())
}

fn own(artifact: &Fetched) -> &str {
    artifact.digest.trim_start_matches("sha256:")
}

/// A stranger's words, for a message.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
