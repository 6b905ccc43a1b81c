//! Kinds of the core group and events.

use serde_json::json;

use super::{condition, kind, nowhere, template};
use crate::case::Case;
use crate::operations::Kind;

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/config maps",
        ["ConfigMap should run through a ConfigMap lifecycle", "ConfigMap should update ConfigMap successfully [NodeConformance]"],
        Kind::namespaced("v1", "configmaps", json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"}}))
            .with_change(json!({"metadata": {"labels": {"changed": "yes"}}, "data": {"key": "value1"}}))
    ),
    kind!(
        "kinds/secrets",
        ["Secrets should patch a secret"],
        Kind::namespaced(
            "v1",
            "secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"key": "dmFsdWU="}})
        )
        .with_change(json!({"metadata": {"labels": {"changed": "yes"}}, "data": {"key": "dmFsdWUx"}}))
    ),
    kind!(
        "kinds/pod templates",
        [
            "PodTemplates should run the lifecycle of PodTemplates",
            "PodTemplates should replace a pod template",
            "PodTemplates should delete a collection of pod templates",
        ],
        Kind::namespaced(
            "v1",
            "podtemplates",
            json!({"apiVersion": "v1", "kind": "PodTemplate", "template": template()})
        )
        .with_change(json!({"metadata": {"labels": {"changed": "yes"}}}))
    ),
    kind!(
        "kinds/service accounts",
        ["ServiceAccounts should run through the lifecycle of a ServiceAccount", "ServiceAccounts should update a ServiceAccount"],
        Kind::namespaced(
            "v1",
            "serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false})
        )
        .with_change(json!({"automountServiceAccountToken": true}))
    ),
    kind!(
        "kinds/endpoints",
        ["Endpoints should test the lifecycle of an Endpoint"],
        Kind::namespaced(
            "v1",
            "endpoints",
            json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [
                {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            ]})
        )
        .with_change(json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}]},
        ]}))
    ),
    kind!(
        "kinds/services",
        ["Services should complete a service status lifecycle", "Services should delete a collection of services"],
        Kind::namespaced(
            "v1",
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}],
            }})
        )
        .with_status(json!({
            "loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}, "conditions": [condition()],
        }))
    ),
    kind!(
        "kinds/limit ranges",
        ["LimitRange should list, patch and delete a LimitRange by collection"],
        Kind::namespaced(
            "v1",
            "limitranges",
            json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [{
                "type": "Container",
                "min": {"cpu": "50m", "memory": "100Mi"}, "max": {"cpu": "500m", "memory": "500Mi"},
                "default": {"cpu": "500m", "memory": "500Mi"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
            }]}})
        )
        .with_change(json!({"spec": {"limits": [{
            "type": "Container",
            "min": {"cpu": "9m", "memory": "49Mi"}, "max": {"cpu": "500m", "memory": "500Mi"},
            "default": {"cpu": "500m", "memory": "500Mi"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
        }]}}))
    ),
    kind!(
        "kinds/events of the core group",
        ["Events should manage the lifecycle of an event", "Events should delete a collection of events"],
        Kind::namespaced(
            "v1",
            "events",
            json!({
                "apiVersion": "v1", "kind": "Event", "message": "This is a test event", "reason": "Test", "type": "Normal",
                "count": 1, "involvedObject": {},
            })
        )
        .with_change(json!({
            "message": "patched", "series": {"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"},
        }))
    ),
    kind!(
        "kinds/nodes",
        ["Node Lifecycle should run through the lifecycle of a node"],
        Kind::of_cluster(
            "v1",
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node", "spec": {"unschedulable": true}})
        )
        .with_status(json!({"conditions": [{
            "type": "Ready", "status": "False", "reason": "Told", "message": "by a test",
            "lastHeartbeatTime": "2024-01-01T00:00:00Z", "lastTransitionTime": "2024-01-01T00:00:00Z",
        }]}))
    ),
    kind!(
        "kinds/pods",
        [],
        Kind::namespaced("v1", "pods", json!({"apiVersion": "v1", "kind": "Pod", "spec": nowhere()}))
            .with_status(json!({"message": "told by a test", "reason": "Told"}))
            .with_change(json!({"spec": {"activeDeadlineSeconds": 600}}))
    ),
    kind!(
        "kinds/replication controllers",
        [],
        Kind::namespaced(
            "v1",
            "replicationcontrollers",
            json!({"apiVersion": "v1", "kind": "ReplicationController", "spec": {
                "replicas": 0, "selector": {"app": "c"}, "template": template(),
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
    ),
    kind!(
        "kinds/persistent volumes",
        ["PersistentVolumes CSI Conformance should apply changes to a pv/pvc status"],
        Kind::of_cluster(
            "v1",
            "persistentvolumes",
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "spec": {
                "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "nothing",
                "csi": {"driver": "example.com", "volumeHandle": "handle"},
            }})
        )
        .with_status(json!({"message": "StatusPatched", "reason": "Told"}))
        .with_change(json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}))
    ),
    kind!(
        "kinds/persistent volume claims",
        ["PersistentVolumes CSI Conformance should apply changes to a pv/pvc status"],
        Kind::namespaced(
            "v1",
            "persistentvolumeclaims",
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "nothing",
                "resources": {"requests": {"storage": "1Gi"}},
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
    ),
    kind!(
        "kinds/events",
        ["Events API should ensure that an event can be fetched, patched, deleted, and listed", "Events API should delete a collection of events"],
        Kind::namespaced(
            "events.k8s.io/v1",
            "events",
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": "2024-01-01T00:00:00.000000Z",
                "action": "Do", "reason": "Test", "type": "Normal", "note": "This is a test event",
                "reportingController": "test-controller", "reportingInstance": "test-node",
                "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
            })
        )
        .with_change(json!({"series": {"count": 2, "lastObservedTime": "2017-09-19T13:49:11.000000Z"}}))
    ),
];
