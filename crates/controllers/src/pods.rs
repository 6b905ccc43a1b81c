//! The cache of pods: the one cache that grows with a cluster's load, so components of one process share it, and it keeps
//! of a pod only what decisions look at.

use api_client::{CacheOptions, ObjectCache, cache::controller_uid};
use k8s_openapi::api::core::v1::{Container, EphemeralVolumeSource, Pod, Volume};
use kube::{Api, Client};

use crate::context::{BY_CONTROLLER, BY_NODE, ORPHANS, orphan_namespace};

/// Annotations of other domains are for people and tools, and often the larger part of a pod.
const KEPT_ANNOTATIONS: &str = "kubernetes.io/";

/// Starts a cache of all pods, for these controllers and for whoever shares it. Nobody may write its pods back whole:
/// what only nodes need of them (commands, environment, probes, most volumes) is not there. Must be called within a tokio
/// runtime.
#[must_use]
pub fn cache(client: Client) -> ObjectCache<Pod> {
    let options = CacheOptions::<Pod>::new("pods")
        .index(BY_CONTROLLER, controller_uid)
        .index(ORPHANS, orphan_namespace)
        .index(BY_NODE, |pod: &Pod| pod.spec.iter().flat_map(|spec| spec.node_name.clone()).collect())
        .strip(strip);
    ObjectCache::start(Api::all(client), options)
}

fn strip(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.contains(KEPT_ANNOTATIONS));
    }
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = spec.volumes.take().map(claims).filter(|claims| !claims.is_empty());
    spec.ephemeral_containers = None;
    for list in [Some(&mut spec.containers), spec.init_containers.as_mut()].into_iter().flatten() {
        for container in list.iter_mut() {
            *container = slim(container);
        }
        list.shrink_to_fit();
    }
}

/// The volumes that keep a claim in use ([`crate::storage_protection`]).
fn claims(volumes: Vec<Volume>) -> Vec<Volume> {
    let kept =
        volumes.into_iter().filter(|own| own.persistent_volume_claim.is_some() || own.ephemeral.is_some());
    kept.map(|own| Volume {
        name: own.name,
        persistent_volume_claim: own.persistent_volume_claim,
        ephemeral: own.ephemeral.map(|_| EphemeralVolumeSource::default()),
        ..Volume::default()
    })
    .collect()
}

/// What scheduling, quotas and endpoints look at.
fn slim(container: &mut Container) -> Container {
    Container {
        name: std::mem::take(&mut container.name),
        image: container.image.take(),
        ports: container.ports.take(),
        resources: container.resources.take(),
        restart_policy: container.restart_policy.take(),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_decisions_look_at_stays() {
        let whole = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "annotations": {"controller.kubernetes.io/pod-deletion-cost": "3", "note": "long"}},
            "spec": {
                "nodeName": "n", "nodeSelector": {"os": "linux"},
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}],
                "initContainers": [{"name": "i", "restartPolicy": "Always", "command": ["x"]}],
                "containers": [{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}],
                    "ports": [{"name": "http", "containerPort": 80}], "resources": {"requests": {"cpu": "1"}},
                    "livenessProbe": {"tcpSocket": {"port": 80}}}]
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1"}
        });
        let kept = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "annotations": {"controller.kubernetes.io/pod-deletion-cost": "3"}},
            "spec": {
                "nodeName": "n", "nodeSelector": {"os": "linux"},
                "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "ephemeral": {}}],
                "initContainers": [{"name": "i", "restartPolicy": "Always"}],
                "containers": [{"name": "c", "image": "i:1",
                    "ports": [{"name": "http", "containerPort": 80}], "resources": {"requests": {"cpu": "1"}}}]
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1"}
        });
        let mut pod: Pod = serde_json::from_value(whole).expect("a pod");
        strip(&mut pod);
        assert_eq!(pod, serde_json::from_value(kept).expect("a pod"));
    }
}
