//! Tests in a cluster of their own, in one process.

use std::time::{Duration, Instant};

use assembly::cluster;
use assembly::ephemeral::{Options, TestBed};
use fleet_objects::test_run::{Outcome, TestRun};
use futures::AsyncReadExt as _;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::bench::eventually;

fn run(steps: serde_json::Value) -> TestRun {
    serde_json::from_value(json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1",
        "kind": "TestRun",
        "metadata": {"name": "smoke"},
        "spec": {"targets": {"all": true}, "workflow": {"steps": steps}},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_needs_no_server_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let options = Options {
        cluster: cluster::Options::ephemeral("ci"),
        directory: directory.path().to_owned(),
        access: false,
    };
    let bed = TestBed::start(options).await.unwrap();
    eprintln!("ready after {:?}", began.elapsed());
    let tool = "fairlead.dev/tool:latest";
    let junit =
        ["/fairlead", "tool", "junit", "/workspace/r.xml", "--pass=a", "--pass=b", "--pass=c", "--fail=d"];
    let runs: Api<TestRun> = Api::namespaced(bed.hub(), "default");
    runs.create(
        &PostParams::default(),
        &run(json!([
            {"name": "hello", "image": tool, "command": ["/fairlead", "tool", "print", "hello from $(FAIRLEAD_CLUSTER)"]},
            {"name": "cases", "image": tool, "command": junit, "junit": ["*.xml"]},
        ])),
    )
    .await
    .unwrap();
    let ended = || async {
        let run = runs.get("smoke").await.unwrap();
        run.status.is_some_and(|status| {
            status.clusters.iter().any(|cluster| cluster.outcome == Some(Outcome::Failed))
        })
    };
    eventually("the run ends", ended).await;
    let status = runs.get("smoke").await.unwrap().status.unwrap();
    assert_eq!((status.counts.passed, status.counts.failed), (4, 1), "{:?}", status.clusters);
    // The log and the files are read as from a hub.
    let get =
        |path: &str| http::Request::get(format!("/fleet/v1/testruns/default/smoke/{path}")).body(vec![]);
    let mut log = String::new();
    let stream = bed.hub().request_stream(get("log").unwrap()).await.unwrap();
    std::pin::pin!(stream).read_to_string(&mut log).await.unwrap();
    assert!(log.contains("hello from ci"), "{log}");
    let mut report = String::new();
    let file = bed.hub().request_stream(get("artifacts/ci/cases/1/r.xml").unwrap()).await.unwrap();
    std::pin::pin!(file).read_to_string(&mut report).await.unwrap();
    assert!(report.contains("<testcase"), "{report}");
    tokio::time::timeout(Duration::from_secs(20), bed.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_may_reach_the_cluster_they_run_in() {
    let directory = tempfile::tempdir().unwrap();
    let bind = Some("127.0.0.1:0".parse().unwrap());
    let cluster = cluster::Options { bind, ..cluster::Options::ephemeral("ci") };
    let options = Options { cluster, directory: directory.path().to_owned(), access: true };
    let bed = TestBed::start(options).await.unwrap();
    let tool = "fairlead.dev/tool:latest";
    let runs: Api<TestRun> = Api::namespaced(bed.hub(), "default");
    // The mounted Secret is read where `KUBECONFIG` says.
    let look = json!([{"name": "look", "image": tool, "artifacts": ["*.yaml"],
        "command": ["/fairlead", "tool", "do", "cat /.fairlead/cluster/kubeconfig", "env KUBECONFIG"]}]);
    runs.create(&PostParams::default(), &run(look)).await.unwrap();
    eventually("the run ends", || async {
        let status = runs.get("smoke").await.unwrap().status.unwrap_or_default();
        status.clusters.iter().any(|cluster| cluster.outcome == Some(Outcome::Passed))
    })
    .await;
    let mut log = String::new();
    let request = http::Request::get("/fleet/v1/testruns/default/smoke/log").body(vec![]).unwrap();
    let stream = bed.hub().request_stream(request).await.unwrap();
    std::pin::pin!(stream).read_to_string(&mut log).await.unwrap();
    assert!(log.contains("kind: Config") && log.contains("/.fairlead/cluster/kubeconfig"), "{log}");
    let address = bed.cluster().address().unwrap();
    assert!(log.contains(&format!("{}", address.port())), "it leads to this cluster: {log}");
    tokio::time::timeout(Duration::from_secs(20), bed.stop()).await.unwrap().unwrap();
}
