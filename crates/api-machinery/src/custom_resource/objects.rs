//! Objects brought into the form their schema gives them: unknown fields dropped, nulls that say nothing dropped,
//! defaults filled in. The same on the way in and on the way out of the store, so that a definition's new defaults show
//! in old objects.

use serde_json::Value;

use crate::defaulting::apply_defaults;
use crate::schema::{Additional, Dialect, Schema, SchemaRef};
use crate::strictness;

/// Drops what the schema does not know and null fields that may not be null and have no default; answers the paths of
/// unknown fields, sorted.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = strictness::prune(object, schema);
    unknown.sort();
    drop_nulls(object, schema);
    unknown
}

/// [`prune`] and defaults. Twice is the same as once.
pub fn shape(object: &mut Value, schema: &Schema) -> Vec<String> {
    let unknown = prune(object, schema);
    apply_defaults(object, schema);
    unknown
}

fn drop_nulls(value: &mut Value, schema: &Schema) {
    if schema.dialect == Dialect::Native {
        return;
    }
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let known = schema.properties.get(key.as_str()).or(match &schema.additional {
                Additional::Schema(values) => Some(values),
                Additional::None | Additional::Any => None,
            });
            let Some(known) = known else { return true };
            if value.is_null() && says_nothing(known) {
                return false;
            }
            drop_nulls(value, known);
            true
        }),
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| drop_nulls(item, items));
            }
        }
        _ => {}
    }
}

fn says_nothing(schema: &SchemaRef) -> bool {
    schema.dialect == Dialect::Custom && !schema.nullable && schema.default_value().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_unknown_fields_and_defaults() {
        let schema = Schema::from_openapi_v3(&json!({"type": "object", "properties": {
            "a": {"type": "string"},
            "b": {"type": "string", "nullable": true},
            "c": {"type": "string", "default": "x"},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "y"}}}},
        }}))
        .unwrap();
        let mut object =
            json!({"a": null, "b": null, "c": null, "m": {"k": null, "n": 1}, "l": [{}, {"z": 1}], "x": 1});
        assert_eq!(shape(&mut object, &schema), ["l[1].z", "x"]);
        assert_eq!(object, json!({"b": null, "c": "x", "m": {"n": 1}, "l": [{"a": "y"}, {"a": "y"}]}));
    }

    fn schema_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!({"type": "string"})),
            Just(json!({"type": "string", "nullable": true, "default": "d"})),
            Just(json!({"type": "integer", "default": 1})),
            Just(json!({"x-kubernetes-int-or-string": true})),
            Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        ];
        leaf.prop_recursive(3, 24, 3, |inner| {
            prop_oneof![
                (prop::collection::btree_map("[a-c]", inner.clone(), 0..3), any::<bool>()).prop_map(
                    |(fields, default)| {
                        let mut schema = json!({"type": "object", "properties": fields});
                        if default {
                            schema["default"] = json!({});
                        }
                        schema
                    }
                ),
                inner.clone().prop_map(|values| json!({"type": "object", "additionalProperties": values})),
                inner.prop_map(|items| json!({"type": "array", "items": items})),
            ]
        })
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), Just(json!(1)), Just(json!("s")), Just(json!({}))];
        leaf.prop_recursive(4, 32, 3, |inner| {
            prop_oneof![
                prop::collection::btree_map("[a-d]", inner.clone(), 0..4).prop_map(|map| json!(map)),
                prop::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn shaping_twice_is_shaping_once(fields in prop::collection::btree_map("[a-d]", schema_json(), 0..4), object in any_json()) {
            let schema = Schema::from_openapi_v3(&json!({"type": "object", "properties": fields})).unwrap();
            let mut once = json!({"a": object.clone(), "b": object, "z": 1});
            let unknown = shape(&mut once, &schema);
            prop_assert!(unknown.contains(&"z".to_owned()));
            let mut twice = once.clone();
            prop_assert_eq!(shape(&mut twice, &schema), Vec::<String>::new());
            prop_assert_eq!(twice, once);
        }
    }
}
