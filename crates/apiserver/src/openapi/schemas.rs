//! Schemas as documents publish them.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_machinery::custom_resource::publish::{Form, Published};
use api_machinery::openapi::v3_schemas;
use api_machinery::schema::SchemaSet;
use kube_objects::GroupVersionKind;
use serde_json::{Value, json};

use super::Components;
use super::descriptions::Descriptions;
use crate::catalogue::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// What operations refer to whatever the kind.
const META_TYPES: [&str; 5] = ["DeleteOptions", "ListMeta", "ObjectMeta", "Patch", "Status"];

/// Every schema that the operations of `resources` refer to, and all those refer to.
pub(super) fn components(resources: &[Arc<Resource>], descriptions: &Descriptions) -> Components {
    let mut builtin: BTreeSet<String> = META_TYPES.iter().map(|name| format!("{META}.{name}")).collect();
    let mut custom = Components::new();
    for resource in resources {
        for kind in resource.subresources.iter().map(|subresource| &subresource.kind) {
            builtin.insert(name_of(kind));
        }
        if resource.custom {
            custom.extend(custom_schemas(resource, Form::V3));
        } else {
            builtin.insert(name_of(&resource.gvk()));
            builtin.insert(name_of(&list_of(&resource.gvk())));
        }
    }
    let mut components = v3_schemas(builtin.iter().map(String::as_str));
    for name in META_TYPES {
        if let Some(schema) = components.get_mut(&format!("{META}.{name}")) {
            keep_own_kinds(schema, resources);
        }
    }
    descriptions.add_to(&mut components);
    components.extend(custom);
    components
}

/// Of the group versions that know a shared type, a document names the core's and its own.
fn keep_own_kinds(schema: &mut Value, resources: &[Arc<Resource>]) {
    let kinds = schema.get_mut("x-kubernetes-group-version-kind").and_then(Value::as_array_mut);
    let Some(kinds) = kinds else { return };
    kinds.retain(|kind| {
        (kind["group"] == "" && kind["version"] == "v1")
            || resources
                .iter()
                .any(|own| kind["group"] == *own.gvr.group && kind["version"] == *own.gvr.version)
    });
}

/// A reference to a kind's schema.
pub(super) fn reference(kind: &GroupVersionKind) -> Value {
    // They answer text.
    if is_connect(kind) {
        return json!({ "type": "string" });
    }
    json!({ "$ref": format!("#/components/schemas/{}", name_of(kind)) })
}

/// A reference to the schema of a resource's list.
pub(super) fn list_reference(resource: &Resource) -> Value {
    let kind = resource.gvk();
    match &resource.definition {
        Some(definition) => reference(&GroupVersionKind { kind: definition.list_kind.clone(), ..kind }),
        None => reference(&list_of(&kind)),
    }
}

/// Whether a kind is what a `connect` subresource takes (`PodExecOptions` …): query parameters, published as no schema.
pub(super) fn is_connect(kind: &GroupVersionKind) -> bool {
    kind.group.is_empty() && SchemaSet::builtin().type_name(kind).is_none()
}

/// A reference to one of the types that every group shares.
pub(super) fn meta_reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{META}.{name}") })
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

/// The schemas of a custom kind and of its list by name.
pub(super) fn custom_schemas(resource: &Resource, form: Form) -> Vec<(String, Value)> {
    let Some(definition) = &resource.definition else { return Vec::new() };
    let gvk = resource.gvk();
    let declared = definition.version_document(&gvk.version).unwrap_or_default();
    let published = Published {
        group: &gvk.group,
        version: &gvk.version,
        kind: &gvk.kind,
        list_kind: &definition.list_kind,
        plural: &definition.plural,
        declared: &declared,
    };
    let item = match form {
        Form::V3 => reference(&gvk),
        Form::V2 => json!({ "$ref": format!("#/definitions/{}", name_of(&gvk)) }),
    };
    let list = GroupVersionKind { kind: definition.list_kind.clone(), ..gvk.clone() };
    vec![(name_of(&gvk), published.object(form)), (name_of(&list), published.list(form, &item))]
}
