//! Policies on manifests, as the command tries them.

use std::path::PathBuf;

use serde_json::json;

use super::*;

fn tried(policies: &[Value], manifests: Vec<Value>, standard: LevelVersion) -> Vec<Row> {
    let kinds = CatalogueKinds::with(
        policies.iter().chain(&manifests).filter(|value| value["kind"] == "CustomResourceDefinition"),
    );
    let kinds = kinds.expect("definitions");
    let standards = Policy { enforce: standard, audit: standard, warn: standard };
    let trial = Trial::new(&kinds, policies, &manifests, "default", standards).expect("policies");
    let origins = vec!["x.yaml".to_owned(); manifests.len()];
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    rows(&origins, runtime.block_on(trial.run(manifests)))
}

fn parse(text: &str) -> Vec<Value> {
    values(&documents::parse("x.yaml", text).expect("YAML"))
}

const REPLICAS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  validations:
  - {expression: object.spec.replicas >= 2, messageExpression: \"'has ' + string(object.spec.replicas)\"}
";

#[test]
fn manifests_get_their_defaults_and_each_policy_answers_for_each_object() {
    let manifests = parse(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: one}, spec: {}}\n---\n\
         {apiVersion: apps/v1, kind: Deployment, metadata: {name: two, namespace: shop}, spec: {replicas: 2}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: other}}\n",
    );
    let rows = tried(&parse(REPLICAS), manifests, LevelVersion::default());
    let short: Vec<_> = rows.iter().map(|row| (row.object(), row.result, row.message.as_str())).collect();
    assert_eq!(
        short,
        [
            ("Deployment/default/one".to_owned(), "fail", "has 1"),
            ("Deployment/shop/two".to_owned(), "pass", "")
        ]
    );
    assert_eq!(rows[0].actions, ["Deny"], "without a binding everything is held to it");
    let xml = as_junit(&rows);
    assert!(xml.contains("Deployment/default/one validations[0]") && xml.contains("has 1"), "{xml}");
    assert_eq!(summary(&rows, 3, 1), Summary { objects: 3, policies: 1, pass: 1, fail: 1, error: 0 });
}

#[test]
fn a_field_that_a_policy_does_not_have_is_no_policy() {
    let kinds = CatalogueKinds::with(std::iter::empty()).expect("kinds");
    assert!(check_fields(&kinds, &parse(REPLICAS)).is_ok());
    let misspelt = parse(&REPLICAS.replace("  validations:", "  validation:"));
    let refused = format!("{:?}", check_fields(&kinds, &misspelt).expect_err("nothing would be held to it"));
    assert!(
        refused.contains("ValidatingAdmissionPolicy replicas") && refused.contains("spec.validation"),
        "{refused}"
    );
}

#[test]
fn pods_are_held_to_the_standard_that_is_asked_for_or_that_labels_ask_for() {
    let pod = |namespace: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace},
            "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}})
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "free",
        "labels": {"pod-security.kubernetes.io/enforce": "privileged",
            "pod-security.kubernetes.io/audit": "privileged", "pod-security.kubernetes.io/warn": "privileged"}}});
    let rows =
        tried(&[], vec![namespace, pod("free"), pod("held")], standard("baseline:v1.30").expect("a level"));
    let short: Vec<_> = rows.iter().map(|row| (row.object(), row.rule.as_str(), row.result)).collect();
    assert_eq!(short, [("Pod/held/p".to_owned(), "baseline:v1.30", "fail")]);
    assert!(standard("strict").is_err() && standard("baseline:1.30").is_err());
}

#[test]
fn a_policy_that_does_not_compile_is_told_with_its_field() {
    let text = REPLICAS.replace("object.spec.replicas >= 2", "object.spec.replicas >=");
    let kinds = CatalogueKinds::with([]).expect("kinds");
    let found = Trial::new(&kinds, &parse(&text), &[], "default", Policy::default()).map(drop);
    let message = crate::failure::render(&super::problems(found.expect_err("must fail")));
    assert!(message.contains("policy replicas: spec.validations[0].expression: "), "{message}");
}

