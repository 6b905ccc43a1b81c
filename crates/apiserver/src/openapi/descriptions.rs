//! What `kubectl explain` says of built-in types: taken from the typed client library, whose schemas carry Kubernetes'
//! documentation, so that our own tables need not. Made for each document and kept by none: a document is asked for once
//! by a client, which then keeps it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

mod roots;

/// Built-in types by name, each a schema with descriptions.
pub(super) struct Descriptions(Map<String, Value>);

impl Descriptions {
    pub(super) fn new() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        roots::visit(&mut generator);
        Self(generator.take_definitions(false))
    }

    /// Adds what is known to the schemas of a document.
    pub(super) fn add_to(&self, components: &mut BTreeMap<String, Value>) {
        for (name, schema) in components {
            if let Some(described) = self.0.get(name.as_str()) {
                add(schema, described);
            }
        }
    }
}

fn add(schema: &mut Value, described: &Value) {
    set(schema, described);
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, property) in properties {
        if let Some(described) = described.pointer(&format!("/properties/{}", name.replace('/', "~1"))) {
            set(property, described);
        }
    }
}

/// OpenAPI v3 lets nothing stand beside a `$ref`; schemas that need a description have theirs in an `allOf`.
fn set(schema: &mut Value, described: &Value) {
    let Some(text) = described.get("description") else { return };
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(reference) = fields.remove("$ref") {
        let whole = Map::from_iter([("$ref".to_owned(), reference)]);
        fields.insert("allOf".to_owned(), Value::Array(vec![Value::Object(whole)]));
    }
    fields.insert("description".to_owned(), text.clone());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_and_fields_are_described() {
        let name = "io.k8s.api.core.v1.PodSpec".to_owned();
        let schema = json!({"type": "object", "properties": {
            "affinity": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Affinity"},
            "nodeName": {"type": "string"},
        }});
        let mut components = BTreeMap::from([(name.clone(), schema)]);
        Descriptions::new().add_to(&mut components);
        let schema = &components[&name];
        assert_eq!(schema["description"], "PodSpec is a description of a pod.");
        let node = schema["properties"]["nodeName"]["description"].as_str().expect("described");
        assert!(node.starts_with("NodeName indicates in which node this pod is scheduled"), "{node}");
        let affinity = &schema["properties"]["affinity"];
        assert_eq!(affinity["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Affinity");
        assert_eq!(affinity["description"], "If specified, the pod's scheduling constraints");
    }
}
