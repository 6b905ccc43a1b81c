//! Projects on the hub: which clusters a namespace has, and in which namespaces roles count for a cluster.

mod roles;
pub mod set_rights;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use api_client::{CacheOptions, ObjectCache};
use fleet_objects::project::{LABEL_PROJECT, SETS_RESOURCE, project_sets, within_project};
use fleet_objects::{Cluster, GROUP, LABEL_CLUSTER_SET, PlacementSpec, partition_cluster};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::service::Shared;

pub(crate) use roles::ensure as ensure_roles;

/// Every project, in memory.
#[derive(Clone, Debug)]
pub(crate) struct Projects {
    namespaces: ObjectCache<Namespace>,
}

impl Projects {
    pub(crate) fn start(client: Client) -> Self {
        let options = CacheOptions::new("projects").labels(LABEL_PROJECT);
        Self { namespaces: ObjectCache::start(Api::all(client), options) }
    }

    /// Until then nothing is decided by projects.
    pub(crate) async fn has_synced(&self) {
        self.namespaces.has_synced().await;
    }

    /// Calls `wake` when a project has changed.
    pub(crate) fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.namespaces.on_change(move |_| wake());
    }

    /// The cluster sets of a namespace; `None`: it is no project.
    pub(crate) fn sets(&self, namespace: &str) -> Option<Vec<String>> {
        project_sets(&self.namespaces.find("", namespace)?.metadata)
    }

    /// A placement as its project has it decided.
    pub(crate) fn restrict(&self, namespace: &str, spec: PlacementSpec) -> PlacementSpec {
        within_project(self.sets(namespace), spec)
    }

    /// The projects that have a cluster, by name.
    pub(crate) fn of_cluster(&self, cluster: &Cluster) -> Vec<String> {
        cluster.labels().get(LABEL_CLUSTER_SET).map_or_else(Vec::new, |set| self.of_set(set))
    }

    /// The projects that have a cluster set, by name.
    fn of_set(&self, set: &str) -> Vec<String> {
        let has = |project: &Arc<Namespace>| {
            project_sets(&project.metadata).is_some_and(|sets| sets.iter().any(|own| own == set))
                // What lies in a partition is a cluster's and nobody's project.
                && partition_cluster(&project.name_any()).is_none()
        };
        let mut names: Vec<String> = self
            .namespaces
            .list()
            .iter()
            .filter(|project| has(project))
            .map(|project| project.name_any())
            .collect();
        names.sort();
        names
    }
}

/// The clusters that a namespace has: of a project those of its sets, else all.
///
/// # Errors
/// As the API's.
pub(crate) async fn clusters_of(client: &Client, namespace: &str) -> Result<Vec<Cluster>, kube::Error> {
    let mut clusters = Api::<Cluster>::all(client.clone()).list(&ListParams::default()).await?.items;
    let project = Api::<Namespace>::all(client.clone()).get_opt(namespace).await?;
    if let Some(sets) = project.and_then(|found| project_sets(&found.metadata)) {
        clusters
            .retain(|cluster| cluster.labels().get(LABEL_CLUSTER_SET).is_some_and(|set| sets.contains(set)));
    }
    Ok(clusters)
}

/// Whether things of a resource lie in no namespace, though a question about them may name one.
#[must_use]
pub fn lies_in_no_namespace(group: &str, resource: &str) -> bool {
    group == GROUP && (resource == "clusters" || resource == SETS_RESOURCE)
}

/// Where roles count for clusters and for what lies in their partitions.
#[derive(Clone)]
pub struct ProjectScopes {
    shared: Weak<Shared>,
}

impl ProjectScopes {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// The clusters of each project that has any, by name.
    #[must_use]
    pub fn clusters(&self) -> BTreeMap<String, Vec<String>> {
        let Some(shared) = self.shared.upgrade() else { return BTreeMap::new() };
        let mut by_set: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for cluster in shared.clusters.list() {
            if let Some(set) = cluster.labels().get(LABEL_CLUSTER_SET) {
                by_set.entry(set.clone()).or_default().push(cluster.name_any());
            }
        }
        let mut projects: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (set, clusters) in by_set {
            for project in shared.projects.of_set(&set) {
                projects.entry(project).or_default().extend(clusters.iter().cloned());
            }
        }
        projects.values_mut().for_each(|names| names.sort());
        projects
    }

    /// The namespaces whose roles count for a thing, besides its own: those of the projects that have its cluster, or that
    /// have the cluster set. Of partitions only what the fleet keeps there, and its Events.
    #[must_use]
    pub fn namespaces_of(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Vec<String> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        let cluster = match (group, namespace) {
            (GROUP, "") if resource == "clusters" && !name.is_empty() => name,
            (GROUP, "") if resource == SETS_RESOURCE => return shared.projects.of_set(name),
            (GROUP, partition) => match partition_cluster(partition) {
                Some(cluster) => cluster,
                None => return Vec::new(),
            },
            ("" | "events.k8s.io", partition) if resource == "events" => match partition_cluster(partition) {
                Some(cluster) => cluster,
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        shared
            .clusters
            .find("", cluster)
            .map_or_else(Vec::new, |cluster| shared.projects.of_cluster(&cluster))
    }
}
