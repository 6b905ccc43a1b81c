//! The way back: schemas as OpenAPI documents carry them, with everything they refer to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::builtin_type_json;

const V3: &str = "#/components/schemas/";
const V2: &str = "#/definitions/";

/// The OpenAPI v3 schemas of the named built-in types and of all types they refer to. Unknown names are left out.
#[must_use]
pub fn v3_schemas<'n>(names: impl IntoIterator<Item = &'n str>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open: Vec<String> = names.into_iter().map(str::to_owned).collect();
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let json = builtin_type_json(&name).and_then(|row| serde_json::from_str::<Value>(row).ok());
        if let Some(json) = json {
            references(&json, &mut open);
            found.insert(name, json);
        }
    }
    found
}

/// The names of the built-in types that a schema refers to.
fn references(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(V3))
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The OpenAPI v2 definitions of the named built-in types and of all types they refer to.
#[must_use]
pub fn v2_definitions<'n>(names: impl IntoIterator<Item = &'n str>) -> BTreeMap<String, Value> {
    v3_schemas(names).into_iter().map(|(name, schema)| (name, to_v2(&schema))).collect()
}

/// A v3 schema as v2 can say it: no `oneOf`, `anyOf`, `allOf`, `not`, `nullable` and no defaults (as upstream
/// publishes it); a field that may be null or unknown says nothing of its inside, so that old clients accept it.
#[must_use]
pub fn to_v2(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return schema.clone() };
    if let Some(target) = map.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str)
    {
        let mut out = extensions(map);
        out.insert("$ref".into(), json!(target.replacen(V3, V2, 1)));
        return Value::Object(out);
    }
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let vague = flag("nullable")
        || flag("x-kubernetes-preserve-unknown-fields")
        || flag("x-kubernetes-int-or-string");
    let mut out = extensions(map);
    for (key, value) in map {
        let value = match key.as_str() {
            "type" | "items" | "properties" | "additionalProperties" | "required" if vague => continue,
            "oneOf" if !map.contains_key("type") && !flag("x-kubernetes-int-or-string") => {
                out.insert("type".into(), json!("string"));
                continue;
            }
            "oneOf" | "anyOf" | "allOf" | "not" | "nullable" | "default" => continue,
            "items" | "additionalProperties" => to_v2(value),
            "properties" => fields_to_v2(value),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

fn fields_to_v2(properties: &Value) -> Value {
    let fields = properties.as_object().into_iter().flatten();
    Value::Object(fields.map(|(name, schema)| (name.clone(), to_v2(schema))).collect())
}

fn extensions(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = |key: &str| {
        (key.starts_with("x-kubernetes-") && key != "x-kubernetes-validations") || key == "description"
    };
    map.iter().filter(|(key, _)| kept(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_come_with_everything_they_refer_to() {
        let schemas = v3_schemas(["io.k8s.api.core.v1.Pod"]);
        assert!(schemas.contains_key("io.k8s.api.core.v1.Container"));
        assert!(schemas.contains_key("io.k8s.apimachinery.pkg.api.resource.Quantity"));
        assert!(!schemas.contains_key("io.k8s.api.core.v1.Service"));
        let mut open = Vec::new();
        schemas.values().for_each(|schema| references(schema, &mut open));
        assert!(open.iter().all(|name| schemas.contains_key(name)));
    }

    #[test]
    fn v2_says_it_with_plain_references() {
        let definitions = v2_definitions(["io.k8s.api.core.v1.Pod"]);
        let spec = &definitions["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
        assert_eq!(*spec, json!({"$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"}));
        let quantity = &definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"];
        assert_eq!(*quantity, json!({"type": "string"}));
        let port = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
        assert_eq!(*port, json!({"type": "string", "format": "int-or-string"}));
    }
}
