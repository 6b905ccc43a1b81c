//! A second API server of ours behind the first.

use std::time::Duration;

use access::certificates::{ClientSubject, ServerNames};
use access::tls::{ClientIdentity, ServerCertificate, server_config};
use access::{Authenticator, CertificateAuthority};
use apiserver::Ownership;
use apiserver::aggregation::{FRONT_PROXY_NAME, FrontProxy};
use arc_swap::ArcSwap;
use base64::Engine as _;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Running {
    handle: Handle,
    _stop: DropGuard,
}

async fn run(options: Options) -> Running {
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    Running { handle, _stop: stop.drop_guard() }
}

async fn ask(handle: &Handle, user: &UserInfo, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    read(handle.request(user.clone(), request).await).await
}

fn root() -> UserInfo {
    UserInfo::new("root", &["system:masters"])
}

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

const THINGS: &str = "/apis/example.org/v1/namespaces/default/things";

async fn pair() -> (Running, Running, Value) {
    let serving = CertificateAuthority::ephemeral("serving").unwrap();
    let front = CertificateAuthority::ephemeral("front").unwrap();
    let names = ServerNames { dns: vec!["sample.default.svc".to_owned()], addresses: Vec::new() };
    let certificate = ServerCertificate::new(&serving.issue_server("sample", &names, HOUR).unwrap()).unwrap();
    let catalogue =
        Catalogue::control_plane().with_custom_resource(&definition(), Ownership::default()).unwrap();
    let behind = Options {
        authenticator: Some(
            Authenticator::new(true)
                .with_front_proxy(front.certificate(), vec![FRONT_PROXY_NAME.to_owned()])
                .unwrap(),
        ),
        tls: Some(server_config(&certificate).unwrap()),
        bind: Some("127.0.0.1:0".parse().unwrap()),
        ..Options::new(Arc::new(MemoryStore::default()), catalogue)
    };
    let behind = run(behind).await;
    let subject = ClientSubject { user: FRONT_PROXY_NAME.to_owned(), groups: Vec::new() };
    let issued = front.issue_client(&subject, HOUR).unwrap();
    let identity = ClientIdentity { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem };
    let before = Options {
        front_proxy: Some(FrontProxy {
            authority_pem: front.bundle_pem().to_owned(),
            identity: Arc::new(ArcSwap::from_pointee(identity)),
        }),
        ..Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster())
    };
    let before = run(before).await;
    let api_service = json!({"metadata": {"name": "v1.example.org"}, "spec": {
        "group": "example.org", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15,
        "caBundle": base64::engine::general_purpose::STANDARD.encode(serving.bundle_pem()),
        "service": {"namespace": "default", "name": "sample", "port": 443}}});
    (before, behind, api_service)
}

async fn create(front: &Running, path: &str, object: &Value) {
    let (code, answer) = ask(&front.handle, &root(), Method::POST, path, object).await;
    assert_eq!(code, 201, "{answer}");
}

/// The reason of its condition, once it is one of these.
async fn until_reason(front: &Running, wanted: &str) -> Value {
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.example.org";
    let waiting = async {
        loop {
            let (_, found) = ask(&front.handle, &root(), Method::GET, path, &Value::Null).await;
            let condition = &found["status"]["conditions"][0];
            if condition["reason"] == wanted {
                return condition.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), waiting).await.unwrap()
}

#[tokio::test]
async fn a_second_server_is_reached_through_the_first_as_whoever_asks() {
    let (front, behind, api_service) = pair().await;
    create(&front, "/apis/apiregistration.k8s.io/v1/apiservices", &api_service).await;
    until_reason(&front, "ServiceNotFound").await;
    let (code, _) = ask(&front.handle, &root(), Method::GET, THINGS, &Value::Null).await;
    assert_eq!(code, 503, "nobody answers there yet");
    let port = behind.handle.address().unwrap().port();
    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"port": 443}]}});
    create(&front, "/api/v1/namespaces/default/services", &service).await;
    until_reason(&front, "EndpointsNotFound").await;
    // Loopback addresses are no endpoints to Kubernetes' validation: the host's name leads there instead.
    let external = json!({"spec": {"type": "ExternalName", "externalName": "127.0.0.1", "clusterIP": null,
        "clusterIPs": null, "ports": [{"port": port}]}});
    let mut moved = api_service.clone();
    moved["spec"]["service"]["port"] = json!(port);
    for (path, patch) in [
        ("/api/v1/namespaces/default/services/sample", &external),
        ("/apis/apiregistration.k8s.io/v1/apiservices/v1.example.org", &json!({"spec": moved["spec"]})),
    ] {
        let body = Full::new(Bytes::from(patch.to_string())).map_err(|never| match never {}).boxed_unsync();
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        let answer = front.handle.request(root(), request.body(body).unwrap()).await;
        let (code, answer) = read(answer).await;
        assert_eq!(code, 200, "{answer}");
    }
    let passed = until_reason(&front, "Passed").await;
    assert_eq!((&passed["status"], &passed["message"]), (&json!("True"), &json!("all checks passed")));
    let ada = UserInfo::new("ada", &["dev", "system:authenticated"]);
    let thing = json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}});
    let (code, created) = ask(&front.handle, &ada, Method::POST, THINGS, &thing).await;
    assert_eq!((code, &created["metadata"]["name"]), (201, &json!("t")), "{created}");
    let (_, there) = ask(&behind.handle, &root(), Method::GET, &format!("{THINGS}/t"), &Value::Null).await;
    assert_eq!(there["metadata"]["uid"], created["metadata"]["uid"]);
    let (_, groups) = ask(&front.handle, &ada, Method::GET, "/apis", &Value::Null).await;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"example.org") && names.contains(&"apps"), "{names:?}");
    let (_, resources) = ask(&front.handle, &ada, Method::GET, "/apis/example.org/v1", &Value::Null).await;
    assert_eq!(resources["resources"][0]["name"], "things");
    let (_, own) = ask(
        &front.handle,
        &ada,
        Method::GET,
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps",
        &Value::Null,
    )
    .await;
    assert_eq!(own["status"]["conditions"][0]["reason"], "Local", "{own}");
    assert_eq!(own["spec"]["groupPriorityMinimum"], 17_800);
}
