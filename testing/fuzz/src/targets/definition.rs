//! Schemas that custom resource definitions bring, and objects held to them.

use api_machinery::custom_resource::{normal, objects, validation, values};
use api_machinery::field_path::FieldPath;
use api_machinery::schema::Schema;
use kube_objects::GroupVersionKind;
use serde_json::{Value, json};

/// A definition with this schema: normalised, validated, read, and an object shaped by it, which is then settled.
pub(super) fn run(input: &[u8]) {
    let Ok(schema) = serde_json::from_slice::<Value>(input) else { return };
    let mut definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "examples.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "examples", "kind": "Example"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    normal::normalise(&mut definition);
    let found = validation::definition(&definition, None);
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let kind = GroupVersionKind::new("example.com", "v1", "Example");
    let Ok(schema) = Schema::for_custom_resource(Some(schema), kind) else { return };
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Example", "metadata": {"name": "a"},
        "a": {"a": [1, null, {"a": "b"}], "b": null}, "b": [{"a": 1}, {"a": 1}], "c": "text", "d": 1.5});
    objects::shape(&mut object, &schema);
    let _ = values::validate(&object, &schema, &FieldPath::root());
    if found.is_empty() {
        let once = object.clone();
        objects::shape(&mut object, &schema);
        assert_eq!(once, object, "an accepted schema shapes an object twice");
    }
}
