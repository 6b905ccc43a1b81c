//! Lists that are sets or maps hold no item twice (`x-kubernetes-list-type`).

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::field_path::{FieldError, FieldPath};
use crate::schema::{Additional, Dialect, ListType, Schema};

/// What is wrong with the lists of an object.
#[must_use]
pub fn duplicates(object: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(object, schema, &FieldPath::root(), &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if schema.dialect == Dialect::Native {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(field) = schema.properties.get(key.as_str()) {
                    walk(value, field, &path.child(key), errors);
                } else if let Additional::Schema(values) = &schema.additional {
                    walk(value, values, &path.key(key), errors);
                }
            }
        }
        Value::Array(list) => {
            match schema.list_type {
                ListType::Atomic => {}
                ListType::Set => {
                    for index in repeated(list) {
                        errors.push(FieldError::duplicate(&path.index(index), list[index].clone()));
                    }
                }
                ListType::Map => map_list(list, schema, path, errors),
            }
            let Some(items) = &schema.items else { return };
            for (index, item) in list.iter().enumerate() {
                walk(item, items, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn map_list(list: &[Value], schema: &Schema, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some((index, item)) =
        list.iter().enumerate().find(|(_, item)| !item.is_object() && !item.is_null())
    {
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(index), item.clone(), why));
        return;
    }
    let key = |item: &Value| {
        let parts = schema
            .list_map_keys
            .iter()
            .filter_map(|name| Some((name.to_string(), item.get(&**name)?.clone())));
        Value::Object(parts.collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = list.iter().map(key).collect();
    for index in repeated(&keys) {
        let shown = if schema.list_map_keys.is_empty() { json!({}) } else { keys[index].clone() };
        errors.push(FieldError::duplicate(&path.index(index), shown));
    }
}

/// Where a value stands for the second time; what comes a third time is not told again.
fn repeated(list: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(list.len());
    let mut twice = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let count = seen.entry(item.to_string()).or_default();
        *count += 1;
        if *count == 2 {
            twice.push(index);
        }
    }
    twice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_stand_twice_are_told() {
        let schema = Schema::from_openapi_v3(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}},
            "plain": {"type": "array", "items": {"type": "string"}},
        }}))
        .unwrap();
        let object = json!({"set": ["a", "b", "a", "a"], "plain": ["a", "a"],
            "map": [{"a": 1, "b": "x"}, {"a": 1}, {"a": 1, "b": "x", "c": 1}]});
        let told: Vec<String> = duplicates(&object, &schema).iter().map(ToString::to_string).collect();
        assert_eq!(told, [r#"map[2]: Duplicate value: {"a":1,"b":"x"}"#, r#"set[2]: Duplicate value: "a""#]);
    }
}
