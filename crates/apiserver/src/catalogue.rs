//! Which kinds a server serves.
//!
//! A catalogue is fixed while a server runs. Built-in kinds come from the table in [`builtin`], custom ones from
//! CustomResourceDefinition documents; both become [`Resource`]s and go through one engine.

use std::fmt;
use std::sync::Arc;

use api_machinery::schema::SchemaRef;
use kube_objects::{GroupVersionKind, GroupVersionResource};
use serde_json::Value;

use crate::registry::strategy::Strategy;

pub mod builtin;
mod custom;

pub use custom::DefinitionError;

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
    /// Sorted; a virtual resource has only `create`.
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
    /// A custom kind's schema as its definition has it, for OpenAPI.
    pub published: Option<Arc<Value>>,
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

    /// A served subresource by name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether status is written apart from spec.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// The kinds of a server.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    resources: Vec<Arc<Resource>>,
    cluster: bool,
}

impl Catalogue {
    /// The built-in kinds of a cluster.
    #[must_use]
    pub fn cluster() -> Self {
        Self { resources: builtin::resources(true), cluster: true }
    }

    /// The kinds any control plane needs, without nodes, pods, services and workloads.
    #[must_use]
    pub fn control_plane() -> Self {
        Self { resources: builtin::resources(false), cluster: false }
    }

    /// The same with the served versions of a CustomResourceDefinition document.
    ///
    /// # Errors
    /// When the definition lacks names or its schema cannot be read.
    pub fn with_custom_resource(mut self, definition: &Value) -> Result<Self, DefinitionError> {
        self.resources.extend(custom::resources(definition)?);
        Ok(self)
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

    /// One resource by where it is served.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|each| {
            each.gvr.resource == resource && each.gvr.version == version && each.gvr.group == group
        })
    }

    /// The resource that stores a storage's objects in the storage version.
    #[must_use]
    pub fn stored(&self, group: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|each| each.gvr.resource == resource && each.gvr.group == group)
    }
}