#[test]
fn constraints_are_tried_with_all_manifests_as_their_inventory() {
    let policies = parse(
        "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: oneapp}\nspec:\n  \
         crd: {spec: {names: {kind: OneApp}}}\n  targets:\n  - target: admission.k8s.gatekeeper.sh\n    rego: |\n      \
         package oneapp\n      violation[{\"msg\": msg}] {\n        \
         other := data.inventory.namespace[input.review.namespace].v1.ConfigMap[name]\n        \
         other.data.app == input.review.object.data.app\n        name != input.review.name\n        \
         msg := sprintf(\"%v is the same\", [name])\n      }\n---\n\
         apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: OneApp\nmetadata: {name: all}\n\
         spec: {enforcementAction: warn, match: {kinds: [{apiGroups: [\"\"], kinds: [ConfigMap]}]}}\n",
    );
    let manifests = parse(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {app: web}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {app: web}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: other}, data: {app: web}}\n",
    );
    let rows = tried(&policies, manifests, LevelVersion::default());
    let short: Vec<_> = rows.iter().map(|row| (row.object(), row.result, row.message.as_str())).collect();
    assert_eq!(
        short,
        [
            ("ConfigMap/default/a".to_owned(), "fail", "b is the same"),
            ("ConfigMap/default/b".to_owned(), "fail", "a is the same"),
            ("ConfigMap/other/c".to_owned(), "pass", "")
        ]
    );
    assert_eq!(
        (rows[0].policy.as_str(), rows[0].actions.as_slice()),
        ("OneApp/all", &["Warn".to_owned()][..])
    );
}

#[test]
fn published_policies_say_what_their_documentation_says() {
    let Some(base) = fixtures::samples::find("manifests/kubernetes-website/validatingadmissionpolicy") else {
        return;
    };
    let files = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| base.join(name)).collect();
        values(&read(&paths).expect("samples"))
    };
    let world = |environment: &str, replicas: u32| {
        parse(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: default, labels: {{environment: {environment}}}}}}}\n---\n\
             {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: {replicas}}}}}\n"
        ))
    };
    let results = |policies: &[Value], environment: &str, replicas: u32| -> Vec<&'static str> {
        let rows = tried(policies, world(environment, replicas), LevelVersion::default());
        rows.iter().map(|row| row.result).collect()
    };
    let basic = files(&["basic-example-policy.yaml", "basic-example-binding.yaml"]);
    assert_eq!(results(&basic, "test", 6), ["fail"]);
    assert_eq!(results(&basic, "test", 5), ["pass"]);
    assert_eq!(results(&basic, "prod", 6), Vec::<&str>::new(), "the binding is for test alone");
    let limited = files(&[
        "policy-with-param.yaml",
        "binding-with-param.yaml",
        "binding-with-param-prod.yaml",
        "replicalimit-param.yaml",
        "replicalimit-param-prod.yaml",
    ]);
    assert_eq!(results(&limited, "test", 4), ["fail"]);
    assert_eq!(results(&limited, "prod", 4), ["pass"]);
    assert_eq!(results(&limited, "prod", 101), ["fail"]);
    let mistaken = files(&["typechecking-multiple-match.yaml"]);
    assert_eq!(results(&mistaken, "test", 2), ["error"], "object.replicas is not there");
}

#[test]
fn published_pods_pass_and_fail_the_standards_as_they_are_filed() {
    let Some(base) = fixtures::samples::find("manifests/pod-security-admission") else { return };
    let mut seen = 0;
    for (level, name) in [("baseline", "baseline"), ("restricted", "restricted")] {
        for (folder, fails) in [("pass", false), ("fail", true)] {
            let versions = std::fs::read_dir(base.join(level)).into_iter().flatten().flatten();
            for version in versions {
                let directory = version.path().join(folder);
                if !directory.exists() {
                    continue;
                }
                let edition = version.file_name().to_string_lossy().into_owned();
                let standard = standard(&format!("{name}:{edition}")).expect("an edition");
                for manifest in values(&documents::read(&directory).expect("samples")) {
                    let rows = tried(&[], vec![manifest.clone()], standard);
                    let failed = rows.iter().any(|row| row.result == "fail");
                    assert_eq!(failed, fails, "{level} {edition} {folder}: {}", manifest["metadata"]["name"]);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 50, "{seen} pods were judged");
}
