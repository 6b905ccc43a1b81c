//! Which kinds a server serves.
//!
//! A catalogue is a snapshot: built-in kinds from the table in [`builtin`], custom ones from CustomResourceDefinition
//! documents; both become [`Resource`]s and go through one engine. A running server replaces its snapshot when a stored
//! definition comes, changes or goes ([`crate::served`]).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use api_machinery::defaulting::apply_defaults;
use api_machinery::schema::SchemaRef;
use kube_objects::{GroupVersionKind, GroupVersionResource};
use serde_json::Value;

use crate::handlers::conversion;
use crate::registry::strategy::Strategy;

pub mod builtin;
mod definition;

pub use definition::{Conversion, DefinedVersion, Definition, DefinitionError, Ownership};

/// A served subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`.
    pub name: String,
    /// The kind that is read and written there.
    pub kind: GroupVersionKind,
    /// `get`, `patch`, `update`, `create`; sorted.
    pub verbs: Vec<String>,
}

/// A resource in one version.
#[derive(Clone)]
pub struct Resource {
    /// Where it is served.
    pub gvr: GroupVersionResource,
    /// `Pod`.
    pub kind: String,
    /// `pod`.
    pub singular: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// Sorted; a virtual resource has only `create`, or `get` and `list`.
    pub verbs: Vec<String>,
    /// By name.
    pub subresources: Vec<Subresource>,
    /// Group and resource it is stored as; two served resources may share a storage (events).
    pub storage: (String, String),
    /// Nothing is stored: a create is answered and forgotten (reviews).
    pub virtual_only: bool,
    /// Comes from a CustomResourceDefinition: strategic merge patch is refused, unknown fields are pruned.
    pub custom: bool,
    /// What the kind does beyond the engine.
    pub strategy: Arc<dyn Strategy>,
    /// What its objects look like.
    pub schema: SchemaRef,
    /// Where a custom kind comes from.
    pub definition: Option<Arc<Definition>>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("gvr", &self.gvr).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Resource {
    /// Its kind with group and version.
    #[must_use]
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.gvr.group.clone(), self.gvr.version.clone(), self.kind.clone())
    }

    /// What stands in its objects' `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Whether objects are stored in this very version.
    pub(crate) fn stores(&self) -> bool {
        let own = |definition: &Arc<Definition>| definition.storage_version().name == self.gvr.version;
        self.definition.as_ref().is_none_or(own)
    }

    /// A served subresource by name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The part of a custom kind's definition that is this version's.
    #[must_use]
    pub fn defined_version(&self) -> Option<&DefinedVersion> {
        self.definition.as_ref()?.version(&self.gvr.version)
    }

    /// An object of this version with what a create fills in before admission looks at it.
    #[must_use]
    pub fn defaulted(&self, mut object: Value) -> Value {
        apply_defaults(&mut object, &self.schema);
        let mut object = conversion::stored(self, object);
        self.strategy.default_fields(&mut object);
        conversion::served(self, object)
    }

    /// The fields of an object that its kind does not have, `spec.foo`.
    #[must_use]
    pub fn unknown_fields(&self, mut object: Value) -> Vec<String> {
        api_machinery::strictness::prune(&mut object, &self.schema)
    }

    /// Whether status is written apart from spec.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// The kinds of a server at one time.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Served, in the order of discovery.
    resources: Vec<Arc<Resource>>,
    /// Not reachable by requests, but objects are stored so.
    hidden: Vec<Arc<Resource>>,
    /// How many of each came before any stored definition.
    fixed: (usize, usize),
    /// Indices into `resources`, sorted by group, resource, version.
    index: Vec<u32>,
    /// Where those stand in `resources` whose objects are stored at one place, by that place; only of two and more.
    shared: HashMap<(String, String), Vec<u32>>,
    cluster: bool,
}

impl Catalogue {
    /// The built-in kinds of a cluster.
    #[must_use]
    pub fn cluster() -> Self {
        Self::built_in(true)
    }

    /// The kinds any control plane needs, without nodes, pods, services and workloads.
    #[must_use]
    pub fn control_plane() -> Self {
        Self::built_in(false)
    }

    fn built_in(cluster: bool) -> Self {
        let mut own = Self { resources: builtin::resources(cluster), cluster, ..Self::default() };
        own.fixed = (own.resources.len(), 0);
        own.sort();
        own
    }

    /// The same with a CustomResourceDefinition document that is compiled in: served from the start, not stored.
    ///
    /// # Errors
    /// When the definition lacks what serving needs.
    pub fn with_custom_resource(
        mut self,
        definition: &Value,
        ownership: Ownership,
    ) -> Result<Self, DefinitionError> {
        self.add(&Arc::new(Definition::fixed(definition, ownership)?));
        self.fixed = (self.resources.len(), self.hidden.len());
        self.sort();
        Ok(self)
    }

