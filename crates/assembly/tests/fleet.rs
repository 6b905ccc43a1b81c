//! A hub, clusters and agents in one process, over real TLS and real directories: the fleet's promises, one test each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "fleet/access.rs"]
mod access;
#[path = "fleet/alerts.rs"]
mod alerts;
#[path = "fleet/artifacts.rs"]
mod artifacts;
#[path = "fleet/at_rest.rs"]
mod at_rest;
#[path = "fleet/bench.rs"]
mod bench;
#[path = "fleet/deleted.rs"]
mod deleted;
#[path = "fleet/drift.rs"]
mod drift;
#[path = "fleet/flows.rs"]
mod flows;
#[path = "fleet/intent.rs"]
mod intent;
#[path = "fleet/joining.rs"]
mod joining;
#[path = "fleet/journeys.rs"]
mod journeys;
#[path = "fleet/killed.rs"]
mod killed;
#[path = "fleet/leaving.rs"]
mod leaving;
#[path = "fleet/login.rs"]
mod login;
#[path = "fleet/malicious_agent.rs"]
mod malicious_agent;
#[path = "fleet/malicious_hub.rs"]
mod malicious_hub;
#[path = "fleet/moving.rs"]
mod moving;
#[path = "fleet/namespaces.rs"]
mod namespaces;
#[path = "fleet/notify.rs"]
mod notify;
#[path = "fleet/order.rs"]
mod order;
#[path = "fleet/policies.rs"]
mod policies;
#[path = "fleet/queue.rs"]
mod queue;
#[path = "fleet/restoring.rs"]
mod restoring;
#[path = "fleet/roles.rs"]
mod roles;
#[path = "fleet/secrets.rs"]
mod secrets;
#[path = "fleet/sources.rs"]
mod sources;
#[path = "fleet/throw_away.rs"]
mod throw_away;
#[path = "fleet/triggers.rs"]
mod triggers;
#[path = "fleet/trust.rs"]
mod trust;
#[path = "fleet/validation.rs"]
mod validation;

use std::time::{Duration, Instant};

use bench::{Bench, eventually};
use fleet_objects::{
    ANNOTATION_ADOPT, ANNOTATION_CONFIRM_DELETIONS, Assignment, Cluster, Profile, condition_is_true,
};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

