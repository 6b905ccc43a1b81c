use serde_json::{Value, json};

use super::*;
use crate::validation::odd::Odd;

fn told_beside(spec: Value, others: Others) -> Vec<String> {
    let found = problems(&serde_json::from_value(spec).unwrap(), others, &Odd);
    found.iter().map(ToString::to_string).collect()
}

fn told(spec: Value) -> Vec<String> {
    told_beside(spec, Others::default())
}

const NOTHING: [String; 0] = [];

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {key: value}}})
}

#[test]
fn variables_that_are_not_declared_are_told_with_layer_object_and_what_was_meant() {
    let all = told(json!({
        "variables": [{"name": "colour"}],
        "manifests": [map("a", "${var.colour} ${var.color} and ${var.color}"), "kind: ConfigMap\napiVersion: v1\nmetadata: {name: b}\ndata: {x: '${var.size}'}"],
        "layers": [{"name": "late", "manifests": [map("c", "${var.colour"), map("d", "$${var.x} ${HOME}")]}],
    }));
    assert_eq!(
        all,
        [
            "spec.manifests[0]: Invalid value: ConfigMap a.data.key: unknown variable ${var.color}; did you mean ${var.colour}?",
            "spec.manifests[1]: Invalid value: ConfigMap b.data.x: unknown variable ${var.size}; declare it in spec.variables",
            "spec.layers[0].manifests[0]: Invalid value: layer late: ConfigMap c.data.key: \"${var.\" without a closing brace",
        ]
    );
}

#[test]
fn what_others_say_is_not_judged() {
    let spec = json!({
        "manifests": [map("a", "${var.elsewhere}")],
        "layers": [{"name": "x", "manifests": [map("b", "${var.elsewhere}")]}, {"name": "x", "manifests": [7]}],
    });
    let all = told_beside(spec.clone(), Others { layers: true, variables: true });
    assert_eq!(all, NOTHING);
    let all = told_beside(spec.clone(), Others { layers: true, variables: false });
    assert_eq!(all.len(), 1, "{all:?}");
    let all = told_beside(spec, Others { layers: false, variables: true });
    assert_eq!(
        all,
        [
            "spec.layers[1].name: Duplicate value: \"x\"",
            "spec.layers[1].manifests[0]: Invalid value: expected an object or YAML text",
        ]
    );
    // Content that is not at hand brings nothing to judge.
    let uploaded = json!({"source": {"digest": "0".repeat(64)}, "variables": [{"name": "unused"}]});
    assert_eq!(told(uploaded), NOTHING);
}

