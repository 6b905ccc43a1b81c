//! The table of built-in kinds: names, scope, short names, categories and subresources as kube-apiserver 1.36
//! serves them. Verbs follow from the shape; what is not built is not in the table, so that discovery stays truthful.

use std::sync::Arc;

use api_machinery::schema::SchemaSet;
use kube_objects::{GroupVersion, GroupVersionKind, GroupVersionResource};

use super::{Resource, Subresource};
use crate::registry::kinds;

/// Whether only clusters serve a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Everywhere,
    Cluster,
}
use Where::{Cluster, Everywhere};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespaced,
    Global,
}
use Scope::{Global, Namespaced};

/// One row: subresources are `name:Kind:verbs` (`Kind` may be `group/version/Kind`), verbs by first letter.
struct Row {
    served: Where,
    api: &'static str,
    resource: &'static str,
    kind: &'static str,
    scope: Scope,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    subresources: &'static [&'static str],
    virtual_only: bool,
    /// Upstream refuses to delete all of them at once.
    one_by_one: bool,
}

const fn row(
    served: Where,
    api: &'static str,
    resource: &'static str,
    kind: &'static str,
    scope: Scope,
) -> Row {
    Row {
        served,
        api,
        resource,
        kind,
        scope,
        short: &[],
        categories: &[],
        subresources: &[],
        virtual_only: false,
        one_by_one: false,
    }
}

impl Row {
    const fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }
    const fn all(self) -> Self {
        Self { categories: &["all"], ..self }
    }
    const fn sub(self, subresources: &'static [&'static str]) -> Self {
        Self { subresources, ..self }
    }
    const fn review(self) -> Self {
        Self { virtual_only: true, ..self }
    }
    const fn one_by_one(self) -> Self {
        Self { one_by_one: true, ..self }
    }
}

const SCALE: &str = "scale:autoscaling/v1/Scale:gpu";

const ROWS: &[Row] = &[
    row(Cluster, "v1", "bindings", "Binding", Namespaced).review(),
    row(Everywhere, "v1", "configmaps", "ConfigMap", Namespaced).short(&["cm"]),
    row(Cluster, "v1", "endpoints", "Endpoints", Namespaced).short(&["ep"]),
    row(Everywhere, "v1", "events", "Event", Namespaced).short(&["ev"]),
    row(Cluster, "v1", "limitranges", "LimitRange", Namespaced).short(&["limits"]),
    row(Everywhere, "v1", "namespaces", "Namespace", Global)
        .short(&["ns"])
        .one_by_one()
        .sub(&["finalize:Namespace:u", "status:Namespace:gpu"]),
    row(Cluster, "v1", "nodes", "Node", Global).short(&["no"]).sub(&["status:Node:gpu"]),
    row(Cluster, "v1", "persistentvolumeclaims", "PersistentVolumeClaim", Namespaced)
        .short(&["pvc"])
        .sub(&["status:PersistentVolumeClaim:gpu"]),
    row(Cluster, "v1", "persistentvolumes", "PersistentVolume", Global)
        .short(&["pv"])
        .sub(&["status:PersistentVolume:gpu"]),
    row(Cluster, "v1", "pods", "Pod", Namespaced).short(&["po"]).all().sub(&[
        "binding:Binding:c",
        "ephemeralcontainers:Pod:gpu",
        "eviction:policy/v1/Eviction:c",
        "log:Pod:g",
        "status:Pod:gpu",
    ]),
    row(Cluster, "v1", "podtemplates", "PodTemplate", Namespaced),
    row(Cluster, "v1", "replicationcontrollers", "ReplicationController", Namespaced)
        .short(&["rc"])
        .all()
        .sub(&[SCALE, "status:ReplicationController:gpu"]),
    row(Everywhere, "v1", "resourcequotas", "ResourceQuota", Namespaced)
        .short(&["quota"])
        .sub(&["status:ResourceQuota:gpu"]),
    row(Everywhere, "v1", "secrets", "Secret", Namespaced),
    row(Everywhere, "v1", "serviceaccounts", "ServiceAccount", Namespaced)
        .short(&["sa"])
        .sub(&["token:authentication.k8s.io/v1/TokenRequest:c"]),
    row(Cluster, "v1", "services", "Service", Namespaced).short(&["svc"]).all().sub(&["status:Service:gpu"]),
    row(Cluster, "apps/v1", "controllerrevisions", "ControllerRevision", Namespaced),
    row(Cluster, "apps/v1", "daemonsets", "DaemonSet", Namespaced)
        .short(&["ds"])
        .all()
        .sub(&["status:DaemonSet:gpu"]),
    row(Cluster, "apps/v1", "deployments", "Deployment", Namespaced)
        .short(&["deploy"])
        .all()
        .sub(&[SCALE, "status:Deployment:gpu"]),
    row(Cluster, "apps/v1", "replicasets", "ReplicaSet", Namespaced)
        .short(&["rs"])
        .all()
        .sub(&[SCALE, "status:ReplicaSet:gpu"]),
    row(Cluster, "apps/v1", "statefulsets", "StatefulSet", Namespaced)
        .short(&["sts"])
        .all()
        .sub(&[SCALE, "status:StatefulSet:gpu"]),
    row(Everywhere, "events.k8s.io/v1", "events", "Event", Namespaced).short(&["ev"]),
    row(Everywhere, "authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", Global).review(),
    row(Everywhere, "authentication.k8s.io/v1", "tokenreviews", "TokenReview", Global).review(),
    row(
        Everywhere,
        "authorization.k8s.io/v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        Namespaced,
    )
    .review(),
    row(Everywhere, "authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", Global)
        .review(),
    row(Everywhere, "authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", Global)
        .review(),
    row(Everywhere, "authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", Global)
        .review(),
    row(Cluster, "autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", Namespaced)
        .short(&["hpa"])
        .all()
        .sub(&["status:HorizontalPodAutoscaler:gpu"]),
    row(Cluster, "batch/v1", "cronjobs", "CronJob", Namespaced)
        .short(&["cj"])
        .all()
        .sub(&["status:CronJob:gpu"]),
    row(Cluster, "batch/v1", "jobs", "Job", Namespaced).all().sub(&["status:Job:gpu"]),
    row(
        Everywhere,
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        Global,
    )
    .short(&["csr"])
    .sub(&["approval:CertificateSigningRequest:gpu", "status:CertificateSigningRequest:gpu"]),
    row(Cluster, "networking.k8s.io/v1", "ingressclasses", "IngressClass", Global),
    row(Cluster, "networking.k8s.io/v1", "ingresses", "Ingress", Namespaced)
        .short(&["ing"])
        .sub(&["status:Ingress:gpu"]),
    row(Cluster, "networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", Namespaced).short(&["netpol"]),
    row(Cluster, "policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", Namespaced)
        .short(&["pdb"])
        .sub(&["status:PodDisruptionBudget:gpu"]),
    row(Everywhere, "rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", Global),
    row(Everywhere, "rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", Global),
    row(Everywhere, "rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", Namespaced),
    row(Everywhere, "rbac.authorization.k8s.io/v1", "roles", "Role", Namespaced),
    row(Cluster, "storage.k8s.io/v1", "storageclasses", "StorageClass", Global).short(&["sc"]),
    row(Cluster, "scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", Global).short(&["pc"]),
    row(Everywhere, "coordination.k8s.io/v1", "leases", "Lease", Namespaced),
    row(Cluster, "discovery.k8s.io/v1", "endpointslices", "EndpointSlice", Namespaced),
];

