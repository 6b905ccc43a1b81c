//! Kinds that come as CustomResourceDefinition documents. They become the same [`Resource`]s as built-in ones; only their
//! schema and columns come from the document.

use std::sync::Arc;

use api_machinery::schema::{Schema, SchemaError, SchemaRef};
use kube_objects::{GroupVersionKind, GroupVersionResource};
use serde_json::Value;

use super::builtin::ALL_VERBS;
use super::{Resource, Subresource};
use crate::registry::custom::Custom;

/// A definition that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A field is missing or has the wrong shape.
    #[error("custom resource definition {name:?} has no usable `{field}`")]
    Field {
        /// The definition's metadata.name.
        name: String,
        /// The field's path.
        field: &'static str,
    },
    /// Its schema cannot be read.
    #[error("failed to read the schema of custom resource definition {name:?}, version {version}")]
    Schema {
        /// The definition's metadata.name.
        name: String,
        /// The version's name.
        version: String,
        /// What is wrong with it.
        source: SchemaError,
    },
}

/// The resources of a definition, one per served version.
pub(super) fn resources(definition: &Value) -> Result<Vec<Arc<Resource>>, DefinitionError> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let missing = |field: &'static str| DefinitionError::Field { name: name.to_owned(), field };
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().ok_or_else(|| missing("spec.versions"))?;
    let served = versions.iter().filter(|version| version["served"] == true);
    served.map(|version| resource(name, spec, version).map(Arc::new)).collect()
}

fn resource(name: &str, spec: &Value, version: &Value) -> Result<Resource, DefinitionError> {
    let missing = |field: &'static str| DefinitionError::Field { name: name.to_owned(), field };
    let text =
        |value: &Value, field: &'static str| value.as_str().map(str::to_owned).ok_or_else(|| missing(field));
    let group = text(&spec["group"], "spec.group")?;
    let version_name = text(&version["name"], "spec.versions[*].name")?;
    let kind = text(&spec["names"]["kind"], "spec.names.kind")?;
    let plural = text(&spec["names"]["plural"], "spec.names.plural")?;
    let scope = text(&spec["scope"], "spec.scope")?;
    let gvk = GroupVersionKind::new(&group, &version_name, &kind);
    let published = version["schema"].get("openAPIV3Schema").filter(|schema| !schema.is_null());
    let schema = Schema::for_custom_resource(published, gvk.clone()).map_err(|source| {
        DefinitionError::Schema { name: name.to_owned(), version: version_name.clone(), source }
    })?;
    Ok(Resource {
        gvr: GroupVersionResource::new(&group, &version_name, &plural),
        singular: spec["names"]["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
        kind,
        namespaced: scope == "Namespaced",
        short_names: texts(&spec["names"]["shortNames"]),
        categories: texts(&spec["names"]["categories"]),
        verbs: ALL_VERBS.iter().map(|verb| (*verb).to_owned()).collect(),
        subresources: subresources(&version["subresources"], &gvk),
        storage: (group, plural),
        virtual_only: false,
        custom: true,
        strategy: Arc::new(Custom::of_version(version)),
        schema: SchemaRef::inline(schema),
        published: published.cloned().map(Arc::new),
    })
}

fn subresources(declared: &Value, own: &GroupVersionKind) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(str::to_owned).to_vec();
    let mut subresources = Vec::new();
    if declared.get("status").is_some_and(|status| !status.is_null()) {
        subresources.push(Subresource { name: "status".to_owned(), kind: own.clone(), verbs: verbs() });
    }
    subresources
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::Catalogue;

    fn definition() -> Value {
        json!({
            "metadata": { "name": "widgets.example.com" },
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": { "kind": "Widget", "plural": "widgets", "shortNames": ["wd"] },
                "versions": [
                    { "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                      "schema": { "openAPIV3Schema": { "type": "object" } } },
                    { "name": "v0", "served": false },
                ],
            },
        })
    }

    #[test]
    fn served_versions_are_found_where_they_are_served() {
        let catalogue = Catalogue::control_plane().with_custom_resource(&definition()).unwrap();
        let widgets = catalogue.find("example.com", "v1", "widgets").unwrap();
        assert!(widgets.namespaced && widgets.custom && widgets.has_status());
        assert_eq!(widgets.singular, "widget");
        assert!(catalogue.find("example.com", "v0", "widgets").is_none());
    }

    #[test]
    fn a_definition_without_its_names_is_refused_by_name_and_field() {
        let mut definition = definition();
        definition["spec"]["names"]["kind"] = Value::Null;
        let refused = Catalogue::control_plane().with_custom_resource(&definition).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "custom resource definition \"widgets.example.com\" has no usable `spec.names.kind`"
        );
    }
}
