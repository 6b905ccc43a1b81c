//! Claims and volumes go when nothing holds them any more, and not before.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::runtime::{conditions, wait::await_condition};

use super::*;

#[tokio::test]
async fn a_claim_stays_while_a_pod_uses_it_and_a_volume_while_it_is_bound() {
    let cluster = start().await;
    let claims: Api<PersistentVolumeClaim> = cluster.api();
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let size = json!({"storage": "1Gi"});
    let mut uids = Vec::new();
    for name in ["used", "free"] {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "storageClassName": "x"});
        let made: PersistentVolumeClaim =
            cluster.create(json!({"metadata": {"name": name}, "spec": spec})).await;
        let volume = json!({"metadata": {"name": name}, "spec": {"capacity": size, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/data"}}});
        let volume =
            volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
        uids.push((made.metadata.uid.unwrap(), volume.metadata.uid.unwrap()));
    }
    let _: Pod = cluster
        .create(json!({"metadata": {"name": "user"}, "spec": {"nodeName": "node-a",
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]}}))
        .await;
    let phase = |phase: &str| Patch::Merge(json!({"status": {"phase": phase}}));
    volumes.patch_status("used", &PatchParams::default(), &phase("Bound")).await.unwrap();
    let gone = async |name: &str, (claim, volume): &(String, String)| {
        let both = async {
            await_condition(claims.clone(), name, conditions::is_deleted(claim)).await.unwrap();
            await_condition(volumes.clone(), name, conditions::is_deleted(volume)).await.unwrap();
        };
        if tokio::time::timeout(Duration::from_secs(30), both).await.is_err() {
            let (claim, volume) = (claims.get_opt(name).await, volumes.get_opt(name).await);
            panic!("{name} does not go: {claim:?}, {volume:?}, {:?}", cluster.handle.statuses());
        }
    };
    for name in ["used", "free"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
        volumes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    // Those that were deleted later are gone, so the others have been looked at.
    gone("free", &uids[1]).await;
    assert!(claims.get("used").await.unwrap().metadata.deletion_timestamp.is_some(), "a pod uses it");
    assert!(volumes.get("used").await.unwrap().metadata.deletion_timestamp.is_some(), "it is bound");
    cluster.api::<Pod>().delete("user", &DeleteParams::default()).await.unwrap();
    volumes.patch_status("used", &PatchParams::default(), &phase("Released")).await.unwrap();
    gone("used", &uids[0]).await;
}
