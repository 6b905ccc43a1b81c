//! Executions that wait for each other, over a restart of the agent; what of secrets leaves a cluster.

use std::collections::BTreeMap;

use fleet_objects::test_run::{ClusterResult, Outcome, TestRun};
use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::flows::{Flow, TOOL};

fn forever() -> Value {
    json!([{"name": "wait", "image": TOOL, "command": ["/fairlead", "tool", "sleep", "inf"], "timeout": "1h"}])
}

fn quick() -> Value {
    json!([{"name": "go", "image": TOOL, "command": ["/fairlead", "tool", "print", "went"]}])
}

struct Runs(Api<TestRun>);

impl Runs {
    async fn begin(&self, name: &str, steps: Value, mode: Option<&str>, priority: &str) {
        let mut workflow = json!({"steps": steps});
        if let Some(mode) = mode {
            workflow["concurrency"] = json!({"group": "db-{{ cluster.name }}", "mode": mode});
        }
        let run = json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": name},
            "spec": {"targets": {"all": true}, "workflow": workflow, "priority": priority},
        });
        self.0.create(&PostParams::default(), &serde_json::from_value(run).unwrap()).await.unwrap();
    }

    async fn cluster(&self, name: &str) -> ClusterResult {
        let status = self.0.get(name).await.unwrap().status.unwrap_or_default();
        status.clusters.into_iter().next().unwrap_or_default()
    }

    async fn reason(&self, name: &str, reason: &str) {
        eventually(&format!("{name} is {reason}"), || async { self.cluster(name).await.reason == reason })
            .await;
    }

    async fn cancel(&self, name: &str) {
        let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
        self.0.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_on_waiting_over_a_restart_and_higher_classes_go_first() {
    let mut bench = Bench::start(&["dev"]).await;
    let runs = Runs(Api::namespaced(bench.hub_client(), "default"));
    runs.begin("first", forever(), Some("queue"), "Normal").await;
    runs.reason("first", "Running").await;
    runs.begin("late", forever(), Some("queue"), "Background").await;
    runs.reason("late", "Queued").await;
    runs.begin("urgent", quick(), Some("queue"), "Urgent").await;
    runs.reason("urgent", "Queued").await;
    let waits = runs.cluster("urgent").await;
    assert_eq!(waits.message, "waits for concurrency group db-dev: 1 of it run");
    assert!(waits.queued_at.is_some() && waits.started_at.is_none());
    let told = runs.0.get("urgent").await.unwrap().status.unwrap().conditions.remove(0);
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("Unknown", "Queued"));
    // Others are not held up.
    runs.begin("beside", quick(), None, "Normal").await;
    runs.reason("beside", "Passed").await;
    // What runs and what waits is the agent's own knowledge.
    bench.restart_agent("dev").await;
    bench.connected("dev").await;
    runs.cancel("first").await;
    runs.reason("urgent", "Passed").await;
    runs.reason("late", "Running").await;
    // Times have seconds alone; had the other one gone first, this one would wait still.
    assert!(runs.cluster("late").await.started_at >= runs.cluster("urgent").await.started_at);
    runs.cancel("late").await;
    runs.reason("late", "Cancelled").await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_one_takes_the_place_of_the_oldest_or_is_left_out() {
    let flow = Flow::start().await;
    let runs = Runs(flow.runs());
    runs.begin("old", forever(), Some("cancel-running"), "Normal").await;
    runs.reason("old", "Running").await;
    runs.begin("skipped", quick(), Some("skip"), "Normal").await;
    runs.reason("skipped", "GroupTaken").await;
    let skipped = runs.0.get("skipped").await.unwrap().status.unwrap();
    assert_eq!(skipped.clusters[0].outcome, Some(Outcome::Skipped));
    assert_eq!(
        (skipped.conditions[0].status.as_str(), skipped.conditions[0].reason.as_str()),
        ("True", "Skipped")
    );
    runs.begin("new", quick(), Some("cancel-running"), "Normal").await;
    runs.reason("new", "Passed").await;
    let old = runs.cluster("old").await;
    assert_eq!((old.outcome, old.reason.as_str()), (Some(Outcome::NotRun), "Cancelled"));
    assert!(
        old.message.contains("a newer execution of concurrency group db-ci took its place"),
        "{}",
        old.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_secret_leaves_the_cluster() {
    let flow = Flow::start().await;
    let secret = "s3cr3t-value-of-the-vault";
    let namespace = workflow_namespace();
    let namespaces: Api<Namespace> = Api::all(flow.bed.cluster().client());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(flow.bed.cluster().client(), "fairlead-tests");
    let object = Secret {
        metadata: kube::api::ObjectMeta { name: Some("vault".into()), ..Default::default() },
        string_data: Some(BTreeMap::from([("token".to_owned(), secret.to_owned())])),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &object).await.unwrap();
    let sensitive = "parameter-nobody-may-read";
    let workflow = json!({
        "config": {"password": {"default": sensitive, "sensitive": true}},
        "container": {"image": TOOL, "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "token"}}},
        ]},
        "steps": [
            {"name": "log", "command": ["/fairlead", "tool", "do", "env TOKEN", "print {{ config.password }}", "print {{ secret('vault', 'token') }}"]},
            {"name": "file", "command": ["/fairlead", "tool", "write", "/workspace/{{ secret('vault', 'token') }}.txt", "it is $(TOKEN)"], "artifacts": ["*.txt"]},
            {"name": "report", "command": ["/fairlead", "tool", "junit", "/workspace/r.xml", "--fail", "case {{ secret('vault', 'token') }}"], "junit": ["*.xml"]},
        ],
    });
    let (outcome, _) = flow.run("secret", workflow).await;
    assert_eq!(outcome, Outcome::Failed, "the report's case");
    let run = flow.runs().get("secret").await.unwrap();
    let clusters = serde_json::to_string(&run.status.as_ref().unwrap().clusters).unwrap();
    assert!(!clusters.contains(secret) && !clusters.contains(sensitive), "{clusters}");
    assert!(clusters.contains("*****.txt") && clusters.contains("case *****"), "{clusters}");
    let mut log = read(&flow, "log").await;
    assert!(!log.contains(secret) && !log.contains(sensitive), "{log}");
    assert!(log.matches("*****").count() >= 3, "{log}");
    log = read(&flow, "artifacts/ci/file/1/*****.txt").await;
    assert_eq!(log.trim(), "it is *****");
    log = read(&flow, "artifacts/ci/report/1/r.xml").await;
    assert!(log.contains("case *****") && !log.contains(secret), "{log}");
}

fn workflow_namespace() -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": "fairlead-tests"}})).unwrap()
}

async fn read(flow: &Flow, path: &str) -> String {
    let path = format!("/fleet/v1/testruns/default/secret/{path}");
    let request = http::Request::get(path).body(vec![]).unwrap();
    let stream = flow.bed.hub().request_stream(request).await.unwrap();
    let mut text = String::new();
    std::pin::pin!(stream).read_to_string(&mut text).await.unwrap();
    text
}
