//! Validates custom resources: types, required fields, limits, `allOf` and its like, keys of lists.

use serde_json::Value;

use super::native::is_time;
use crate::field_path::{FieldError, FieldErrorKind, FieldPath, quote};
use crate::schema::{Additional, Constraints, Dialect, ListType, Schema, ValueType};

/// More findings than this are not listed.
const MAX_FINDINGS: usize = 100;

/// What is wrong with a custom resource; `metadata` is not looked at. CEL rules are not run here.
#[must_use]
pub fn custom_resource(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(value, schema, &FieldPath::root(), &mut errors);
    errors.truncate(MAX_FINDINGS);
    errors
}

fn check(value: &Value, schema: &Schema, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if errors.len() >= MAX_FINDINGS
        || schema.dialect == Dialect::Native
        || (value.is_null() && schema.nullable)
    {
        return;
    }
    if !has_type(value, schema.value_type) {
        errors.push(wrong_type(value, schema.value_type, path));
        return;
    }
    match value {
        Value::Object(_) => check_object(value, schema, path, errors),
        Value::Array(list) => check_list(list, schema, path, errors),
        Value::String(text) if schema.format.as_deref() == Some("date-time") && !is_time(text) => {
            let why = format!("{path} in body must be of type date-time: {}", quote(text));
            errors.push(FieldError::invalid(path, text.as_str(), why));
        }
        _ => {}
    }
    if let Some(constraints) = &schema.constraints {
        check_limits(value, constraints, path, errors);
        check_combinations(value, constraints, path, errors);
    }
}

fn has_type(value: &Value, wanted: ValueType) -> bool {
    match wanted {
        ValueType::Any => true,
        ValueType::Object => value.is_object(),
        ValueType::Array => value.is_array(),
        ValueType::String => value.is_string(),
        ValueType::Integer => is_whole(value),
        ValueType::Number => value.is_number(),
        ValueType::Boolean => value.is_boolean(),
        ValueType::IntOrString => is_whole(value) || value.is_string(),
        ValueType::Quantity => value.is_number() || value.is_string(),
    }
}

/// `1.0` is whole for a schema.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn wrong_type(value: &Value, wanted: ValueType, path: &FieldPath) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = match wanted {
        ValueType::Object => "object",
        ValueType::Array => "array",
        ValueType::String => "string",
        ValueType::Integer => "integer",
        ValueType::Number => "number",
        ValueType::Boolean => "boolean",
        ValueType::IntOrString => "integer,string",
        ValueType::Quantity | ValueType::Any => "number,string",
    };
    FieldError::type_invalid(
        path,
        found,
        format!("{path} in body must be of type {wanted}: {}", quote(found)),
    )
}

