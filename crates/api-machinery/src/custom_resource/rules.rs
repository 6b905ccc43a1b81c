//! What a schema of a custom resource may say, besides being structural (upstream
//! `ValidateCustomResourceDefinitionOpenAPISchema`). Works on the normalised JSON of a schema. Expressions are only
//! looked at from outside here.

use serde_json::{Map, Value};

use super::MAX_DEPTH;
use super::structure::{entries, flag, list, text};
use crate::field_path::{FieldError, FieldPath};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What holds at a place for everything below it.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// Why there may be no default here.
    no_defaults: Option<&'p str>,
    /// Inside of `metadata`, `kind` or `apiVersion` of an object.
    in_metadata: bool,
    root: bool,
    depth: usize,
}

/// What is wrong with a schema.
#[must_use]
pub(super) fn violations(schema: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let place = Place { no_defaults: None, in_metadata: false, root: true, depth: 0 };
    check(schema, path, place, &mut errors);
    errors
}

fn check(schema: &Value, path: &FieldPath, place: Place<'_>, errors: &mut Vec<FieldError>) {
    if !schema.is_object() || place.depth > MAX_DEPTH {
        return;
    }
    standard(schema, path, place, errors);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), why));
    }
    additional_properties(schema, path, place, errors);
    let inner = Place { root: false, depth: place.depth + 1, ..place };
    properties(schema, path, place, inner, errors);
    if let Some(not) = schema.get("not") {
        check(not, &path.child("not"), inner, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, nested) in list(schema, key).iter().enumerate() {
            check(nested, &path.child(key).index(index), inner, errors);
        }
    }
    for (name, nested) in entries(schema, "definitions") {
        check(nested, &path.child("definitions").key(name), inner, errors);
    }
    match schema.get("items") {
        Some(Value::Array(several)) => {
            for (index, nested) in several.iter().enumerate() {
                check(nested, &path.child("items").index(index), inner, errors);
            }
        }
        Some(items) => check(items, &path.child("items"), inner, errors),
        None => {}
    }
    for (name, nested) in entries(schema, "dependencies") {
        check(nested, &path.child("dependencies").key(name), inner, errors);
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let own = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&own, false, "must be true or undefined"));
    }
    map_type(schema, path, errors);
    list_type(schema, path, errors);
    list_map_keys(schema, path, errors);
    map_items(schema, path, errors);
}

fn standard(schema: &Value, path: &FieldPath, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
    }
    if let Some(why) = place.no_defaults
        && schema.get("default").is_some()
    {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(key).is_some() {
            errors.push(FieldError::forbidden(&path.child(key), format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), why));
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path.child("items"), why));
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let own = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&own, "must not be used inside of resource meta"));
    }
}

fn additional_properties(schema: &Value, path: &FieldPath, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let Some(additional) = schema.get("additionalProperties") else { return };
    let own = path.child("additionalProperties");
    if schema["properties"].as_object().is_some_and(|fields| !fields.is_empty())
        && *additional != Value::Bool(true)
    {
        errors.push(FieldError::forbidden(&own, "additionalProperties and properties are mutual exclusive"));
    }
    let mut inner = Place { root: false, depth: place.depth + 1, ..place };
    if place.in_metadata {
        inner.no_defaults = Some("inside additionalProperties applying to object metadata");
    }
    check(additional, &own, inner, errors);
}

fn properties(
    schema: &Value,
    path: &FieldPath,
    place: Place<'_>,
    inner: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    let is_object = place.root || flag(schema, "x-kubernetes-embedded-resource");
    for (name, field) in entries(schema, "properties") {
        let mut inner = inner;
        if is_object {
            let top = match name.as_str() {
                "metadata" => Some("in top-level metadata"),
                "kind" => Some("in top-level kind"),
                "apiVersion" => Some("in top-level apiVersion"),
                _ => None,
            };
            inner.in_metadata |= top.is_some();
            if place.root && top.is_some() {
                inner.no_defaults = top;
            }
        }
        check(field, &path.child("properties").key(name), inner, errors);
    }
}

fn map_type(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(own) = schema["x-kubernetes-map-type"].as_str() else { return };
    needs_type(schema, "object", "must be object if x-kubernetes-map-type is specified", path, errors);
    if !matches!(own, "atomic" | "granular") {
        let own_path = path.child("x-kubernetes-map-type");
        errors.push(FieldError::not_supported(&own_path, own, &["atomic", "granular"]));
    }
}

fn needs_type(
    schema: &Value,
    wanted: &str,
    why: &'static str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> bool {
    let kind = text(schema, "type");
    if kind == wanted {
        return true;
    }
    errors.push(if kind.is_empty() {
        FieldError::required(&path.child("type"), why)
    } else {
        FieldError::invalid(&path.child("type"), kind, why)
    });
    false
}

