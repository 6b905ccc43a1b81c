//! Kinds of storage.

use serde_json::json;

use super::kind;
use crate::case::Case;
use crate::operations::Kind;

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/storage classes",
        ["StorageClasses CSI Conformance should run through the lifecycle of a StorageClass"],
        Kind::of_cluster(
            "storage.k8s.io/v1",
            "storageclasses",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/nothing"})
        )
        .with_change(json!({"allowVolumeExpansion": true}))
    ),
    kind!(
        "kinds/storage drivers",
        ["CSIInlineVolumes should run through the lifecycle of a CSIDriver"],
        Kind::of_cluster(
            "storage.k8s.io/v1",
            "csidrivers",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "spec": {
                "attachRequired": false, "volumeLifecycleModes": ["Ephemeral"],
            }})
        )
        .with_change(json!({"metadata": {"labels": {"security.kubernetes.io/csi-ephemeral-volume-profile": "restricted"}}}))
    ),
    kind!(
        "kinds/nodes of storage drivers",
        ["CSINodes CSI Conformance should run through the lifecycle of a csinode"],
        Kind::of_cluster(
            "storage.k8s.io/v1",
            "csinodes",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "spec": {"drivers": [{"name": "other.example.com", "nodeID": "n"}]}})
        )
        .with_change(json!({"spec": {"drivers": [
            {"name": "other.example.com", "nodeID": "n"}, {"name": "example.com", "nodeID": "n", "topologyKeys": ["k"]},
        ]}}))
    ),
    kind!(
        "kinds/storage capacities",
        ["CSIStorageCapacity should support CSIStorageCapacities API operations"],
        Kind::namespaced(
            "storage.k8s.io/v1",
            "csistoragecapacities",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "storageClassName": "example.com"})
        )
        .with_change(json!({"capacity": "1Gi"}))
    ),
    kind!(
        "kinds/volume attachments",
        [
            "VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment",
            "VolumeAttachment Conformance should apply changes to a volumeattachment status",
        ],
        Kind::of_cluster(
            "storage.k8s.io/v1",
            "volumeattachments",
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "spec": {
                "attacher": "example.com", "nodeName": "nowhere", "source": {"persistentVolumeName": "nothing"},
            }})
        )
        .with_status_alone(json!({"attached": true}))
    ),
    kind!(
        "kinds/volume attributes classes",
        ["VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass"],
        Kind::of_cluster(
            "storage.k8s.io/v1",
            "volumeattributesclasses",
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "driverName": "example.com",
                "parameters": {"foo": "bar"},
            })
        )
    ),
];
