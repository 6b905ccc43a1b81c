//! Whether an apply configuration fits its schema, in the words of structured-merge-diff's validation.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::typed::{Shape, descend, element_of, shape};
use crate::schema::{ListType, SchemaRef, ValueType};

/// Checks types, and that every item of a merged list can be named and no two alike.
///
/// # Errors
/// What is wrong, with its path.
pub fn check(schema: &SchemaRef, object: &Value) -> Result<(), String> {
    check_at(Some(schema), object, "")
}

fn check_at(schema: Option<&SchemaRef>, value: &Value, path: &str) -> Result<(), String> {
    if let Some(schema) = schema {
        check_type(schema.value_type, value).map_err(|what| format!("{path}: {what}"))?;
    }
    match shape(schema, value) {
        Shape::Atomic => Ok(()),
        Shape::Fields(map) => map
            .iter()
            .try_for_each(|(key, child)| check_at(descend(schema, key).0, child, &format!("{path}.{key}"))),
        Shape::Items(items) => {
            let Some(list) = schema else { return Ok(()) };
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                if list.list_type == ListType::Map && !item.is_object() {
                    return Err(format!(
                        "{path}: element {index}: associative list with keys may not have non-map elements"
                    ));
                }
                let element = element_of(list, item).ok_or_else(|| {
                    let keys = list.list_map_keys.join(", ");
                    format!("{path}: element {index}: associative list with keys has an element that omits key field {keys:?}")
                })?;
                let name = named(&element);
                if !seen.insert(element) {
                    return Err(format!("{path}: duplicate entries for key {name}"));
                }
                check_at(list.items.as_ref(), item, &format!("{path}{name}"))?;
            }
            Ok(())
        }
    }
}

/// An item's element as messages show it: `[name="a"]`, `[="a"]` in a set.
fn named(element: &str) -> String {
    match element.split_once(':') {
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let each: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", each.join(","))
        }
        Some((_, value)) => format!("[={value}]"),
        None => String::new(),
    }
}

/// Upstream prints what it got with Go's verbs, each kind of expectation with another.
fn check_type(wanted: ValueType, value: &Value) -> Result<(), String> {
    match wanted {
        _ if value.is_null() => Ok(()),
        ValueType::Integer | ValueType::Number if !value.is_number() => {
            Err(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        ValueType::Boolean if !value.is_boolean() => {
            Err(format!("expected boolean, got &{{{}}}", plain(value)))
        }
        ValueType::String if !value.is_string() => {
            Err(format!("expected string, got &value.valueUnstructured{{Value:{}}}", syntax(value)))
        }
        ValueType::Object if !value.is_object() => Err(format!("expected map, got &{{{}}}", plain(value))),
        ValueType::Array if !value.is_array() => Err(format!("expected list, got &{{{}}}", plain(value))),
        _ => Ok(()),
    }
}

/// `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// `%v`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let each: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", each.join(" "))
        }
        other => other.to_string(),
    }
}

/// `%#v`.
fn syntax(value: &Value) -> String {
    let within = |each: Vec<String>| format!("{}{{{}}}", go_type(value), each.join(", "));
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => within(items.iter().map(syntax).collect()),
        Value::Object(map) => {
            within(map.iter().map(|(key, value)| format!("{key:?}:{}", syntax(value))).collect())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kube_objects::GroupVersionKind;
    use serde_json::json;

    use super::*;
    use crate::schema::SchemaSet;

    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_upstream() {
        let schema =
            SchemaSet::builtin().for_kind(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let pod = |spec: Value| json!({"template": {"spec": spec}});
        for (spec, wanted) in [
            (json!({"replicas": "three"}), ".spec.replicas: expected numeric (int or float), got string"),
            (json!({"paused": 1}), ".spec.paused: expected boolean, got &{1}"),
            (json!({"template": []}), ".spec.template: expected map, got &{[]}"),
            (pod(json!({"containers": {}})), ".spec.template.spec.containers: expected list, got &{map[]}"),
            (
                pod(json!({"containers": [1]})),
                ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
            ),
            (
                pod(json!({"containers": [{"name": 1}]})),
                ".spec.template.spec.containers[name=1].name: expected string, got &value.valueUnstructured{Value:1}",
            ),
            (
                pod(
                    json!({"containers": [{"name": "x", "ports": [{"containerPort": 1}, {"containerPort": 1}]}]}),
                ),
                ".spec.template.spec.containers[name=\"x\"].ports: duplicate entries for key [containerPort=1,protocol=\"TCP\"]",
            ),
        ] {
            assert_eq!(check(&schema, &json!({"spec": spec})).unwrap_err(), wanted);
        }
        let twice = json!({"metadata": {"finalizers": ["a", "a"]}});
        assert_eq!(
            check(&schema, &twice).unwrap_err(),
            ".metadata.finalizers: duplicate entries for key [=\"a\"]"
        );
        let fits = json!({"spec": {"replicas": 1, "paused": null, "strategy": {"rollingUpdate": {"maxSurge": "1%"}}}});
        assert_eq!(check(&schema, &fits), Ok(()));
    }
}
