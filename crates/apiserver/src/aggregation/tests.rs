use serde_json::{Value, json};

use super::*;

fn api_service(name: &str, available: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"group": "things.example.org", "version": "v1",
            "groupPriorityMinimum": 2000, "versionPriority": 15, "insecureSkipTLSVerify": true,
            "service": {"namespace": "n", "name": "s", "port": 8443}},
        "status": {"conditions": [{"type": "Available", "status": available}]}})
}

fn remote(available: &str) -> Arc<Remote> {
    Arc::new(Remote::read(&api_service("v1.things.example.org", available), None).unwrap())
}

#[test]
fn an_api_service_names_a_server_or_is_ones_own() {
    let found = remote("True");
    assert_eq!((found.host().as_str(), found.root().as_str()), ("s.n.svc", "/apis/things.example.org/v1"));
    assert!(found.is_available() && !remote("False").is_available());
    let local = json!({"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}});
    assert!(Remote::read(&local, None).is_none());
}

#[test]
fn discovery_shows_what_others_serve_and_whether_they_answer() {
    let mut document = json!({"items": [{"metadata": {"name": "apps"}, "versions": []}]});
    merge::into_aggregated(&mut document, &[remote("False")]);
    assert_eq!(document["items"][1]["metadata"]["name"], "things.example.org");
    assert_eq!(document["items"][1]["versions"][0], json!({"version": "v1", "freshness": "Stale"}));
    let mut groups = json!({"groups": []});
    merge::into_groups(&mut groups, &[remote("False")]);
    assert_eq!(groups, json!({"groups": []}), "who does not answer is not in the plain list");
    merge::into_groups(&mut groups, &[remote("True")]);
    let version = json!({"groupVersion": "things.example.org/v1", "version": "v1"});
    assert_eq!(
        groups["groups"][0],
        json!({"name": "things.example.org", "versions": [version], "preferredVersion": version})
    );
    let mut index = json!({"paths": {}});
    merge::into_openapi(&mut index, &[remote("True")]);
    let url = &index["paths"]["apis/things.example.org/v1"]["serverRelativeURL"];
    assert_eq!(url, "/openapi/v3/apis/things.example.org/v1");
}

#[test]
fn plain_discovery_becomes_the_aggregated_form() {
    let plain = json!({"resources": [
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
        {"name": "things/status", "kind": "Thing", "verbs": ["update"]},
    ]});
    let kind = json!({"group": "g", "version": "v1", "kind": "Thing"});
    assert_eq!(
        merge::version_of("g", "v1", &plain),
        json!({"version": "v1", "resources": [{"resource": "things", "singularResource": "thing",
            "scope": "Namespaced", "responseKind": kind, "verbs": ["get"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["update"]}]}]})
    );
}
