//! A hub comes back from its backup: another life, in which no cluster loses anything.

use std::path::{Path, PathBuf};

use assembly::backup::{self, Place};
use assembly::hub_backup;
use fleet_objects::{ANNOTATION_ADOPT, Cluster, condition};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

/// A backup of a hub that was stopped.
pub(crate) async fn back_up(bench: &Bench, root: &Path) -> PathBuf {
    let (snapshot, file) = (root.join("store.snap"), root.join("hub.backup"));
    // The last tasks of a hub that was stopped let go of its store a moment later.
    let place = Place::Directory(bench.hub_dir().to_owned());
    eventually("a snapshot", || async { backup::snapshot(&place, &snapshot).await.is_ok() }).await;
    hub_backup::write(bench.hub_dir(), &snapshot, &file, None).await.unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_from_a_backup_keeps_what_clusters_hold_and_waits_for_a_person() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    bench.stop_hub().await;
    let root = tempfile::tempdir().unwrap();
    let to = root.path().join("hub");
    let file = back_up(&bench, root.path()).await;
    bench.start_hub().await;
    bench.connected("dev").await;
    // What the backup knows nothing of: a change, and another profile.
    bench.profile("app", json!({"manifests": [config_map("a", "2")]})).await;
    bench.profile("later", json!({"manifests": [config_map("b", "1")]})).await;
    bench.place("later", json!({}), json!({})).await;
    let maps = bench.config_maps("dev");
    eventually("the change arrives", || async { value(&maps, "a").await.as_deref() == Some("2") }).await;
    bench.applied("dev", "default.later").await;
    let pin = bench.hub().pin();
    bench.stop_hub().await;
    hub_backup::restore(&file, &to, None).await.unwrap();
    bench.replace_hub(to);
    bench.start_hub().await;
    assert_eq!(bench.hub().pin(), pin, "the same authority");
    // The agent comes by itself, and says what it holds.
    bench.connected("dev").await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("the hub knows that it is behind", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "HubBehind")
            .is_some_and(|behind| behind.status == "True" && behind.message.contains("default.later"))
            && status.held.iter().any(|held| held.name == "default.app")
    })
    .await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("2"), "nothing goes back by itself");
    assert!(value(&maps, "b").await.is_some());
    // Still enforced, and new intent is still held back where it would overwrite what is not known.
    maps.delete("b", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("repaired", || async { value(&maps, "b").await.is_some() }).await;
    let adopt = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: "keep-orphans"}}});
    clusters.patch("dev", &PatchParams::default(), &Patch::Merge(adopt)).await.unwrap();
    eventually("the hub's view holds", || async { value(&maps, "a").await.as_deref() == Some("1") }).await;
    assert!(value(&maps, "b").await.is_some(), "orphans stay");
    bench.stop().await;
}
