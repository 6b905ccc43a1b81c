//! The v2 document, turned from what v3 says.

use std::sync::Arc;

use api_machinery::custom_resource::publish::Form;
use api_machinery::openapi::to_v2;
use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::{paths, schemas};
use crate::catalogue::Resource;

/// Everything served, as swagger 2.0.
pub(super) fn document(resources: &[Arc<Resource>], version: &str) -> Value {
    let descriptions = Descriptions::new();
    let mut v3_paths = Map::new();
    for resource in resources {
        paths::describe(resource, &mut v3_paths);
    }
    let paths: Map<String, Value> =
        v3_paths.into_iter().map(|(path, item)| (path, path_item(item))).collect();
    let components = schemas::components(resources, &descriptions);
    let mut definitions: Map<String, Value> =
        components.into_iter().map(|(name, schema)| (name, to_v2(&schema))).collect();
    for resource in resources {
        definitions.extend(schemas::custom_schemas(resource, Form::V2));
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": version },
        "paths": paths,
        "definitions": definitions,
    })
}

fn path_item(item: Value) -> Value {
    let Value::Object(fields) = item else { return item };
    let converted = fields.into_iter().map(|(key, value)| {
        let value = if key == "parameters" { parameters(value) } else { operation(value) };
        (key, value)
    });
    Value::Object(converted.collect())
}

fn operation(v3: Value) -> Value {
    let mut own = json!({
        "operationId": v3["operationId"],
        "parameters": parameters(v3["parameters"].clone()),
        "produces": ["application/json", "application/yaml"],
        "responses": { "200": { "description": "OK" }, "401": { "description": "Unauthorized" } },
    });
    for key in ["x-kubernetes-action", "x-kubernetes-group-version-kind"] {
        own[key] = v3[key].clone();
    }
    if let Some(content) = v3["requestBody"]["content"].as_object() {
        own["consumes"] = json!(content.keys().collect::<Vec<_>>());
        let schema = content.values().next().map(|each| each["schema"].clone()).unwrap_or_default();
        if let Some(list) = own["parameters"].as_array_mut() {
            list.insert(
                0,
                json!({ "name": "body", "in": "body", "required": true, "schema": to_v2(&schema) }),
            );
        }
    }
    own
}

fn parameters(v3: Value) -> Value {
    let Value::Array(list) = v3 else { return json!([]) };
    let converted = list.into_iter().map(|parameter| {
        let mut own = json!({
            "name": parameter["name"], "in": parameter["in"],
            "type": parameter["schema"]["type"], "uniqueItems": true,
        });
        if parameter["required"] == true {
            own["required"] = json!(true);
        }
        own
    });
    Value::Array(converted.collect())
}