fn config_map(name: &str, value: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

async fn value(api: &Api<ConfigMap>, name: &str) -> Option<String> {
    api.get_opt(name).await.ok().flatten()?.data?.remove("key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_reaches_its_clusters_is_enforced_and_leaves_by_tombstone() {
    let bench = Bench::start(&["dev", "prod"]).await;
    bench
        .profile(
            "app",
            json!({
                "variables": [{"name": "colour", "default": "blue"}],
                "manifests": [config_map("a", "${var.colour}"), config_map("b", "fixed")],
            }),
        )
        .await;
    bench.place("app", json!({"matchLabels": {"tier": "all"}}), json!({"colour": "green"})).await;
    for cluster in ["dev", "prod"] {
        bench.applied(cluster, "default.app").await;
        assert_eq!(value(&bench.config_maps(cluster), "a").await.as_deref(), Some("green"));
    }
    let maps = bench.config_maps("dev");
    // An edit and a deletion are repaired; the first repair says who it was.
    let began = Instant::now();
    maps.patch(
        "a",
        &PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() },
        &Patch::Merge(json!({"data": {"key": "red"}})),
    )
    .await
    .unwrap();
    eventually("the edit is repaired", || async { value(&maps, "a").await.as_deref() == Some("green") })
        .await;
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    eventually("the deletion is repaired", || async { value(&maps, "b").await.is_some() }).await;
    assert!(began.elapsed() < Duration::from_secs(5), "repairs took {:?}", began.elapsed());
    let events: Api<Event> = Api::namespaced(bench.hub_client(), "cluster-dev");
    eventually("the repair is told", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.iter().any(|event| {
            event.reason.as_deref() == Some("DriftRepaired")
                && event.message.as_ref().is_some_and(|message| message.contains("someone"))
        })
    })
    .await;
    // Off one cluster by a label.
    bench.label("prod", "tier", "none").await;
    eventually("prod is empty", || async { value(&bench.config_maps("prod"), "a").await.is_none() }).await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-prod");
    eventually("its assignment goes after the prune", || async {
        assignments.list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("green"));
    // And back, above the old numbers.
    bench.label("prod", "tier", "all").await;
    bench.applied("prod", "default.app").await;
    assert!(assignments.get("default.app").await.unwrap().spec.generation > 2);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enforcement_outlives_the_hub_and_nothing_told_is_lost() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    bench.stop_hub().await;
    bench.restart_agent("dev").await;
    let maps = bench.config_maps("dev");
    // What goes before the restarted agent watches is put back without being called a repair.
    while bench.repairs_waiting("dev").await < 3 {
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        eventually("repaired without a hub", || async { value(&maps, "a").await.is_some() }).await;
    }
    bench.start_hub().await;
    bench.connected("dev").await;
    let uid = bench.uid("dev").await;
    let inbox = bench.hub().handle().inbox().clone();
    let repairs = |page: &agent_protocol::RecordPage| {
        let is = |stored: &&agent_protocol::StoredRecord| matches!(&stored.record.body, agent_protocol::RecordBody::Event(event) if event.reason == "DriftRepaired");
        page.records.iter().filter(is).count()
    };
    eventually("the outage is told", || async { repairs(&inbox.page(&uid, 0).await.unwrap()) == 3 }).await;
    let sequences: Vec<u64> =
        inbox.page(&uid, 0).await.unwrap().records.iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "every record once, in order");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_from_an_old_copy_takes_nothing_away_until_a_person_adopts_it() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    bench.stop_hub().await;
    let copy = bench.copy_hub();
    bench.start_hub().await;
    bench.connected("dev").await;
    bench.profile("app", json!({"manifests": [config_map("a", "2"), config_map("new", "2")]})).await;
    let maps = bench.config_maps("dev");
    eventually("the second version", || async { value(&maps, "new").await.is_some() }).await;
    bench.profile("later", json!({"manifests": [config_map("late", "1")]})).await;
    bench.place("later", json!({}), json!({})).await;
    bench.applied("dev", "default.later").await;
    bench.stop_hub().await;
    bench.replace_hub(copy);
    bench.start_hub().await;
    bench.connected("dev").await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("the hub knows that it is behind", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition_is_true(&status.conditions, "HubBehind")
            && status.assignments.is_some_and(|summary| summary.orphaned == 1)
    })
    .await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    eventually("the agent says why it refuses", || async {
        let status = assignments.get("default.app").await.unwrap().status.unwrap_or_default();
        status.refusal.is_some_and(|refusal| refusal.message.contains("back in time"))
    })
    .await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("2"), "what is held stays");
    assert!(value(&maps, "new").await.is_some() && value(&maps, "late").await.is_some());
    let adopt = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: "prune-orphans"}}});
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(adopt)).await.unwrap();
    eventually("the old version by a person's word", || async {
        value(&maps, "a").await.as_deref() == Some("1")
    })
    .await;
    eventually("orphans go when asked", || async {
        value(&maps, "late").await.is_none() && value(&maps, "new").await.is_none()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_hub_takes_nothing_away() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    bench.stop_hub().await;
    bench.empty_hub();
    bench.start_hub().await;
    let maps = bench.config_maps("dev");
    // Another authority: the agent does not even talk to it.
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("enforced on", || async { value(&maps, "a").await.is_some() }).await;
    eventually("it says why it does not talk", || async { bench.agent_error("dev").is_some() }).await;
    // Joined anew by a person's token, it keeps what it holds and says so.
    bench.rejoin("dev").await;
    bench.connected("dev").await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("the new hub learns what is held", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        status.held.iter().any(|held| held.name == "default.app")
            && status.assignments.is_some_and(|summary| summary.orphaned == 1)
    })
    .await;
    // The same name at the new hub is not the same thing.
    bench.profile("app", json!({"manifests": [config_map("other", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    eventually("it waits for a person", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        let behind = fleet_objects::condition(&status.conditions, "HubBehind");
        behind.is_some_and(|behind| behind.message.contains("adopt"))
    })
    .await;
    assert!(value(&maps, "a").await.is_some() && value(&maps, "other").await.is_none());
    let adopt = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: "keep-orphans"}}});
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(adopt)).await.unwrap();
    eventually("adopted", || async {
        value(&maps, "other").await.is_some() && value(&maps, "a").await.is_none()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grave_deletions_wait_and_bad_profiles_change_nothing() {
    let bench = Bench::start(&["dev"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "precious"}});
    bench.profile("app", json!({"manifests": [namespace, config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    let maps = bench.config_maps("dev");
    // Someone else owns a field: the whole generation is refused, and says who.
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"key": "theirs"}});
    maps.patch("theirs", &PatchParams::apply("other-tool"), &Patch::Apply(foreign)).await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "precious"}});
    bench
        .profile("app", json!({"manifests": [namespace, config_map("a", "2"), config_map("theirs", "ours")]}))
        .await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    eventually("the conflict names the other manager", || async {
        let status = assignments.get("default.app").await.unwrap().status.unwrap_or_default();
        fleet_objects::condition(&status.conditions, "Applied")
            .is_some_and(|applied| applied.status == "False" && applied.message.contains("other-tool"))
    })
    .await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"), "nothing half-applied");
    assert_eq!(value(&maps, "theirs").await.as_deref(), Some("theirs"));
    // What a Source brings and cannot be rendered is told at the profile; clusters keep what they have.
    let layer = json!({"name": "more", "manifests": [config_map("more", "${var.nope}")]});
    bench.brought("app", json!({"layers": [layer]})).await;
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    eventually("the profile says what is wrong", || async {
        let status = profiles.get("app").await.unwrap().status.unwrap_or_default();
        fleet_objects::condition(&status.conditions, "Ready")
            .is_some_and(|ready| ready.status == "False" && ready.message.contains("nope"))
    })
    .await;
    bench.brought("app", json!({})).await;
    // Without the namespace: held, until confirmed.
    bench.profile("app", json!({"manifests": [config_map("a", "3")]})).await;
    eventually("the rest goes on", || async { value(&maps, "a").await.as_deref() == Some("3") }).await;
    eventually("the deletion is held", || async {
        let assignment = assignments.get("default.app").await.unwrap();
        assignment.status.is_some_and(|status| status.held_deletion_count == 1)
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(bench.cluster_client("dev"));
    assert!(namespaces.get("precious").await.unwrap().metadata.deletion_timestamp.is_none());
    let generation = assignments.get("default.app").await.unwrap().spec.generation.to_string();
    let confirm = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_DELETIONS: generation}}});
    assignments.patch("default.app", &PatchParams::default(), &Patch::Merge(confirm)).await.unwrap();
    eventually("confirmed", || async { namespaces.get_opt("precious").await.unwrap().is_none() }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reaches_its_own_partition_and_nothing_else() {
    let bench = Bench::start(&["dev", "prod"]).await;
    bench.profile("secret", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("secret", json!({"matchLabels": {"name": "prod"}}), json!({})).await;
    bench.applied("prod", "default.secret").await;
    let digest = Api::<Assignment>::namespaced(bench.hub_client(), "cluster-prod")
        .get("default.secret")
        .await
        .unwrap();
    let digest = digest.spec.content.unwrap().digest;
    let dev = bench.agent_hub_client("dev");
    let code = |path: String, method: &'static str| {
        let dev = dev.clone();
        async move {
            let request =
                http::Request::builder().method(method).uri(path).header("content-type", "application/json");
            let body = kube::client::Body::from(b"{}".to_vec());
            dev.send(request.body(body).unwrap()).await.unwrap().status().as_u16()
        }
    };
    let group = "/apis/fleet.fairlead.dev/v1alpha1";
    assert_eq!(code(format!("{group}/namespaces/cluster-dev/assignments"), "GET").await, 200);
    for (method, path) in [
        ("GET", format!("{group}/namespaces/cluster-prod/assignments")),
        ("GET", format!("{group}/namespaces/cluster-prod/assignments/default.secret")),
        ("DELETE", format!("{group}/namespaces/cluster-prod/assignments/default.secret")),
        ("GET", format!("{group}/namespaces/cluster-prod/assignments?watch=1")),
        ("GET", format!("{group}/assignments")),
        ("POST", format!("{group}/namespaces/cluster-dev/assignments")),
        ("DELETE", format!("{group}/namespaces/cluster-dev/assignments/default.secret")),
        ("GET", format!("{group}/clusters")),
        ("POST", format!("{group}/clusters")),
        ("GET", format!("{group}/clusters/dev")),
        ("GET", format!("{group}/profiles")),
        ("GET", "/api/v1/secrets".to_owned()),
        ("GET", "/api/v1/namespaces/fairlead-system/secrets".to_owned()),
        ("GET", "/fleet/v1/clusters/prod/records".to_owned()),
        ("GET", format!("/fleet/v1/content/{digest}")),
        ("GET", "/fleet/v1/testruns/default/x/log".to_owned()),
    ] {
        assert_eq!(code(path.clone(), method).await, 403, "{method} {path}");
    }
    assert_eq!(code("/fleet/v1/clusters/dev/records".to_owned(), "GET").await, 200);
    // A revoked agent is cut off.
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    clusters
        .patch("dev", &PatchParams::default(), &Patch::Merge(json!({"spec": {"revoked": true}})))
        .await
        .unwrap();
    eventually("revoked", || async { code("/fleet/v1/agent/ping".to_owned(), "POST").await == 403 }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_once_and_pins_are_kept() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.add_cluster("other").await;
    let used = bench.token("dev");
    let reused = bench.try_join("other", &used, None).await;
    assert!(reused.contains("already used"), "{reused}");
    let wrong = bench.try_join("other", "aaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None).await;
    assert!(wrong.contains("unknown, expired or already used"), "{wrong}");
    let fresh = bench.fresh_token().await;
    let pinned = bench.try_join("other", &fresh, Some("sha256:00")).await;
    assert!(pinned.contains("another hub"), "{pinned}");
    let taken = bench.try_join_as("other", "dev", &fresh).await;
    assert!(taken.contains("already"), "{taken}");
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    assert_eq!(
        clusters
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["dev"]
    );
    bench.stop().await;
}