fn list_type(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(own) = schema["x-kubernetes-list-type"].as_str() else { return };
    let is_array =
        needs_type(schema, "array", "must be array if x-kubernetes-list-type is specified", path, errors);
    if is_array && own == "set" {
        let items = &schema["items"];
        let (key, atomic) = match text(items, "type") {
            "array" => {
                let own = items["x-kubernetes-list-type"].as_str();
                ("x-kubernetes-list-type", own.is_none_or(|own| own == "atomic"))
            }
            "object" => ("x-kubernetes-map-type", items["x-kubernetes-map-type"] == "atomic"),
            _ => ("", true),
        };
        if !atomic {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let found = items["x-kubernetes-list-type"].clone();
            errors.push(FieldError::invalid(&path.child("items").child(key), found, why));
        }
    }
    if !matches!(own, "atomic" | "set" | "map") {
        let own_path = path.child("x-kubernetes-list-type");
        errors.push(FieldError::not_supported(&own_path, own, &["atomic", "set", "map"]));
    }
}

fn list_map_keys(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let own = schema["x-kubernetes-list-type"].as_str();
    if !keys.is_empty() && own != Some("map") {
        let (at, why) =
            (path.child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        errors.push(match own {
            None => FieldError::required(&at, why),
            Some(own) => FieldError::invalid(&at, own, why),
        });
    }
    if own != Some("map") {
        return;
    }
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items_path = path.child("items");
    let items = match schema.get("items") {
        None => {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&items_path, why));
            return;
        }
        Some(several @ Value::Array(_)) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&items_path, several.clone(), why));
            return;
        }
        Some(items) => items,
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&items_path.child("type"), kind, why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items["properties"].get(name) {
            Some(field) if matches!(text(field, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = items_path.child("properties").key(name).child("type");
                errors.push(FieldError::invalid(&at, kind, why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&at, keys.to_vec(), why));
            }
        }
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(&at, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
}

/// Keys are always there, and neither they nor the items are null.
fn map_items(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let own = text(schema, "x-kubernetes-list-type");
    let items = &schema["items"];
    if !items.is_object() || !matches!(own, "set" | "map") {
        return;
    }
    let items_path = path.child("items");
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {own}");
        errors.push(FieldError::forbidden(&items_path.child("nullable"), why));
    }
    if own != "map" {
        return;
    }
    for key in list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(field) = items["properties"].get(key) else { continue };
        let at = items_path.child("properties").key(key);
        let required = list(items, "required").iter().any(|each| each == key);
        if !required && field.get("default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.push(FieldError::required(&at.child("default"), why));
        }
        if flag(field, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), why));
        }
    }
}

const AT_ROOT_WITH_STATUS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// With a status subresource, the part of the schema that is the status' has to say everything there is to say of it.
pub(super) fn root_with_status(schema: &Value, path: &FieldPath) -> Option<FieldError> {
    let kind = text(schema, "type");
    if !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
                   enabled";
        return Some(FieldError::invalid(&FieldPath::new(&format!("{path}.type")), kind, why));
    }
    let more = |map: &Map<String, Value>| map.keys().any(|key| !AT_ROOT_WITH_STATUS.contains(&key.as_str()));
    schema.as_object().is_some_and(more).then(|| {
        let why = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                   MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs \
                   Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the \
                   status subresource is enabled";
        FieldError::invalid(path, schema.clone(), why)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_schema_may_not_say_is_told_with_its_path() {
        let field = |field: Value| json!({"type": "object", "properties": {"a": field}});
        let items = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "o": {"type": "object"}, "n": {"type": "string"}}});
        let map = |keys: &[&str]| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": items});
        for (schema, wanted) in [
            (field(map(&["k"])), vec![]),
            (
                field(json!({"type": "bogus"})),
                vec![
                    r#"s.properties[a].type: Unsupported value: "bogus": supported values: "array", "boolean", "integer", "number", "object", "string""#,
                ],
            ),
            (
                field(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
                vec![
                    "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
                ],
            ),
            (
                field(
                    json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                ),
                vec![
                    "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                ],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}}),
                vec![
                    "s.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
                ],
            ),
            (
                field(json!({"type": "string", "$ref": "x"})),
                vec!["s.properties[a].$ref: Forbidden: $ref is not supported"],
            ),
            (
                field(json!({"type": "object", "x-kubernetes-list-type": "set"})),
                vec![
                    r#"s.properties[a].type: Invalid value: "object": must be array if x-kubernetes-list-type is specified"#,
                ],
            ),
            (
                field(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})),
                vec![
                    "s.properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
                ],
            ),
            (
                field(map(&["o"])),
                vec![
                    r#"s.properties[a].items.properties[o].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map"#,
                    "s.properties[a].items.properties[o].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                ],
            ),
            (
                field(map(&["k", "k", "zz"])),
                vec![
                    r#"s.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","k","zz"]: must not contain duplicate entries"#,
                    r#"s.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","k","zz"]: entries must all be names of item properties"#,
                ],
            ),
            (
                field(map(&[])),
                vec![
                    "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
                ],
            ),
            (
                field(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false})),
                vec![
                    "s.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
                ],
            ),
        ] {
            let told: Vec<String> =
                violations(&schema, &FieldPath::new("s")).iter().map(ToString::to_string).collect();
            assert_eq!(told, wanted);
        }
    }
}
