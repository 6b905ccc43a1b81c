//! Paths and operations of a resource, in v3 form. Clients look for three things here: which operations exist, the
//! `x-kubernetes-*` extensions, and parameters such as `fieldValidation` and `dryRun` by whose presence kubectl decides
//! what a server can do.

use serde_json::{Map, Value, json};

use super::{gvk_extension, operation_infix, schemas};
use crate::catalogue::{Resource, Subresource};

/// Media types a PATCH may carry.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    STRATEGIC_MERGE,
];
/// Custom resources have none, and kubectl uses it wherever it is offered here.
const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";

/// Adds every path of `resource`.
pub(super) fn describe(resource: &Resource, paths: &mut Map<String, Value>) {
    let root = root_of(resource);
    let (all, scoped) = if resource.namespaced {
        (
            Some(format!("{root}/{}", resource.gvr.resource)),
            format!("{root}/namespaces/{{namespace}}/{}", resource.gvr.resource),
        )
    } else {
        (None, format!("{root}/{}", resource.gvr.resource))
    };
    if let Some(all) = all.filter(|_| can(resource, "list")) {
        let list = operation(resource, "list", "ForAllNamespaces", LIST, None);
        paths.insert(all, json!({ "get": list, "parameters": [] }));
    }
    let mut collection = Map::new();
    for (verb, method, query, body) in [
        ("list", "get", LIST, None),
        ("create", "post", WRITE, Some("*/*")),
        ("deletecollection", "delete", DELETE_ALL, Some("options")),
    ] {
        if can(resource, verb) {
            collection.insert(method.to_owned(), operation(resource, verb, "", query, body));
        }
    }
    insert(paths, resource, scoped.clone(), collection, false);
    if !can(resource, "get") {
        return;
    }
    let mut single = Map::new();
    for (verb, method, query, body) in [
        ("get", "get", &[][..], None),
        ("update", "put", WRITE, Some("*/*")),
        ("patch", "patch", PATCH, Some("patch")),
        ("delete", "delete", DELETE, Some("options")),
    ] {
        if can(resource, verb) {
            single.insert(method.to_owned(), operation(resource, verb, "", query, body));
        }
    }
    let one = format!("{scoped}/{{name}}");
    for subresource in &resource.subresources {
        let path = format!("{one}/{}", subresource.name);
        let mut operations = Map::new();
        for verb in &subresource.verbs {
            let (method, query, body) = match verb.as_str() {
                "create" => ("post", WRITE, Some("*/*")),
                "update" => ("put", WRITE, Some("*/*")),
                "patch" => ("patch", PATCH, Some("patch")),
                _ => ("get", &[][..], None),
            };
            operations.insert(method.to_owned(), sub_operation(resource, subresource, verb, query, body));
        }
        insert(paths, resource, path, operations, true);
    }
    insert(paths, resource, one, single, true);
}

type Query = &'static [(&'static str, &'static str)];

const WRITE: Query = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: Query =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: Query = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: Query = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

const DELETE_ALL: Query = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];

/// Kinds of which a DELETE is documented to answer the object; of the others, and of collections, a `Status`.
const ANSWERED_WHEN_DELETED: [&str; 17] = [
    "CSIDriver",
    "CSINode",
    "DeviceClass",
    "DeviceTaintRule",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ResourceSlice",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

fn can(resource: &Resource, verb: &str) -> bool {
    resource.verbs.iter().any(|own| own == verb)
}

fn root_of(resource: &Resource) -> String {
    format!("/{}", super::path_of(resource))
}

fn insert(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    path: String,
    operations: Map<String, Value>,
    named: bool,
) {
    if operations.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if named {
        parameters.push(path_parameter("name"));
    }
    if resource.namespaced {
        parameters.push(path_parameter("namespace"));
    }
    parameters.push(query_parameter("pretty", "string"));
    let mut item = operations;
    item.insert("parameters".to_owned(), Value::Array(parameters));
    paths.insert(path, Value::Object(item));
}

fn path_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } })
}

fn query_parameter(name: &str, kind: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
}

fn operation(resource: &Resource, verb: &str, suffix: &str, query: Query, body: Option<&str>) -> Value {
    let scope = if resource.namespaced && suffix.is_empty() { "Namespaced" } else { "" };
    let action = match verb {
        "update" => "put",
        "create" => "post",
        other => other,
    };
    let spoken = match verb {
        "get" => "read",
        "update" => "replace",
        "deletecollection" => "delete",
        other => other,
    };
    let scope = if verb == "deletecollection" { format!("Collection{scope}") } else { scope.to_owned() };
    let id = format!("{spoken}{}{scope}{}{suffix}", operation_infix(resource), resource.kind);
    let own = schemas::reference(&resource.gvk());
    let answer = match verb {
        "list" => schemas::list_reference(resource),
        "delete" if !resource.custom && ANSWERED_WHEN_DELETED.contains(&resource.kind.as_str()) => {
            own.clone()
        }
        "delete" | "deletecollection" => schemas::meta_reference("Status"),
        _ => own.clone(),
    };
    let mut operation = describe_operation(&id, query, body, [&own, &answer], resource.custom);
    operation["x-kubernetes-action"] = json!(action);
    operation["x-kubernetes-group-version-kind"] = gvk_extension(&resource.gvk());
    operation
}

fn sub_operation(
    resource: &Resource,
    subresource: &Subresource,
    verb: &str,
    query: Query,
    body: Option<&str>,
) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "" };
    let connects = schemas::is_connect(&subresource.kind);
    let method = if verb == "create" { "Post" } else { "Get" };
    let connect = format!("connect{}{method}", operation_infix(resource));
    let (spoken, action) = match verb {
        _ if connects => (connect.as_str(), "connect"),
        "get" => ("read", "get"),
        "update" => ("replace", "put"),
        "create" => ("create", "post"),
        other => (other, other),
    };
    let mut letters = subresource.name.chars();
    let name: String = letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect();
    let infix = if connects { String::new() } else { operation_infix(resource) };
    let id = format!("{spoken}{infix}{scope}{}{name}", resource.kind);
    let body = body.filter(|_| !connects);
    let kind = schemas::reference(&subresource.kind);
    let mut operation = describe_operation(&id, query, body, [&kind, &kind], resource.custom);
    operation["x-kubernetes-action"] = json!(action);
    operation["x-kubernetes-group-version-kind"] = gvk_extension(&subresource.kind);
    operation
}

fn describe_operation(
    id: &str,
    query: Query,
    body: Option<&str>,
    [sent, answer]: [&Value; 2],
    custom: bool,
) -> Value {
    let parameters: Vec<Value> = query.iter().map(|(name, kind)| query_parameter(name, kind)).collect();
    let mut operation = json!({
        "operationId": id,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "OK",
                "content": {
                    "application/json": { "schema": answer },
                    "application/yaml": { "schema": answer },
                },
            },
            "401": { "description": "Unauthorized" },
        },
    });
    let content = match body {
        Some("patch") => PATCHES
            .iter()
            .filter(|media_type| !(custom && **media_type == STRATEGIC_MERGE))
            .map(|media_type| {
                ((*media_type).to_owned(), json!({ "schema": schemas::meta_reference("Patch") }))
            })
            .collect::<Map<_, _>>(),
        Some("options") => {
            let options = json!({ "schema": schemas::meta_reference("DeleteOptions") });
            operation["requestBody"] = json!({ "content": { "*/*": options } });
            return operation;
        }
        Some(any) => Map::from_iter([(any.to_owned(), json!({ "schema": sent }))]),
        None => return operation,
    };
    operation["requestBody"] = json!({ "content": content, "required": true });
    operation
}
