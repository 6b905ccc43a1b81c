mod bundles;
mod provenance;

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use http_body_util::Full;
use hyper::Response;
use serde_json::json;

use super::*;
use crate::fixture::{packed, serve};

const TOKEN: &str = "Bearer let-me-in";

/// A registry with one artifact, which asks for a token and redirects blobs.
async fn registry(layer: Vec<u8>, sends: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    registry_with(layer, sends, BTreeMap::new()).await
}

fn manifest_of(layer: &[u8]) -> String {
    let digest = format!("sha256:{}", fleet_planner::digest(layer));
    let manifest = json!({"schemaVersion": 2, "layers": [
        {"mediaType": "application/vnd.example.config.v1+json", "digest": digest, "size": 1},
        {"mediaType": "application/vnd.cncf.flux.content.v1.tar+gzip", "digest": digest, "size": layer.len()}]});
    manifest.to_string()
}

/// And what else it has, by path below the repository.
async fn registry_with(
    layer: Vec<u8>,
    sends: Vec<u8>,
    more: BTreeMap<String, Vec<u8>>,
) -> (String, Arc<Mutex<Vec<String>>>) {
    registry_at("shop/app", layer, sends, more).await
}

async fn registry_at(
    repository: &'static str,
    layer: Vec<u8>,
    sends: Vec<u8>,
    more: BTreeMap<String, Vec<u8>>,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let below = format!("/v2/{repository}/");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (manifest, log) = (manifest_of(&layer), Arc::clone(&seen));
    let answering = |own: String| {
        let (sends, more) = (Arc::new(sends), Arc::new(more));
        move |request: http::Request<hyper::body::Incoming>| {
            let path = request.uri().to_string();
            let authorization = request.headers().get("authorization");
            let authorization = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
            log.lock().unwrap().push(path.clone());
            let of = |status: u16, body: Vec<u8>| {
                Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
            };
            if path.starts_with("/token?") {
                let known = authorization == "Basic Ym90OnMzY3JldA==";
                of(if known { 200 } else { 403 }, br#"{"token": "let-me-in"}"#.to_vec())
            } else if path.starts_with("/elsewhere") {
                of(200, sends.to_vec())
            } else if authorization != TOKEN {
                let mut refused = of(401, Vec::new());
                let challenge = format!(r#"Bearer realm="http://{own}/token",service="own",scope="pull""#);
                refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
                refused
            } else if let Some(body) = path.strip_prefix(&below).and_then(|path| more.get(path)) {
                let mut found = of(200, body.clone());
                if more.contains_key(&format!("{}?page=2", &path[below.len()..])) {
                    let next = format!("<{path}?page=2>; rel=\"next\"");
                    found.headers_mut().insert("link", next.parse().unwrap());
                }
                found
            } else if path == format!("{below}manifests/v1") {
                of(200, manifest.clone().into_bytes())
            } else if path.starts_with(&format!("{below}blobs/")) {
                let mut moved = of(307, Vec::new());
                moved.headers_mut().insert("location", "/elsewhere/blob".parse().unwrap());
                moved
            } else {
                of(404, Vec::new())
            }
        }
    };
    (serve(answering).await, seen)
}

fn layer() -> Vec<u8> {
    packed(&[("deploy/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")])
}

fn artifact(address: &str, tag: &str, password: &str) -> Artifact {
    Artifact {
        url: format!("oci://{address}/shop/app"),
        version: Version::Tag(tag.into()),
        credentials: Some(Login { user: "bot".into(), password: password.into() }),
        signers: None,
        chart_signers: None,
        plain_http: true,
    }
}

#[tokio::test]
async fn an_artifact_is_pulled_with_a_token_and_checked() {
    let (address, seen) = registry(layer(), layer()).await;
    let into = tempfile::tempdir().unwrap();
    let wanted = artifact(&address, "v1", "s3cret");
    let (digest, content) = wanted.pull(into.path(), &Surroundings::Own, into.path()).await.unwrap();
    assert!(content.join("deploy/map.yaml").is_file());
    assert_eq!(wanted.resolve().await.unwrap(), digest);
    assert!(seen.lock().unwrap().iter().any(|path| path == "/token?service=own&scope=pull"));
    let missing = artifact(&address, "v2", "s3cret").resolve().await.unwrap_err().to_string();
    assert!(missing.contains("404"), "{missing}");
    let refused = artifact(&address, "v1", "wrong").resolve().await.unwrap_err().to_string();
    assert!(refused.contains("403") && !refused.contains("wrong"), "{refused}");
    let other = Artifact { version: Version::Digest(format!("sha256:{}", "0".repeat(64))), ..wanted };
    assert!(
        other.pull(into.path(), &Surroundings::Own, into.path()).await.is_err(),
        "a digest that is not there"
    );
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused() {
    let (address, _) = registry(layer(), b"something else".to_vec()).await;
    let into = tempfile::tempdir().unwrap();
    let said = artifact(&address, "v1", "s3cret")
        .pull(into.path(), &Surroundings::Own, into.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("the registry sent sha256:"), "{said}");
}

#[tokio::test]
async fn references_that_lead_elsewhere_are_refused() {
    for (url, version) in [
        ("https://x/y", Version::default()),
        ("oci://x", Version::default()),
        ("oci://x/../y", Version::default()),
        ("oci://user@x/y", Version::default()),
        ("oci://x/y", Version::Tag("a/b".into())),
        ("oci://x/y", Version::Digest("sha256:abc".into())),
    ] {
        let artifact = Artifact { url: url.into(), version, ..Artifact::default() };
        assert!(matches!(artifact.resolve().await, Err(Error::Invalid(_))), "{url}");
    }
}

/// The public key of a pair.
fn pem(pair: &EcdsaKeyPair) -> String {
    let mut der = signature::P256.to_vec();
    der.extend_from_slice(pair.public_key().as_ref());
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

/// As `cosign sign --key` left it beside an artifact; answers what the registry has more, and the public key.
fn signed(digest: &str, names: &str) -> (BTreeMap<String, Vec<u8>>, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let text = json!({"critical": {"identity": {"docker-reference": "x"}, "image": {"docker-manifest-digest": names},
        "type": "cosign container image signature"}, "optional": null})
    .to_string();
    let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    let of_text = format!("sha256:{}", fleet_planner::digest(text.as_bytes()));
    let manifest = json!({"schemaVersion": 2, "layers": [{
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": of_text, "size": text.len(),
        "annotations": {"dev.cosignproject.cosign/signature": STANDARD.encode(signature.as_ref())}}]});
    let pem = pem(&pair);
    let tag = format!("manifests/{}.sig", digest.replace(':', "-"));
    let more = [(tag, manifest.to_string().into_bytes()), (format!("blobs/{of_text}"), text.into_bytes())];
    (more.into(), pem)
}

#[tokio::test]
async fn only_an_artifact_that_a_listed_key_signed_passes() {
    let digest = format!("sha256:{}", fleet_planner::digest(manifest_of(&layer()).as_bytes()));
    let other = format!("sha256:{}", "0".repeat(64));
    let (good, key) = signed(&digest, &digest);
    let (_, stranger) = signed(&digest, &digest);
    let (replayed, replayed_key) = signed(&digest, &other);
    for (more, keys, part) in [
        (good.clone(), format!("{stranger}{key}"), None),
        (good.clone(), stranger.clone(), Some("it is signed by others")),
        (BTreeMap::new(), key.clone(), Some("no signature is there")),
        (replayed, replayed_key, Some("its signature is of another artifact")),
        (good, "none".to_owned(), Some("there is none")),
    ] {
        let (address, _) = registry_with(layer(), layer(), more).await;
        let into = tempfile::tempdir().unwrap();
        let wanted = Artifact { signers: Some(keys), ..artifact(&address, "v1", "s3cret") };
        let pulled = wanted.pull(into.path(), &Surroundings::Own, into.path()).await;
        match part {
            None => assert_eq!(pulled.unwrap().0, digest),
            Some(part) => {
                let said = pulled.unwrap_err().to_string();
                assert!(said.contains(part), "{said}");
                assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0, "nothing is unpacked");
            }
        }
    }
    for pem in [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    ] {
        assert!(signature::keys(pem).is_err(), "{pem}");
    }
}
