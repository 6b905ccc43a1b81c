//! Placements that are deleted or name another profile: nobody is emptied without the word, the waves and the gates that
//! any other withdrawal has.

use assembly::hub_backup;
use fleet_objects::rollout::{Rollout, RolloutPhase, RolloutStatus, Withdrawal};
use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, Assignment, AssignmentState, Cluster, HeldWithdrawal, Placement, condition,
};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::restoring::back_up;
use crate::{config_map, value};

fn placements(bench: &Bench) -> Api<Placement> {
    Api::namespaced(bench.hub_client(), "default")
}

async fn held(bench: &Bench) -> Option<HeldWithdrawal> {
    let found = placements(bench).get_opt("app").await.unwrap()?;
    found.status?.held_withdrawal
}

async fn confirm(bench: &Bench) {
    eventually("it is held", || async { held(bench).await.is_some() }).await;
    let word = held(bench).await.unwrap().id;
    let patch = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_WITHDRAWAL: word}}});
    placements(bench).patch("app", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn state(bench: &Bench, cluster: &str, assignment: &str) -> Option<AssignmentState> {
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), &format!("cluster-{cluster}"));
    api.get_opt(assignment).await.unwrap().map(|found| found.spec.state)
}

async fn is_gone(bench: &Bench) -> bool {
    placements(bench).get_opt("app").await.unwrap().is_none()
}

async fn rollout(bench: &Bench) -> Option<RolloutStatus> {
    let api: Api<Rollout> = Api::namespaced(bench.hub_client(), "default");
    Some(api.get_opt("app").await.unwrap()?.status.unwrap_or_default())
}

async fn withdrawal(bench: &Bench) -> Withdrawal {
    rollout(bench).await.and_then(|status| status.withdrawal).unwrap_or_default()
}

