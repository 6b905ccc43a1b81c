//! The policies of Kubernetes' own documentation, as the shared data holds them, with what kube-apiserver 1.36 answers.

use std::time::{Duration, Instant};

use http::Method;
use kube::Client;
use kube_objects::UserInfo;
use serde_json::{Value, json};

use super::corpus::{Answer, send};
use super::custom_conversion;
use super::custom_resources::DEFINITIONS;
use super::start_with;

/// Policies are compiled a moment after they are written.
const PATIENCE: Duration = Duration::from_secs(20);
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A sample without its typing error (`namesapce`), which strict servers refuse.
fn sample(name: &str) -> Option<Value> {
    let path = format!("manifests/kubernetes-website/validatingadmissionpolicy/{name}");
    let text = std::fs::read_to_string(fixtures::samples::find(&path)?).unwrap();
    let mut object: Value = serde_saphyr::from_str(text.trim_start_matches("---")).unwrap();
    object["metadata"].as_object_mut().unwrap().remove("namesapce");
    Some(object)
}

async fn create(client: &Client, path: &str, object: &Value) {
    let answer = send(client, Method::POST, path, object).await;
    assert_eq!(answer.code, 201, "{path}: {}", answer.body);
}

/// What a deployment with so many replicas is answered, once `wanted` is what it is answered, or after a while.
async fn asked(client: &Client, namespace: &str, replicas: u32, wanted: &str) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All");
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let begun = Instant::now();
    loop {
        let Answer { code, body, .. } = send(client, Method::POST, &path, &deployment).await;
        let said = if code == 201 { "admitted" } else { body["message"].as_str().unwrap() };
        if said == wanted && (code == 201 || (code == 422 && body["reason"] == "Invalid")) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{replicas} replicas are answered {code}: {said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_documentations_policies_decide_as_documented() {
    let Some(policy) = sample("basic-example-policy.yaml") else { return };
    let (handle, _, _stop) = start_with(true).await;
    let client = handle.client(UserInfo::new("admin", &["system:masters", "system:authenticated"]));
    let namespace = json!({"metadata": {"name": "samples", "labels": {"environment": "test"}}});
    create(&client, "/api/v1/namespaces", &namespace).await;
    let (policies, bindings) = (
        format!("{REGISTRATION}/validatingadmissionpolicies"),
        format!("{REGISTRATION}/validatingadmissionpolicybindings"),
    );
    create(&client, &policies, &policy).await;
    create(&client, &bindings, &sample("basic-example-binding.yaml").unwrap()).await;
    let refused = |policy: &str, binding: &str, why: &str| {
        format!(
            "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {why}"
        )
    };
    let basic = ("demo-policy.example.com", "demo-binding-test.example.com");
    asked(&client, "samples", 6, &refused(basic.0, basic.1, "failed expression: object.spec.replicas <= 5"))
        .await;
    asked(&client, "samples", 5, "admitted").await;
    // Its binding selects namespaces by label.
    asked(&client, "default", 6, "admitted").await;

    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "replicalimits.rules.example.com"}, "spec": {"group": "rules.example.com",
        "scope": "Namespaced", "names": {"plural": "replicalimits", "kind": "ReplicaLimit"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"maxReplicas": {"type": "integer"}}}}}]}});
    create(&client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    create(&client, &policies, &sample("policy-with-param.yaml").unwrap()).await;
    create(&client, &bindings, &sample("binding-with-param.yaml").unwrap()).await;
    let limited = ("replicalimit-policy.example.com", "replicalimit-binding-test.example.com");
    let missing =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    asked(&client, "samples", 2, &refused(limited.0, limited.1, missing)).await;
    let limits = "/apis/rules.example.com/v1/namespaces/default/replicalimits";
    create(&client, limits, &sample("replicalimit-param.yaml").unwrap()).await;
    let over = "failed expression: object.spec.replicas <= params.maxReplicas";
    asked(&client, "samples", 4, &refused(limited.0, limited.1, over)).await;
    asked(&client, "samples", 2, "admitted").await;
}

