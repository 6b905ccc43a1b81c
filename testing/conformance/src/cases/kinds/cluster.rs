//! Kinds of a cluster's set-up: classes, roles, devices.

use serde_json::json;

use super::{condition, kind};
use crate::case::Case;
use crate::operations::Kind;

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/runtime classes",
        ["RuntimeClass should support RuntimeClasses API operations"],
        Kind::of_cluster(
            "node.k8s.io/v1",
            "runtimeclasses",
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "handler"})
        )
        .with_change(json!({"overhead": {"podFixed": {"cpu": "10m"}}}))
    ),
    kind!(
        "kinds/priority classes",
        [],
        Kind::of_cluster(
            "scheduling.k8s.io/v1",
            "priorityclasses",
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 10})
        )
        .with_change(json!({"description": "updated description"}))
    ),
    kind!(
        "kinds/roles",
        [],
        Kind::namespaced(
            "rbac.authorization.k8s.io/v1",
            "roles",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            ]})
        )
        .with_change(json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}))
    ),
    kind!(
        "kinds/role bindings",
        [],
        Kind::namespaced(
            "rbac.authorization.k8s.io/v1",
            "rolebindings",
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "nothing"},
                "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": "default"}],
            })
        )
        .with_change(json!({"subjects": [{"kind": "ServiceAccount", "name": "nobody-else", "namespace": "default"}]}))
    ),
    kind!(
        "kinds/cluster roles",
        [],
        Kind::of_cluster(
            "rbac.authorization.k8s.io/v1",
            "clusterroles",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [
                {"nonResourceURLs": ["/healthz/*"], "verbs": ["get"]},
            ]})
        )
        .with_change(json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]}))
    ),
    kind!(
        "kinds/cluster role bindings",
        [],
        Kind::of_cluster(
            "rbac.authorization.k8s.io/v1",
            "clusterrolebindings",
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nothing"},
                "subjects": [{"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}],
            })
        )
    ),
    kind!(
        "kinds/device classes",
        ["[DRA] CRUD Tests resource.k8s.io/v1 DeviceClass"],
        Kind::of_cluster(
            "resource.k8s.io/v1",
            "deviceclasses",
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "spec": {
                "selectors": [{"cel": {"expression": "true"}}],
            }})
        )
        .with_change(json!({"spec": {"selectors": [{"cel": {"expression": "1 == 0"}}]}}))
    ),
    kind!(
        "kinds/device claims",
        ["[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim"],
        Kind::namespaced(
            "resource.k8s.io/v1",
            "resourceclaims",
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": {
                "devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "dra.example.com"}}]},
            }})
        )
        .with_status_alone(json!({"allocation": {}}))
    ),
    kind!(
        "kinds/templates of device claims",
        ["[DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate"],
        Kind::namespaced(
            "resource.k8s.io/v1",
            "resourceclaimtemplates",
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "spec": {"spec": {
                "devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "dra.example.com"}}]},
            }}})
        )
    ),
    kind!(
        "kinds/slices of devices",
        ["[DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice"],
        Kind::of_cluster(
            "resource.k8s.io/v1",
            "resourceslices",
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "spec": {
                "driver": "dra.example.com", "nodeName": "no-such-node",
                "pool": {"name": "cluster", "generation": 1, "resourceSliceCount": 1},
            }})
        )
        .with_change(json!({"spec": {"devices": [{"name": "device-0"}]}}))
    ),
    kind!(
        "kinds/requests for certificates",
        [],
        Kind::of_cluster(
            "certificates.k8s.io/v1",
            "certificatesigningrequests",
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": {
                "request": super::super::certificates::REQUEST, "signerName": "example.com/kinds",
                "usages": ["digital signature", "key encipherment", "server auth"],
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
    ),
];