#[test]
fn definitions_are_judged_by_their_type_and_secrets_are_not_repeated() {
    let all = told(json!({"variables": [
        {"name": "a b"}, {"name": "twice"}, {"name": "twice"},
        {"name": "n", "type": "int", "default": "three"},
        {"name": "size", "type": "quantity", "default": "1Gx"},
        {"name": "stage", "enum": ["dev", "prod"], "default": "test"},
        {"name": "password", "secret": true, "default": "hunter2"},
        {"name": "fine", "type": "bool", "default": false, "required": true},
        {"name": "needed", "type": "int", "required": true},
    ]}));
    let wanted = [
        "spec.variables[0].name: Invalid value: variable name \"a b\" may hold only",
        "spec.variables[2].name: Duplicate value: \"twice\"",
        "spec.variables[3].default: Invalid value: variable \"n\" takes a whole number, not \"three\"",
        "spec.variables[4].default: Invalid value: variable \"size\" takes a quantity",
        "spec.variables[5].default: Invalid value: variable \"stage\" does not allow \"test\"",
        "spec.variables[6].default: Invalid value: variable \"password\" is secret",
    ];
    assert_eq!(all.len(), wanted.len(), "{all:?}");
    for (told, wanted) in all.iter().zip(wanted) {
        assert!(told.starts_with(wanted) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn annotations_in_our_name_are_known_ones_with_values_that_make_sense() {
    for (key, value, wanted) in [
        (
            "fleet.fairlead.dev/drfit",
            "detect",
            "there is no annotation fleet.fairlead.dev/drfit; did you mean fleet.fairlead.dev/drift?",
        ),
        (
            "fleet.fairlead.dev/ignore-field",
            "/data/x",
            "there is no annotation fleet.fairlead.dev/ignore-field; did you mean fleet.fairlead.dev/ignore-fields?",
        ),
        ("fleet.fairlead.dev/team", "a", "there is no annotation fleet.fairlead.dev/team"),
        (
            "fleet.fairlead.dev/drift",
            "sometimes",
            "fleet.fairlead.dev/drift: \"sometimes\" is none of enforce, detect, create-only",
        ),
    ] {
        let inline = told(json!({"manifests": [annotated(key, value)]}));
        let place = format!("spec.manifests[0].metadata.annotations[{key}]: Invalid value: ConfigMap a");
        assert_eq!(inline, [format!("{place}: {wanted}")]);
        let text = told(json!({"layers": [{"name": "l", "manifests": [annotated(key, value).to_string()]}]}));
        let place = "spec.layers[0].manifests[0]: Invalid value: layer l: ConfigMap a";
        assert_eq!(text, [format!("{place}: {wanted}")]);
    }
    for (key, value) in [
        ("fleet.fairlead.dev/drift", "detect"),
        ("fleet.fairlead.dev/drift", "${var.mode}"),
        ("fleet.fairlead.dev/ignore-fields", "/data/x,/spec/replicas"),
        ("fleet.fairlead.dev/hold", "stock-taking"),
        ("hold.fleet.fairlead.dev/default.app", "stock-taking"),
        ("fleet.fairlead.dev.example.com/x", ""),
        ("example.com/drfit", ""),
    ] {
        let spec = json!({"variables": [{"name": "mode"}], "manifests": [annotated(key, value)]});
        assert_eq!(told(spec), NOTHING, "{key}");
    }
}

#[test]
fn what_no_agent_could_render_is_told_and_what_values_decide_is_not() {
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let all = told(json!({"manifests": [map("a", "1"), nameless]}));
    assert_eq!(
        all,
        ["spec.manifests[1]: Invalid value: ConfigMap 2: metadata.name must be a text that is not empty"]
    );
    let again =
        json!({"layers": [{"name": "late", "manifests": [map("a", "2")]}], "manifests": [map("a", "1")]});
    assert_eq!(
        told(again),
        ["spec.layers[0].manifests[0]: Invalid value: layer late: ConfigMap a is there twice"]
    );
    let broken = told(json!({"manifests": ["kind: [A"]}));
    assert!(
        broken.len() == 1 && broken[0].starts_with("spec.manifests[0]: Invalid value: the text"),
        "{broken:?}"
    );
    // A name that placements give, and two that they may give alike.
    let named = |required: bool| {
        json!({"variables": [{"name": "a", "required": required}, {"name": "b", "required": required}],
            "manifests": [map("${var.a}", "1"), map("${var.b}", "1")]})
    };
    assert_eq!(told(named(true)), NOTHING);
    assert_eq!(
        told(named(false)).len(),
        1,
        "empty names are no names, whatever placements give: as the hub judges it"
    );
    let always = json!({"variables": [{"name": "a", "required": true}],
        "manifests": [map("${var.a}", "1"), map("${var.a}", "2")]});
    assert_eq!(told(always).len(), 1, "whatever the value, it is there twice");
}

#[test]
fn health_rules_are_compiled() {
    let rule = |failed: &str| json!([{"apiVersion": "v1", "kind": "Pod", "failed": failed}, {"apiVersion": "v1", "kind": ""}]);
    let all = told(
        json!({"health": rule("odd"), "layers": [{"name": "l", "manifests": [], "health": rule("odd")}]}),
    );
    assert_eq!(
        all[..2],
        [
            "spec.health[0].failed: Invalid value: no rule".to_owned(),
            "spec.health[1]: Invalid value: apiVersion and kind must not be empty".to_owned()
        ]
    );
    assert!(all.iter().any(|told| told.starts_with("spec.layers[0].health[0].failed")), "{all:?}");
}
