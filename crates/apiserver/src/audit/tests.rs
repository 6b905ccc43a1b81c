use access::Attributes;
use kube_objects::UserInfo;

use super::event::Event;
use super::policy::{Level, Stage};
use super::*;

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [Panic]\nrules:\n{rules}"))
        .unwrap()
}

fn level(policy: &Policy, user: &UserInfo, request: &Attributes) -> Level {
    policy.evaluate(Some(user), request).level
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        "- {level: None, users: ['system:kube-proxy'], verbs: [watch]}\n\
         - {level: RequestResponse, resources: [{group: '', resources: [pods]}], omitStages: [RequestReceived]}\n\
         - {level: Request, resources: [{group: '', resources: ['pods/*', '*/scale']}], namespaces: [n]}\n\
         - {level: Metadata, resources: [{group: '', resources: [configmaps], resourceNames: [c]}]}\n\
         - {level: Metadata, nonResourceURLs: ['/api*'], userGroups: [g]}\n",
    );
    let ada = UserInfo::new("ada", &["g"]);
    let ask = |resource: &str, sub: &str, namespace: &str, name: &str| {
        Attributes::resource("get", "", resource, namespace, name).with_subresource(sub)
    };
    for (request, want) in [
        (ask("pods", "", "n", "p"), Level::RequestResponse),
        (ask("pods", "log", "n", "p"), Level::Request),
        (ask("deployments", "scale", "n", "p"), Level::Request),
        (ask("deployments", "scale", "m", "p"), Level::None),
        (ask("configmaps", "", "n", "c"), Level::Metadata),
        (ask("configmaps", "", "n", "d"), Level::None),
        (Attributes::path("get", "/apis/apps"), Level::Metadata),
        (Attributes::path("get", "/version"), Level::None),
    ] {
        assert_eq!(level(&policy, &ada, &request), want, "{request:?}");
    }
    let proxy = UserInfo::new("system:kube-proxy", &[]);
    assert_eq!(level(&policy, &proxy, &Attributes::resource("watch", "", "pods", "n", "")), Level::None);
    let verdict = policy.evaluate(Some(&ada), &ask("pods", "", "n", "p"));
    assert!(!verdict.records(Stage::RequestReceived) && !verdict.records(Stage::Panic));
    assert!(verdict.records(Stage::ResponseComplete));
    assert_eq!(
        policy.evaluate(None, &Attributes::path("get", "/api")).level,
        Level::None,
        "nobody is in no group"
    );
}

#[test]
fn policies_that_make_no_sense_are_refused_in_upstreams_words() {
    let header = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    for (rules, want) in [
        ("rules: []", "loaded illegal policy with 0 rules"),
        ("rules: [{users: [a]}]", "rules[0].level: Required value"),
        (
            "rules: [{level: All}]",
            "rules[0].level: Unsupported value: \"All\": supported values: \"Metadata\", \"None\", \"Request\", \
             \"RequestResponse\"",
        ),
        (
            "rules: [{level: None, nonResourceURLs: [api, '/a*b']}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"api\": non-resource URL rules must begin with a '/' \
             character, rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be \
             the final character of the rule",
        ),
        (
            "omitStages: [Done]\nrules: [{level: None}]",
            "omitStages[0]: Invalid value: \"Done\": allowed stages are \
             RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
    ] {
        let error = Policy::parse(&format!("{header}{rules}")).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    assert!(matches!(Policy::parse("apiVersion: v1\nkind: Pod\nrules: []"), Err(PolicyError::Kind { .. })));
}

fn event(bytes: usize) -> Arc<Event> {
    let mut event = Event::new(Level::Request, "id".to_owned(), jiff::Timestamp::UNIX_EPOCH);
    event.request_object = Some(serde_json::json!({"data": "x".repeat(bytes)}));
    Arc::new(event)
}

const ONE: Batches = Batches { events: 1, bytes: 1 << 20, wait: Duration::ZERO };

#[tokio::test(start_paused = true)]
async fn an_output_that_does_not_answer_costs_events_and_not_the_server() {
    let (sink, mut queue) = Sink::new("log", Mode::Blocking, None, ONE);
    assert!(!sink.process(&event(1)).await, "nobody wrote it in time");
    assert_eq!(sink.counts(), ("log", 0, 1));
    let (batch, mut full) = Sink::new("log", Mode::Batch, None, ONE);
    for _ in 0..10_000 {
        assert!(batch.process(&event(1)).await);
    }
    assert!(!batch.process(&event(1)).await, "the queue is bounded");
    assert_eq!(batch.counts(), ("log", 10_000, 1));
    assert_eq!(full.batch().await.unwrap().len(), 1);
    drop(sink);
    assert!(queue.batch().await.is_some() && queue.batch().await.is_none());
}

#[tokio::test]
async fn large_events_lose_their_bodies_first() {
    let (sink, mut queue) = Sink::new("webhook", Mode::Batch, Some(1_000), ONE);
    assert!(sink.process(&event(10)).await);
    assert!(sink.process(&event(2_000)).await);
    let mut lines = Vec::new();
    for _ in 0..2 {
        lines.push(
            serde_json::from_slice::<serde_json::Value>(&queue.batch().await.unwrap()[0].line).unwrap(),
        );
    }
    assert_eq!(lines[0]["requestObject"]["data"], "x".repeat(10));
    assert_eq!(lines[1]["requestObject"], serde_json::Value::Null);
    assert_eq!(lines[1]["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!(lines[1]["stageTimestamp"], "1970-01-01T00:00:00.000000Z");
}
