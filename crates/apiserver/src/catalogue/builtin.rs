//! The built-in kinds: names, scope, short names, categories, verbs and subresources as kube-apiserver 1.36 serves
//! them by default, from the generated table of `api_machinery::resources`.

use std::sync::Arc;

use api_machinery::resources;
use api_machinery::schema::SchemaSet;

use super::{Resource, Subresource};
use crate::registry::kinds;

/// What any control plane serves, besides a cluster's kinds: the groups of upstream's generic control plane
/// (`GenericStorageProviders`) …
const CONTROL_PLANE_GROUPS: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "rbac.authorization.k8s.io",
];

/// … and these of the core group.
const CONTROL_PLANE_CORE: &[&str] =
    &["configmaps", "events", "namespaces", "resourcequotas", "secrets", "serviceaccounts"];

/// Every verb of a stored resource, sorted.
pub(crate) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The served resources; `cluster`: all of them.
pub(super) fn resources(cluster: bool) -> Vec<Arc<Resource>> {
    resources::builtin()
        .iter()
        .filter(|row| cluster || in_control_plane(row))
        .map(|row| Arc::new(resource(row)))
        .collect()
}

fn in_control_plane(row: &resources::Resource) -> bool {
    match row.group {
        "" => CONTROL_PLANE_CORE.contains(&row.name),
        group => CONTROL_PLANE_GROUPS.contains(&group),
    }
}

fn resource(row: &resources::Resource) -> Resource {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    // Both Event kinds are one storage, which is the core group's.
    let storage = if row.kind == "Event" { "" } else { row.group };
    Resource {
        gvr: row.group_version_resource(),
        kind: row.kind.to_owned(),
        singular: row.singular.to_owned(),
        namespaced: row.namespaced,
        short_names: owned(&row.short_names),
        categories: owned(&row.categories),
        verbs: owned(&row.verbs),
        subresources: row.subresources.iter().map(subresource).collect(),
        strategy: kinds::strategy(storage, row.name),
        storage: (storage.to_owned(), row.name.to_owned()),
        virtual_only: !row.verbs.contains(&"watch"),
        custom: false,
        schema: SchemaSet::builtin()
            .for_kind(&row.group_version_kind())
            .expect("the tables hold a type for every row; a test builds all rows"),
        definition: None,
    }
}

fn subresource(sub: &resources::Subresource) -> Subresource {
    Subresource {
        name: sub.name.to_owned(),
        kind: sub.group_version_kind(),
        verbs: sub.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_has_what_upstreams_generic_one_has() {
        let names: Vec<String> = resources(false).iter().map(|own| own.gvr.resource.clone()).collect();
        for there in ["configmaps", "flowschemas", "leases", "validatingwebhookconfigurations", "apiservices"]
        {
            assert!(names.iter().any(|name| name == there), "{there}");
        }
        for absent in ["pods", "services", "deployments", "priorityclasses", "storageclasses"] {
            assert!(names.iter().all(|name| name != absent), "{absent}");
        }
    }
}
