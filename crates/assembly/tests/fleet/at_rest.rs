//! What lies on disks and in etcd: nothing of Secrets, of manifests, or of what tests printed is readable there.

use std::collections::BTreeMap;
use std::path::Path;

use assembly::state::{Engine, EtcdOptions, StoreOptions};
use fixtures::etcd;
use fleet_objects::test_run::TestRun;
use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use storage::{KeyRange, RangeRequest};

use crate::bench::{Bench, eventually};
use crate::flows::TOOL;
use crate::secrets::{WORD, found_in, secret};

/// A test that prints the word some time after it began. The word comes from the cluster and stands in no object of the hub.
async fn begin(bench: &Bench) {
    let client = bench.cluster_client("dev");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let tests = Namespace { metadata: named("fairlead-tests"), ..Namespace::default() };
    // The agent may have made it.
    let _ = namespaces.create(&PostParams::default(), &tests).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "fairlead-tests");
    let data = Some(BTreeMap::from([("word".to_owned(), WORD.to_owned())]));
    let map = ConfigMap { metadata: named("words"), data, ..ConfigMap::default() };
    maps.create(&PostParams::default(), &map).await.unwrap();
    let workflow = json!({"container": {"image": TOOL, "env": [
        {"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "word"}}}]},
        "steps": [{"name": "tell", "command": ["/fairlead", "tool", "do", "sleep 3", "env WORD"]}]});
    bench.put("testruns", "TestRun", "told", json!({"targets": {"all": true}, "workflow": workflow})).await;
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

async fn reason(bench: &Bench) -> String {
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    let status = runs.get("told").await.unwrap().status.unwrap_or_default();
    status.clusters.into_iter().next().map(|cluster| cluster.reason).unwrap_or_default()
}

async fn log(bench: &Bench) -> String {
    let request = http::Request::get("/fleet/v1/testruns/default/told/log").body(vec![]).unwrap();
    let stream = bench.hub_client().request_stream(request).await.unwrap();
    let mut text = String::new();
    std::pin::pin!(stream).read_to_string(&mut text).await.unwrap();
    text
}

/// Everything that is to stay unread goes its ways; then every disk is searched.
async fn nothing_is_readable(mut bench: Bench, etcd: Option<&Path>) {
    let secrets: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    secrets.create(&PostParams::default(), &secret("db", WORD, false)).await.unwrap();
    let manifest =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"x": WORD}});
    bench.profile("app", json!({"manifests": [manifest]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    begin(&bench).await;
    eventually("the test runs", || async { reason(&bench).await == "Running" }).await;
    // What the test prints waits at the agent until the hub is back.
    drop(secrets);
    bench.stop_hub().await;
    eventually("the agent has the log", || async { bench.tests_waiting("dev").await > 0 }).await;
    assert_eq!(found_in(&bench.agent_dir("dev"), WORD), Vec::<String>::new());
    bench.start_hub().await;
    bench.connected("dev").await;
    eventually("the hub has it", || async { log(&bench).await.contains(WORD) }).await;
    let everywhere = |bench: &Bench| {
        let mut found = found_in(bench.hub_dir(), WORD);
        found.extend(found_in(&bench.agent_dir("dev"), WORD));
        found.extend(etcd.iter().flat_map(|directory| found_in(directory, WORD)));
        found
    };
    assert_eq!(everywhere(&bench), Vec::<String>::new());
    // It is readable to another life of the hub, and nowhere in what the agent notes.
    bench.stop_hub().await;
    bench.start_hub().await;
    assert!(log(&bench).await.contains(WORD));
    let (_, notes) = bench.stop_agent("dev").await;
    let all = notes.range(RangeRequest::all(KeyRange::prefix(""))).await.unwrap().kvs;
    assert!(!all.is_empty());
    for kv in all {
        assert!(
            !kv.value.windows(WORD.len()).any(|part| part == WORD.as_bytes()),
            "{}",
            kv.key.escape_ascii()
        );
    }
    // The search finds what is there.
    for directory in etcd.into_iter().chain([bench.hub_dir()]) {
        let planted = directory.join("planted");
        std::fs::write(&planted, WORD).unwrap();
        assert_eq!(found_in(directory, WORD).len(), 1);
        std::fs::remove_file(planted).unwrap();
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_readable_on_the_disks_of_hub_and_agent() {
    nothing_is_readable(Bench::start(&["dev"]).await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_readable_in_etcd() {
    let Some(program) = etcd::program() else { return };
    let directory = tempfile::tempdir().unwrap();
    let etcd = etcd::Etcd::start(&program, directory.path(), etcd::Options::default()).unwrap();
    let engine = Engine::Etcd(EtcdOptions::new(vec![etcd.endpoint()]));
    let bench = Bench::start_on(StoreOptions { engine, ..StoreOptions::default() }, &["dev"]).await;
    nothing_is_readable(bench, Some(&etcd.data())).await;
}
