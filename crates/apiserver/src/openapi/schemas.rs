//! Schemas as documents publish them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_machinery::openapi::{custom_resource_v3, v3_schemas};
use api_machinery::schema::SchemaSet;
use kube_objects::GroupVersionKind;
use serde_json::{Value, json};

use super::Components;
use super::descriptions::Descriptions;
use crate::catalogue::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Every schema that the operations of `resources` refer to, and all those refer to.
pub(super) fn components(resources: &[Arc<Resource>], descriptions: &Descriptions) -> Components {
    let mut builtin: BTreeSet<String> =
        ["ListMeta", "ObjectMeta", "Patch", "Status"].iter().map(|name| format!("{META}.{name}")).collect();
    let mut custom = Components::new();
    for resource in resources {
        for kind in resource.subresources.iter().map(|subresource| &subresource.kind) {
            builtin.insert(name_of(kind));
        }
        if resource.custom {
            let (group, version) = (&resource.gvr.group, &resource.gvr.version);
            let own =
                resource.definition.as_ref().and_then(|definition| definition.version_document(version));
            let published = own.as_ref().map(|own| &own["schema"]["openAPIV3Schema"]);
            let published = published.filter(|schema| !schema.is_null());
            let schema = custom_resource_v3(published, group, version, &resource.kind);
            custom.insert(name_of(&resource.gvk()), schema);
            custom.insert(name_of(&list_of(&resource.gvk())), custom_list(&resource.gvk()));
        } else {
            builtin.insert(name_of(&resource.gvk()));
            builtin.insert(name_of(&list_of(&resource.gvk())));
        }
    }
    let mut components = v3_schemas(builtin.iter().map(String::as_str));
    descriptions.add_to(&mut components);
    components.extend(custom);
    components
}

/// A reference to a kind's schema.
pub(super) fn reference(kind: &GroupVersionKind) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", name_of(kind)) })
}

/// A reference to the schema of a kind's list.
pub(super) fn list_reference(kind: &GroupVersionKind) -> Value {
    reference(&list_of(kind))
}

/// A reference to the schema of patches: anything.
pub(super) fn patch_reference() -> Value {
    json!({ "$ref": format!("#/components/schemas/{META}.Patch") })
}

/// A built-in type's name, or for a custom kind its reversed group, version and kind, as upstream names them.
fn name_of(kind: &GroupVersionKind) -> String {
    if let Some(name) = SchemaSet::builtin().type_name(kind) {
        return name.to_owned();
    }
    let reversed: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{}", reversed.join("."), kind.version, kind.kind)
}

fn list_of(kind: &GroupVersionKind) -> GroupVersionKind {
    GroupVersionKind { kind: format!("{}List", kind.kind), ..kind.clone() }
}

fn custom_list(kind: &GroupVersionKind) -> Value {
    let list = list_of(kind);
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "allOf": [{ "$ref": format!("#/components/schemas/{META}.ListMeta") }] },
            "items": { "type": "array", "items": reference(kind) },
        },
        "x-kubernetes-group-version-kind": [super::gvk_extension(&list)],
    })
}