    /// What is compiled in, with stored definitions in place of those before.
    pub(crate) fn with_definitions<'a>(
        &self,
        definitions: impl Iterator<Item = &'a Arc<Definition>>,
    ) -> Self {
        let mut own = Self {
            resources: self.resources[..self.fixed.0].to_vec(),
            hidden: self.hidden[..self.fixed.1].to_vec(),
            fixed: self.fixed,
            cluster: self.cluster,
            ..Self::default()
        };
        definitions.for_each(|definition| own.add(definition));
        own.sort();
        own
    }

    fn add(&mut self, definition: &Arc<Definition>) {
        for (served, resource) in definition.resources() {
            if served { self.resources.push(resource) } else { self.hidden.push(resource) }
        }
    }

    fn sort(&mut self) {
        let count = u32::try_from(self.resources.len()).unwrap_or(u32::MAX);
        self.index = (0..count).collect();
        let resources = &self.resources;
        // Stable, so that of two that are served at one place (a definition beside a built-in kind) the first wins.
        self.index.sort_by(|a, b| place(&resources[*a as usize]).cmp(&place(&resources[*b as usize])));
        self.shared = HashMap::new();
        for (at, resource) in (0..).zip(&self.resources).filter(|(_, resource)| !resource.virtual_only) {
            self.shared.entry(resource.storage.clone()).or_default().push(at);
        }
        self.shared.retain(|_, places| places.len() > 1);
    }

    /// Whether it has nodes, pods and services.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Everything served, in the order of discovery.
    #[must_use]
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The definitions that are compiled in.
    pub(crate) fn fixed_definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let fixed = self.resources[..self.fixed.0].iter().chain(&self.hidden[..self.fixed.1]);
        fixed.filter_map(|resource| resource.definition.as_ref())
    }

    /// Everything that objects are stored as, reachable or not.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().chain(&self.hidden).filter(|resource| !resource.virtual_only)
    }

    /// One resource by where it is served.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        let wanted = (group, resource, version);
        let at = self.index.partition_point(|index| place(&self.resources[*index as usize]) < wanted);
        let found = self.resources.get(*self.index.get(at)? as usize)?;
        (place(found) == wanted).then_some(found)
    }

    /// The other groups and versions that the objects of a resource are served under.
    pub fn equivalents(&self, own: &Resource) -> impl Iterator<Item = &Arc<Resource>> {
        let places = self.shared.get(&own.storage).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.resources[*at as usize]).filter(|other| other.gvr != own.gvr)
    }

    /// The resource that stores a storage's objects in the storage version.
    #[must_use]
    pub fn stored(&self, group: &str, resource: &str) -> Option<&Arc<Resource>> {
        let wanted = (group, resource, "");
        let at = self.index.partition_point(|index| place(&self.resources[*index as usize]) < wanted);
        let is_own = |each: &Resource| each.gvr.group == group && each.gvr.resource == resource;
        let served = self.index[at..].iter().take_while(|index| is_own(&self.resources[**index as usize]));
        // A built-in kind with several versions is stored in the one that the table has first.
        let own = served.filter(|index| self.resources[**index as usize].stores()).min();
        let own = own.map(|index| &self.resources[*index as usize]);
        own.or_else(|| self.hidden.iter().find(|each| is_own(each) && each.stores()))
    }
}

/// Where a resource is served, in the order of the index.
fn place(resource: &Resource) -> (&str, &str, &str) {
    (&resource.gvr.group, &resource.gvr.resource, &resource.gvr.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_at_several_places_is_known_at_each() {
        let catalogue = Catalogue::cluster();
        let others = |group: &str, version: &str, resource: &str| -> Vec<String> {
            let own = catalogue.find(group, version, resource).unwrap();
            catalogue.equivalents(own).map(|other| other.api_version()).collect()
        };
        assert_eq!(others("", "v1", "events"), ["events.k8s.io/v1"]);
        assert_eq!(others("events.k8s.io", "v1", "events"), ["v1"]);
        assert!(others("", "v1", "configmaps").is_empty());
        for own in catalogue.resources() {
            let scanned = catalogue.resources().iter();
            let scanned: Vec<_> = scanned
                .filter(|other| other.storage == own.storage && other.gvr != own.gvr && !other.virtual_only)
                .map(|other| &other.gvr)
                .collect();
            assert_eq!(catalogue.equivalents(own).map(|other| &other.gvr).collect::<Vec<_>>(), scanned);
        }
    }
}
