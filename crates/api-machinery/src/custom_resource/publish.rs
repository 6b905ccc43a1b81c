//! A custom kind's schema as OpenAPI documents publish it: v3 says what the definition says, v2 what its clients bear
//! (upstream `controller/openapi/builder` and `openapi/v2`).

use serde_json::{Map, Value, json};

use super::MAX_DEPTH;
use super::structure::flag;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// Which of the two documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAPI v2.
    V2,
    /// OpenAPI v3.
    V3,
}

/// A kind in one version.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// `example.com`.
    pub group: &'a str,
    /// `v1`.
    pub version: &'a str,
    /// `Widget`.
    pub kind: &'a str,
    /// `WidgetList`.
    pub list_kind: &'a str,
    /// `widgets`.
    pub plural: &'a str,
    /// The version's part of the definition.
    pub declared: &'a Value,
}

impl Published<'_> {
    /// The schema of one object.
    #[must_use]
    pub fn object(&self, form: Form) -> Value {
        let schema = self.declared["schema"].get("openAPIV3Schema").filter(|schema| schema.is_object());
        let mut out = match schema {
            // Old clients take what is not listed for forbidden, so nothing is listed.
            Some(schema) if form == Form::V2 && flag(schema, "x-kubernetes-preserve-unknown-fields") => {
                json!({"type": "object"})
            }
            Some(schema) => {
                let mut out = node(schema, form, 0);
                let fields =
                    [("apiVersion", text(API_VERSION)), ("kind", text(KIND)), ("metadata", metadata(form))];
                set_fields(&mut out, fields);
                out
            }
            None => json!({"type": "object"}),
        };
        self.tag(&mut out, self.kind);
        out
    }

    /// The schema of a list; `item` refers to that of one object.
    #[must_use]
    pub fn list(&self, form: Form, item: &Value) -> Value {
        let items = format!(
            "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
            self.plural
        );
        let mut out = json!({
            "description": format!("{} is a list of {}", self.list_kind, self.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": text(API_VERSION),
                "kind": text(KIND),
                "metadata": reference("ListMeta", LIST_METADATA, form),
                "items": {"description": items, "type": "array", "items": item},
            },
        });
        self.tag(&mut out, self.list_kind);
        out
    }

    fn tag(&self, out: &mut Value, kind: &str) {
        out["x-kubernetes-group-version-kind"] =
            json!([{"group": self.group, "kind": kind, "version": self.version}]);
        let fields = self.declared["selectableFields"].as_array().into_iter().flatten();
        let paths: Vec<Value> = fields
            .filter_map(|field| field["jsonPath"].as_str())
            .map(|path| json!({"fieldPath": path.trim_start_matches('.')}))
            .collect();
        if !paths.is_empty() {
            out["x-kubernetes-selectable-fields"] = Value::Array(paths);
        }
    }
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn metadata(form: Form) -> Value {
    reference("ObjectMeta", METADATA, form)
}

fn reference(name: &str, description: &str, form: Form) -> Value {
    match form {
        Form::V2 => json!({"description": description, "$ref": format!("#/definitions/{META}.{name}")}),
        Form::V3 => {
            json!({"description": description, "allOf": [{"$ref": format!("#/components/schemas/{META}.{name}")}]})
        }
    }
}

fn set_fields<const N: usize>(out: &mut Value, fields: [(&str, Value); N]) {
    if !out["properties"].is_object() {
        out["properties"] = json!({});
    }
    for (name, schema) in fields {
        out["properties"][name] = schema;
    }
}

fn node(schema: &Value, form: Form, depth: usize) -> Value {
    let Some(map) = schema.as_object().filter(|_| depth <= MAX_DEPTH) else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(
                    fields.map(|(name, field)| (name.clone(), node(field, form, depth + 1))).collect(),
                )
            }
            "items" | "additionalProperties" => node(value, form, depth + 1),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    if form == Form::V2 {
        reduce(&mut out, schema);
    } else if flag(schema, "x-kubernetes-int-or-string")
        && !map.contains_key("anyOf")
        && !map.contains_key("allOf")
    {
        out.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    let mut out = Value::Object(out);
    let kept = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && !(form == Form::V2 && kept) {
        embedded(&mut out, form);
    }
    out
}

