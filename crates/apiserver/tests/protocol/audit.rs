//! What the audit log says of requests.

use std::path::Path;

use apiserver::audit::{self, LogOptions, Policy};

use super::*;

async fn recording(path: &Path, rules: &str) -> Subject {
    let policy =
        Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")).unwrap();
    let mut options = Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
    options.audit =
        Some(audit::Options { policy, log: Some(LogOptions::new(path.to_owned())), webhook: None });
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    Subject { handle, _stop: stop.drop_guard() }
}

/// What was recorded of the requests with this id, in order.
fn recorded(path: &Path, id: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["auditID"] == id).collect()
}

#[tokio::test]
async fn events_are_upstreams_to_the_letter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let rules = "- {level: RequestResponse, omitManagedFields: true, resources: [{group: '', resources: [configmaps]}]}\n\
                 - {level: Metadata}\n";
    let subject = recording(&path, rules).await;
    let headers = [
        ("Audit-ID", "a"),
        ("User-Agent", "test/1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Content-Type", "application/json"),
    ];
    let created = subject.send(Method::POST, MAPS, &headers, map("m").to_string()).await;
    assert_eq!(created.status(), 201);
    let events = recorded(&path, "a");
    assert_eq!(
        events.iter().map(|event| &event["stage"]).collect::<Vec<_>>(),
        ["RequestReceived", "ResponseComplete"]
    );
    let mut event = events[1].clone();
    for key in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = event[key].take();
        assert_eq!(time.as_str().unwrap().len(), "2026-01-01T00:00:00.000000Z".len());
    }
    let answer = event["responseObject"].take();
    assert_eq!(answer["metadata"]["name"], "m");
    assert_eq!(answer["metadata"]["managedFields"], Value::Null);
    assert_eq!(
        event,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a",
            "stage": "ResponseComplete", "requestURI": MAPS, "verb": "create",
            "user": {"username": "tester", "groups": ["system:masters"]},
            "sourceIPs": ["192.0.2.1", "127.0.0.1"], "userAgent": "test/1",
            "objectRef": {"resource": "configmaps", "namespace": "default", "name": "m", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "requestObject": map("m"), "responseObject": null,
            "requestReceivedTimestamp": null, "stageTimestamp": null,
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
        })
    );
}

#[tokio::test]
async fn secrets_are_recorded_without_their_contents_when_the_policy_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let subject = recording(&path, "- {level: Metadata}\n").await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    let headers = [("Audit-ID", "b"), ("Content-Type", "application/json")];
    let secrets = "/api/v1/namespaces/default/secrets";
    let created = subject.send(Method::POST, secrets, &headers, secret.to_string()).await;
    assert_eq!(created.status(), 201);
    assert_eq!(recorded(&path, "b")[1]["objectRef"]["name"], "s", "the name of what was created is metadata");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"));
}

#[tokio::test]
async fn failures_say_why_and_watches_have_a_beginning_and_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let subject = recording(&path, "- {level: Metadata}\n").await;
    let missing =
        subject.send(Method::GET, "/api/v1/namespaces/default/pods/p", &[("Audit-ID", "c")], "").await;
    assert_eq!(missing.status(), 404);
    let status = recorded(&path, "c")[1]["responseStatus"].clone();
    assert_eq!(
        status,
        json!({"metadata": {}, "status": "Failure", "message": "pods \"p\" not found", "reason": "NotFound",
            "details": {"name": "p", "kind": "pods"}, "code": 404})
    );
    let watch = subject.send(Method::GET, &format!("{MAPS}?watch=1"), &[("Audit-ID", "d")], "").await;
    let stages = |events: Vec<Value>| events.iter().map(|event| event["stage"].clone()).collect::<Vec<_>>();
    assert_eq!(stages(recorded(&path, "d")), ["RequestReceived", "ResponseStarted"]);
    drop(watch);
    // The end of a body is recorded behind the client's back.
    while recorded(&path, "d").len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stages(recorded(&path, "d"))[2], "ResponseComplete");
}
