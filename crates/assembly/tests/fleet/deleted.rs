//! What somebody deletes at the hub: an assignment comes back while a placement wants it, and of a deleted cluster nothing is left.

use fleet_objects::{
    ANNOTATION_ADOPT, Assignment, Cluster, Profile, condition, condition_is_true, partition_namespace,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

fn assignments(bench: &Bench, cluster: &str) -> Api<Assignment> {
    Api::namespaced(bench.hub_client(), &partition_namespace(cluster))
}

async fn status(bench: &Bench, cluster: &str) -> fleet_objects::ClusterStatus {
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    clusters.get(cluster).await.unwrap().status.unwrap_or_default()
}

async fn annotate(bench: &Bench, word: Value) {
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let patch = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: word}}});
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_is_deleted_comes_back_above_what_the_agent_holds() {
    let bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    eventually("the agent says what it holds", || async {
        status(&bench, "dev").await.held.iter().any(|held| held.name == "default.app")
    })
    .await;
    let maps = bench.config_maps("dev");
    let uid = maps.get("a").await.unwrap().uid();
    let before = assignments(&bench, "dev").get("default.app").await.unwrap();
    assignments(&bench, "dev").delete("default.app", &DeleteParams::default()).await.unwrap();
    eventually("it is there again", || async {
        let found = assignments(&bench, "dev").get_opt("default.app").await.unwrap();
        found.is_some_and(|found| found.spec.generation > before.spec.generation)
    })
    .await;
    bench.applied("dev", "default.app").await;
    assert_eq!(maps.get("a").await.unwrap().uid(), uid, "nothing was taken away meanwhile");
    eventually("nothing is unknown", || async {
        !condition_is_true(&status(&bench, "dev").await.conditions, "HubBehind")
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_of_adoption_that_is_none_does_nothing_and_is_told() {
    let bench = Bench::start(&["dev"]).await;
    annotate(&bench, json!("yes")).await;
    eventually("it is told", || async {
        let status = status(&bench, "dev").await;
        condition(&status.conditions, "AdoptionRefused")
            .is_some_and(|told| told.status == "True" && told.message.contains("\"yes\""))
    })
    .await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let cluster = clusters.get("dev").await.unwrap();
    assert_eq!(cluster.annotations()[ANNOTATION_ADOPT], "yes", "it was not taken for done");
    annotate(&bench, Value::Null).await;
    eventually("it is told no more", || async {
        condition(&status(&bench, "dev").await.conditions, "AdoptionRefused").is_none()
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_cluster_nothing_counts_and_nothing_is_left_and_it_may_join_as_new() {
    let mut bench = Bench::start(&["dev", "edge"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    for name in ["dev", "edge"] {
        bench.applied(name, "default.app").await;
    }
    let client = bench.hub_client();
    let clusters: Api<Cluster> = Api::all(client.clone());
    clusters.delete("edge", &DeleteParams::default()).await.unwrap();
    let profiles: Api<Profile> = Api::namespaced(client.clone(), "default");
    eventually("it does not count", || async {
        profiles.get("app").await.unwrap().status.unwrap_or_default().clusters == 1
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(client);
    eventually("its partition goes", || async {
        namespaces.get_opt("cluster-edge").await.unwrap().is_none()
    })
    .await;
    assert!(namespaces.get_opt("cluster-dev").await.unwrap().is_some());
    let maps = bench.config_maps("edge");
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"), "it is not taken away from the cluster");
    bench.rejoin("edge").await;
    bench.connected("edge").await;
    bench.applied("edge", "default.app").await;
    bench.profile("app", json!({"manifests": [config_map("a", "2")]})).await;
    eventually("it follows", || async { value(&maps, "a").await.as_deref() == Some("2") }).await;
    bench.stop().await;
}