/// What v2 cannot say, or its clients stumble over, goes.
fn reduce(out: &mut Map<String, Value>, schema: &Value) {
    for key in ["allOf", "anyOf", "oneOf", "not", "default"] {
        out.remove(key);
    }
    if flag(schema, "nullable") {
        for key in ["type", "nullable", "items", "properties"] {
            out.remove(key);
        }
    }
    let kept = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if kept {
        out.remove("items");
        out.remove("properties");
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    if kind == "array" && !out.contains_key("items") || kept && kind == "object" {
        out.remove("type");
    }
    // A field that may be null is not required.
    let is_nullable = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        schema["properties"].get(name).is_some_and(|field| flag(field, "nullable"))
    };
    if flag(&schema["additionalProperties"], "nullable") {
        out.remove("required");
    }
    if let Some(required) = out.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !is_nullable(name));
        if required.is_empty() {
            out.remove("required");
        }
    }
}

fn embedded(out: &mut Value, form: Form) {
    let fields = [
        ("apiVersion", text(EMBEDDED_API_VERSION)),
        ("kind", text(EMBEDDED_KIND)),
        ("metadata", metadata(form)),
    ];
    set_fields(out, fields);
    if !out["required"].is_array() {
        out["required"] = json!([]);
    }
    if let Some(required) = out["required"].as_array_mut() {
        for key in ["kind", "apiVersion"] {
            if !required.iter().any(|own| own == key) {
                required.push(json!(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Value {
        json!({"selectableFields": [{"jsonPath": ".spec.color"}], "schema": {"openAPIV3Schema": {
            "type": "object", "description": "A widget.", "required": ["spec"], "properties": {
                "spec": {"type": "object", "required": ["nn"], "oneOf": [{"required": ["size"]}],
                    "x-kubernetes-validations": [{"rule": "self.size < 5"}], "properties": {
                    "size": {"type": "integer", "default": 3, "minimum": 0},
                    "nn": {"type": "string", "nullable": true},
                    "ios": {"x-kubernetes-int-or-string": true},
                    "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"q": {"type": "string"}}},
                }},
            },
        }}})
    }

    fn published(declared: &Value) -> Published<'_> {
        Published {
            group: "e.com",
            version: "v1",
            kind: "Widget",
            list_kind: "WidgetList",
            plural: "widgets",
            declared,
        }
    }

    /// As a Kubernetes 1.36 server publishes the same definition.
    #[test]
    fn both_forms_are_upstreams() {
        let declared = declared();
        let v3 = published(&declared).object(Form::V3);
        assert_eq!(v3["properties"]["metadata"], metadata(Form::V3));
        assert_eq!(v3["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.color"}]));
        let spec = &v3["properties"]["spec"];
        assert_eq!(spec["properties"]["ios"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(spec["properties"]["emb"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(
            (&spec["properties"]["size"]["default"], &spec["oneOf"]),
            (&json!(3), &json!([{"required": ["size"]}]))
        );
        let v2 = published(&declared).object(Form::V2);
        assert_eq!(
            v2["properties"]["spec"],
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.size < 5"}], "properties": {
                "size": {"type": "integer", "minimum": 0}, "nn": {}, "ios": {"x-kubernetes-int-or-string": true},
                "emb": {"x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                "free": {"x-kubernetes-preserve-unknown-fields": true},
            }})
        );
        let list = published(&declared).list(Form::V2, &json!({"$ref": "x"}));
        assert_eq!(list["description"], "WidgetList is a list of Widget");
        let open = json!({"schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        let open = published(&open).object(Form::V2);
        assert_eq!(
            open,
            json!({"type": "object", "x-kubernetes-group-version-kind": [{"group": "e.com", "kind": "Widget", "version": "v1"}]})
        );
    }
}
