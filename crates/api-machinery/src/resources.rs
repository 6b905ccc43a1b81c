//! The built-in resources: what stands in paths and in discovery documents.

use std::sync::OnceLock;

use kube_objects::{GroupVersionKind, GroupVersionResource};
use serde::Deserialize;

static RESOURCES: &str = include_str!("../tables/resources.json");

/// A built-in resource as discovery shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// `apps`; "" is the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub name: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it, sorted.
    pub verbs: Vec<&'static str>,
    /// `deploy`.
    #[serde(default)]
    pub short_names: Vec<&'static str>,
    /// `all`.
    #[serde(default)]
    pub categories: Vec<&'static str>,
    /// Upstream's hash of the version it is stored in; "" for what is not stored.
    #[serde(default)]
    pub storage_version_hash: &'static str,
    /// `status`, `scale`, `log` …
    #[serde(default)]
    pub subresources: Vec<Subresource>,
}

/// A part of a resource with a path of its own.
#[derive(Clone, Debug, Deserialize)]
pub struct Subresource {
    /// The group of its kind, which may differ from the resource's (`autoscaling` for `scale`).
    pub group: &'static str,
    /// The version of its kind.
    pub version: &'static str,
    /// What it is read or written as.
    pub kind: &'static str,
    /// `status`.
    pub name: &'static str,
    /// What can be done with it, sorted.
    pub verbs: Vec<&'static str>,
}

impl Resource {
    /// Its kind.
    #[must_use]
    pub fn group_version_kind(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    /// Its name in paths.
    #[must_use]
    pub fn group_version_resource(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.name)
    }

    /// One of its subresources.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

impl Subresource {
    /// The kind it is read or written as.
    #[must_use]
    pub fn group_version_kind(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }
}

/// All resources that Kubernetes 1.36 serves by default: groups in discovery order (core first), versions in the
/// group's order of preference, resources by name.
#[must_use]
pub fn builtin() -> &'static [Resource] {
    static PARSED: OnceLock<Vec<Resource>> = OnceLock::new();
    // A test proves that the committed table parses; a broken one would serve nothing rather than panic.
    PARSED.get_or_init(|| serde_json::from_str(RESOURCES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SchemaSet;

    #[test]
    fn the_table_parses_and_every_kind_has_a_schema() {
        let all: Vec<Resource> = serde_json::from_str(RESOURCES).unwrap();
        assert!(all.len() > 60, "{}", all.len());
        // The options of exec and its like come as query parameters and have no schema.
        for resource in &all {
            let kind = resource.group_version_kind();
            assert!(SchemaSet::builtin().for_kind(&kind).is_some(), "{kind}");
            for subresource in resource.subresources.iter().filter(|sub| !sub.kind.ends_with("Options")) {
                let kind = subresource.group_version_kind();
                assert!(SchemaSet::builtin().for_kind(&kind).is_some(), "{kind}");
            }
        }
    }

    #[test]
    fn deployments_have_their_names_and_subresources() {
        let deployments = builtin().iter().find(|resource| resource.name == "deployments").unwrap();
        assert_eq!(deployments.short_names, ["deploy"]);
        assert_eq!(deployments.categories, ["all"]);
        let scale = deployments.subresource("scale").unwrap();
        assert_eq!(scale.group_version_kind(), GroupVersionKind::new("autoscaling", "v1", "Scale"));
    }

    #[test]
    fn autoscaling_prefers_v2() {
        let versions: Vec<_> =
            builtin().iter().filter(|resource| resource.group == "autoscaling").map(|r| r.version).collect();
        assert_eq!(versions, ["v2", "v1"]);
    }
}
