//! A kind whose objects record who owns their fields from their first apply on.

use apiserver::Ownership;

use super::*;

const THINGS: &str = "/apis/example.org/v1/namespaces/default/things";
const UPDATED: [(&str, &str); 2] =
    [("content-type", "application/merge-patch+json"), ("user-agent", "writer/1")];
const APPLIED: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

async fn start(store: &Arc<MemoryStore>, ownership: Ownership) -> Subject {
    let definition = json!({
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let catalogue = Catalogue::control_plane().with_custom_resource(&definition, ownership).unwrap();
    Subject::serving(store.clone(), catalogue).await
}

fn thing(spec: &Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
}

async fn patch(subject: &Subject, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    read(subject.send(Method::PATCH, &format!("{THINGS}/a{path}"), headers, body.to_string()).await).await
}

fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|entry| format!("{} {}", entry["manager"], entry["operation"]).replace('"', "")).collect()
}

#[tokio::test]
async fn nobody_owns_fields_before_the_first_apply_and_everybody_after_it() {
    let subject = start(&Arc::default(), Ownership::FromFirstApply).await;
    let (code, made) = subject.json(Method::POST, THINGS, &thing(&json!({"size": 1}))).await;
    assert_eq!((code, owners(&made)), (201, vec![]));
    for path in ["", "/status"] {
        let change = json!({"spec": {"size": 2}, "status": {"phase": "Fine"}});
        let (code, changed) = patch(&subject, path, &UPDATED, &change).await;
        assert_eq!((code, owners(&changed)), (200, vec![]), "{path}");
        assert!(changed["metadata"].get("managedFields").is_none());
    }
    let (code, refused) = patch(&subject, "?fieldManager=me", &APPLIED, &thing(&json!({"size": 3}))).await;
    assert_eq!(code, 409);
    let why = refused["message"].as_str().unwrap();
    assert!(why.contains("before-first-apply") && why.contains(".spec.size"), "{why}");
    let (code, applied) =
        patch(&subject, "?fieldManager=me&force=true", &APPLIED, &thing(&json!({"size": 3}))).await;
    assert_eq!((code, owners(&applied)), (200, vec!["me Apply".into(), "before-first-apply Update".into()]));
    let (code, changed) = patch(&subject, "", &UPDATED, &json!({"spec": {"color": "red"}})).await;
    assert_eq!(code, 200);
    assert_eq!(owners(&changed), ["me Apply", "before-first-apply Update", "writer Update"]);
}

#[tokio::test]
async fn what_an_earlier_release_recorded_goes_with_the_next_write() {
    let store = Arc::new(MemoryStore::default());
    let earlier = start(&store, Ownership::FromCreation).await;
    let (code, made) = earlier.json(Method::POST, THINGS, &thing(&json!({"size": 1}))).await;
    assert_eq!((code, owners(&made)), (201, vec!["unknown Update".into()]));
    drop(earlier);
    let subject = start(&store, Ownership::FromFirstApply).await;
    let (code, changed) = patch(&subject, "", &UPDATED, &json!({"spec": {"size": 2}})).await;
    assert_eq!((code, owners(&changed)), (200, vec![]));
}
