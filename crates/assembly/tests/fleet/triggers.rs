//! Tests that begin by themselves, with and without a hub.

use fleet_objects::test_run::{Outcome, TestExecution, TestRun};
use fleet_objects::test_trigger::{TestTrigger, TestTriggerAssignment};
use fleet_objects::{ADOPT_AND_PRUNE, ANNOTATION_ADOPT, Cluster};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::bench::{Bench, eventually};

fn trigger() -> TestTrigger {
    serde_json::from_value(json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1",
        "kind": "TestTrigger",
        "metadata": {"name": "on-release"},
        "spec": {
            "targets": {"all": true},
            "workflow": {"steps": [
                {"name": "check", "image": "fairlead.dev/tool:latest", "command": ["/fairlead", "tool", "print", "checked"]},
            ]},
            "when": {"resource": {
                "apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "release",
                "fields": [{"path": "data.version", "operator": "Changed"}],
            }},
        },
    }))
    .unwrap()
}

async fn release(bench: &Bench, cluster: &str, version: &str) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "release"}, "data": {"version": version}});
    let how = PatchParams::apply("test").force();
    bench.config_maps(cluster).patch("release", &how, &Patch::Apply(&map)).await.unwrap();
}

async fn passed(runs: &Api<TestRun>) -> usize {
    let all = runs.list(&ListParams::default()).await.unwrap().items;
    let passed = |run: &&TestRun| {
        let status = run.status.clone().unwrap_or_default();
        !status.clusters.is_empty()
            && status.clusters.iter().all(|cluster| cluster.outcome == Some(Outcome::Passed))
    };
    all.iter().filter(passed).count()
}

/// Hands the trigger over and fires it in one cluster; the last version and how many runs there are. Nothing of it keeps
/// the hub.
async fn first_run(bench: &Bench) -> (u32, usize) {
    let triggers: Api<TestTrigger> = Api::namespaced(bench.hub_client(), "default");
    triggers.create(&PostParams::default(), &trigger()).await.unwrap();
    let handed_over = || async {
        let status = triggers.get("on-release").await.unwrap().status.unwrap_or_default();
        status.clusters == 2
    };
    eventually("both clusters have it", handed_over).await;
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    // The watch may begin after the first change, which then is nothing new: change until it is noticed.
    let mut version = 0_u32;
    while passed(&runs).await == 0 {
        version += 1;
        release(bench, "dev", &version.to_string()).await;
        let seen = || async { passed(&runs).await > 0 };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), eventually("a run", seen)).await;
    }
    let before = runs.list(&ListParams::default()).await.unwrap().items.len();
    let clusters: Vec<String> =
        runs.list(&ListParams::default()).await.unwrap().items[0].spec.targets.clusters.clone();
    assert_eq!(clusters, ["dev"], "only where it changed");
    (version, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_judged_in_the_cluster_also_without_a_hub_and_told_once() {
    let mut bench = Bench::start(&["dev", "prod"]).await;
    let (mut version, before) = first_run(&bench).await;
    // Without a hub the agent goes on, also one that was started without it.
    bench.stop_hub().await;
    bench.restart_agent("dev").await;
    while bench.tests_waiting("dev").await < 2 {
        version += 1;
        release(&bench, "dev", &version.to_string()).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    bench.start_hub().await;
    bench.connected("dev").await;
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    eventually("what ran without a hub is told", || async { passed(&runs).await > before }).await;
    let executions: Api<TestExecution> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let all_told = || async {
        let executions = executions.list(&ListParams::default()).await.unwrap().items.len();
        executions == passed(&runs).await
    };
    eventually("every run is told once and whole", all_told).await;
    // Deleting it is told to the agents, and only then it is gone.
    let triggers: Api<TestTrigger> = Api::namespaced(bench.hub_client(), "default");
    triggers.delete("on-release", &DeleteParams::default()).await.unwrap();
    let parts: Api<TestTriggerAssignment> = Api::all(bench.hub_client());
    let gone = || async { parts.list(&ListParams::default()).await.unwrap().items.is_empty() };
    eventually("the agents have forgotten it", gone).await;
    assert!(triggers.get_opt("on-release").await.unwrap().is_none_or(|left| left.finalizers().is_empty()));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_the_hub_lost_goes_on_until_a_person_has_it_forgotten() {
    let mut bench = Bench::start(&["dev", "prod"]).await;
    let (mut version, _) = first_run(&bench).await;
    // As a hub does that was restored from before: nothing is left of it, and nobody was told.
    let (token, store) = bench.stop_agent("dev").await;
    let triggers: Api<TestTrigger> = Api::namespaced(bench.hub_client(), "default");
    let parts: Api<TestTriggerAssignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    triggers.delete("on-release", &DeleteParams::default()).await.unwrap();
    let _ = triggers.patch("on-release", &PatchParams::default(), &let_go).await;
    eventually("the hub does not know it", || async {
        let _ = parts.delete("default.on-release", &DeleteParams::default()).await;
        triggers.get_opt("on-release").await.unwrap().is_none()
            && parts.get_opt("default.on-release").await.unwrap().is_none()
    })
    .await;
    bench.start_agent("dev", token, store).await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let orphans =
        || async { clusters.get("dev").await.unwrap().status.unwrap_or_default().orphaned_triggers };
    eventually("the hub is told", || async { orphans().await.len() == 1 }).await;
    assert_eq!(orphans().await[0].name, "default.on-release");
    // It goes on; what comes of it is nobody's here.
    version += 1;
    release(&bench, "dev", &version.to_string()).await;
    let adopt = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION_ADOPT: "keep-orphans"}}}));
    clusters.patch("dev", &PatchParams::default(), &adopt).await.unwrap();
    let adopted = || async {
        let annotations = clusters.get("dev").await.unwrap().metadata.annotations.unwrap_or_default();
        !annotations.contains_key(ANNOTATION_ADOPT)
    };
    eventually("it is adopted", adopted).await;
    assert_eq!(orphans().await.len(), 1, "kept");
    let prune = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION_ADOPT: ADOPT_AND_PRUNE}}}));
    clusters.patch("dev", &PatchParams::default(), &prune).await.unwrap();
    eventually("the agent has forgotten it and says so", || async {
        orphans().await.is_empty() && parts.get_opt("default.on-release").await.unwrap().is_none()
    })
    .await;
    bench.stop().await;
}
