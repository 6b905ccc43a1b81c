//! An agent that was taken over plays its scripts: it has a genuine certificate, key and connection, and reaches nothing
//! beyond its own partition. Rows of the threat model about agents (docs/design/threat-model.md); the matrix of verbs and
//! resources is in `trust`.

use agent_protocol::endpoint;
use fleet_objects::{AGENT_GROUP, Assignment, Cluster, condition};
use http::Method;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::Pem;

use crate::bench::{Bench, eventually};
use crate::config_map;

async fn send(client: &Client, method: Method, path: &str, body: Vec<u8>) -> (u16, Value) {
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = client.send(request.body(kube::client::Body::from(body)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn post(client: &Client, path: &str, body: &Value) -> (u16, Value) {
    send(client, Method::POST, path, body.to_string().into_bytes()).await
}

/// A signing request that claims to be somebody.
fn request(key: &KeyPair, names: &[&str], groups: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn subject(certificate_pem: &str) -> String {
    let block = Pem::iter_from_buffer(certificate_pem.as_bytes()).next().unwrap().unwrap();
    block.parse_x509().unwrap().subject().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_signing_request_claims_the_certificate_is_for_the_cluster_that_asks() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let (dev, prod) = (bench.uid("dev").await, bench.uid("prod").await);
    let own = format!("fairlead:cluster:dev:{dev}");
    let agent = bench.agent_hub_client("dev");
    let key = KeyPair::generate().unwrap();
    let other = format!("fairlead:cluster:prod:{prod}");
    for (names, groups) in [
        (vec![other.as_str()], vec![AGENT_GROUP]),
        (vec!["fairlead:cluster:dev:"], vec!["system:masters"]),
        (vec!["kubernetes-admin"], vec!["system:masters", AGENT_GROUP]),
        (vec![own.as_str(), other.as_str()], vec![AGENT_GROUP]),
        (vec!["fairlead:cluster:dev:\u{0}", "fairlead:cluster:d\u{435}v:x"], vec![]),
        (vec![], vec![]),
    ] {
        let csr = request(&key, &names, &groups);
        let (code, answer) = post(&agent, endpoint::RENEW, &json!({"csrPem": csr})).await;
        assert_eq!(code, 200, "{names:?}: {answer}");
        let subject = subject(answer["certificatePem"].as_str().unwrap());
        assert!(subject.contains(&own) && !subject.contains(&other), "{names:?}: {subject}");
        assert!(!subject.contains("masters") && subject.matches("O=").count() == 1, "{groups:?}: {subject}");
    }
    // As another cluster, with a key that is not that cluster's.
    for (name, uid) in [("prod", &prod), ("prod", &dev), ("dev", &prod), ("", &dev), ("../prod", &prod)] {
        let body = json!({"name": name, "clusterUid": uid, "csrPem": request(&key, &[&other], &[])});
        let (code, answer) = post(&agent, endpoint::REATTEST, &body).await;
        assert!(matches!(code, 400 | 403), "{name}: {code} {answer}");
    }
    // Keys that were signed for are the registered ones from then on; the pin shows that the last request's is.
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let registered = clusters.get("dev").await.unwrap().status.unwrap().registration.unwrap();
    assert_eq!(registered.public_key_sha256, hex::encode(Sha256::digest(key.subject_public_key_info())));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_stays_in_its_own_partition() {
    let bench = Bench::start(&["dev", "prod"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    bench.applied("prod", "default.app").await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-prod");
    let agent = bench.agent_hub_client("dev");
    let epoch = "6f1c9c3e-0000-4000-8000-000000000001";
    let status = json!({"observedGeneration": 999, "objectCount": 7, "healthyCount": 7,
        "refusal": {"reason": "Forbidden", "message": "<script>alert(1)</script>", "generation": 999}});
    let names = [
        "default.app",
        "../../cluster-prod/assignments/default.app",
        "default.app/../../x",
        "\u{0}",
        "",
        "default.app%2f",
    ];
    let mut records = Vec::new();
    for (index, name) in names.iter().enumerate() {
        records.push(json!({
            "agentEpoch": epoch, "sequence": index + 1, "time": "2026-01-01T00:00:00Z",
            "kind": "Assignment", "data": {"name": name, "status": status},
        }));
    }
    let (code, answer) =
        post(&agent, endpoint::OUTBOX, &json!({"agentEpoch": epoch, "records": records})).await;
    // Taken whole or refused whole; what matters is where it goes.
    assert!(matches!(code, 200 | 400), "{code}: {answer}");
    let own: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    if code == 200 {
        eventually("its own status says what it said", || async {
            own.get("default.app").await.unwrap().status.unwrap().observed_generation == 999
        })
        .await;
    }
    let untouched = assignments.get("default.app").await.unwrap().status.unwrap();
    assert!(untouched.observed_generation < 999 && untouched.refusal.is_none(), "{untouched:?}");
    // Paths that lead out, and content that is not what its name says.
    let digest = "0".repeat(64);
    for path in [
        format!("{}/{digest}", endpoint::CONTENT),
        format!("{}/..%2f..%2fpki%2fca.key", endpoint::CONTENT),
        format!("{}/%2e%2e/%2e%2e/pki/ca.key", endpoint::CONTENT),
    ] {
        let (code, answer) = send(&agent, Method::PUT, &path, b"x".to_vec()).await;
        assert!((400..500).contains(&code), "PUT {path}: {code} {answer}");
        let (code, _) = send(&agent, Method::GET, &path, Vec::new()).await;
        assert!((400..500).contains(&code), "GET {path}: {code}");
    }
    // More than a batch may be, and garbage: refused, and the hub goes on.
    let (code, _) =
        post(&agent, endpoint::OUTBOX, &json!({"agentEpoch": epoch, "records": "x".repeat(40 << 20)})).await;
    assert!(matches!(code, 400 | 413), "{code}");
    assert_eq!(send(&agent, Method::POST, endpoint::OUTBOX, vec![0xff; 64]).await.0, 400);
    bench.connected("prod").await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_newer_than_its_hub_is_not_cut_off_by_what_the_hub_does_not_understand() {
    let bench = Bench::start(&["dev"]).await;
    let agent = bench.agent_hub_client("dev");
    let epoch = "6f1c9c3e-0000-4000-8000-000000000002";
    let record = |sequence: u64, kind: &str, data: Value| json!({"agentEpoch": epoch, "sequence": sequence, "time": jiff::Timestamp::now().to_string(), "kind": kind, "data": data});
    let records = json!([
        record(1, "FromTheFuture", json!({"a": [1]})),
        record(2, "Test", json!({"fromTheFuture": {"run": "r"}})),
        record(
            3,
            "Event",
            json!({"severity": "Warning", "reason": "Behind", "message": "is told all the same"})
        ),
    ]);
    let batch = json!({"agentEpoch": epoch, "records": records});
    assert_eq!(post(&agent, endpoint::OUTBOX, &batch).await, (200, json!({"through": 3, "duplicates": 0})));
    // Of objects without a namespace Kubernetes keeps Events in this one.
    let events: Api<Event> = Api::namespaced(bench.hub_client(), "default");
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let uid = clusters.get("dev").await.unwrap().metadata.uid;
    let told = || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let own = |event: &Event| event.involved_object.uid == uid;
        let told = all.into_iter().filter(own);
        told.map(|event| (event.reason.unwrap(), event.message.unwrap())).collect::<Vec<_>>()
    };
    eventually("people are told", || async { told().await.len() == 3 }).await;
    let mut told = told().await;
    told.sort();
    assert_eq!(told[0].0, "Behind");
    assert!(told[1..].iter().all(|(reason, _)| reason == "RecordNotUnderstood"), "{told:?}");
    assert!(told.iter().any(|(_, message)| message.contains("\"FromTheFuture\"")), "{told:?}");
    // As it came: a hub that is newer understands it.
    let (code, page) =
        send(&bench.hub_client(), Method::GET, "/fleet/v1/clusters/dev/records", Vec::new()).await;
    assert_eq!(code, 200, "{page}");
    let kept = page["records"].as_array().unwrap().iter().map(|stored| &stored["record"]);
    let kept: Vec<&Value> = kept.filter(|record| record["agentEpoch"] == epoch).collect();
    assert_eq!(kept[1]["data"], json!({"fromTheFuture": {"run": "r"}}));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_cluster_is_refused_and_shown_while_the_cluster_is_there() {
    let bench = Bench::start(&["dev"]).await;
    let token = bench.fresh_token().await;
    // The same cluster by uid, another key: somebody copied the cluster, or the agent's place.
    let said = bench.try_join_as("dev", "copy", &token).await;
    assert!(said.contains("connected with another key"), "{said}");
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("it is shown at the cluster", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "JoinRefused")
            .is_some_and(|refused| refused.reason == "IdentityClaimed")
    })
    .await;
    assert!(clusters.get_opt("copy").await.unwrap().is_none());
    bench.connected("dev").await;
    bench.stop().await;
}
