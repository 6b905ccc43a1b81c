//! Projects: namespaces of the hub whose people and placements have some of the clusters.
//!
//! A namespace is a project by its label; its annotation says which cluster sets it has. Roles that are bound in it count for
//! the clusters of those sets and for what lies in their partitions; its placements and test runs choose among them alone. A
//! namespace that is no project has every cluster, and nobody in it any by that.
//!
//! Which set a cluster is in, and which sets a project has, says who reaches what. So to write the label or the annotation is
//! not enough: whoever changes either needs a right over every set that gains or loses a cluster or a project by it, the verb
//! [`JOIN_VERB`] on [`SETS_RESOURCE`]`/`[`JOIN_SUBRESOURCE`] of the set's name (Open Cluster Management asks for the like,
//! `create` on `managedclustersets/join`).

use std::collections::BTreeSet;

use kube::api::ObjectMeta;

use crate::PlacementSpec;

/// On a Namespace of the hub, with any value: it is a project.
pub const LABEL_PROJECT: &str = "fleet.fairlead.dev/project";
/// On a project: its cluster sets (values of the label `multicluster.x-k8s.io/clusterset`), by commas. None: no cluster.
pub const ANNOTATION_CLUSTER_SETS: &str = "fleet.fairlead.dev/cluster-sets";
/// The resource under which roles name cluster sets. Nothing is served there: a set is where its clusters are.
pub const SETS_RESOURCE: &str = "clustersets";
/// What of a set a right is about.
pub const JOIN_SUBRESOURCE: &str = "join";
/// The verb that moves clusters and projects into a set and out of it.
pub const JOIN_VERB: &str = "create";
/// What no label can say: of a placement that asks for nothing its project has.
const NO_SET: &str = "(none that its project has)";
/// The ClusterRoles of people in projects, the weakest first.
pub const ROLES: [&str; 3] = ["fleet-viewer", "fleet-operator", "fleet-admin"];

/// The cluster sets of a project; `None`: the namespace is none, and has every cluster.
#[must_use]
pub fn project_sets(namespace: &ObjectMeta) -> Option<Vec<String>> {
    namespace.labels.as_ref()?.get(LABEL_PROJECT)?;
    let text = namespace.annotations.as_ref().and_then(|all| all.get(ANNOTATION_CLUSTER_SETS));
    let sets = text.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    Some(sets.filter(|set| !set.is_empty()).map(str::to_owned).collect())
}

/// A placement as its project has it decided: among the project's sets alone. `None`: its namespace is no project.
#[must_use]
pub fn within_project(project: Option<Vec<String>>, mut placement: PlacementSpec) -> PlacementSpec {
    let Some(own) = project else { return placement };
    if placement.cluster_sets.is_empty() {
        placement.cluster_sets = own;
    } else {
        let own: BTreeSet<String> = own.into_iter().collect();
        placement.cluster_sets.retain(|set| own.contains(set));
    }
    if placement.cluster_sets.is_empty() {
        placement.cluster_sets.push(NO_SET.to_owned());
    }
    placement
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_project_has_the_sets_it_names_and_no_others() {
        let of = |meta: serde_json::Value| project_sets(&serde_json::from_value(meta).expect("metadata"));
        let labels = json!({LABEL_PROJECT: ""});
        assert_eq!(of(json!({"name": "a", "annotations": {ANNOTATION_CLUSTER_SETS: "x"}})), None);
        assert_eq!(of(json!({"name": "a", "labels": labels})), Some(Vec::new()));
        let named = json!({"labels": labels, "annotations": {ANNOTATION_CLUSTER_SETS: "edge, prod,,"}});
        assert_eq!(of(named), Some(vec!["edge".to_owned(), "prod".to_owned()]));
    }

    #[test]
    fn a_placement_chooses_among_its_projects_sets_alone() {
        let sets = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let of = |project: Option<&[&str]>, asked: &[&str]| {
            let placement = PlacementSpec { cluster_sets: sets(asked), ..PlacementSpec::default() };
            within_project(project.map(sets), placement).cluster_sets
        };
        assert_eq!(of(None, &["a"]), ["a"]);
        assert_eq!(of(None, &[]), sets(&[]));
        assert_eq!(of(Some(&["a", "b"]), &[]), ["a", "b"]);
        assert_eq!(of(Some(&["a", "b"]), &["b", "c"]), ["b"]);
        assert_eq!(of(Some(&["a"]), &["c"]), [NO_SET], "nobody, and not everybody");
        assert_eq!(of(Some(&[]), &[]), [NO_SET]);
    }
}
