//! Policies that profiles bring: what was there before is judged too, all the time, and nothing found is lost.

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

/// Template and constraint: maps of namespace `default` say whose they are, and no two the same.
fn constraints(parameters: Value) -> Vec<Value> {
    let rego = "package ownedmaps\n\
        violation[{\"msg\": msg}] {\n  not input.review.object.data[input.parameters.key]\n  \
        msg := sprintf(\"%v does not say %v\", [input.review.name, input.parameters.key])\n}\n\
        violation[{\"msg\": msg}] {\n  other := data.inventory.namespace[input.review.namespace].v1.ConfigMap[name]\n  \
        name != input.review.name\n  other.data.owner == input.review.object.data.owner\n  \
        msg := sprintf(\"%v is owned by the same\", [name])\n}\n";
    let annotation = "[[{\"groups\": [\"\"], \"versions\": [\"v1\"], \"kinds\": [\"ConfigMap\"]}]]";
    let template = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
        "metadata": {"name": "ownedmaps", "annotations": {"metadata.gatekeeper.sh/requires-sync-data": annotation}},
        "spec": {"crd": {"spec": {"names": {"kind": "OwnedMaps"}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}]}});
    let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "OwnedMaps", "metadata": {"name": "all"},
        "spec": {"enforcementAction": "warn", "parameters": parameters,
            "match": {"kinds": [{"apiGroups": [""], "kinds": ["ConfigMap"]}], "namespaces": ["def*"]}}});
    vec![template, constraint]
}

/// What Gatekeeper brings, and makes of a template, as far as an agent sees it.
fn gatekeeper_definition(group: &str, version: &str, kind: &str) -> Value {
    let plural = match kind {
        "ConstraintTemplate" => "constrainttemplates".to_owned(),
        other => other.to_lowercase(),
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Cluster", "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_judged_in_a_cluster_without_gatekeeper_and_applied_where_it_is() {
    let bench = Bench::start(&["dev"]).await;
    let owned = |name: &str, owner: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"owner": owner}});
    map(&bench, "nobodys", &["a"]).await;
    for (name, owner) in [("one", "x"), ("two", "x"), ("three", "y")] {
        apply(&bench, owned(name, owner), "v1", "configmaps", true).await;
    }
    bench.profile("rules", json!({"manifests": constraints(json!({"key": "owner"}))})).await;
    bench.place("rules", json!({}), json!({})).await;
    bench.applied("dev", "default.rules").await;
    let words = |status: &ComplianceReportStatus| -> Vec<String> {
        let own = |name: &str| ["nobodys", "one", "two", "three"].contains(&name);
        let violations = status.state.violations.iter().filter(|violation| own(&violation.object.name));
        let mut all: Vec<String> = violations.map(|violation| violation.message.clone()).collect();
        all.sort();
        all
    };
    let expected = ["nobodys does not say owner", "one is owned by the same", "two is owned by the same"];
    eventually("what is wrong is found", || async { words(&status(&bench).await) == expected }).await;
    let said = status(&bench).await;
    assert_eq!(said.state.policies[0].policy, "OwnedMaps/all");
    assert_eq!(said.state.policies[0].profile.as_deref(), Some("default.rules"));
    assert_eq!(said.state.violations[0].actions, ["Warn"]);
    // Other parameters begin another round.
    bench.profile("rules", json!({"manifests": constraints(json!({"key": "absent"}))})).await;
    let stricter = || async {
        words(&status(&bench).await).iter().filter(|word| word.ends_with("does not say absent")).count() == 4
    };
    eventually("all lack the other key", stricter).await;
    // With Gatekeeper there the same are objects of the cluster, and judged on.
    for (group, version, kind) in [
        ("templates.gatekeeper.sh", "v1", "ConstraintTemplate"),
        ("constraints.gatekeeper.sh", "v1beta1", "OwnedMaps"),
    ] {
        let definition = gatekeeper_definition(group, version, kind);
        apply(&bench, definition, "apiextensions.k8s.io/v1", "customresourcedefinitions", false).await;
    }
    let client = bench.cluster_client("dev");
    let served = || async {
        let listed = client.list_api_group_resources("constraints.gatekeeper.sh/v1beta1").await;
        listed.is_ok_and(|list| !list.resources.is_empty())
    };
    eventually("Gatekeeper's kinds are served", served).await;
    bench.profile("rules", json!({"manifests": constraints(json!({"key": "owner"}))})).await;
    let resource = ApiResource {
        group: "constraints.gatekeeper.sh".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "constraints.gatekeeper.sh/v1beta1".to_owned(),
        kind: "OwnedMaps".to_owned(),
        plural: "ownedmaps".to_owned(),
    };
    let applied: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    eventually("the constraint is applied", || async {
        let found = applied.get_opt("all").await.unwrap();
        found.is_some_and(|found| found.data["spec"]["parameters"]["key"] == "owner")
    })
    .await;
    eventually("and judged by", || async { words(&status(&bench).await) == expected }).await;
    // Without the profile nothing is judged, and what was applied goes.
    bench.profile("rules", json!({"manifests": [owned("left", "z")]})).await;
    eventually("it is removed", || async { applied.get_opt("all").await.unwrap().is_none() }).await;
    eventually("nothing is judged", || async { status(&bench).await.state.policies.is_empty() }).await;
    drop((applied, client));
    bench.stop().await;
}
