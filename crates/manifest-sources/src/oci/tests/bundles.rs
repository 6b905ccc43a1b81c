//! Signatures in bundles that refer to an artifact.

use aws_lc_rs::digest;
use aws_lc_rs::signature::Ed25519KeyPair;
use serde_json::Value;

use super::*;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";

type Files = BTreeMap<String, Vec<u8>>;

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", fleet_planner::digest(bytes))
}

/// The artifact's manifest.
fn subject() -> String {
    manifest_of(&layer())
}

fn of_key(content: &Value) -> Value {
    let mut bundle = json!({"mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "pinned"}, "tlogEntries": []}});
    bundle.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    bundle
}

/// A signed statement about a digest, as cosign makes it.
fn statement(pair: &EcdsaKeyPair, predicate: &str, digest: &str) -> Value {
    envelope(pair, "https://in-toto.io/Statement/v1", predicate, digest)
}

fn envelope(pair: &EcdsaKeyPair, kind: &str, predicate: &str, digest: &str) -> Value {
    let payload = json!({"_type": kind, "predicateType": predicate, "predicate": {},
        "subject": [{"digest": {"sha256": digest.trim_start_matches("sha256:")}, "annotations": {}}]});
    let payload = payload.to_string().into_bytes();
    let kind = "application/vnd.in-toto+json";
    // By hand, as DSSE's specification writes it.
    let message = [format!("DSSEv1 28 {kind} {} ", payload.len()).as_bytes(), &payload].concat();
    of_key(&json!({"dsseEnvelope": {"payload": STANDARD.encode(&payload), "payloadType": kind,
        "signatures": [{"sig": STANDARD.encode(sign(pair, &message)), "keyid": ""}]}}))
}

/// The signature of a manifest itself, which says of itself that it is of `digest`.
fn message(signature: &[u8], of: &[u8]) -> Value {
    let digest = digest::digest(&digest::SHA256, of);
    of_key(&json!({"messageSignature": {"signature": STANDARD.encode(signature),
        "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(digest)}}}))
}

/// What a registry has when these bundles refer to `of`; the list is at `list`.
fn referring(bundles: &[Value], of: &str, list: &str) -> Files {
    let mut files = Files::new();
    let mut listed = Vec::new();
    for bundle in bundles {
        let bundle = bundle.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": BUNDLE, "subject": {"digest": of, "mediaType": "x", "size": 1},
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2},
            "layers": [{"mediaType": BUNDLE, "digest": digest_of(&bundle), "size": bundle.len()}]});
        let manifest = manifest.to_string().into_bytes();
        listed
            .push(json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": BUNDLE,
            "digest": digest_of(&manifest), "size": manifest.len()}));
        files.insert(format!("blobs/{}", digest_of(&bundle)), bundle);
        files.insert(format!("manifests/{}", digest_of(&manifest)), manifest);
    }
    files.insert(list.to_owned(), index(&listed));
    files
}

fn index(listed: &[Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": listed});
    index.to_string().into_bytes()
}

/// The path of the list, by the API.
fn by_api() -> String {
    format!("referrers/{}", digest_of(subject().as_bytes()))
}

async fn pull(files: Files, keys: &str) -> Result<String, String> {
    let (address, _) = registry_with(layer(), layer(), files).await;
    let into = tempfile::tempdir().unwrap();
    let wanted = Artifact { signers: Some(keys.to_owned()), ..artifact(&address, "v1", "s3cret") };
    let pulled = wanted.pull(into.path(), &Surroundings::Own, into.path()).await;
    if pulled.is_err() {
        assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0, "nothing is unpacked");
    }
    pulled.map(|(digest, _)| digest).map_err(|error| error.chain())
}

#[tokio::test]
async fn a_bundle_of_a_listed_key_that_refers_to_an_artifact_is_its_signature() {
    let (own, other) = (pair(), pair());
    let subject = subject();
    let digest = digest_of(subject.as_bytes());
    let signature = message(&sign(&own, subject.as_bytes()), subject.as_bytes());
    let signed = statement(&own, SIGNS, &digest);
    let edwards = Ed25519KeyPair::generate().unwrap();
    let mut der = signature::EDWARDS.to_vec();
    der.extend_from_slice(edwards.public_key().as_ref());
    let edwards_pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let by_edwards = message(edwards.sign(subject.as_bytes()).as_ref(), subject.as_bytes());
    let by_tag = format!("manifests/{}", digest.replace(':', "-"));
    let noise = statement(&other, SIGNS, &digest);
    for (bundles, list, keys) in [
        (vec![signed.clone()], by_api(), pem(&own)),
        (vec![signed.clone()], by_tag, pem(&own)),
        (vec![signature], by_api(), pem(&own)),
        (vec![by_edwards], by_api(), edwards_pem),
        (vec![noise.clone(), json!({"mediaType": "?"}), signed, noise], by_api(), pem(&own)),
    ] {
        assert_eq!(pull(referring(&bundles, &digest, &list), &keys).await.as_ref(), Ok(&digest));
    }
}

#[tokio::test]
async fn a_list_of_several_pages_is_read_to_its_end() {
    let own = pair();
    let digest = digest_of(subject().as_bytes());
    let mut files = referring(&[statement(&own, SIGNS, &digest)], &digest, &format!("{}?page=2", by_api()));
    files.insert(by_api(), index(&[]));
    assert_eq!(pull(files, &pem(&own)).await.unwrap(), digest);
}

#[tokio::test]
async fn what_is_no_signature_of_the_artifact_by_a_listed_key_is_refused_with_its_reason() {
    let (own, other) = (pair(), pair());
    let subject = subject();
    let digest = digest_of(subject.as_bytes());
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    let good = statement(&own, SIGNS, &digest);
    let with = |pointer: &str, value: Value| {
        let mut bundle = good.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        bundle
    };
    let certificate = json!({"certificate": {"rawBytes": "AAAA"}});
    let two = json!([good["dsseEnvelope"]["signatures"][0], good["dsseEnvelope"]["signatures"][0]]);
    let mut both = good.clone();
    both["messageSignature"] = json!({"signature": "AAAA"});
    let text = json!("text/plain");
    for (bundle, part) in [
        (statement(&other, SIGNS, &digest), "it is signed by others"),
        (statement(&own, SIGNS, &elsewhere), "its signature is of another artifact"),
        (
            statement(&own, "https://slsa.dev/provenance/v1", &digest),
            "attests \"https://slsa.dev/provenance/v1\"",
        ),
        (message(&sign(&other, subject.as_bytes()), subject.as_bytes()), "it is signed by others"),
        (message(&sign(&own, b"else"), b"else"), "its signature is of another artifact"),
        (message(&sign(&own, b"else"), subject.as_bytes()), "it is signed by others"),
        (with("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.9+json")), "of an unknown kind"),
        (with("/verificationMaterial", certificate), "only signatures by keys"),
        (with("/verificationMaterial", json!({})), "says of no key"),
        (with("/dsseEnvelope/payloadType", text), "holds something unknown (\"text/plain\")"),
        (with("/dsseEnvelope/signatures", two), "must have one signature"),
        (with("/dsseEnvelope/signatures/0/sig", json!("?")), "not base64"),
        (with("/dsseEnvelope", Value::Null), "either a signature or an envelope"),
        (both, "either a signature or an envelope"),
        (json!("nonsense"), "a bundle cannot be read"),
    ] {
        let said = pull(referring(&[bundle], &digest, &by_api()), &pem(&own)).await.unwrap_err();
        assert!(said.contains("has no signature of an allowed signer") && said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn a_hostile_list_of_referrers_is_refused() {
    let own = pair();
    let digest = digest_of(subject().as_bytes());
    let good = statement(&own, SIGNS, &digest);
    // A good signature of this artifact, in a manifest that refers to another.
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    let stray = referring(std::slice::from_ref(&good), &elsewhere, &by_api());
    let mut swapped = referring(std::slice::from_ref(&good), &digest, &by_api());
    let blob = swapped.keys().find(|path| path.starts_with("blobs/")).unwrap().clone();
    swapped.insert(blob, b"{}".to_vec());
    let mut large = referring(&[json!({"pad": "x".repeat(2 << 20)})], &digest, &by_api());
    large.retain(|path, _| !path.starts_with("blobs/"));
    let list = |content: Vec<u8>| Files::from([(by_api(), content)]);
    let entry = |digest: &str| json!({"artifactType": BUNDLE, "digest": digest, "size": 1});
    let many: Vec<Value> = (0..60).map(|each| entry(&format!("sha256:{each:064}"))).collect();
    for (files, part) in [
        (stray, "is listed and does not refer to it"),
        (swapped, "the registry sent sha256:"),
        (large, "larger than"),
        (list(b"no list".to_vec()), "the list of what refers to it cannot be read"),
        (list(index(&[entry("../../other/manifests/v1")])), "which is no digest"),
        (list(index(&[json!({"artifactType": "text/plain", "digest": elsewhere})])), "no signature is there"),
        (list(index(&many)), "of its 60 bundles only 50 are looked at"),
        (list(vec![b' '; 5 << 20]), "cannot GET /v2/shop/app/referrers/"),
    ] {
        let said = pull(files, &pem(&own)).await.unwrap_err();
        assert!(said.contains("has no signature of an allowed signer") && said.contains(part), "{said}");
    }
}
