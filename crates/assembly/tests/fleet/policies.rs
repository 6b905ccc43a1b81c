//! Policies that profiles bring: what was there before is judged too, all the time, and nothing found is lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use fleet_objects::compliance::{ComplianceReport, ComplianceReportStatus};
use fleet_objects::{Cluster, condition};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};

fn policy(most: u32) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "few-keys"},
        "spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["configmaps", "secrets"]}]},
            "validations": [{"expression": format!("!has(object.data) || size(object.data) <= {most}"),
                "messageExpression": "'holds ' + object.data.map(key, object.data[key]).join(',')"}]}})
}

fn binding() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "few-keys"},
        "spec": {"policyName": "few-keys", "validationActions": ["Audit"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}})
}

/// Whatever it says: that the definition is there is what matters.
fn report_definition(plural: &str, kind: &str, scope: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.wgpolicyk8s.io"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/wg-policy-prototypes"}},
        "spec": {"group": "wgpolicyk8s.io", "scope": scope,
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

async fn apply(bench: &Bench, object: Value, version: &str, plural: &str, namespaced: bool) {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: object["apiVersion"].as_str().unwrap().to_owned(),
        kind: object["kind"].as_str().unwrap().to_owned(),
        plural: plural.to_owned(),
    };
    let client = bench.cluster_client("dev");
    let api: Api<DynamicObject> = if namespaced {
        Api::namespaced_with(client, "default", &resource)
    } else {
        Api::all_with(client, &resource)
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
}

async fn map(bench: &Bench, name: &str, keys: &[&str]) {
    let data: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!("v"))).collect();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    apply(bench, object, "v1", "configmaps", true).await;
}

async fn status(bench: &Bench) -> ComplianceReportStatus {
    let reports: Api<ComplianceReport> = Api::namespaced(bench.hub_client(), "cluster-dev");
    reports.get_opt("dev").await.unwrap().and_then(|report| report.status).unwrap_or_default()
}

/// Objects that break the policy, by name.
fn broken(status: &ComplianceReportStatus) -> Vec<&str> {
    let mut names: Vec<&str> =
        status.state.violations.iter().map(|violation| violation.object.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_profiles_policies_find_is_told_once_and_whole_also_after_an_outage() {
    let mut bench = Bench::start(&["dev"]).await;
    map(&bench, "before", &["a", "b", "c"]).await;
    map(&bench, "fine", &["a"]).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"a": "hunter2", "b": "hunter2", "c": "hunter2"}});
    apply(&bench, secret, "v1", "secrets", true).await;
    bench.profile("rules", json!({"manifests": [policy(2), binding()]})).await;
    bench.place("rules", json!({}), json!({})).await;
    bench.applied("dev", "default.rules").await;
    let found = || async { broken(&status(&bench).await) == ["before", "keys"] };
    eventually("what was there before the policy is found", found).await;
    let said = status(&bench).await;
    assert_eq!(said.state.policies[0].profile.as_deref(), Some("default.rules"));
    assert!(said.state.counts.pass > 0, "the others comply: {:?}", said.state.counts);
    let told = serde_json::to_string(&said).unwrap();
    assert!(
        !told.contains("hunter2") && !told.contains("aHVudGVyMg"),
        "a policy's words carry no secret: {told}"
    );
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let compliant = || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "Compliant")
            .map(|condition| condition.status.clone())
            .unwrap_or_default()
    };
    eventually("the cluster says so", || async { compliant().await == "False" }).await;
    drop(clusters);
    // Without a hub it goes on.
    let changes = status(&bench).await.history.len();
    bench.stop_hub().await;
    map(&bench, "during", &["a", "b", "c"]).await;
    let waiting = bench.waiting("dev");
    eventually("what was found without a hub waits", || async { bench.waiting("dev") > waiting }).await;
    map(&bench, "before", &["a"]).await;
    bench.start_hub().await;
    bench.connected("dev").await;
    let told = || async { broken(&status(&bench).await) == ["during", "keys"] };
    eventually("the newest state is told", told).await;
    assert!(status(&bench).await.history.len() > changes, "and what happened meanwhile");
    // Another rule begins another round; without any rule nothing is left.
    bench.profile("rules", json!({"manifests": [policy(9), binding()]})).await;
    eventually("all comply", || async {
        let status = status(&bench).await;
        status.state.policies.len() == 1 && status.state.is_compliant() && status.state.counts.pass > 0
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_standards_are_kept_in_the_cluster_where_it_has_their_definition() {
    let bench = Bench::start(&["dev"]).await;
    for (plural, kind, scope) in [
        ("policyreports", "PolicyReport", "Namespaced"),
        ("clusterpolicyreports", "ClusterPolicyReport", "Cluster"),
    ] {
        let definition = report_definition(plural, kind, scope);
        apply(&bench, definition, "apiextensions.k8s.io/v1", "customresourcedefinitions", false).await;
    }
    let client = bench.cluster_client("dev");
    let served = || async {
        let listed = client.list_api_group_resources("wgpolicyk8s.io/v1alpha2").await;
        listed.is_ok_and(|list| list.resources.len() >= 2)
    };
    eventually("reports are served", served).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop",
        "labels": {"pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}});
    let template = json!({"metadata": {"name": "loose", "namespace": "shop"}, "apiVersion": "v1", "kind": "PodTemplate",
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    bench.profile("rules", json!({"manifests": [namespace, template]})).await;
    bench.place("rules", json!({}), json!({})).await;
    bench.applied("dev", "default.rules").await;
    let resource = ApiResource {
        group: "wgpolicyk8s.io".to_owned(),
        version: "v1alpha2".to_owned(),
        api_version: "wgpolicyk8s.io/v1alpha2".to_owned(),
        kind: "PolicyReport".to_owned(),
        plural: "policyreports".to_owned(),
    };
    let reports: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &resource);
    let written = || async {
        let all = reports.list(&ListParams::default()).await.unwrap().items;
        all.iter().any(|report| report.data["summary"]["fail"] == 1)
    };
    eventually("a report is written", written).await;
    let report = reports.get("fairlead-audit").await.unwrap().data;
    let result = &report["results"][0];
    assert_eq!((&result["policy"], &result["rule"]), (&json!("pod-security"), &json!("restricted:latest")));
    assert_eq!(result["resources"][0]["name"], "loose");
    assert!(result["message"].as_str().unwrap().contains("allowPrivilegeEscalation != false"), "{result}");
    eventually("and told", || async { broken(&status(&bench).await) == ["loose"] }).await;
    bench.stop().await;
}
