//! What comes before what, and what is told to nobody.

use fleet_objects::{Assignment, condition};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::bench::{Bench, eventually};
use super::{config_map, value};

const WORD: &str = "correct-horse-battery";

async fn applied_because(bench: &Bench, assignment: &str) -> (String, String) {
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let status = api.get_opt(assignment).await.unwrap().and_then(|found| found.status).unwrap_or_default();
    let applied = condition(&status.conditions, "Applied");
    applied.map(|applied| (applied.reason.clone(), applied.message.clone())).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_and_profiles_wait_for_what_is_before_them() {
    let bench = Bench::start(&["dev"]).await;
    // Nothing binds this claim, so it is not healthy until the layer has no claim.
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}});
    let app = |first: Value| {
        json!({
            "manifests": [first],
            "layers": [{"name": "late", "manifests": [config_map("late", "1")]}],
        })
    };
    bench.profile("app", app(claim)).await;
    bench.profile("other", json!({"dependsOn": ["app"], "manifests": [config_map("other", "1")]})).await;
    bench.place("other", json!({}), json!({})).await;
    eventually("it says whom it waits for", || async {
        let (reason, message) = applied_because(&bench, "default.other").await;
        reason == "Waiting" && message.contains("default.app: this cluster does not have it")
    })
    .await;
    bench.place("app", json!({}), json!({})).await;
    eventually("the layer says what it waits for", || async {
        let (reason, message) = applied_because(&bench, "default.app").await;
        reason == "Waiting" && message.starts_with("layer late waits: PersistentVolumeClaim default/disk")
    })
    .await;
    let maps = bench.config_maps("dev");
    assert!(value(&maps, "late").await.is_none() && value(&maps, "other").await.is_none());
    bench.profile("app", app(config_map("first", "1"))).await;
    eventually("then all follow", || async {
        value(&maps, "late").await.is_some() && value(&maps, "other").await.is_some()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_in_the_cluster_and_told_nowhere() {
    let bench = Bench::start(&["dev"]).await;
    let referring = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"url": "postgres://${var.password}@db"}});
    let spec = |more: Value| json!({"variables": [{"name": "password", "secret": true, "required": true}], "manifests": [referring, more]});
    bench.profile("app", spec(config_map("a", "1"))).await;
    let given = json!({"password": {"secretKeyRef": {"name": "database", "key": "password"}}});
    bench.place("app", json!({}), given).await;
    eventually("it says what is missing", || async {
        let (_, message) = applied_because(&bench, "default.app").await;
        message.contains("password") && message.contains("\"database\" not found")
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(bench.cluster_client("dev"), "default");
    let database = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {"password": WORD}});
    secrets.patch("database", &PatchParams::apply("vault"), &Patch::Apply(database)).await.unwrap();
    bench.applied("dev", "default.app").await;
    let made = secrets.get("app").await.unwrap().data.unwrap();
    assert_eq!(made["url"].0, format!("postgres://{WORD}@db").as_bytes());
    // The API server repeats what it refuses; the agent does not.
    let wrong = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"type": "${var.password}", "ports": [{"port": 80}]}});
    bench.profile("app", spec(wrong)).await;
    eventually("the refusal is told without it", || async {
        let (_, message) = applied_because(&bench, "default.app").await;
        message.contains("***")
    })
    .await;
    let hub = bench.hub_client();
    let events =
        Api::<Event>::namespaced(hub.clone(), "cluster-dev").list(&ListParams::default()).await.unwrap();
    let assignments =
        Api::<Assignment>::namespaced(hub.clone(), "cluster-dev").list(&ListParams::default()).await.unwrap();
    let told = serde_json::to_string(&(events.items, assignments.items)).unwrap();
    assert!(told.contains("***") && !told.contains(WORD), "the hub was told the secret");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_healthy_when_the_profiles_own_rule_says_so() {
    let bench = Bench::start(&["dev"]).await;
    let rule = |current: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "current": current,
            "failed": "object.data.phase == 'down'", "message": "'phase ' + object.data.phase"})
    };
    let app = |late: &str| {
        json!({
            "manifests": [config_map("gate", "1")],
            "health": [rule("object.data.phase == 'up'")],
            "layers": [{"name": "late", "manifests": [config_map("late", "1")], "health": [rule(late)]}],
        })
    };
    bench.profile("app", app("object.data.key == '1'")).await;
    bench.place("app", json!({}), json!({})).await;
    let waits = |part: &'static str| {
        let bench = &bench;
        async move {
            eventually(part, || async {
                let (reason, message) = applied_because(bench, "default.app").await;
                reason == "Waiting" && message.contains(part)
            })
            .await;
        }
    };
    waits("no such key: phase").await;
    let maps = bench.config_maps("dev");
    let phase = |phase: &str| {
        let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"phase": phase}});
        let maps = maps.clone();
        async move { maps.patch("gate", &PatchParams::apply("other"), &Patch::Apply(&patch)).await.unwrap() }
    };
    phase("down").await;
    waits("phase down").await;
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let status = api.get("default.app").await.unwrap().status.unwrap();
    assert_eq!(condition(&status.conditions, "Healthy").unwrap().reason, "Failed");
    assert!(value(&maps, "late").await.is_none());
    phase("up").await;
    bench.applied("dev", "default.app").await;
    assert!(value(&maps, "late").await.is_some());
    // A rule that does not compile is refused with its place, and nothing changes.
    let refused = bench.refused("profiles", "Profile", "app", app("objekt.data.key == '1'")).await;
    let told =
        "spec.layers[0].health[0].current: Invalid value: compilation failed: ERROR: <input>:1:1: undeclared";
    assert!(refused.len() == 1 && refused[0].starts_with(told), "{refused:?}");
    bench.stop().await;
}
