//! Objects within objects (`x-kubernetes-embedded-resource`): they name their kind, and their metadata is an object's.

use serde_json::Value;

use crate::field_path::{FieldError, FieldPath};
use crate::names;
use crate::schema::{Additional, Dialect, Schema};

/// What is wrong with the objects that `value` holds; `root`: it is one itself.
#[must_use]
pub fn validate(value: &Value, schema: &Schema, base: &FieldPath, root: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, base, root, &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: &FieldPath, is_object: bool, errors: &mut Vec<FieldError>) {
    if schema.dialect == Dialect::Native {
        return;
    }
    match value {
        Value::Object(map) => {
            if is_object {
                object(value, path, errors);
            }
            for (key, value) in map {
                if let Some(field) = schema.properties.get(key.as_str()) {
                    walk(value, field, &path.child(key), field.embedded_resource, errors);
                } else if let Additional::Schema(values) = &schema.additional {
                    walk(value, values, &path.key(key), values.embedded_resource, errors);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for (index, item) in list.iter().enumerate() {
                walk(item, items, &path.index(index), items.embedded_resource, errors);
            }
        }
        _ => {}
    }
}

fn object(value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        let own = path.child(key);
        match value.get(key) {
            None => errors.push(FieldError::required(&own, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&own, "", "must not be empty"));
            }
            Some(Value::String(text)) => errors.extend(named(key, text, &own)),
            Some(other) => errors.push(FieldError::invalid(&own, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = value.get("metadata") {
        self::metadata(metadata, &path.child("metadata"), errors);
    }
}

fn named(key: &str, text: &str, path: &FieldPath) -> Option<FieldError> {
    if key == "apiVersion" {
        let parts = text.matches('/').count();
        return (parts > 1)
            .then(|| FieldError::invalid(path, text, format!("unexpected GroupVersion string: {text}")));
    }
    let wrong = names::dns1035_label(&text.to_lowercase());
    (!wrong.is_empty()).then(|| {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        FieldError::invalid(path, text, why)
    })
}

fn metadata(metadata: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(map) = metadata.as_object() else {
        errors.push(FieldError::invalid(path, metadata.clone(), "must be an object"));
        return;
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    for key in ["generateName", "name"] {
        if let Some(name) = text(key) {
            let wrong = names::path_segment(name);
            errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path.child(key), name, why)));
        }
    }
    if let Some(namespace) = text("namespace") {
        let wrong = names::dns1123_label(namespace);
        errors.extend(
            wrong.into_iter().map(|why| FieldError::invalid(&path.child("namespace"), namespace, why)),
        );
    }
    for key in ["labels", "annotations"] {
        let own = path.child(key);
        for (name, value) in map.get(key).and_then(Value::as_object).into_iter().flatten() {
            let wrong = names::qualified_name(&name.to_lowercase());
            errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&own, name.as_str(), why)));
            match value {
                Value::String(value) if key == "labels" => {
                    let wrong = names::label_value(value);
                    errors
                        .extend(wrong.into_iter().map(|why| FieldError::invalid(&own, value.as_str(), why)));
                }
                Value::String(_) => {}
                other => errors.push(FieldError::invalid(&own.key(name), other.clone(), "must be a string")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_embedded_object_names_its_kind_and_has_decent_metadata() {
        let schema =
            Schema::from_openapi_v3(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}))
            .unwrap();
        let told = |spec: Value| {
            let errors = validate(&json!({"spec": spec}), &schema, &FieldPath::root(), false);
            errors.iter().map(|error| error.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({})), ["spec.apiVersion", "spec.kind"]);
        assert_eq!(told(json!({"apiVersion": "a/v1", "kind": "Foo", "metadata": {"name": "a"}})), [""; 0]);
        assert_eq!(
            told(
                json!({"apiVersion": "a/b/v1", "kind": "foo.bar", "metadata": {"name": "..", "namespace": "$$$", "labels": {"#": "#"}}})
            ),
            [
                "spec.apiVersion",
                "spec.kind",
                "spec.metadata.name",
                "spec.metadata.namespace",
                "spec.metadata.labels",
                "spec.metadata.labels"
            ]
        );
    }
}