fn check_object(value: &Value, schema: &Schema, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(map) = value.as_object() else { return };
    for name in &schema.required {
        if !map.contains_key(&**name) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    for (key, value) in map {
        if let Some(field) = schema.properties.get(key.as_str()) {
            check(value, field, &path.child(key), errors);
        } else if let Additional::Schema(values) = &schema.additional {
            check(value, values, &path.key(key), errors);
        }
    }
}

fn check_list(list: &[Value], schema: &Schema, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(items) = &schema.items {
        for (index, item) in list.iter().enumerate() {
            check(item, items, &path.index(index), errors);
        }
    }
    if schema.list_type == ListType::Atomic {
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let key = if schema.list_type == ListType::Map { key_of(item, schema) } else { item.clone() };
        if !seen.insert(key.to_string()) {
            errors.push(FieldError::duplicate(&path.index(index), key));
        }
    }
}

/// The key fields of an item; a key with a default counts as that when it is absent.
fn key_of(item: &Value, schema: &Schema) -> Value {
    let keys = schema.list_map_keys.iter().filter_map(|name| {
        let default = || schema.items.as_ref()?.properties.get(name)?.default_value();
        Some((name.to_string(), item.get(&**name).or_else(default)?.clone()))
    });
    Value::Object(keys.collect())
}

fn check_limits(value: &Value, limits: &Constraints, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let body =
        |sentence: String| FieldError::invalid(path, value.clone(), format!("{path} in body {sentence}"));
    if !limits.enumeration.is_empty() && !limits.enumeration.contains(value) {
        errors.push(unsupported(value, &limits.enumeration, path));
    }
    match value {
        Value::Number(number) => {
            let Some(number) = number.as_f64() else { return };
            if let Some(least) = limits
                .minimum
                .filter(|least| number < *least || (limits.exclusive_minimum && number == *least))
            {
                let or_equal = if limits.exclusive_minimum { "" } else { " or equal to" };
                errors.push(body(format!("should be greater than{or_equal} {least}")));
            }
            if let Some(most) =
                limits.maximum.filter(|most| number > *most || (limits.exclusive_maximum && number == *most))
            {
                let or_equal = if limits.exclusive_maximum { "" } else { " or equal to" };
                errors.push(body(format!("should be less than{or_equal} {most}")));
            }
            if let Some(step) =
                limits.multiple_of.filter(|step| *step != 0.0 && (number / step).fract() != 0.0)
            {
                errors.push(body(format!("should be a multiple of {step}")));
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = limits.min_length.filter(|least| length < *least) {
                errors.push(body(format!("should be at least {least} chars long")));
            }
            if let Some(most) = limits.max_length.filter(|most| length > *most) {
                errors.push(FieldError::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
            }
            if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
                errors.push(body(format!("should match '{}'", pattern.as_str())));
            }
        }
        Value::Array(list) => {
            check_count(list.len(), limits.min_items, limits.max_items, "items", value, path, errors);
            let twice = |(index, item): (usize, &Value)| list.iter().take(index).any(|other| other == item);
            if limits.unique_items && list.iter().enumerate().any(twice) {
                errors.push(body("shouldn't contain duplicates".to_owned()));
            }
        }
        Value::Object(map) => {
            check_count(
                map.len(),
                limits.min_properties,
                limits.max_properties,
                "properties",
                value,
                path,
                errors,
            );
        }
        _ => {}
    }
}

fn check_count(
    count: usize,
    least: Option<u64>,
    most: Option<u64>,
    what: &str,
    value: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if let Some(least) = least.filter(|least| (count as u64) < *least) {
        let why = format!("{path} in body should have at least {least} {what}");
        errors.push(FieldError::invalid(path, value.clone(), why));
    }
    if let Some(most) = most.filter(|most| count as u64 > *most) {
        errors.push(FieldError::too_many(path, count, usize::try_from(most).unwrap_or(usize::MAX)));
    }
}

fn unsupported(value: &Value, supported: &[Value], path: &FieldPath) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|value| quote(&plain(value))).collect();
    FieldError {
        kind: FieldErrorKind::NotSupported,
        path: path.clone(),
        bad_value: Some(value.clone()),
        detail: format!("supported values: {}", supported.join(", ")),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check_combinations(value: &Value, of: &Constraints, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let holds = |schema: &Schema| {
        let mut found = Vec::new();
        check(value, schema, path, &mut found);
        found.is_empty()
    };
    let mut fail = |why: &str| {
        errors.push(FieldError::invalid(path, value.clone(), format!("{} {why}", quote(&path.to_string()))))
    };
    if !of.any_of.is_empty() && !of.any_of.iter().any(|schema| holds(schema)) {
        fail("must validate at least one schema (anyOf)");
    }
    if !of.one_of.is_empty() {
        match of.one_of.iter().filter(|schema| holds(schema)).count() {
            1 => {}
            0 => fail("must validate one and only one schema (oneOf). Found none valid"),
            count => fail(&format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
    }
    if of.not.as_ref().is_some_and(|schema| holds(schema)) {
        fail("must not validate the schema (not)");
    }
    if !of.all_of.iter().all(|schema| holds(schema)) {
        fail("must validate all the schemas (allOf)");
        of.all_of.iter().for_each(|schema| check(value, schema, path, errors));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: Value, value: Value) -> Vec<String> {
        let schema =
            Schema::from_openapi_v3(&json!({"type": "object", "properties": {"spec": schema}})).unwrap();
        custom_resource(&json!({"spec": value}), &schema).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn findings_read_as_upstream_writes_them() {
        for (schema, value, wanted) in [
            (
                json!({"type": "integer"}),
                json!("a"),
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
                json!(5),
                "spec: Invalid value: 5: spec in body should be less than 5",
            ),
            (json!({"type": "object", "required": ["a"]}), json!({}), "spec.a: Required value"),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                r#"spec: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should match '^a+$'"#,
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "string", "maxLength": 1}),
                json!("bb"),
                "spec: Too long: may not be more than 1 byte",
            ),
            (
                json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
                json!(["a", "b"]),
                "spec: Too many: 2: must have at most 1 item",
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                json!(["a", "a"]),
                r#"spec[1]: Duplicate value: "a""#,
            ),
            (
                json!({"type": "string"}),
                Value::Null,
                r#"spec: Invalid value: "null": spec in body must be of type string: "null""#,
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                json!({"k": 1}),
                r#"spec[k]: Invalid value: "integer": spec[k] in body must be of type string: "integer""#,
            ),
        ] {
            assert_eq!(errors(schema, value), [wanted]);
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        for (schema, value) in [
            (json!({"type": "string", "nullable": true}), Value::Null),
            (
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
                json!("80%"),
            ),
            (json!({"type": "number"}), json!(1)),
            (json!({"type": "integer"}), json!(1.0)),
            (
                json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
                json!({"a": ""}),
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object", "properties": {"n": {"type": "string"}}}}),
                json!([{"n": "a"}, {"n": "b"}]),
            ),
        ] {
            assert_eq!(errors(schema, value), Vec::<String>::new());
        }
        let one_of = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert_eq!(errors(one_of, json!({})).len(), 1);
    }
}
