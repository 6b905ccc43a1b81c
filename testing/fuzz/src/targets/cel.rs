//! Expressions, as validation rules of a custom resource: compiled, bounded, evaluated.

use api_machinery::schema::{Schema, SchemaRef};
use kube_objects::GroupVersionKind;
use policy_engines::crd_rules::{RULE_BUDGET, RuleSet};
use serde_json::json;

/// A rule over an object with a field of every type.
pub(super) fn run(input: &[u8]) {
    let Ok(rule) = std::str::from_utf8(input) else { return };
    let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "integer"}, "s": {"type": "string"}, "f": {"type": "number"}, "b": {"type": "boolean"},
            "list": {"type": "array", "maxItems": 8, "items": {"type": "string", "maxLength": 8}},
            "map": {"type": "object", "maxProperties": 8, "additionalProperties": {"type": "integer"}},
            "q": {"x-kubernetes-int-or-string": true}, "t": {"type": "string", "format": "date-time"}}}}});
    let kind = GroupVersionKind::new("example.com", "v1", "Example");
    let Ok(schema) = Schema::for_custom_resource(Some(&schema), kind) else { return };
    let Some(rules) = RuleSet::compile(&SchemaRef::inline(schema), true) else { return };
    let object = json!({"apiVersion": "example.com/v1", "kind": "Example", "metadata": {"name": "a"}, "spec": {
        "a": 1, "s": "text", "f": 1.5, "b": true, "list": ["a", "b"], "map": {"k": 1}, "q": "10%", "t": "2026-01-01T00:00:00Z"}});
    for old in [None, Some(&object)] {
        let mut budget = RULE_BUDGET;
        let _ = rules.validate("", &object, old, &mut budget);
    }
}
