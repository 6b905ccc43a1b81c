use serde_json::{Value, json};

use super::*;
use crate::path::Path;
use crate::problems::Problems;

fn problems_of(mut spec: Value) -> Vec<(String, String)> {
    default_pod_spec(&mut spec);
    let mut problems = Problems::default();
    let scope = Scope { is_pod: true, ..Scope::default() };
    validate(&mut problems, &Path::new("spec"), &spec, scope);
    problems.into_causes().into_iter().map(|cause| (cause.field, cause.reason)).collect()
}

#[test]
fn a_small_pod_gets_upstreams_defaults() {
    let mut spec = json!({"containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
        "livenessProbe": {"httpGet": {"port": 80}}}, {"name": "b", "image": "r.io:5000/x/y:v1"},
        {"name": "c", "image": "x@sha256:0123456789abcdef0123456789abcdef"}],
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}]});
    default_pod_spec(&mut spec);
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["dnsPolicy"], "ClusterFirst");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["securityContext"], json!({}));
    let policies: Vec<&Value> =
        spec["containers"].as_array().unwrap().iter().map(|c| &c["imagePullPolicy"]).collect();
    assert_eq!(policies, ["Always", "IfNotPresent", "IfNotPresent"]);
    let first = &spec["containers"][0];
    assert_eq!(first["ports"][0]["protocol"], "TCP");
    assert!(first["resources"]["requests"].is_null(), "a template keeps its requests; a pod gets them");
    assert_eq!(first["livenessProbe"]["periodSeconds"], 10);
    assert_eq!(first["livenessProbe"]["httpGet"]["path"], "/");
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(problems_of(spec), []);
}

#[test]
fn defaulting_twice_changes_nothing_and_odd_shapes_do_not_panic() {
    let mut spec = json!({"containers": [{"name": "a", "image": "nginx:1"}]});
    default_pod_spec(&mut spec);
    let once = spec.clone();
    default_pod_spec(&mut spec);
    assert_eq!(once, spec);
    for odd in [
        json!(null),
        json!("x"),
        json!([1]),
        json!({"containers": "x"}),
        json!({"containers": [1, null]}),
        json!({"volumes": {"a": 1}}),
        json!({"containers": [{"env": [{"valueFrom": 3}], "resources": []}]}),
    ] {
        problems_of(odd);
    }
}

#[test]
fn mistakes_are_named_by_their_paths() {
    let spec = json!({"containers": [
        {"name": "a", "image": "", "volumeMounts": [{"name": "gone", "mountPath": "/a"}],
         "env": [{"name": ""}], "ports": [{"containerPort": 70000, "name": "Up"}],
         "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
        {"name": "a", "image": "i", "livenessProbe": {}}],
        "restartPolicy": "Sometimes"});
    let mut fields: Vec<String> = problems_of(spec).into_iter().map(|(field, _)| field).collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "spec.containers[0].env[0].name",
            "spec.containers[0].image",
            "spec.containers[0].ports[0].containerPort",
            "spec.containers[0].ports[0].name",
            "spec.containers[0].resources.requests",
            "spec.containers[0].volumeMounts[0].name",
            "spec.containers[1].livenessProbe",
            "spec.containers[1].name",
            "spec.restartPolicy",
        ]
    );
}

#[test]
fn no_containers_is_an_error() {
    assert_eq!(problems_of(json!({})), [("spec.containers".to_owned(), "FieldValueRequired".to_owned())]);
}
