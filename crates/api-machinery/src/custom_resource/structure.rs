//! Structural schemas: every field's type is said at its place, and value validation says nothing of structure
//! (upstream `apiserver/schema`: `ValidateStructural`). Works on the normalised JSON of a schema.

use serde_json::{Map, Value, json};

use super::MAX_DEPTH;
use crate::field_path::{FieldError, FieldPath};
use crate::schema::Pattern;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural, sorted as upstream sorts.
#[must_use]
pub(super) fn violations(schema: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, 0, &mut errors);
    complete_validation(schema, Some(schema), path, path, 0, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

/// A field that has no place in a schema of a custom resource at all, wherever it stands.
#[must_use]
pub(super) fn unsupported(schema: &Value, depth: usize) -> Option<String> {
    let map = schema.as_object()?;
    if depth > MAX_DEPTH {
        return Some(format!("OpenAPIV3Schema is nested more than {MAX_DEPTH} levels deep"));
    }
    for (key, name) in [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ] {
        if map.contains_key(key) {
            return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
        }
    }
    if map.get("items").is_some_and(Value::is_array) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned(),
        );
    }
    children(map).find_map(|child| unsupported(child, depth + 1))
}

/// Every schema directly below one.
pub(super) fn children(map: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    map.iter().flat_map(|(key, value)| -> Vec<&Value> {
        match key.as_str() {
            "properties" | "patternProperties" | "definitions" => {
                value.as_object().into_iter().flat_map(Map::values).collect()
            }
            "allOf" | "anyOf" | "oneOf" => value.as_array().into_iter().flatten().collect(),
            "items" if value.is_array() => value.as_array().into_iter().flatten().collect(),
            "items" | "not" | "additionalProperties" | "additionalItems" => {
                value.is_object().then_some(value).into_iter().collect()
            }
            _ => Vec::new(),
        }
    })
}

pub(super) fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema[key].as_str().unwrap_or_default()
}

pub(super) fn flag(schema: &Value, key: &str) -> bool {
    schema[key] == true
}

/// The entries of a map of schemas.
pub(super) fn entries<'v>(schema: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    schema[key].as_object().into_iter().flatten()
}

pub(super) fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema[key].as_array().map_or(&[], Vec::as_slice)
}

fn is_int_or_string(alternatives: &Value) -> bool {
    *alternatives == json!([{"type": "integer"}, {"type": "string"}])
}

fn invariants(schema: &Value, level: Level, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if !schema.is_object() || depth > MAX_DEPTH {
        return;
    }
    let kind = text(schema, "type");
    if kind == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = schema.get("items") {
        invariants(items, Level::Item, &path.child("items"), depth + 1, errors);
    }
    for (name, field) in entries(schema, "properties") {
        invariants(field, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let own = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&own, "must not be used at the root"));
        }
        invariants(additional, Level::Field, &own, depth + 1, errors);
    }
    extensions(schema, path, errors);
    // The two ways in which `anyOf` may name types: both spell int-or-string.
    let skip_any_of = is_int_or_string(&schema["anyOf"]);
    let skip_first_all_of = is_int_or_string(&schema["allOf"][0]["anyOf"]);
    value_validation(schema, skip_any_of, skip_first_all_of, path, depth, errors);
    types(schema, level, path, errors);
    object_fields(schema, level, path, errors);
}

fn extensions(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, key) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(key), true, why));
        }
    }
}

fn types(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let own = path.child("type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(&own, why)
        } else {
            FieldError::invalid(&own, kind, why)
        });
    } else if kind.is_empty()
        && !flag(schema, "x-kubernetes-int-or-string")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
    {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&own, why));
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&own, kind, "must be object at the root"));
    }
    if embedded
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
        && schema["properties"].as_object().is_none_or(Map::is_empty)
    {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), why));
    }
}

/// What a schema may say of `kind`, `apiVersion` and `metadata` of an object.
fn object_fields(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let is_object = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    let at = |name: &str| path.child("properties").key(name);
    let field = |name: &str| schema["properties"].get(name);
    for name in ["kind", "apiVersion"] {
        if let Some(field) = field(name).filter(|field| is_object && text(field, "type") != "string") {
            errors.push(FieldError::invalid(&at(name).child("type"), text(field, "type"), "must be string"));
        }
    }
    let Some(metadata) = field("metadata") else { return };
    if is_object && text(metadata, "type") != "object" {
        let kind = text(metadata, "type");
        errors.push(FieldError::invalid(&at("metadata").child("type"), kind, "must be object"));
    }
    if level == Level::Root {
        let named = |(key, value): (&String, &Value)| match key.as_str() {
            "type" | "default" => true,
            "properties" => value
                .as_object()
                .is_some_and(|fields| fields.keys().all(|name| name == "name" || name == "generateName")),
            _ => false,
        };
        if !metadata.as_object().is_some_and(|map| map.iter().all(named)) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly \
                       specified";
            errors.push(FieldError::forbidden(&at("metadata"), why));
        }
    }
}

