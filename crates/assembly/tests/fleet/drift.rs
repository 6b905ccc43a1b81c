//! How far objects are enforced: always, only watched, only made, and fields that are somebody else's business.

use fleet_objects::Assignment;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::value;

fn map(name: &str, value: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": annotations},
        "data": {"key": value, "other": value}})
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_enforced_as_far_as_their_manifests_say() {
    let mut bench = Bench::start(&["dev"]).await;
    let all = |value: &str| {
        json!({"manifests": [
            map("enforced", value, json!({})),
            map("watched", value, json!({"fleet.fairlead.dev/drift": "detect"})),
            map("made", value, json!({"fleet.fairlead.dev/drift": "create-only"})),
            map("shared", value, json!({"fleet.fairlead.dev/ignore-fields": "/data/key"})),
        ]})
    };
    bench.profile("app", all("1")).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    let maps = bench.config_maps("dev");
    let edit = |name: &'static str| {
        let maps = maps.clone();
        async move {
            let params = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({"data": {"key": "edited", "other": "edited"}}));
            maps.patch(name, &params, &patch).await.unwrap();
        }
    };
    let other = |name: &'static str| {
        let maps = maps.clone();
        async move { maps.get(name).await.unwrap().data.unwrap().remove("other").unwrap() }
    };
    for name in ["watched", "made", "shared", "enforced"] {
        edit(name).await;
    }
    // Once the last edit is undone, the agent has seen the others.
    eventually("put back", || async { value(&maps, "enforced").await.as_deref() == Some("1") }).await;
    eventually("what is not ignored is put back", || async { other("shared").await == "1" }).await;
    assert_eq!(value(&maps, "shared").await.as_deref(), Some("edited"));
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let told = || async {
        let status = assignments.get("default.app").await.unwrap().status.unwrap_or_default();
        let watched = status.objects.into_iter().find(|object| object.object.name == "watched");
        watched.map(|object| object.message).unwrap_or_default()
    };
    eventually("told, with the writer's name", || async { told().await.contains("changed by someone") })
        .await;
    // Neither a restart nor time undoes what is only watched or only made.
    bench.restart_agent("dev").await;
    maps.delete("enforced", &DeleteParams::default()).await.unwrap();
    eventually("the agent enforces again", || async { value(&maps, "enforced").await.is_some() }).await;
    eventually("told again", || async { told().await.contains("changed by someone") }).await;
    for name in ["watched", "made"] {
        assert_eq!(value(&maps, name).await.as_deref(), Some("edited"), "{name}");
    }
    // A change of the profile reaches what is watched; not what is only made, nor the field that is left to others.
    bench.profile("app", all("2")).await;
    bench.applied("dev", "default.app").await;
    eventually("changed with the profile", || async {
        value(&maps, "watched").await.as_deref() == Some("2")
    })
    .await;
    assert_eq!(
        (other("shared").await.as_str(), value(&maps, "shared").await.as_deref()),
        ("2", Some("edited"))
    );
    assert_eq!(value(&maps, "made").await.as_deref(), Some("edited"));
    // What is only made is made again when it is gone.
    maps.delete("made", &DeleteParams::default()).await.unwrap();
    eventually("made again", || async { value(&maps, "made").await.as_deref() == Some("2") }).await;
    // What is not understood changes nothing; of a variable only the agent knows it.
    let bad = map("bad", "1", json!({"fleet.fairlead.dev/drift": "${var.mode}"}));
    let mode = json!({"name": "mode", "default": "sometimes"});
    bench.profile("app", json!({"variables": [mode], "manifests": [bad]})).await;
    eventually("refused", || async {
        let status = assignments.get("default.app").await.unwrap().status.unwrap_or_default();
        fleet_objects::condition(&status.conditions, "Applied")
            .is_some_and(|one| one.message.contains("sometimes"))
    })
    .await;
    assert!(value(&maps, "enforced").await.is_some() && value(&maps, "bad").await.is_none());
    bench.stop().await;
}