/// Custom kinds in every version that a policy names, converted by the kind's own webhook; a policy sees what the one
/// before it made of the object, whatever version that one saw.
#[tokio::test]
async fn policies_see_a_custom_kind_in_the_version_that_they_name() {
    let (handle, _, _stop) = start_with(true).await;
    let client = handle.client(UserInfo::new("admin", &["system:masters", "system:authenticated"]));
    let conversion = custom_conversion::webhook().await;
    create(&client, DEFINITIONS, &custom_conversion::definition(&conversion)).await;
    let constraints = |version: &str| {
        json!({"resourceRules": [{"apiGroups": ["example.com"], "apiVersions": [version],
            "resources": ["servers"], "operations": ["CREATE"]}]})
    };
    let bind = async |kind: &str, name: &str, spec: Value, binding: Value| {
        let plural = |word: &str| format!("{REGISTRATION}/{}admissionpolic{word}", kind.to_lowercase());
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        create(&client, &plural("ies"), &policy).await;
        create(&client, &plural("ybindings"), &json!({"metadata": {"name": name}, "spec": binding})).await;
    };
    let mutation = |version: &str, path: &str, value: &str| {
        let expression = format!("[JSONPatch{{op: 'replace', path: '/spec/{path}', value: {value}}}]");
        json!({"matchConstraints": constraints(version), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]})
    };
    for (name, version, path, value) in [
        ("a", "v2", "host", "object.spec.host + '-2'"),
        ("b", "v1", "hostPort", "'1-' + object.spec.hostPort"),
    ] {
        bind("Mutating", name, mutation(version, path, value), json!({"policyName": name})).await;
    }
    let validations = json!([{"expression": "object.spec.host != '1-bad-2'", "messageExpression": "string(object.spec.host)"}]);
    let spec = json!({"matchConstraints": constraints("v2"), "validations": validations});
    bind("Validating", "c", spec, json!({"policyName": "c", "validationActions": ["Deny"]})).await;
    let path = format!("{}?dryRun=All", custom_conversion::V1);
    let begun = Instant::now();
    loop {
        let server = |host_port: &str| custom_conversion::server("s", &json!({"hostPort": host_port}));
        let good = send(&client, Method::POST, &path, &server("h:1")).await;
        let bad = send(&client, Method::POST, &path, &server("bad:1")).await;
        let refused = bad.code == 422 && bad.body["message"].as_str().unwrap().ends_with("request: 1-bad-2");
        if good.code == 201 && good.body["spec"]["hostPort"] == "1-h-2:1" && refused {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}: {}\n{}: {}", good.code, good.body, bad.code, bad.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A policy for autoscalers of `v2` changes what a client sends as `v1`. (kube-apiserver 1.36 judges it so, but cannot convert
/// back what such a policy changed, and refuses every request.)
#[tokio::test]
async fn a_policy_changes_a_built_in_kind_in_the_version_that_it_names() {
    let (handle, _, _stop) = start_with(true).await;
    let client = handle.client(UserInfo::new("admin", &["system:masters", "system:authenticated"]));
    let rule = json!({"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]});
    let expression =
        "[JSONPatch{op: 'replace', path: '/spec/metrics/0/resource/target/averageUtilization', value: 33}]";
    let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]});
    let policy = json!({"metadata": {"name": "p"}, "spec": spec});
    create(&client, &format!("{REGISTRATION}/mutatingadmissionpolicies"), &policy).await;
    let binding = json!({"metadata": {"name": "p"}, "spec": {"policyName": "p"}});
    create(&client, &format!("{REGISTRATION}/mutatingadmissionpolicybindings"), &binding).await;
    let autoscaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let begun = Instant::now();
    loop {
        let Answer { code, body, .. } = send(&client, Method::POST, path, &autoscaler).await;
        assert_eq!(code, 201, "{body}");
        if body["spec"]["targetCPUUtilizationPercentage"] == 33 {
            assert_eq!((&body["apiVersion"], body["spec"].get("metrics")), (&json!("autoscaling/v1"), None));
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
