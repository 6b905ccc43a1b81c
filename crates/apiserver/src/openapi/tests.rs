use std::collections::BTreeSet;

use super::*;
use crate::catalogue::Ownership;

fn documents() -> OpenApi {
    let definition = json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } },
            } } }],
        },
    });
    let catalogue = Catalogue::cluster().with_custom_resource(&definition, Ownership::default()).unwrap();
    OpenApi::new(Arc::new(catalogue), "v1.36.0")
}

fn json_of(document: &Document) -> Value {
    serde_json::from_slice(&document.body).unwrap()
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| match (key.as_str(), child) {
            ("$ref", Value::String(target)) => drop(found.insert(target.clone())),
            _ => collect_references(child, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

#[test]
fn every_listed_document_is_served_and_refers_to_nothing_it_lacks() {
    let documents = documents();
    let index = json_of(documents.index());
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("apis/example.com/v1") && paths.contains_key("api/v1"));
    for (path, entry) in paths {
        let document = documents.group_version(path).unwrap();
        assert!(entry["serverRelativeURL"].as_str().unwrap().ends_with(&document.hash));
        let json = json_of(&document);
        let mut references = BTreeSet::new();
        collect_references(&json, &mut references);
        for reference in references {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(json["components"]["schemas"].get(name).is_some(), "{path} refers to {name}");
        }
    }
}

#[test]
fn kubectl_finds_the_parameters_it_decides_by() {
    let json = json_of(&documents().group_version("apis/apps/v1").unwrap());
    let patch = &json["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({ "group": "apps", "kind": "Deployment", "version": "v1" })
    );
}

#[test]
fn merge_keys_are_published() {
    let json = json_of(&documents().group_version("apis/apps/v1").unwrap());
    let containers = &json["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
}

#[test]
fn the_second_version_says_only_what_it_can() {
    let json = json_of(documents().v2_json());
    assert_eq!(json["swagger"], "2.0");
    // The kind of definitions has fields of those names.
    let mut text = json.clone();
    text["definitions"].as_object_mut().unwrap().retain(|name, _| !name.contains("JSONSchemaProps"));
    let text = text.to_string();
    for word in ["\"oneOf\"", "\"nullable\"", "#/components/"] {
        assert!(!text.contains(word), "{word}");
    }
    let mut references = BTreeSet::new();
    collect_references(&json, &mut references);
    for reference in references {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(json["definitions"].get(name).is_some(), "{name}");
    }
    assert!(json["definitions"].get("com.example.v1.Widget").is_some());
}

/// A reader of the protobuf wire format that knows no message: fields by number, length-delimited ones as bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).unwrap();
        let value = match wire_type {
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).unwrap()).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value.to_vec()
            }
            WireType::Varint => vec![u8::try_from(decode_varint(&mut bytes).unwrap()).unwrap()],
            other => panic!("unexpected wire type {other:?}"),
        };
        found.push((number, value));
    }
    found
}

fn field(bytes: &[u8], number: u32) -> Vec<u8> {
    fields(bytes).into_iter().find(|(own, _)| *own == number).map(|(_, value)| value).unwrap_or_default()
}

#[test]
fn the_protobuf_form_holds_the_same_definitions() {
    let documents = documents();
    let json = json_of(documents.v2_json());
    let encoded = &documents.v2_protobuf().body;
    assert_eq!(field(encoded, 1), b"2.0");
    let definitions = fields(&field(encoded, 9));
    let names: BTreeSet<String> =
        definitions.iter().map(|(_, named)| String::from_utf8(field(named, 1)).unwrap()).collect();
    let expected: BTreeSet<String> = json["definitions"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, expected);
    let paths = fields(&field(encoded, 8));
    assert_eq!(paths.len(), json["paths"].as_object().unwrap().len());
}

/// Upstream's documents, where the third-party data lies beside the repository.
fn published() -> Vec<(String, Value)> {
    let Some(directory) = fixtures::samples::find("kubernetes-1.36/openapi-v3") else { return Vec::new() };
    let entries = std::fs::read_dir(directory).unwrap();
    let document = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let path = name.strip_suffix("_openapi.json")?.replace("__", "/");
        Some((path, serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()))
    };
    entries.filter_map(|entry| document(entry.unwrap())).collect()
}

/// Descriptions are upstream's own words, published with every document; here only structure is compared.
fn without_descriptions(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| *key != "description" || !value.is_string());
            kept.map(|(key, value)| (key.clone(), without_descriptions(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(without_descriptions).collect(),
        other => other.clone(),
    }
}

#[test]
fn schemas_are_upstreams() {
    /// Types of upstream's discovery, of watches, and of sharded lists.
    const LEFT_OUT: [&str; 4] = [".APIResource", ".APIResourceList", ".WatchEvent", ".RawExtension"];
    let documents = documents();
    let mut compared = 0;
    for (path, theirs) in published() {
        let Some(document) = documents.group_version(&path) else { continue };
        let own = json_of(&document);
        for (name, schema) in theirs["components"]["schemas"].as_object().into_iter().flatten() {
            match own["components"]["schemas"].get(name) {
                Some(own) => {
                    assert_eq!(without_descriptions(own), without_descriptions(schema), "{path}: {name}");
                    compared += 1;
                }
                None => {
                    let known = LEFT_OUT.iter().any(|end| name.ends_with(end));
                    assert!(known, "{path} lacks {name}");
                }
            }
        }
    }
    assert!(compared == 0 || compared > 1000, "only {compared} schemas compared");
}

#[test]
fn operations_are_upstreams() {
    const COMPARED: [&str; 3] = ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind"];
    let documents = documents();
    let mut compared = 0;
    for (path, theirs) in published() {
        let Some(document) = documents.group_version(&path) else { continue };
        let own = json_of(&document);
        for (at, item) in theirs["paths"].as_object().into_iter().flatten() {
            // Discovery's own path, the watches that `watch=1` took the place of, and proxies are not documented.
            if at.ends_with('/') || at.contains("/watch/") || at.contains("/proxy") {
                continue;
            }
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
            {
                let mine = &own["paths"][at][method];
                assert!(mine.is_object(), "{method} {at} is not documented");
                for key in COMPARED {
                    assert_eq!(mine[key], operation[key], "{method} {at}: {key}");
                }
                let body = |operation: &Value| operation["requestBody"]["content"]["*/*"]["schema"].clone();
                assert_eq!(body(mine), body(operation), "{method} {at}: its body");
                compared += 1;
            }
        }
        for (at, item) in own["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                assert!(theirs["paths"][at].get(method).is_some(), "{method} {at} is not upstream's");
            }
        }
    }
    assert!(compared == 0 || compared > 400, "only {compared} operations compared");
}
