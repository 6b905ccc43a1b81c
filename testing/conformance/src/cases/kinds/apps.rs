//! Kinds of workloads and of what goes with them.

use serde_json::json;

use super::{condition, kind, nowhere, template};
use crate::case::Case;
use crate::operations::Kind;

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/deployments",
        [],
        Kind::namespaced(
            "apps/v1",
            "deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "c"}}, "template": template(),
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"minReadySeconds": 3}}))
    ),
    kind!(
        "kinds/replica sets",
        [],
        Kind::namespaced(
            "apps/v1",
            "replicasets",
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "c"}}, "template": template(),
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"minReadySeconds": 3}}))
    ),
    kind!(
        "kinds/stateful sets",
        [],
        Kind::namespaced(
            "apps/v1",
            "statefulsets",
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "c"}}, "serviceName": "s", "template": template(),
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"minReadySeconds": 3}}))
    ),
    kind!(
        "kinds/daemon sets",
        [],
        Kind::namespaced(
            "apps/v1",
            "daemonsets",
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {
                "selector": {"matchLabels": {"app": "c"}}, "template": template(),
            }})
        )
        .with_status(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"minReadySeconds": 3}}))
    ),
    kind!(
        "kinds/controller revisions",
        [],
        Kind::namespaced(
            "apps/v1",
            "controllerrevisions",
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {"key": "value"}})
        )
        .with_change(json!({"revision": 2}))
    ),
    kind!(
        "kinds/jobs",
        [],
        Kind::namespaced(
            "batch/v1",
            "jobs",
            json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {
                "suspend": true,
                "template": {"spec": {"restartPolicy": "Never", "containers": nowhere()["containers"]}},
            }})
        )
        .with_status(json!({"conditions": [{
            "type": "CustomConditionType", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z",
        }]}))
        .with_change(json!({"spec": {"parallelism": 0}}))
    ),
    kind!(
        "kinds/cron jobs",
        ["CronJob should support CronJob API operations"],
        Kind::namespaced(
            "batch/v1",
            "cronjobs",
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {
                "schedule": "* */1 * * ?", "concurrencyPolicy": "Allow", "suspend": true,
                "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0,
                "jobTemplate": {"spec": {"template": {
                    "spec": {"restartPolicy": "Never", "containers": nowhere()["containers"]},
                }}},
            }})
        )
        .with_status(json!({"lastScheduleTime": "2024-01-01T00:00:00Z"}))
        .with_change(json!({"spec": {"schedule": "0 0 1 1 *"}}))
    ),
    kind!(
        "kinds/autoscalers",
        [],
        Kind::namespaced(
            "autoscaling/v2",
            "horizontalpodautoscalers",
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {
                "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nothing"},
            }})
        )
        .with_status(json!({"currentReplicas": 1, "desiredReplicas": 2}))
        .with_change(json!({"spec": {"minReplicas": 2}}))
    ),
    kind!(
        "kinds/autoscalers of version 1",
        [],
        Kind::namespaced(
            "autoscaling/v1",
            "horizontalpodautoscalers",
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {
                "maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nothing"},
            }})
        )
        .with_change(json!({"spec": {"targetCPUUtilizationPercentage": 60}}))
    ),
    kind!(
        "kinds/disruption budgets",
        [
            "DisruptionController should create a PodDisruptionBudget",
            "DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets",
            "DisruptionController should update/patch PodDisruptionBudget status",
        ],
        Kind::namespaced(
            "policy/v1",
            "poddisruptionbudgets",
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {
                "minAvailable": 1, "selector": {"matchLabels": {"app": "nothing"}},
            }})
        )
        .with_status(json!({
            "currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 7,
            "conditions": [condition()],
        }))
        .with_change(json!({"spec": {"minAvailable": "50%"}}))
    ),
    kind!(
        "kinds/leases",
        ["Lease lease API should be available"],
        Kind::namespaced(
            "coordination.k8s.io/v1",
            "leases",
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {
                "holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0,
                "acquireTime": "2024-01-01T00:00:02.000000Z", "renewTime": "2024-01-01T00:00:05.000000Z",
            }})
        )
        .with_change(json!({"spec": {
            "holderIdentity": "holder3", "leaseDurationSeconds": 60, "leaseTransitions": 2,
            "acquireTime": "2024-01-01T00:00:50.000000Z", "renewTime": "2024-01-01T00:01:10.000000Z",
        }}))
    ),
];
