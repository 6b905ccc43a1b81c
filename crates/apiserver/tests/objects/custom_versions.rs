//! Custom resources in several versions, with scale, selectable fields and defaults that come later.

use http::Method;
use serde_json::{Value, json};

use super::custom_resources::{DEFINITIONS, ask, ask_as, until, widgets};
use super::*;

const V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";
const ONE: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";

fn widget(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// v1 as ever, v2 with a default of its own and without colors.
fn two_versions() -> Value {
    let mut definition = widgets();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({ "size": { "type": "integer" }, "mode": { "type": "string", "default": "calm" } });
    second["selectableFields"] = json!([{ "jsonPath": ".spec.mode" }]);
    definition["spec"]["versions"][0]["selectableFields"] = json!([{ "jsonPath": ".spec.color" }]);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition
}

#[tokio::test]
async fn every_version_shows_an_object_in_its_own_form() {
    let (handle, _client, _stop) = start().await;
    let (code, made) = ask(&handle, Method::POST, DEFINITIONS, &two_versions()).await;
    assert_eq!(code, 201, "{made}");
    ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 1, "color": "red" }))).await;
    let (_, second) = ask(&handle, Method::GET, &format!("{V2}/a"), &Value::Null).await;
    assert_eq!(
        (&second["apiVersion"], &second["spec"]),
        (&json!("example.com/v2"), &json!({ "size": 1, "mode": "calm" }))
    );
    let (_, list) = ask(&handle, Method::GET, V2, &Value::Null).await;
    assert_eq!((&list["items"][0], list["items"].as_array().unwrap().len()), (&second, 1));
    let change = json!({ "spec": { "size": 2 } });
    let (code, changed) = ask(&handle, Method::PATCH, &format!("{V2}/a"), &change).await;
    assert_eq!((code, &changed["metadata"]["generation"]), (200, &json!(2)), "{changed}");
    let (_, first) = ask(&handle, Method::GET, &format!("{V1}/a"), &Value::Null).await;
    assert_eq!(first["spec"], json!({ "size": 2 }), "written in the storage version, which knows no mode");
    let (_, found) =
        ask(&handle, Method::GET, &format!("{V2}?fieldSelector=spec.mode%3Dcalm"), &Value::Null).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let (_, none) =
        ask(&handle, Method::GET, &format!("{V1}?fieldSelector=spec.color%3Dred"), &Value::Null).await;
    assert_eq!(none["items"], json!([]));
    let (code, refused) =
        ask(&handle, Method::GET, &format!("{V1}?fieldSelector=spec.mode%3Dcalm"), &Value::Null).await;
    assert_eq!((code, &refused["message"]), (400, &json!("field label not supported: spec.mode")));
}

#[tokio::test]
async fn watches_show_the_version_they_asked_for_and_survive_what_does_not_concern_them() {
    let (handle, client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &two_versions()).await;
    let resource = kube::discovery::ApiResource {
        group: "example.com".into(),
        version: "v2".into(),
        api_version: "example.com/v2".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
    };
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let parameters = WatchParams::default().fields("spec.mode=calm");
    let mut watch = api.watch(&parameters, "0").await.unwrap().boxed();
    ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 1 }))).await;
    let event = watch.try_next().await.unwrap().unwrap();
    let WatchEvent::Added(object) = event else { panic!("{event:?}") };
    assert_eq!(object.data["spec"], json!({ "size": 1, "mode": "calm" }));
    // Another short name changes no object.
    let change = json!({ "spec": { "names": { "shortNames": ["w"] } } });
    assert_eq!(ask(&handle, Method::PATCH, ONE, &change).await.0, 200);
    ask(&handle, Method::PATCH, &format!("{V1}/a"), &json!({ "spec": { "size": 2 } })).await;
    let event = watch.try_next().await.unwrap().unwrap();
    assert!(matches!(&event, WatchEvent::Modified(object) if object.data["spec"]["size"] == 2), "{event:?}");
    // Another storage version changes every object's form: the watch ends, and the client comes back.
    let (_, definition) = ask(&handle, Method::GET, ONE, &Value::Null).await;
    let mut swapped = definition.clone();
    swapped["spec"]["versions"][0]["storage"] = json!(false);
    swapped["spec"]["versions"][1]["storage"] = json!(true);
    let (code, swapped) = ask(&handle, Method::PUT, ONE, &swapped).await;
    assert_eq!((code, &swapped["status"]["storedVersions"]), (200, &json!(["v1", "v2"])), "{swapped}");
    assert!(watch.try_next().await.unwrap().is_none());
    // A write that changes nothing stores the object anew.
    let (_, before) = ask(&handle, Method::GET, &format!("{V2}/a"), &Value::Null).await;
    let (_, after) = ask(&handle, Method::PUT, &format!("{V2}/a"), &before).await;
    assert_ne!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    let (_, again) = ask(&handle, Method::PUT, &format!("{V2}/a"), &after).await;
    assert_eq!(again, after, "and only once");
}