fn value_validation(
    schema: &Value,
    skip_any_of: bool,
    skip_first_all_of: bool,
    path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_DEPTH {
        return;
    }
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (index, nested) in list(schema, key).iter().enumerate() {
            let skip = key == "allOf" && skip_first_all_of && index == 0;
            nested_validation(nested, skip, &path.child(key).index(index), depth + 1, errors);
        }
    }
    if let Some(not) = schema.get("not") {
        nested_validation(not, false, &path.child("not"), depth + 1, errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(error) = Pattern::new(pattern).check()
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, why));
    }
}

const FORBIDDEN_NESTED: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

fn nested_validation(
    schema: &Value,
    skip_any_of: bool,
    path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if !schema.is_object() || depth > MAX_DEPTH {
        return;
    }
    value_validation(schema, skip_any_of, false, path, depth, errors);
    if let Some(items) = schema.get("items") {
        nested_validation(items, false, &path.child("items"), depth + 1, errors);
    }
    for (name, field) in entries(schema, "properties") {
        nested_validation(field, false, &path.child("properties").key(name), depth + 1, errors);
    }
    if schema.get("additionalProperties").is_some_and(|additional| *additional != Value::Bool(false)) {
        let own = path.child("additionalProperties");
        errors.push(FieldError::forbidden(&own, "must be undefined to be structural"));
    }
    for (key, why) in FORBIDDEN_NESTED {
        if schema.get(key).is_some() {
            errors.push(FieldError::forbidden(&path.child(key), why));
        }
    }
    if schema.get("x-kubernetes-validations").is_some() {
        let own = path.child("x-kubernetes-validations");
        errors.push(FieldError::forbidden(&own, "must be empty to be structural"));
    }
    if schema["properties"].get("metadata").is_some() {
        let own = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&own, "must not be specified in a nested context"));
    }
}

/// Fields that value validation speaks of have to be in the structure. `at` and `own` are where the structure and the
/// validation stand.
fn complete_validation(
    validation: &Value,
    structure: Option<&Value>,
    at: &FieldPath,
    own: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(not) = validation.get("not") {
        complete_nested(not, structure, at, &own.child("not"), depth + 1, errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, nested) in list(validation, key).iter().enumerate() {
            complete_nested(nested, structure, at, &own.child(key).index(index), depth + 1, errors);
        }
    }
}

fn complete_nested(
    validation: &Value,
    structure: Option<&Value>,
    at: &FieldPath,
    own: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    let Some(structure) = structure else {
        errors.push(FieldError::required(at, format!("because it is defined in {own}")));
        return;
    };
    complete_validation(validation, Some(structure), at, own, depth, errors);
    if let Some(items) = validation.get("items") {
        let (at, own) = (at.child("items"), own.child("items"));
        complete_nested(items, structure.get("items"), &at, &own, depth + 1, errors);
    }
    for (name, field) in entries(validation, "properties") {
        let (at, own) = (at.child("properties").key(name), own.child("properties").key(name));
        complete_nested(field, structure["properties"].get(name), &at, &own, depth + 1, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_structural_is_told_with_its_path() {
        for (schema, wanted) in [
            (json!({}), vec!["schema.type: Required value: must not be empty at the root"]),
            (
                json!({"type": "array"}),
                vec![
                    "schema.items: Required value: must be specified",
                    r#"schema.type: Invalid value: "array": must be object at the root"#,
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {}}}),
                vec![
                    "schema.properties[a].type: Required value: must not be empty for specified object fields",
                ],
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                vec!["schema.additionalProperties: Forbidden: must not be used at the root"],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "object"}}, "anyOf": [{"properties": {"b": {"minimum": 1}}}]}),
                vec![
                    "schema.properties[b]: Required value: because it is defined in schema.anyOf[0].properties[b]",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "allOf": [{"type": "string", "description": "x"}]}}}),
                vec![
                    "schema.properties[a].allOf[0].description: Forbidden: must be empty to be structural",
                    "schema.properties[a].allOf[0].type: Forbidden: must be empty to be structural",
                ],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                vec![
                    "schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
                vec![
                    "schema.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}}}),
                vec![
                    "schema.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}]}, "b": {"x-kubernetes-int-or-string": true,
                "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]},
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}}),
                vec![],
            ),
        ] {
            let told: Vec<String> =
                violations(&schema, &FieldPath::new("schema")).iter().map(ToString::to_string).collect();
            assert_eq!(told, wanted, "{schema}");
        }
    }
}
