//! Defaults that a schema holds are values of that schema themselves, with nothing in them that pruning would drop
//! (upstream `apiserver/schema/defaulting`: `ValidateDefaults`). Works on the normalised JSON of a structural schema.

use serde_json::Value;

use super::structure::{entries, flag};
use super::{MAX_DEPTH, embedded, lists, values};
use crate::field_path::{FieldError, FieldPath};
use crate::schema::Schema;
use crate::strictness;

/// What is wrong with the defaults of a schema.
#[must_use]
pub(super) fn violations(schema: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, path, true, false, 0, &mut errors);
    errors
}

fn walk(
    schema: &Value,
    path: &FieldPath,
    root: bool,
    in_metadata: bool,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if !schema.is_object() || depth > MAX_DEPTH {
        return;
    }
    let is_object = root || flag(schema, "x-kubernetes-embedded-resource");
    let in_metadata = in_metadata && !is_object;
    if let Some(default) = schema.get("default") {
        check(default, schema, &path.child("default"), in_metadata, errors);
    }
    // Below `additionalProperties` upstream does not look.
    if let Some(items) = schema.get("items") {
        walk(items, &path.child("items"), false, in_metadata, depth + 1, errors);
    }
    for (name, field) in entries(schema, "properties") {
        let inner = in_metadata || is_object && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        walk(field, &path.child("properties").key(name), false, inner, depth + 1, errors);
    }
}

fn check(default: &Value, schema: &Value, path: &FieldPath, in_metadata: bool, errors: &mut Vec<FieldError>) {
    // A schema that cannot be read is told of elsewhere.
    let Ok(schema) = Schema::from_openapi_v3(schema) else { return };
    if !in_metadata {
        let mut pruned = default.clone();
        if !strictness::prune(&mut pruned, &schema).is_empty() {
            errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
        }
        let found = embedded::validate(default, &schema, path, schema.embedded_resource);
        if !found.is_empty() {
            errors.extend(found);
            return;
        }
    }
    errors.extend(values::validate(default, &schema, path));
    if errors.is_empty() {
        errors.extend(
            lists::duplicates(default, &schema)
                .into_iter()
                .map(|error| FieldError { path: path.clone(), ..error }),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_default_has_to_be_a_value_of_its_schema() {
        let field = |field: Value| json!({"type": "object", "properties": {"a": field}});
        for (schema, wanted) in [
            (field(json!({"type": "integer", "default": 1})), vec![]),
            (field(json!({"type": "string", "nullable": true, "default": "x"})), vec![]),
            (
                field(json!({"type": "integer", "default": "x"})),
                vec![
                    r#"s.properties[a].default: Invalid value: "string":  in body must be of type integer: "string""#,
                ],
            ),
            (
                field(
                    json!({"type": "object", "default": {"b": 1, "c": 2}, "properties": {"b": {"type": "string"}}}),
                ),
                vec![
                    r#"s.properties[a].default: Invalid value: {"b":1,"c":2}: must not have unknown fields"#,
                    r#"s.properties[a].default.b: Invalid value: "integer": b in body must be of type string: "integer""#,
                ],
            ),
            (
                field(
                    json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "default": {"kind": "A"}}),
                ),
                vec!["s.properties[a].default.apiVersion: Required value"],
            ),
        ] {
            let told: Vec<String> =
                violations(&schema, &FieldPath::new("s")).iter().map(ToString::to_string).collect();
            assert_eq!(told, wanted);
        }
    }
}