#[tokio::test]
async fn a_default_that_comes_later_shows_in_what_is_stored_already() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let (_, object) = ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 1 }))).await;
    assert_eq!(object["metadata"]["generation"], 1);
    let (_, mut definition) = ask(&handle, Method::GET, ONE, &Value::Null).await;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]
        ["default"] = json!("blue");
    let (code, definition) = ask(&handle, Method::PUT, ONE, &definition).await;
    assert_eq!((code, &definition["metadata"]["generation"]), (200, &json!(2)));
    let (_, shown) = ask(&handle, Method::GET, &format!("{V1}/a"), &Value::Null).await;
    assert_eq!(shown["spec"], json!({ "size": 1, "color": "blue" }));
    assert_eq!(shown["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
    let (_, list) = ask(&handle, Method::GET, V1, &Value::Null).await;
    assert_eq!(list["items"][0]["spec"]["color"], "blue");
}

#[tokio::test]
async fn replicas_are_scaled_where_the_definition_says() {
    let (handle, _client, _stop) = start().await;
    let mut definition = widgets();
    definition["spec"]["versions"][0]["subresources"]["scale"] = json!({ "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector" });
    ask(&handle, Method::POST, DEFINITIONS, &definition).await;
    ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 1 }))).await;
    let status = json!({ "status": { "size": 1, "selector": "a=b" } });
    assert_eq!(ask(&handle, Method::PATCH, &format!("{V1}/a/status"), &status).await.0, 200);
    let path = format!("{V1}/a/scale");
    let (_, mut scale) = ask(&handle, Method::GET, &path, &Value::Null).await;
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 1 }), &json!({ "replicas": 1, "selector": "a=b" }))
    );
    scale["spec"]["replicas"] = json!(5);
    let (code, scaled) = ask(&handle, Method::PUT, &path, &scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(5)), "{scaled}");
    let (_, object) = ask(&handle, Method::GET, &format!("{V1}/a"), &Value::Null).await;
    assert_eq!((&object["spec"]["size"], &object["metadata"]["generation"]), (&json!(5), &json!(2)));
    scale["spec"]["replicas"] = json!(-1);
    let (code, refused) = ask(&handle, Method::PUT, &path, &scale).await;
    assert_eq!(code, 422, "{refused}");
    let (code, refused) = ask(&handle, Method::POST, V1, &widget("b", &json!({ "size": -3 }))).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!(".spec.size")));
}

#[tokio::test]
async fn wrong_values_are_refused_and_what_was_wrong_before_is_not() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let (code, refused) = ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": "x" }))).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Widget.example.com \"a\" is invalid: spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
    );
    ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 100 }))).await;
    let (_, mut definition) = ask(&handle, Method::GET, ONE, &Value::Null).await;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]
        ["maximum"] = json!(10);
    assert_eq!(ask(&handle, Method::PUT, ONE, &definition).await.0, 200);
    let path = format!("{V1}/a");
    assert_eq!(ask(&handle, Method::PATCH, &path, &json!({ "spec": { "color": "red" } })).await.0, 200);
    assert_eq!(ask(&handle, Method::PATCH, &path, &json!({ "spec": { "size": 101 } })).await.0, 422);
    let (code, strict) = ask(
        &handle,
        Method::POST,
        &format!("{V1}?fieldValidation=Strict"),
        &widget("c", &json!({ "size": 1, "unknown": 1 })),
    )
    .await;
    assert_eq!(
        (code, strict["message"].as_str().unwrap().contains("unknown field \"spec.unknown\"")),
        (400, true)
    );
}

#[tokio::test]
async fn nothing_new_comes_while_a_definition_goes() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let mut held = widget("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    ask(&handle, Method::POST, V1, &held).await;
    ask(&handle, Method::DELETE, ONE, &Value::Null).await;
    let (code, refused) = ask(&handle, Method::POST, V1, &widget("new", &json!({}))).await;
    assert_eq!(code, 403, "{refused}");
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, document) = ask_as(&handle, Method::GET, "/apis", "", aggregated, &Value::Null).await;
    let groups = document["items"].as_array().unwrap();
    let own = groups.iter().find(|group| group["metadata"]["name"] == "example.com").unwrap();
    assert_eq!(
        own["versions"][0]["resources"][0]["verbs"],
        json!(["delete", "deletecollection", "get", "list", "watch"])
    );
    ask(&handle, Method::PATCH, &format!("{V1}/held"), &json!({ "metadata": { "finalizers": null } })).await;
    until(async || ask(&handle, Method::GET, ONE, &Value::Null).await.0 == 404).await;
}

