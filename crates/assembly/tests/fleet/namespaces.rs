//! Namespaces of the hub: they go when they are deleted, take nothing away from clusters, and those that the hub needs stay.

use fleet_objects::{
    ANNOTATION_CONFIRM_WITHDRAWAL, Assignment, Cluster, Placement, SYSTEM_NAMESPACE, partition_namespace,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

fn namespaces(bench: &Bench) -> Api<Namespace> {
    Api::all(bench.hub_client())
}

async fn make<K>(api: Api<K>, object: serde_json::Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_of_the_hub_goes_with_what_is_in_it_and_clusters_are_asked_about_first() {
    let bench = Bench::start(&["dev", "lab"]).await;
    let client = bench.hub_client();
    for name in ["empty", "team"] {
        make(namespaces(&bench), json!({"metadata": {"name": name}})).await;
    }
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), "empty");
    make(own.clone(), json!({"metadata": {"name": "own"}})).await;
    namespaces(&bench).delete("empty", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async { namespaces(&bench).get_opt("empty").await.unwrap().is_none() }).await;
    make(namespaces(&bench), json!({"metadata": {"name": "empty"}})).await;
    assert!(own.get_opt("own").await.unwrap().is_none(), "what was in it went with it");

    let group = "fleet.fairlead.dev/v1alpha1";
    make(
        Api::<fleet_objects::Profile>::namespaced(client.clone(), "team"),
        json!({"apiVersion": group, "kind": "Profile", "metadata": {"name": "app"},
            "spec": {"manifests": [config_map("a", "1")]}}),
    )
    .await;
    let placements: Api<Placement> = Api::namespaced(client.clone(), "team");
    make(
        placements.clone(),
        json!({"apiVersion": group, "kind": "Placement", "metadata": {"name": "app"},
            "spec": {"profile": "app", "clusterSelector": {}}}),
    )
    .await;
    for name in ["dev", "lab"] {
        bench.applied(name, "team.app").await;
    }
    namespaces(&bench).delete("team", &DeleteParams::default()).await.unwrap();
    let held = || async { placements.get_opt("app").await.unwrap()?.status?.held_withdrawal };
    eventually("it asks", || async { held().await.is_some_and(|held| held.clusters == ["dev", "lab"]) })
        .await;
    let maps = bench.config_maps("dev");
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"));
    eventually("the namespace says what it waits for", || async {
        let status = namespaces(&bench).get("team").await.unwrap().status.unwrap_or_default();
        status
            .conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "NamespaceFinalizersRemaining" && condition.status == "True")
    })
    .await;
    let word =
        json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_WITHDRAWAL: held().await.unwrap().id}}});
    placements.patch("app", &PatchParams::default(), &Patch::Merge(&word)).await.unwrap();
    eventually("the cluster is emptied", || async { value(&maps, "a").await.is_none() }).await;
    eventually("then it goes", || async { namespaces(&bench).get_opt("team").await.unwrap().is_none() })
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_the_hub_needs_are_not_deleted() {
    let bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    for (name, why) in [
        ("default", "this namespace may not be deleted"),
        ("kube-system", "this namespace may not be deleted"),
        (SYSTEM_NAMESPACE, "the hub keeps what is its own in it"),
        ("cluster-dev", "it is the partition of cluster \"dev\", which is there; delete the Cluster first"),
    ] {
        let refused = namespaces(&bench).delete(name, &DeleteParams::default()).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused:?}") };
        assert_eq!(status.message, format!("namespaces {name:?} is forbidden: {why}"));
    }
    // One of nobody's cluster is a namespace as any other.
    make(namespaces(&bench), json!({"metadata": {"name": "cluster-nobody"}})).await;
    namespaces(&bench).delete("cluster-nobody", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async {
        namespaces(&bench).get_opt("cluster-nobody").await.unwrap().is_none()
    })
    .await;
    assert!(Api::<Cluster>::all(bench.hub_client()).get_opt("dev").await.unwrap().is_some());
    let own: Api<Assignment> = Api::namespaced(bench.hub_client(), &partition_namespace("dev"));
    assert!(own.get_opt("default.app").await.unwrap().is_some());
    bench.stop().await;
}