/// Every verb of a stored resource, sorted.
pub(crate) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The rows as resources; `cluster`: all of them.
pub(super) fn resources(cluster: bool) -> Vec<Arc<Resource>> {
    ROWS.iter().filter(|row| cluster || row.served == Everywhere).map(|row| Arc::new(resource(row))).collect()
}

fn resource(row: &Row) -> Resource {
    let gv = GroupVersion::parse(row.api).expect("the table's api column is group/version or version");
    let group = gv.group.clone();
    let storage = if row.kind == "Event" { String::new() } else { group.clone() };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Resource {
        gvr: GroupVersionResource::new(gv.group.clone(), gv.version.clone(), row.resource),
        kind: row.kind.to_owned(),
        singular: row.kind.to_lowercase(),
        namespaced: row.scope == Namespaced,
        short_names: owned(row.short),
        categories: owned(row.categories),
        verbs: owned(match row {
            Row { virtual_only: true, .. } => &["create"],
            Row { one_by_one: true, .. } => &["create", "delete", "get", "list", "patch", "update", "watch"],
            _ => ALL_VERBS,
        }),
        subresources: row.subresources.iter().map(|text| subresource(&gv, text)).collect(),
        strategy: kinds::strategy(&storage, row.resource),
        storage: (storage, row.resource.to_owned()),
        virtual_only: row.virtual_only,
        custom: false,
        schema: SchemaSet::builtin()
            .for_kind(&gv.kind(row.kind))
            .expect("the tables hold a type for every row; a test builds all rows"),
        published: None,
    }
}

fn subresource(gv: &GroupVersion, text: &str) -> Subresource {
    let mut parts = text.split(':');
    let mut next = || parts.next().expect("the table's subresources are name:Kind:verbs");
    let (name, kind, letters) = (next(), next(), next());
    let kind: GroupVersionKind = match kind.rsplit_once('/') {
        Some((api, kind)) => {
            GroupVersion::parse(api).expect("the table's kinds are Kind or group/version/Kind").kind(kind)
        }
        None => gv.kind(kind),
    };
    let mut verbs: Vec<String> = letters
        .chars()
        .map(|letter| match letter {
            'g' => "get",
            'p' => "patch",
            'u' => "update",
            _ => "create",
        })
        .map(str::to_owned)
        .collect();
    verbs.sort();
    Subresource { name: name.to_owned(), kind, verbs }
}
