use serde_json::{Value, json};

use super::super::normal::normalise;
use super::*;

fn widgets() -> Value {
    let mut definition = json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": { "host": { "type": "string" }, "list": { "type": "array", "items": { "type": "string" } } } } } } } }],
        },
    });
    normalise(&mut definition);
    definition
}

fn told(change: impl Fn(&mut Value), old: Option<&Value>) -> Vec<String> {
    let mut definition = widgets();
    change(&mut definition);
    super::definition(&definition, old).iter().map(ToString::to_string).collect()
}

#[test]
fn a_decent_definition_is_accepted() {
    assert_eq!(told(|_| {}, None), Vec::<String>::new());
    assert_eq!(told(|_| {}, Some(&widgets())), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_told_where_upstream_tells_it() {
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    type Case = (fn(&mut Value), Vec<String>);
    let cases: Vec<Case> = vec![
        (
            |own| own["metadata"]["name"] = json!("x"),
            vec![r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#.to_owned()],
        ),
        (
            |own| own["spec"]["scope"] = json!("Galaxy"),
            vec![r#"spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced""#.to_owned()],
        ),
        (
            |own| own["spec"]["versions"][0]["name"] = json!("1"),
            vec![
                format!(r#"spec.versions[0].name: Invalid value: "1": {label}"#),
                "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version 1".to_owned(),
                "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions".to_owned(),
            ],
        ),
        (
            |own| own["spec"]["names"]["shortNames"] = json!(["A"]),
            vec![format!(r#"spec.names.shortNames[0]: Invalid value: "A": {label}"#)],
        ),
        (
            |own| own["spec"]["names"]["listKind"] = json!("Widget"),
            vec![r#"spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same"#.to_owned()],
        ),
        (
            |own| own["spec"]["versions"][0]["schema"] = json!({}),
            vec!["spec.versions[0].schema.openAPIV3Schema: Required value".to_owned()],
        ),
        (
            |own| own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = json!("bogus"),
            vec![
                r#"spec.validation.openAPIV3Schema.properties[spec].type: Unsupported value: "bogus": supported values: "array", "boolean", "integer", "number", "object", "string""#.to_owned(),
            ],
        ),
        (
            |own| own["spec"]["versions"][0]["subresources"] = json!({ "scale": { "specReplicasPath": ".x", "statusReplicasPath": "status" } }),
            vec![
                r#"spec.subresources.scale.specReplicasPath: Invalid value: ".x": should be a json path under .spec"#.to_owned(),
                r#"spec.subresources.scale.statusReplicasPath: Invalid value: "status": must be a simple json path starting with ."#.to_owned(),
            ],
        ),
        (
            |own| own["spec"]["versions"][0]["additionalPrinterColumns"] = json!([{ "name": "", "type": "x", "jsonPath": "" }]),
            vec![
                "spec.additionalPrinterColumns[0].name: Required value".to_owned(),
                r#"spec.additionalPrinterColumns[0].type: Invalid value: "x": must be one of boolean,date,integer,number,string"#.to_owned(),
                "spec.additionalPrinterColumns[0].JSONPath: Required value".to_owned(),
            ],
        ),
        (
            |own| own["spec"]["versions"][0]["selectableFields"] = json!([{ "jsonPath": ".spec.host" }, { "jsonPath": ".spec.list" }, { "jsonPath": ".spec.none" }, { "jsonPath": ".spec.host" }]),
            vec![
                r#"spec.selectableFields[1].jsonPath: Invalid value: ".spec.list": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#.to_owned(),
                r#"spec.selectableFields[2].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to a valid field: .spec.none"#.to_owned(),
                r#"spec.selectableFields[3].jsonPath: Duplicate value: ".spec.host""#.to_owned(),
            ],
        ),
        (
            |own| own["spec"]["conversion"] = json!({ "strategy": "Webhook", "webhook": { "clientConfig": { "url": "http://x/y?z=1" }, "conversionReviewVersions": ["v3"] } }),
            vec![
                r#"spec.conversion.webhookClientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#.to_owned(),
                r#"spec.conversion.webhookClientConfig.url: Invalid value: "z=1": query parameters are not permitted in the URL"#.to_owned(),
                r#"spec.conversion.conversionReviewVersions: Invalid value: ["v3"]: must include at least one of v1, v1beta1"#.to_owned(),
            ],
        ),
        (
            |own| own["spec"]["preserveUnknownFields"] = json!(true),
            vec![
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead".to_owned(),
            ],
        ),
        (
            |own| own["spec"]["versions"][0]["deprecationWarning"] = json!("x"),
            vec![r#"spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions"#.to_owned()],
        ),
    ];
    for (change, wanted) in cases {
        assert_eq!(told(change, None), wanted);
    }
}

#[test]
fn versions_that_differ_are_told_of_one_by_one() {
    let told = told(
        |own| {
            let mut second = own["spec"]["versions"][0].clone();
            second["name"] = json!("v2");
            second["storage"] = json!(false);
            second["schema"]["openAPIV3Schema"]["properties"]["spec"]["default"] = json!({ "x": 1 });
            own["spec"]["versions"].as_array_mut().unwrap().push(second);
        },
        None,
    );
    assert_eq!(
        told,
        [
            r#"spec.versions[1].schema.openAPIV3Schema.properties[spec].default: Invalid value: {"x":1}: must not have unknown fields"#
        ]
    );
}

#[test]
fn an_established_definition_keeps_its_kind() {
    let mut old = widgets();
    status::accept(&mut old, &status::NamesInUse::default(), "");
    let change = |own: &mut Value| own["spec"]["names"]["kind"] = json!("Gadget");
    assert_eq!(told(change, Some(&old)), [r#"spec.names.kind: Invalid value: "Gadget": field is immutable"#]);
    assert_eq!(told(change, Some(&widgets())), Vec::<String>::new());
}

#[test]
fn a_version_that_objects_are_stored_in_has_to_stay() {
    let told = told(|own| own["status"]["storedVersions"] = json!(["v0", "v1"]), None);
    assert!(
        told[0].starts_with(
            "status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was"
        )
    );
}

#[test]
fn what_an_old_definition_was_allowed_is_not_held_against_its_successor() {
    let spoil = |own: &mut Value| {
        own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["x"] = json!({});
    };
    let mut old = widgets();
    spoil(&mut old);
    assert!(!told(spoil, None).is_empty());
    assert_eq!(told(spoil, Some(&old)), Vec::<String>::new());
}

#[test]
fn protected_groups_need_an_approval() {
    let change = |own: &mut Value| {
        own["spec"]["group"] = json!("x.k8s.io");
        own["metadata"]["name"] = json!("widgets.x.k8s.io");
    };
    let told = told(change, None);
    assert_eq!(
        told,
        [
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
        ]
    );
}

#[test]
fn formats_that_mean_nothing_are_named() {
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["host"]
        ["format"] = json!("quux");
    assert_eq!(unknown_formats(&definition), ["quux"]);
}
