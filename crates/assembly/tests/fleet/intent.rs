//! Which clusters get what, and how they lose it.

use fleet_objects::rollout::{Rollout, RolloutPhase, RolloutStatus};
use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, ANNOTATION_HOLD, Assignment, AssignmentState, Cluster, HELD_BY_OWNER,
    Placement, PlacementStatus, condition,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually, memory};
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
async fn a_selector_that_fails_for_one_cluster_moves_nobody() {
    let mut bench = Bench::start(&["a", "b"]).await;
    bench.label("a", "region", "eu").await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    for name in ["a", "b"] {
        bench.applied(name, "default.app").await;
    }
    let fails = |part: &'static str| {
        let bench = &bench;
        async move {
            eventually("the placement says what is wrong", || async {
                let status = placement(bench).await;
                let ready = condition(&status.conditions, "Ready").unwrap();
                ready.status == "False" && ready.reason == "SelectionFailed" && ready.message.contains(part)
            })
            .await;
            let status = placement(bench).await;
            assert_eq!((status.selected, status.held_withdrawal), (2, None));
            for name in ["a", "b"] {
                let api: Api<Assignment> = Api::namespaced(bench.hub_client(), &format!("cluster-{name}"));
                let state = api.get("default.app").await.unwrap().spec.state;
                assert_eq!(state, AssignmentState::Present, "{name}");
            }
        }
    };
    let select = |expression: &str| json!({"celExpressions": [expression]});
    bench.place("app", select("cluster.labels['region'] != 'us'"), json!({})).await;
    fails("cluster b: cluster.labels['region'] != 'us': ").await;
    bench.add_cluster("c").await;
    let token = bench.fresh_token().await;
    bench.start_agent("c", token, memory()).await;
    bench.connected("c").await;
    bench.label("c", "region", "eu").await;
    eventually("the new one is looked at", || async { placement(&bench).await.considered == 3 }).await;
    let status = placement(&bench).await;
    let new = status.decisions.iter().find(|decision| decision.cluster == "c").unwrap();
    assert!(!new.selected && new.reason.starts_with("it is not added"), "{new:?}");
    // Where the expression has a value for everybody, it counts.
    bench.label("b", "region", "us").await;
    bench.applied("c", "default.app").await;
    let maps = bench.config_maps("b");
    eventually("it goes where it is not wanted", || async { value(&maps, "a").await.is_none() }).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_waits_for_a_test_in_the_one_before() {
    let bench = Bench::start(&["a", "b"]).await;
    let workflow = |exit: u8| {
        json!({"steps": [{"name": "smoke", "image": "fairlead.dev/tool:latest",
            "command": ["/fairlead", "tool", "exit", exit.to_string()]}]})
    };
    bench.put("testworkflows", "TestWorkflow", "smoke", workflow(1)).await;
    let strategy = json!({"strategy": {"canary": {"clusters": 1},
        "waves": [{"name": "rest", "gates": [{"type": "TestRun", "workflow": "smoke"}]}]}});
    bench.put("rollouts", "Rollout", "app", strategy).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    let place = json!({"profile": "app", "clusterSelector": {}, "rollout": "app"});
    bench.put("placements", "Placement", "app", place).await;
    eventually("the test fails", || async { rollout(&bench).await.phase == RolloutPhase::Halted }).await;
    let status = rollout(&bench).await;
    let run = status.tests[0].run.clone();
    assert!(status.message.contains(&format!("test run {run} failed")), "{}", status.message);
    assert_eq!(status.tests[0].clusters, ["a"], "where the change is");
    assert!(value(&bench.config_maps("b"), "a").await.is_none(), "nobody else got it");
    // A change that passes goes on by itself.
    bench.put("testworkflows", "TestWorkflow", "smoke", workflow(0)).await;
    bench.profile("app", json!({"manifests": [config_map("a", "2")]})).await;
    let maps = bench.config_maps("b");
    eventually("then all have it", || async { value(&maps, "a").await.as_deref() == Some("2") }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clusters_owner_holds_is_no_failure_and_catches_up() {
    let bench = Bench::start(&["a", "b"]).await;
    let strategy = json!({"strategy": {"canary": {"clusters": 1}, "progressDeadlineSeconds": 2}});
    bench.put("rollouts", "Rollout", "app", strategy).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    let place = json!({"profile": "app", "clusterSelector": {}, "rollout": "app"});
    bench.put("placements", "Placement", "app", place).await;
    eventually("all have it", || async { rollout(&bench).await.phase == RolloutPhase::Completed }).await;
    let namespaces: Api<Namespace> = Api::all(bench.cluster_client("b"));
    let hold = |reason: Value| {
        let patch = json!({"metadata": {"annotations": {ANNOTATION_HOLD: reason}}});
        let namespaces = namespaces.clone();
        async move {
            namespaces.patch("kube-system", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap()
        }
    };
    hold(json!("stock-taking")).await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("the hub knows it", || async {
        let status = clusters.get("b").await.unwrap().status.unwrap_or_default();
        status.hold.as_deref() == Some("stock-taking")
    })
    .await;
    bench.profile("app", json!({"manifests": [config_map("a", "2")]})).await;
    eventually("the others go on", || async {
        let status = rollout(&bench).await;
        status.revision == 2 && status.phase == RolloutPhase::Completed
    })
    .await;
    let status = rollout(&bench).await;
    assert_eq!((status.failed_count, status.debt_count), (0, 1));
    assert_eq!(status.debts[0].reason, "held by the cluster's owner: stock-taking");
    // Also a placement without a rollout changes nothing there.
    bench.profile("other", json!({"manifests": [config_map("other", "1")]})).await;
    bench.place("other", json!({}), json!({})).await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-b");
    eventually("the agent holds it itself", || async {
        let found = assignments.get_opt("default.other").await.unwrap();
        let status = found.and_then(|found| found.status).unwrap_or_default();
        condition(&status.conditions, "Applied").is_some_and(|applied| applied.reason == HELD_BY_OWNER)
    })
    .await;
    let maps = bench.config_maps("b");
    assert_eq!(value(&maps, "other").await, None);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("what was there is enforced on", || async { value(&maps, "a").await.as_deref() == Some("1") })
        .await;
    hold(Value::Null).await;
    eventually("then it catches up", || async {
        value(&maps, "a").await.as_deref() == Some("2") && value(&maps, "other").await.is_some()
    })
    .await;
    bench.stop().await;
}
