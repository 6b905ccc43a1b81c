//! Fills in what a schema says stands where nothing is given, also inside lists, maps and defaults themselves.
//!
//! For native kinds the published defaults include `""`, `0`, `false` and `{}`: what Go writes for fields without
//! `omitempty`. Defaults that depend on other fields are code in the kind's strategy, which has to treat these empty
//! values as absent. Quantities of native kinds get the form that Go writes them in.

use serde_json::Value;

use crate::quantity::Quantity;
use crate::schema::{Additional, Dialect, Schema, SchemaRef, ValueType};

/// Fills in the defaults. Twice is the same as once.
pub fn apply_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                let absent = match map.get(&**name) {
                    None => true,
                    Some(Value::Null) => field.dialect == Dialect::Native || !field.nullable,
                    Some(_) => false,
                };
                if let Some(default) = default_of(field).filter(|_| absent) {
                    map.insert(name.to_string(), default.clone());
                }
                if let Some(own) = map.get_mut(&**name) {
                    apply_defaults(own, field);
                }
            }
            if let Additional::Schema(values) = &schema.additional {
                let others =
                    map.iter_mut().filter(|(name, _)| !schema.properties.contains_key(name.as_str()));
                others.for_each(|(_, own)| apply_item_defaults(own, values));
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| apply_item_defaults(item, items));
            }
        }
        // Go's quantities forget how they were written.
        quantity if schema.value_type == ValueType::Quantity && schema.dialect == Dialect::Native => {
            let text = match &*quantity {
                Value::String(text) => text.parse::<Quantity>().ok(),
                Value::Number(number) => number.to_string().parse().ok(),
                _ => None,
            };
            if let Some(written) = text.map(|amount| amount.to_string()).filter(|text| *text != *quantity) {
                *quantity = Value::String(written);
            }
        }
        _ => {}
    }
}

fn apply_item_defaults(value: &mut Value, schema: &SchemaRef) {
    if value.is_null()
        && (schema.dialect == Dialect::Native || !schema.nullable)
        && let Some(default) = default_of(schema)
    {
        *value = default.clone();
    }
    apply_defaults(value, schema);
}

/// Published as `{}` are also types that Go writes as something else: times, quantities, arbitrary JSON.
fn default_of(schema: &SchemaRef) -> Option<&Value> {
    let default = schema.default_value()?;
    let fits = schema.dialect == Dialect::Custom
        || !default.is_object()
        || (schema.value_type == ValueType::Object && !schema.preserve_unknown_fields);
    fits.then_some(default)
}

#[cfg(test)]
mod tests {
    use kube_objects::GroupVersionKind;
    use serde_json::json;

    use super::*;
    use crate::schema::SchemaSet;

    #[test]
    fn native_defaults_reach_into_lists() {
        let schema = SchemaSet::builtin().for_kind(&GroupVersionKind::new("", "v1", "Service")).unwrap();
        let mut service = json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}});
        apply_defaults(&mut service, &schema);
        assert_eq!(service["spec"]["ports"][0]["protocol"], "TCP");
        assert_eq!(service["spec"]["ports"][1]["protocol"], "UDP");
        assert_eq!(service["metadata"], json!({}));
        let once = service.clone();
        apply_defaults(&mut service, &schema);
        assert_eq!(service, once);
    }

    #[test]
    fn custom_defaults_fill_objects_that_defaults_made() {
        let schema = Schema::from_openapi_v3(&json!({"type": "object", "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "m": {"type": "string", "default": "y"},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "string", "default": "z"}}}},
        }}))
        .unwrap();
        let mut value = json!({"n": null, "m": null, "map": {"k": {}}});
        apply_defaults(&mut value, &schema);
        assert_eq!(value, json!({"a": {"b": 3}, "n": null, "m": "y", "map": {"k": {"c": "z"}}}));
    }
}
