//! Webhooks and OpenTelemetry, with a real receiver.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use fleet_objects::test_run::TestRun;
use fleet_objects::test_webhook::TestWebhook;
use hub::test_runs::Telemetry;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Bench, eventually};
use crate::flows::TOOL;

#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that keeps what it is sent; it refuses the first `refuse` requests.
#[derive(Clone)]
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(refuse: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = Self { url: format!("http://{}", listener.local_addr().unwrap()), got: Arc::default() };
        let (kept, refuse) = (own.clone(), Arc::new(Mutex::new(refuse)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(kept.clone().serve(stream, Arc::clone(&refuse)));
            }
        });
        own
    }

    async fn serve(self, stream: TcpStream, refuse: Arc<Mutex<usize>>) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if line == "\r\n" {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let split = |line: &String| {
                line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            };
            let headers: Vec<_> = head.iter().skip(1).filter_map(split).collect();
            let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
            let mut received = Received { path, headers, body: String::new() };
            let mut body = vec![0; received.header("content-length").parse().unwrap_or(0)];
            stream.read_exact(&mut body).await.unwrap();
            received.body = String::from_utf8(body).unwrap();
            let refused = {
                let mut left = refuse.lock();
                let refused = *left > 0;
                *left = left.saturating_sub(1);
                refused
            };
            if !refused {
                self.got.lock().push(received);
            }
            let word = if refused { "503 Service Unavailable" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {word}\r\ncontent-length: 0\r\n\r\n");
            if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn got(&self, path: &str) -> Vec<Received> {
        self.got.lock().iter().filter(|own| own.path == path).cloned().collect()
    }
}

async fn run(bench: &Bench, name: &str, passes: bool) {
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    let code = if passes { "0" } else { "1" };
    let object = json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestRun",
        "metadata": {"name": name, "labels": {"fleet.fairlead.dev/test-trigger": "nightly"}},
        "spec": {"targets": {"all": true}, "workflow": {"steps": [
            {"name": "check", "image": TOOL, "command": ["/fairlead", "tool", "exit", code]},
        ]}},
    });
    let made = runs.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let made = made.metadata.creation_timestamp.unwrap().0;
    // A hub that starts again knows runs of one second in no order.
    eventually(&format!("{name} ends, and its second"), || async {
        let status = runs.get(name).await.unwrap().status.unwrap_or_default();
        let ended = status.conditions.iter().any(|own| own.status != "Unknown");
        ended && jiff::Timestamp::now().as_second() > made.as_second()
    })
    .await;
}

async fn hook(bench: &Bench, name: &str, spec: Value) {
    let hooks: Api<TestWebhook> = Api::namespaced(bench.hub_client(), "default");
    let object = json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestWebhook", "metadata": {"name": name}, "spec": spec,
    });
    hooks.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_told_once_signed_and_again_after_a_refusal() {
    let mut bench = Bench::start(&["dev"]).await;
    let receiver = Receiver::start(1).await;
    let secrets: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    let key = json!({"metadata": {"name": "hook"}, "stringData": {"key": "not-a-secret-at-all"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(key).unwrap()).await.unwrap();
    hook(
        &bench,
        "all",
        json!({"url": format!("{}/all", receiver.url), "secret": {"name": "hook", "key": "key"}}),
    )
    .await;
    let change = json!({
        "url": format!("{}/change", receiver.url), "events": ["become-failed", "become-passed"],
        "workflows": ["nightly"], "format": "Template",
        "body": {"text": "{{ run.workflow }} {{ event }}: {{ run.clusters.0.message }}"},
        "headers": {"x-team": "a"},
    });
    hook(&bench, "change", change).await;
    for (name, passes) in [("one", true), ("two", false), ("three", false), ("four", true)] {
        run(&bench, name, passes).await;
    }
    eventually("everything is told", || async {
        receiver.got("/all").len() == 8 && receiver.got("/change").len() == 2
    })
    .await;
    let texts: Vec<_> = receiver.got("/change").iter().map(|got| got.json()["text"].clone()).collect();
    assert_eq!(texts, ["nightly become-failed: step check: exit code 1", "nightly become-passed: "]);
    assert_eq!(receiver.got("/change")[0].header("x-team"), "a");
    let mut ids = std::collections::BTreeSet::new();
    for got in receiver.got("/all") {
        ids.insert(got.header("webhook-id").to_owned());
        let event = got.json();
        assert_eq!(event["id"], got.header("webhook-id"));
        assert_eq!(got.header("content-type"), "application/cloudevents+json");
        let signed = format!("{}.{}.{}", got.header("webhook-id"), got.header("webhook-timestamp"), got.body);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"not-a-secret-at-all");
        let tag = got.header("webhook-signature").strip_prefix("v1,").unwrap().to_owned();
        let tag = base64::engine::general_purpose::STANDARD.decode(tag).unwrap();
        aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &tag).unwrap();
    }
    assert_eq!(ids.len(), 8, "a start and an end of each run, each with an id of its own");
    // A hub that starts again tells nothing twice. Clients of the hub hold its store.
    drop(secrets);
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    eventually("what was told is written down", || async {
        let all = runs.list(&Default::default()).await.unwrap().items;
        all.iter().map(|run| run.status.clone().unwrap_or_default().deliveries.len()).sum::<usize>() == 10
    })
    .await;
    drop(runs);
    bench.stop_hub().await;
    bench.start_hub().await;
    bench.connected("dev").await;
    run(&bench, "five", true).await;
    eventually("the next run is told", || async { receiver.got("/all").len() >= 10 }).await;
    assert_eq!((receiver.got("/all").len(), receiver.got("/change").len()), (10, 2));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_trace_per_run_and_metrics() {
    let mut bench = Bench::start(&["dev"]).await;
    let receiver = Receiver::start(0).await;
    bench.stop_hub().await;
    bench.telemetry = Some(Telemetry {
        endpoint: receiver.url.clone(),
        headers: vec![("x-key".to_owned(), "k".to_owned())],
        interval: Duration::from_secs(1),
    });
    bench.start_hub().await;
    bench.connected("dev").await;
    run(&bench, "traced", false).await;
    eventually("the trace is there", || async { receiver.got("/v1/traces").len() == 1 }).await;
    let trace = receiver.got("/v1/traces")[0].clone();
    assert_eq!(trace.header("x-key"), "k");
    let spans = trace.json()["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
    let names: Vec<_> = spans.as_array().unwrap().iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["RUN nightly", "dev", "check"]);
    let counted = || async {
        let last = receiver.got("/v1/metrics").pop();
        let metrics =
            last.map(|last| last.json()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].clone());
        let points = metrics.map(|metrics| metrics[0]["histogram"]["dataPoints"].clone()).unwrap_or_default();
        points.as_array().is_some_and(|points| points.len() == 2)
    };
    eventually("its duration is counted", counted).await;
    let last = receiver.got("/v1/metrics").pop().unwrap().json();
    let workers = last["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][3]["sum"]["dataPoints"].clone();
    assert_eq!(workers[1]["asInt"], "1", "one cluster is there and idle: {workers}");
    bench.stop().await;
    assert_eq!(receiver.got("/v1/traces").len(), 1);
}