#[tokio::test]
async fn a_name_that_is_taken_waits_until_it_is_given_back() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let mut other = widgets();
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({ "kind": "Gadget", "plural": "gadgets", "shortNames": ["wd"] });
    let (code, made) = ask(&handle, Method::POST, DEFINITIONS, &other).await;
    assert_eq!(
        (code, &made["status"]["conditions"][0]["reason"]),
        (201, &json!("ShortNamesConflict")),
        "{made}"
    );
    let gadgets = "/apis/example.com/v1/gadgets";
    assert_eq!(ask(&handle, Method::GET, gadgets, &Value::Null).await.0, 404);
    ask(&handle, Method::DELETE, ONE, &Value::Null).await;
    until(async || ask(&handle, Method::GET, gadgets, &Value::Null).await.0 == 200).await;
}

#[tokio::test]
async fn rules_are_compiled_with_the_definition_and_hold_for_every_write() {
    let (handle, _client, _stop) = start().await;
    let mut definition = widgets();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer_mut(spec).unwrap()["x-kubernetes-validations"] = json!([{ "rule": "self.size <" }]);
    let (code, refused) = ask(&handle, Method::POST, DEFINITIONS, &definition).await;
    let cause = &refused["details"]["causes"][0];
    assert_eq!(
        (code, &cause["field"]),
        (422, &json!("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule")),
        "{refused}"
    );
    definition.pointer_mut(spec).unwrap()["x-kubernetes-validations"] = json!([
        { "rule": "self.size <= 10", "message": "too large" },
        { "rule": "!has(oldSelf.color) || self.color == oldSelf.color", "message": "colors stay" },
    ]);
    let (code, made) = ask(&handle, Method::POST, DEFINITIONS, &definition).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 11 }))).await;
    let cause = &refused["details"]["causes"][0];
    assert_eq!((code, &cause["field"]), (422, &json!("spec")), "{refused}");
    assert!(cause["message"].as_str().unwrap().ends_with("too large"), "{refused}");
    let (code, _) = ask(&handle, Method::POST, V1, &widget("a", &json!({ "size": 1, "color": "red" }))).await;
    assert_eq!(code, 201);
    let (code, refused) =
        ask(&handle, Method::PATCH, &format!("{V1}/a"), &json!({ "spec": { "color": "blue" } })).await;
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().contains("colors stay"), "{refused}");
}

#[tokio::test]
async fn documents_follow_a_definition_at_once() {
    let (handle, _client, _stop) = start().await;
    let tag = async || {
        let (_, index) = ask(&handle, Method::GET, "/openapi/v3", &Value::Null).await;
        index["paths"]["apis/example.com/v1"]["serverRelativeURL"].clone()
    };
    assert_eq!(tag().await, Value::Null);
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let first = tag().await;
    assert!(first.is_string());
    let change = json!([{ "op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "A widget." }]);
    let (code, _) =
        ask_as(&handle, Method::PATCH, ONE, "application/json-patch+json", "application/json", &change).await;
    assert_eq!(code, 200);
    assert_ne!(tag().await, first);
    let (_, v2) = ask(&handle, Method::GET, "/openapi/v2", &Value::Null).await;
    assert_eq!(v2["definitions"]["com.example.v1.Widget"]["description"], "A widget.");
    let stop_serving = json!({ "spec": { "versions": [{ "name": "v1", "served": false, "storage": true,
        "schema": { "openAPIV3Schema": { "type": "object" } } }] } });
    assert_eq!(ask(&handle, Method::PATCH, ONE, &stop_serving).await.0, 200);
    assert_eq!(tag().await, Value::Null);
    assert_eq!(ask(&handle, Method::GET, V1, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_apply_tells_of_unknown_and_repeated_fields() {
    let (handle, _client, _stop) = start().await;
    ask(&handle, Method::POST, DEFINITIONS, &widgets()).await;
    let path = format!("{V1}/a?fieldManager=m&fieldValidation=Strict");
    let unknown =
        json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" }, "oops": 1 });
    let apply = "application/apply-patch+yaml";
    let (code, refused) = ask_as(&handle, Method::PATCH, &path, apply, "application/json", &unknown).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            500,
            &json!(
                "failed to create typed patch object (/a; example.com/v1, Kind=Widget): .oops: field not declared in schema"
            )
        )
    );
}
