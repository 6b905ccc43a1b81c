//! What the audit log says of requests.

use std::path::Path;
use std::time::Duration;

use apiserver::audit::{self, LogOptions, Mode, Policy, WebhookOptions};
use parking_lot::Mutex;

use super::https::Https;
use super::*;

async fn recording(path: &Path, rules: &str) -> Subject {
    auditing(rules, Some(LogOptions::new(path.to_owned())), None).await
}

async fn auditing(rules: &str, log: Option<LogOptions>, webhook: Option<WebhookOptions>) -> Subject {
    let policy =
        Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")).unwrap();
    let mut options = Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
    options.audit = Some(audit::Options { policy, log, webhook });
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

/// What a webhook was sent: who sent it, and the events.
type Posted = Arc<Mutex<Vec<(String, Vec<Value>)>>>;

/// A webhook that refuses its first posts, and the kubeconfig that leads to it.
async fn webhook(refusals: usize) -> (Https, Posted, Arc<Mutex<usize>>, tempfile::NamedTempFile) {
    let (posted, left) = (Posted::default(), Arc::new(Mutex::new(refusals)));
    let (kept, open) = (Arc::clone(&posted), Arc::clone(&left));
    let server = Https::start(move |request: Request<hyper::body::Incoming>| {
        let (kept, open) = (Arc::clone(&kept), Arc::clone(&open));
        async move {
            let by = request.headers()["authorization"].to_str().unwrap().to_owned();
            let place = format!("{by} {} {}", request.method(), request.uri());
            let list: Value =
                serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
            let mut refusals = open.lock();
            if let Some(left) = refusals.checked_sub(1) {
                *refusals = left;
                return Response::builder().status(503).body(Full::default()).unwrap();
            }
            assert_eq!(
                (&list["kind"], &list["apiVersion"]),
                (&json!("EventList"), &json!("audit.k8s.io/v1"))
            );
            kept.lock().push((place, list["items"].as_array().unwrap().clone()));
            Response::new(Full::default())
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{}/sink/audit", server.address),
            "certificate-authority-data": server.ca}}],
        "users": [{"name": "c", "user": {"token": "t0ken"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    std::fs::write(file.path(), config.to_string()).unwrap();
    (server, posted, left, file)
}

fn events(posted: &Posted) -> Vec<Value> {
    posted.lock().iter().flat_map(|(_, events)| events.clone()).collect()
}

#[tokio::test]
async fn a_webhook_gets_every_event_once_in_batches_however_often_it_fails_at_first() {
    let (_server, posted, left, file) = webhook(2).await;
    let options = WebhookOptions {
        max_batch: 8,
        max_wait: Duration::from_millis(20),
        initial_backoff: Duration::from_millis(5),
        ..WebhookOptions::new(file.path().to_owned())
    };
    let subject = auditing("- {level: Metadata}\n", None, Some(options)).await;
    for n in 0..20 {
        let id = format!("w{n}");
        let answer = subject.send(Method::GET, MAPS, &[("Audit-ID", &id)], "").await;
        assert_eq!(answer.status(), 200);
        // The end of an answer is when its body has been read.
        drop(answer.into_body().collect().await.unwrap());
    }
    let own =
        || events(&posted).into_iter().filter(|event| event["auditID"].as_str().unwrap().starts_with('w'));
    let all = async {
        while own().count() < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("both stages of twenty requests arrive");
    let mut told: Vec<String> =
        own().map(|event| format!("{} {}", event["auditID"], event["stage"])).collect();
    told.sort();
    told.dedup();
    assert_eq!((told.len(), own().count(), *left.lock()), (40, 40, 0), "each once");
    let posts = posted.lock();
    assert!(
        posts.iter().all(|(place, events)| place == "Bearer t0ken POST /sink/audit" && events.len() <= 8)
    );
}

#[tokio::test]
async fn a_request_waits_for_a_webhook_that_blocks_and_fails_with_one_that_is_strict() {
    let (_server, posted, left, file) = webhook(0).await;
    let options = |mode| WebhookOptions {
        mode,
        initial_backoff: Duration::from_millis(1),
        ..WebhookOptions::new(file.path().to_owned())
    };
    let subject = auditing("- {level: Metadata}\n", None, Some(options(Mode::Blocking))).await;
    let create = async |subject: &Subject, name: &str| {
        let headers = [("Audit-ID", name), ("Content-Type", "application/json")];
        subject.send(Method::POST, MAPS, &headers, map(name).to_string()).await.status().as_u16()
    };
    assert_eq!(create(&subject, "blocking").await, 201);
    let stages = |id: &str| events(&posted).into_iter().filter(|event| event["auditID"] == id).count();
    assert!(stages("blocking") >= 1, "what the request waited for has been told");

    let strict = auditing("- {level: Metadata}\n", None, Some(options(Mode::BlockingStrict))).await;
    assert_eq!(create(&strict, "told").await, 201);
    *left.lock() = usize::MAX;
    assert_eq!(create(&strict, "untold").await, 500, "what cannot be recorded is not done");
}