async fn patch_rollout(bench: &Bench, spec: Value) {
    let api: Api<Rollout> = Api::namespaced(bench.hub_client(), "default");
    let patch = json!({"spec": spec});
    api.patch("app", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn everywhere(bench: &Bench, names: &[&str], assignment: &str) {
    for name in names {
        bench.applied(name, assignment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_that_is_deleted_stays_until_a_person_lets_its_clusters_be_emptied() {
    let bench = Bench::start(&["a", "b"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    everywhere(&bench, &["a", "b"], "default.app").await;
    placements(&bench).delete("app", &DeleteParams::default()).await.unwrap();
    eventually("it asks", || async { held(&bench).await.is_some_and(|held| held.clusters == ["a", "b"]) })
        .await;
    assert_eq!(held(&bench).await.unwrap().profiles, ["app"]);
    for name in ["a", "b"] {
        assert_eq!(state(&bench, name, "default.app").await, Some(AssignmentState::Present), "{name}");
    }
    // Another placement of the same profile takes over: nobody loses anything by the first, and it goes.
    bench
        .put(
            "placements",
            "Placement",
            "heir",
            json!({"profile": "app",
        "clusterSelector": {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}}),
        )
        .await;
    eventually("one cluster is left", || async {
        held(&bench).await.is_none_or(|held| held.clusters == ["a"])
    })
    .await;
    eventually("one of two may go without a word", || async { is_gone(&bench).await }).await;
    let (a, b) = (bench.config_maps("a"), bench.config_maps("b"));
    eventually("it is empty", || async { value(&a, "a").await.is_none() }).await;
    assert_eq!(value(&b, "a").await.as_deref(), Some("1"), "the heir's");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_placement_is_emptied_in_waves_behind_gates_and_its_rollout_waits_for_it() {
    let bench = Bench::start(&["a", "b"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    let strategy = json!({"strategy": {"canary": {"clusters": 1}}});
    bench.put("rollouts", "Rollout", "app", strategy).await;
    let place = json!({"profile": "app", "clusterSelector": {}, "rollout": "app", "maxWithdrawal": "100%"});
    bench.put("placements", "Placement", "app", place).await;
    eventually("all have it", || async {
        rollout(&bench).await.is_some_and(|status| status.phase == RolloutPhase::Completed)
    })
    .await;
    let gated = json!({"strategy": {"canary": {"clusters": 1}, "waves": [{"name": "rest", "gates": [{"type": "Approval"}]}]}});
    bench.put("rollouts", "Rollout", "app", gated).await;
    // The rollout first, as a directory may have it.
    let rollouts: Api<Rollout> = Api::namespaced(bench.hub_client(), "default");
    rollouts.delete("app", &DeleteParams::default()).await.unwrap();
    placements(&bench).delete("app", &DeleteParams::default()).await.unwrap();
    let (a, b) = (bench.config_maps("a"), bench.config_maps("b"));
    eventually("the canary is empty", || async { value(&a, "a").await.is_none() }).await;
    eventually("the rest waits", || async {
        withdrawal(&bench).await.message == "rest: waits for an approval"
    })
    .await;
    assert_eq!(state(&bench, "b", "default.app").await, Some(AssignmentState::Present));
    assert!(!is_gone(&bench).await);
    let step = rollout(&bench).await.unwrap().withdrawal_step;
    patch_rollout(&bench, json!({"promoteWithdrawal": step})).await;
    eventually("then it goes too", || async { value(&b, "a").await.is_none() }).await;
    eventually("nothing is left", || async { is_gone(&bench).await && rollout(&bench).await.is_none() })
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_profile_takes_nothing_of_the_old_one_away_without_a_word() {
    let bench = Bench::start(&["a", "b"]).await;
    bench.profile("old", json!({"manifests": [config_map("old", "1")]})).await;
    bench.profile("new", json!({"manifests": [config_map("new", "1")]})).await;
    let place = |profile: &str| json!({"profile": profile, "clusterSelector": {}});
    bench.put("placements", "Placement", "app", place("old")).await;
    everywhere(&bench, &["a", "b"], "default.old").await;
    bench.put("placements", "Placement", "app", place("new")).await;
    everywhere(&bench, &["a", "b"], "default.new").await;
    eventually("it asks", || async { held(&bench).await.is_some_and(|held| held.profiles == ["old"]) }).await;
    for name in ["a", "b"] {
        assert_eq!(state(&bench, name, "default.old").await, Some(AssignmentState::Present), "{name}");
    }
    confirm(&bench).await;
    for name in ["a", "b"] {
        let maps = bench.config_maps(name);
        eventually("the old one goes", || async { value(&maps, "old").await.is_none() }).await;
        assert_eq!(value(&maps, "new").await.as_deref(), Some("1"));
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_that_is_merely_missing_takes_nothing_away() {
    let bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    everywhere(&bench, &["dev"], "default.app").await;
    // While nothing can be told to the cluster, somebody tears the hub's finalizer off.
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let pause = |paused: bool| json!({"spec": {"paused": paused}});
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&pause(true))).await.unwrap();
    placements(&bench).delete("app", &DeleteParams::default()).await.unwrap();
    let torn = json!({"metadata": {"finalizers": null}});
    placements(&bench).patch("app", &PatchParams::default(), &Patch::Merge(&torn)).await.unwrap();
    eventually("it is gone", || async { is_gone(&bench).await }).await;
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&pause(false))).await.unwrap();
    eventually("the hub says what nobody speaks of", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "HubBehind").is_some_and(|behind| {
            behind.message.starts_with("brought by placements that this hub does not know: default.app")
        })
    })
    .await;
    assert_eq!(state(&bench, "dev", "default.app").await, Some(AssignmentState::Present));
    // A placement of that name speaks again.
    bench.place("app", json!({"matchLabels": {"tier": "none"}}), json!({})).await;
    let maps = bench.config_maps("dev");
    eventually("and lets it go", || async { value(&maps, "a").await.is_none() }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_from_a_backup_goes_on_emptying_nobody_without_a_new_word() {
    let mut bench = Bench::start(&["a", "b"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.put("rollouts", "Rollout", "app", json!({"strategy": {}})).await;
    let place = |tier: &str| json!({"profile": "app", "clusterSelector": {"matchLabels": {"tier": tier}}, "rollout": "app", "maxWithdrawal": "100%"});
    bench.put("placements", "Placement", "app", place("all")).await;
    eventually("all have it", || async {
        rollout(&bench).await.is_some_and(|status| status.phase == RolloutPhase::Completed)
    })
    .await;
    patch_rollout(&bench, json!({"paused": true})).await;
    bench.put("placements", "Placement", "app", place("none")).await;
    eventually("the withdrawal is paused", || async { withdrawal(&bench).await.message.contains("paused") })
        .await;
    bench.stop_hub().await;
    let root = tempfile::tempdir().unwrap();
    let to = root.path().join("hub");
    let file = back_up(&bench, root.path()).await;
    hub_backup::restore(&file, &to, None).await.unwrap();
    bench.replace_hub(to);
    bench.start_hub().await;
    for name in ["a", "b"] {
        bench.connected(name).await;
    }
    eventually("it asks", || async { held(&bench).await.is_some() }).await;
    patch_rollout(&bench, json!({"paused": false})).await;
    eventually("nothing is left to wait for but a word", || async {
        rollout(&bench).await.is_some_and(|status| status.withdrawal.is_none())
    })
    .await;
    let found = placements(&bench).get("app").await.unwrap().status.unwrap();
    let ready = condition(&found.conditions, "Ready").unwrap();
    assert!(ready.message.contains("this hub came back from a backup"), "{}", ready.message);
    for name in ["a", "b"] {
        assert_eq!(state(&bench, name, "default.app").await, Some(AssignmentState::Present), "{name}");
    }
    confirm(&bench).await;
    for name in ["a", "b"] {
        let maps = bench.config_maps(name);
        eventually("then it goes", || async { value(&maps, "a").await.is_none() }).await;
    }
    bench.stop().await;
}
