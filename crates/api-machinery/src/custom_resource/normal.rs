//! A definition as Kubernetes keeps it.
//!
//! Upstream reads it into Go structs and writes those back, which drops unknown fields, nulls and zero values; the
//! published types say nothing of the inside of `items` and `additionalProperties`, so it is done here by name.

use serde_json::{Map, Value, json};

use super::MAX_DEPTH;

/// Every field of `JSONSchemaProps`, by what makes it count as absent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// Only null.
    Null,
    /// Null and "".
    EmptyText,
    /// Null and false.
    False,
    /// Null and an empty list or map.
    Empty,
}

const FIELDS: &[(&str, Absent)] = &[
    ("$ref", Absent::Null),
    ("$schema", Absent::EmptyText),
    ("additionalItems", Absent::Null),
    ("additionalProperties", Absent::Null),
    ("allOf", Absent::Empty),
    ("anyOf", Absent::Empty),
    ("default", Absent::Null),
    ("definitions", Absent::Empty),
    ("dependencies", Absent::Empty),
    ("description", Absent::EmptyText),
    ("enum", Absent::Empty),
    ("example", Absent::Null),
    ("exclusiveMaximum", Absent::False),
    ("exclusiveMinimum", Absent::False),
    ("externalDocs", Absent::Null),
    ("format", Absent::EmptyText),
    ("id", Absent::EmptyText),
    ("items", Absent::Null),
    ("maxItems", Absent::Null),
    ("maxLength", Absent::Null),
    ("maxProperties", Absent::Null),
    ("maximum", Absent::Null),
    ("minItems", Absent::Null),
    ("minLength", Absent::Null),
    ("minProperties", Absent::Null),
    ("minimum", Absent::Null),
    ("multipleOf", Absent::Null),
    ("not", Absent::Null),
    ("nullable", Absent::False),
    ("oneOf", Absent::Empty),
    ("pattern", Absent::EmptyText),
    ("patternProperties", Absent::Empty),
    ("properties", Absent::Empty),
    ("required", Absent::Empty),
    ("title", Absent::EmptyText),
    ("type", Absent::EmptyText),
    ("uniqueItems", Absent::False),
    ("x-kubernetes-embedded-resource", Absent::False),
    ("x-kubernetes-int-or-string", Absent::False),
    ("x-kubernetes-list-map-keys", Absent::Empty),
    ("x-kubernetes-list-type", Absent::Null),
    ("x-kubernetes-map-type", Absent::Null),
    ("x-kubernetes-preserve-unknown-fields", Absent::Null),
    ("x-kubernetes-validations", Absent::Empty),
];

/// Fills in a definition's defaults and drops what counts as absent. Twice is the same as once.
pub fn normalise(definition: &mut Value) {
    if let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) {
        normalise_spec(spec);
    }
    stored_versions(definition);
}

/// `status.storedVersions` holds at least the storage version.
fn stored_versions(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let storage =
        versions.filter(|version| version["storage"] == true).find_map(|version| version["name"].as_str());
    let Some(storage) = storage.map(str::to_owned) else { return };
    let Some(map) = definition.as_object_mut() else { return };
    let status = map.entry("status").or_insert_with(|| json!({}));
    if status.is_object() && status["storedVersions"].as_array().is_none_or(Vec::is_empty) {
        status["storedVersions"] = json!([storage]);
    }
}

fn normalise_spec(spec: &mut Map<String, Value>) {
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
    let conversion = spec.entry("conversion").or_insert(Value::Null);
    if conversion.is_null() {
        *conversion = json!({ "strategy": "None" });
    }
    if let Some(service) =
        conversion.pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut)
        && service.get("port").is_none_or(Value::is_null)
    {
        service.insert("port".to_owned(), json!(443));
    }
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        normalise_names(names);
    }
    for version in spec.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(version) = version.as_object_mut() {
            normalise_version(version);
        }
    }
}

