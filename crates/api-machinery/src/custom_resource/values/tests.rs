use serde_json::{Value, json};

use super::*;

fn schema(spec: Value) -> Schema {
    Schema::from_openapi_v3(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn errors(spec: Value, value: Value) -> Vec<String> {
    validate(&json!({"spec": value}), &schema(spec), &FieldPath::root())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn findings_read_as_upstream_writes_them() {
    for (spec, value, wanted) in [
        (
            json!({"type": "integer"}),
            json!("a"),
            r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            "spec: Invalid value: 5: spec in body should be less than 5",
        ),
        (json!({"type": "object", "required": ["a"]}), json!({}), "spec.a: Required value"),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            r#"spec: Unsupported value: "c": supported values: "a", "b""#,
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            r#"spec: Invalid value: "b": spec in body should match '^a+$'"#,
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("b"),
            r#"spec: Invalid value: "b": spec in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "string", "maxLength": 1}),
            json!("bb"),
            "spec: Too long: may not be more than 1 byte",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            "spec: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            "spec: Invalid value: 0: spec in body should have at least 1 items",
        ),
        (
            json!({"type": "string"}),
            Value::Null,
            r#"spec: Invalid value: "null": spec in body must be of type string: "null""#,
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            r#"spec.k: Invalid value: "integer": spec.k in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            r#"spec: Invalid value: "x": spec in body must be of type date-time: "x""#,
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(1.5),
            r#"spec: Invalid value: "number": spec in body must be of type integer,string: "number""#,
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "boolean"}}}}),
            json!([{"a": true}, {"a": 1}]),
            r#"spec[1].a: Invalid value: "integer": spec[1].a in body must be of type boolean: "integer""#,
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "not": {"required": ["a"]}}),
            json!({"a": 1}),
            r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#,
        ),
    ] {
        assert_eq!(errors(spec, value), [wanted]);
    }
}

#[test]
fn the_alternative_that_fits_best_is_told() {
    let any_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["x", "y"]}, {"required": ["a", "b"]}]});
    assert_eq!(
        errors(any_of, json!({"a": ""})),
        [
            r#"<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
            "spec.b: Required value"
        ]
    );
    let one_of = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(
        errors(one_of, json!({"a": 1, "b": 1})),
        [
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
}

#[test]
fn what_is_allowed_passes() {
    for (spec, value) in [
        (json!({"type": "string", "nullable": true}), Value::Null),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!("80%"),
        ),
        (json!({"type": "number"}), json!(1)),
        (json!({"type": "integer"}), json!(1.0)),
        (json!({"type": "integer", "enum": [1, 2]}), json!(2)),
        (json!({"type": "string", "format": "unheard-of"}), json!("x")),
    ] {
        assert_eq!(errors(spec, value), Vec::<String>::new());
    }
}

#[test]
fn what_has_not_changed_is_not_held_against_an_update() {
    let schema = schema(json!({"type": "object", "required": ["must"], "properties": {
        "name": {"type": "string", "maxLength": 2},
        "other": {"type": "string", "maxLength": 2},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "integer"}, "v": {"type": "string", "maxLength": 1}}}},
        "plain": {"type": "array", "items": {"type": "string", "maxLength": 1}},
    }}));
    let old = json!({"spec": {"name": "long", "ports": [{"n": 1, "v": "long"}], "plain": ["long"]}});
    let update = |spec: Value| {
        let errors = validate_update(&json!({"spec": spec}), Some(&old), &schema, &FieldPath::root());
        errors.iter().map(|error| error.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(update(old["spec"].clone()), Vec::<String>::new());
    assert_eq!(update(json!({"name": "long", "other": "new!", "must": 1})), ["spec.other"]);
    assert_eq!(update(json!({"name": "longer", "must": 1})), ["spec.name"]);
    // An item is found again by its key, wherever it stands …
    let moved = json!([{"n": 2, "v": "x"}, {"n": 1, "v": "long"}]);
    assert_eq!(update(json!({"ports": moved, "must": 1})), Vec::<String>::new());
    // … and one without a key is not.
    assert_eq!(update(json!({"plain": ["a", "long"], "must": 1})), ["spec.plain[1]"]);
    assert_eq!(update(json!({"name": "long"})), ["spec.must"], "the object that lacks it has changed");
}

#[test]
fn a_wrong_type_keeps_rules_from_being_evaluated() {
    let blocked = |spec: Value, value: Value| {
        blocks_rules(&validate(&json!({"spec": value}), &schema(spec), &FieldPath::root()))
    };
    assert!(blocked(json!({"type": "integer"}), json!("a")));
    assert!(!blocked(json!({"type": "integer", "minimum": 1}), json!(0)));
}
