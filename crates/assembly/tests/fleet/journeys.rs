//! What goes wrong in clusters: somebody who changes everything back, and a namespace that does not go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_objects::{ANNOTATION_CONFIRM_DELETIONS, Assignment, AssignmentState};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::bench::{Bench, eventually, memory};
use crate::{config_map, value};

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_everything_back_is_named_and_the_repairs_slow_down() {
    let bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1"), config_map("b", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    let maps = bench.config_maps("dev");
    let stop = Arc::new(AtomicBool::new(false));
    let fighter = tokio::spawn({
        let (maps, stop) = (maps.clone(), stop.clone());
        async move {
            let params = PatchParams { field_manager: Some("fighter".into()), ..PatchParams::default() };
            while !stop.load(Ordering::Relaxed) {
                if value(&maps, "a").await.as_deref() == Some("1") {
                    let patch = Patch::Merge(json!({"data": {"key": "mine"}}));
                    maps.patch("a", &params, &patch).await.unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    });
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let told = |name: &'static str| {
        let assignments = assignments.clone();
        async move {
            let status = assignments.get("default.app").await.unwrap().status.unwrap_or_default();
            let found = status.objects.into_iter().find(|object| object.object.name == name);
            found.map(|object| object.message).unwrap_or_default()
        }
    };
    eventually("the fight is told, with the fighter's name", || async {
        told("a").await.contains("two writers fight over it: fighter")
    })
    .await;
    // What nobody fights over is repaired at once, as ever.
    maps.delete("b", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("the other object is back", || async { value(&maps, "b").await.is_some() }).await;
    stop.store(true, Ordering::Relaxed);
    fighter.await.unwrap();
    eventually("peace: the profile has its field", || async {
        value(&maps, "a").await.as_deref() == Some("1")
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_go_holds_up_nothing_else() {
    let bench = Bench::start(&["dev"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stuck"}});
    let mut inside = config_map("inside", "1");
    inside["metadata"]["namespace"] = json!("stuck");
    inside["metadata"]["finalizers"] = json!(["example.com/hold"]);
    bench.profile("app", json!({"manifests": [namespace, inside]})).await;
    bench.profile("other", json!({"manifests": [config_map("a", "1")]})).await;
    for name in ["app", "other"] {
        bench.place(name, json!({"matchLabels": {"tier": "all"}}), json!({})).await;
        bench.applied("dev", &format!("default.{name}")).await;
    }
    // The profile leaves; somebody's finalizer holds its object, and that the namespace.
    bench.place("app", json!({"matchLabels": {"tier": "none"}}), json!({})).await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    eventually("the tombstone waits for a person", || async {
        let found = assignments.get("default.app").await.unwrap();
        found.spec.state == AssignmentState::Tombstone
            && found.status.is_some_and(|status| status.held_deletion_count > 0)
    })
    .await;
    let generation = assignments.get("default.app").await.unwrap().spec.generation.to_string();
    let confirm = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_DELETIONS: generation}}});
    assignments.patch("default.app", &PatchParams::default(), &Patch::Merge(confirm)).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(bench.cluster_client("dev"));
    eventually("the namespace is going", || async {
        namespaces.get("stuck").await.unwrap().metadata.deletion_timestamp.is_some()
    })
    .await;
    // Meanwhile everything else goes on, and the hub is told that this does not.
    let maps = bench.config_maps("dev");
    bench.profile("other", json!({"manifests": [config_map("a", "2")]})).await;
    eventually("the other profile changes", || async { value(&maps, "a").await.as_deref() == Some("2") })
        .await;
    let status = assignments.get("default.app").await.unwrap().status.unwrap();
    assert!(!fleet_objects::condition_is_true(&status.conditions, "Pruned"), "{status:?}");
    let held: Api<ConfigMap> = Api::namespaced(bench.cluster_client("dev"), "stuck");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    held.patch("inside", &PatchParams::default(), &free).await.unwrap();
    eventually("it is gone, and the assignment with it", || async {
        namespaces.get_opt("stuck").await.unwrap().is_none()
            && assignments.get_opt("default.app").await.unwrap().is_none()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_namespace_that_somebody_deletes_is_made_again_with_all_that_was_in_it() {
    let bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"targetNamespace": "app", "manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    let namespaces: Api<Namespace> = Api::all(bench.cluster_client("dev"));
    let before = namespaces.get("app").await.unwrap().metadata.uid;
    namespaces.delete("app", &DeleteParams::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(bench.cluster_client("dev"), "app");
    eventually("another namespace, with what belongs there", || async {
        let found = namespaces.get_opt("app").await.unwrap();
        let anew = found
            .is_some_and(|found| found.metadata.uid != before && found.metadata.deletion_timestamp.is_none());
        anew && value(&maps, "a").await.as_deref() == Some("1")
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_content_is_tried_again_however_much_else_happens() {
    let mut bench = Bench::start(&["dev"]).await;
    for name in ["app", "noise"] {
        bench.profile(name, json!({"manifests": [config_map(name, "1")]})).await;
        bench.place(name, json!({}), json!({})).await;
        bench.applied("dev", &format!("default.{name}")).await;
    }
    let of = |cluster: &str| -> Api<Assignment> {
        Api::namespaced(bench.hub_client(), &format!("cluster-{cluster}"))
    };
    let digest = of("dev").get("default.app").await.unwrap().spec.content.unwrap().digest;
    let content = bench.hub_dir().join("data/content").join(&digest[..2]).join(&digest);
    let aside = content.with_extension("aside");
    std::fs::rename(&content, &aside).unwrap();
    bench.add_cluster("late").await;
    let token = bench.fresh_token().await;
    bench.start_agent("late", token, memory()).await;
    let late: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-late");
    bench.applied("late", "default.noise").await;
    eventually("the agent says that the content is not to be had", || async {
        let found = late.get_opt("default.app").await.unwrap().and_then(|found| found.status);
        found.is_some_and(|status| status.refusal.is_some())
    })
    .await;
    std::fs::rename(&aside, &content).unwrap();
    // Something of the partition changes again and again, more often than content is asked for.
    let stop = Arc::new(AtomicBool::new(false));
    let noise = tokio::spawn({
        let (late, stop) = (late.clone(), stop.clone());
        async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let patch = json!({"metadata": {"annotations": {"noise": number.to_string()}}});
                late.patch("default.noise", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    });
    bench.applied("late", "default.app").await;
    stop.store(true, Ordering::Relaxed);
    noise.await.unwrap();
    bench.stop().await;
}