fn normalise_names(names: &mut Map<String, Value>) {
    let text = |names: &Map<String, Value>, key: &str| {
        names.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let kind = text(names, "kind");
    if text(names, "singular").is_empty() && !kind.is_empty() {
        names.insert("singular".to_owned(), json!(kind.to_lowercase()));
    }
    if text(names, "listKind").is_empty() && !kind.is_empty() {
        names.insert("listKind".to_owned(), json!(format!("{kind}List")));
    }
    for key in ["shortNames", "categories"] {
        if names.get(key).is_some_and(|list| list.is_null() || list.as_array().is_some_and(Vec::is_empty)) {
            names.remove(key);
        }
    }
}

fn normalise_version(version: &mut Map<String, Value>) {
    for flag in ["served", "storage"] {
        version.entry(flag).or_insert(json!(false));
    }
    if version.get("deprecated") == Some(&Value::Bool(false)) {
        version.remove("deprecated");
    }
    for key in ["additionalPrinterColumns", "selectableFields"] {
        if version.get(key).is_some_and(|list| list.is_null() || list.as_array().is_some_and(Vec::is_empty)) {
            version.remove(key);
        }
    }
    for column in
        version.get_mut("additionalPrinterColumns").and_then(Value::as_array_mut).into_iter().flatten()
    {
        let Some(column) = column.as_object_mut() else { continue };
        column.retain(|key, value| {
            let optional = matches!(key.as_str(), "format" | "description" | "priority");
            !optional || !(value == "" || value.as_i64() == Some(0) || value.is_null())
        });
    }
    if let Some(schema) = version.get_mut("schema").and_then(|schema| schema.get_mut("openAPIV3Schema")) {
        normalise_schema(schema, 0);
    }
}

/// Drops what `JSONSchemaProps` does not know and what counts as absent, at every depth.
pub fn normalise_schema(schema: &mut Value, depth: usize) {
    let Some(map) = schema.as_object_mut() else { return };
    if depth > MAX_DEPTH {
        return;
    }
    map.retain(|key, value| {
        let known = FIELDS.binary_search_by_key(&key.as_str(), |(name, _)| name);
        known.is_ok_and(|index| !is_absent(value, FIELDS[index].1))
    });
    for (key, value) in map.iter_mut() {
        match key.as_str() {
            "properties" | "patternProperties" | "definitions" | "dependencies" => {
                for child in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                    normalise_schema(child, depth + 1);
                }
            }
            "allOf" | "anyOf" | "oneOf" => {
                value
                    .as_array_mut()
                    .into_iter()
                    .flatten()
                    .for_each(|child| normalise_schema(child, depth + 1));
            }
            "items" if value.is_array() => {
                value
                    .as_array_mut()
                    .into_iter()
                    .flatten()
                    .for_each(|child| normalise_schema(child, depth + 1));
            }
            "items" | "not" | "additionalProperties" | "additionalItems" => {
                normalise_schema(value, depth + 1)
            }
            _ => {}
        }
    }
}

fn is_absent(value: &Value, absent: Absent) -> bool {
    value.is_null()
        || match absent {
            Absent::Null => false,
            Absent::EmptyText => value == "",
            Absent::False => *value == Value::Bool(false),
            Absent::Empty => {
                value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(FIELDS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn a_definition_is_kept_as_upstream_keeps_it() {
        let mut definition = json!({ "spec": {
            "group": "example.com", "scope": "Namespaced", "preserveUnknownFields": false,
            "names": { "kind": "Widget", "plural": "widgets", "shortNames": [] },
            "versions": [{ "name": "v1", "served": true, "storage": true, "deprecated": false,
                "additionalPrinterColumns": [{ "name": "A", "type": "string", "jsonPath": ".a", "priority": 0 }],
                "schema": { "openAPIV3Schema": { "type": "object", "nullable": false, "required": [],
                    "properties": { "a": { "type": "array", "default": null, "items": { "type": "string", "foo": "bar" } },
                        "b": { "additionalProperties": { "type": "", "description": "x" } } } } } }],
        } });
        normalise(&mut definition);
        let wanted = json!({ "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": { "strategy": "None" },
            "names": { "kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": [{ "name": "A", "type": "string", "jsonPath": ".a" }],
                "schema": { "openAPIV3Schema": { "type": "object",
                    "properties": { "a": { "type": "array", "items": { "type": "string" } },
                        "b": { "additionalProperties": { "description": "x" } } } } } }],
        }, "status": { "storedVersions": ["v1"] } });
        assert_eq!(definition, wanted);
        normalise(&mut definition);
        assert_eq!(definition, wanted);
    }
}
