use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "Bearer let-me-in";

/// A registry with one artifact, which asks for a token and redirects blobs.
async fn registry(layer: Vec<u8>, sends: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let digest = format!("sha256:{}", fleet_planner::digest(&layer));
    let manifest = json!({"schemaVersion": 2, "layers": [
        {"mediaType": "application/vnd.example.config.v1+json", "digest": digest, "size": 1},
        {"mediaType": "application/vnd.cncf.flux.content.v1.tar+gzip", "digest": digest, "size": layer.len()}]});
    let (manifest, own) = (manifest.to_string(), address.clone());
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let (manifest, own, log, sends) =
                (manifest.clone(), own.clone(), Arc::clone(&log), sends.clone());
            let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let path = request.uri().to_string();
                let authorization = request.headers().get("authorization");
                let authorization = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
                log.lock().unwrap().push(path.clone());
                let of = |status: u16, body: Vec<u8>| {
                    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
                };
                let response = if path.starts_with("/token?") {
                    let known = authorization == "Basic Ym90OnMzY3JldA==";
                    of(if known { 200 } else { 403 }, br#"{"token": "let-me-in"}"#.to_vec())
                } else if path.starts_with("/elsewhere") {
                    of(200, sends.clone())
                } else if authorization != TOKEN {
                    let mut refused = of(401, Vec::new());
                    let challenge =
                        format!(r#"Bearer realm="http://{own}/token",service="own",scope="pull""#);
                    refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
                    refused
                } else if path == "/v2/shop/app/manifests/v1" {
                    of(200, manifest.clone().into_bytes())
                } else if path.starts_with("/v2/shop/app/blobs/") {
                    let mut moved = of(307, Vec::new());
                    moved.headers_mut().insert("location", "/elsewhere/blob".parse().unwrap());
                    moved
                } else {
                    of(404, Vec::new())
                };
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    (address, seen)
}

fn layer() -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_cksum();
    builder.append_data(&mut header, "deploy/map.yaml", text.as_bytes()).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn artifact(address: &str, tag: &str, password: &str) -> Artifact {
    Artifact {
        url: format!("oci://{address}/shop/app"),
        version: Version::Tag(tag.into()),
        credentials: Some(Login { user: "bot".into(), password: password.into() }),
        plain_http: true,
    }
}

#[tokio::test]
async fn an_artifact_is_pulled_with_a_token_and_checked() {
    let (address, seen) = registry(layer(), layer()).await;
    let into = tempfile::tempdir().unwrap();
    let wanted = artifact(&address, "v1", "s3cret");
    let (digest, content) = wanted.pull(into.path()).await.unwrap();
    assert!(content.join("deploy/map.yaml").is_file());
    assert_eq!(wanted.resolve().await.unwrap(), digest);
    assert!(seen.lock().unwrap().iter().any(|path| path == "/token?service=own&scope=pull"));
    let missing = artifact(&address, "v2", "s3cret").resolve().await.unwrap_err().to_string();
    assert!(missing.contains("404"), "{missing}");
    let refused = artifact(&address, "v1", "wrong").resolve().await.unwrap_err().to_string();
    assert!(refused.contains("403") && !refused.contains("wrong"), "{refused}");
    let other = Artifact { version: Version::Digest(format!("sha256:{}", "0".repeat(64))), ..wanted };
    assert!(other.pull(into.path()).await.is_err(), "a digest that is not there");
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused() {
    let (address, _) = registry(layer(), b"something else".to_vec()).await;
    let into = tempfile::tempdir().unwrap();
    let said = artifact(&address, "v1", "s3cret").pull(into.path()).await.unwrap_err().to_string();
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
