//! Which clusters get what, and how they lose it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use fleet_objects::rollout::{Rollout, RolloutPhase, RolloutStatus};
use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, Assignment, AssignmentState, Placement, PlacementStatus, condition,
};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

async fn placement(bench: &Bench) -> PlacementStatus {
    let api: Api<Placement> = Api::namespaced(bench.hub_client(), "default");
    api.get("app").await.unwrap().status.unwrap_or_default()
}

async fn rollout(bench: &Bench) -> RolloutStatus {
    let api: Api<Rollout> = Api::namespaced(bench.hub_client(), "default");
    api.get("app").await.unwrap().status.unwrap_or_default()
}

/// Makes an object in a cluster, of any kind that it serves by then.
async fn make(bench: &Bench, cluster: &str, kind: &GroupVersionKind, plural: &str, mut object: Value) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let resource = ApiResource::from_gvk_with_plural(kind, plural);
    let api: Api<DynamicObject> = Api::all_with(bench.cluster_client(cluster), &resource);
    eventually("the kind is served", || async {
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => true,
            Err(error) => api_client::error::is_already_exists(&error),
        }
    })
    .await;
}

/// The About API, as its definition says it, with one property.
async fn says_of_itself(bench: &Bench, cluster: &str, name: &str, value: &str) {
    let definition = json!({"metadata": {"name": "clusterproperties.about.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/3084"}},
        "spec": {"group": "about.k8s.io", "scope": "Cluster",
        "names": {"kind": "ClusterProperty", "plural": "clusterproperties", "singular": "clusterproperty",
            "listKind": "ClusterPropertyList"},
        "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": {"type": "object",
                "properties": {"value": {"type": "string"}}}}}}}]}});
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    make(bench, cluster, &kind, "customresourcedefinitions", definition).await;
    let kind = GroupVersionKind::gvk("about.k8s.io", "v1alpha1", "ClusterProperty");
    let property = json!({"metadata": {"name": name}, "spec": {"value": value}});
    make(bench, cluster, &kind, "clusterproperties", property).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_chosen_by_what_they_say_of_themselves() {
    let mut bench = Bench::start(&["plain", "gold"]).await;
    says_of_itself(&bench, "gold", "tier.example.com", "gold").await;
    // Looked at every minute, and at the start.
    bench.restart_agent("gold").await;
    bench.connected("gold").await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    let selector = json!({
        "matchProperties": [{"key": "tier.example.com", "operator": "In", "values": ["gold"]}],
        "matchFields": [{"key": "apiGroups", "operator": "In", "values": ["about.k8s.io"]}],
        "celExpressions": ["'v1alpha1' in cluster.apiGroups['about.k8s.io']
            && cluster.properties['tier.example.com'] == 'gold'"],
    });
    bench.place("app", selector, json!({})).await;
    bench.applied("gold", "default.app").await;
    let status = placement(&bench).await;
    let plain = status.decisions.iter().find(|decision| decision.cluster == "plain").unwrap();
    assert!(
        !plain.selected && plain.reason.starts_with("field apiGroups")
            || plain.reason.starts_with("none of the API groups"),
        "{plain:?}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_that_suddenly_chooses_nobody_empties_nobody_without_a_word() {
    let bench = Bench::start(&["a", "b"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({"matchLabels": {"tier": "all"}}), json!({})).await;
    for name in ["a", "b"] {
        bench.applied(name, "default.app").await;
    }
    bench.place("app", json!({"matchLabels": {"tier": "al"}}), json!({})).await;
    eventually("it is held", || async { placement(&bench).await.held_withdrawal.is_some() }).await;
    let status = placement(&bench).await;
    let ready = condition(&status.conditions, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "WithdrawalHeld"), "{ready:?}");
    assert!(ready.message.contains("2 of 2 clusters would lose the profile"), "{}", ready.message);
    let held = status.held_withdrawal.unwrap();
    assert_eq!(held.clusters, ["a", "b"]);
    for name in ["a", "b"] {
        let api: Api<Assignment> = Api::namespaced(bench.hub_client(), &format!("cluster-{name}"));
        assert_eq!(api.get("default.app").await.unwrap().spec.state, AssignmentState::Present, "{name}");
    }
    // A word about other clusters does nothing and does not stay.
    let api: Api<Placement> = Api::namespaced(bench.hub_client(), "default");
    let say = |word: String| {
        let patch = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_WITHDRAWAL: word}}});
        let api = api.clone();
        async move { api.patch("app", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap() }
    };
    let word = || async {
        let annotations = api.get("app").await.unwrap().metadata.annotations.unwrap_or_default();
        annotations.get(ANNOTATION_CONFIRM_WITHDRAWAL).cloned()
    };
    say("0123456789abcdef".to_owned()).await;
    eventually("the wrong word is taken off", || async { word().await.is_none() }).await;
    assert!(value(&bench.config_maps("a"), "a").await.is_some());
    say(held.id).await;
    for name in ["a", "b"] {
        let maps = bench.config_maps(name);
        eventually("it is empty", || async { value(&maps, "a").await.is_none() }).await;
    }
    eventually("all is done and nothing is left of the word", || async {
        placement(&bench).await.held_withdrawal.is_none() && word().await.is_none()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_emptied_in_waves_and_one_that_cannot_be_stops_the_rest() {
    let bench = Bench::start(&["a", "b", "c"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "precious"}});
    bench.profile("app", json!({"manifests": [namespace, config_map("a", "1")]})).await;
    let place = |label: &str| {
        json!({"profile": "app", "clusterSelector": {"matchLabels": {"tier": label}}, "rollout": "app",
            "maxWithdrawal": "100%"})
    };
    let strategy = |budget: u32| json!({"strategy": {"canary": {"clusters": 1}, "failureBudget": budget, "progressDeadlineSeconds": 2}});
    bench.put("rollouts", "Rollout", "app", strategy(0)).await;
    bench.put("placements", "Placement", "app", place("all")).await;
    eventually("all have it", || async { rollout(&bench).await.phase == RolloutPhase::Completed }).await;
    bench.put("placements", "Placement", "app", place("none")).await;
    // The agent holds what may destroy more than itself, so the canary is not empty in time.
    eventually("the canary fails", || async {
        let withdrawal = rollout(&bench).await.withdrawal;
        withdrawal
            .is_some_and(|one| one.failed.len() == 1 && one.message.contains("1 failed where 0 may: a: "))
    })
    .await;
    let state = |name: &'static str| {
        let api: Api<Assignment> = Api::namespaced(bench.hub_client(), &format!("cluster-{name}"));
        async move { api.get("default.app").await.unwrap().spec.state }
    };
    assert_eq!(state("a").await, AssignmentState::Tombstone);
    for name in ["b", "c"] {
        assert_eq!(state(name).await, AssignmentState::Present, "{name} was told too");
    }
    bench.put("rollouts", "Rollout", "app", strategy(3)).await;
    eventually("the budget lets the others follow", || async {
        state("b").await == AssignmentState::Tombstone && state("c").await == AssignmentState::Tombstone
    })
    .await;
    bench.stop().await;
}
