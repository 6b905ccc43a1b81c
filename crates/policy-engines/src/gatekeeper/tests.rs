//! Templates and constraints, and what they say of objects.

mod library;

use serde_json::json;

use super::*;

fn template(kind: &str, target: Value) -> Value {
    json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
        "metadata": {"name": kind.to_lowercase()},
        "spec": {"crd": {"spec": {"names": {"kind": kind}, "validation": {"openAPIV3Schema": {"type": "object",
            "properties": {"keys": {"type": "array", "items": {"type": "string"}, "default": ["owner"]}}}}}},
            "targets": [target]}})
}

const KEYS: &str = "package keys\nviolation[{\"msg\": msg}] {\n  key := input.parameters.keys[_]\n  \
    not input.review.object.metadata.labels[key]\n  msg := sprintf(\"%v lacks %v\", [input.review.name, key])\n}\n";

fn rego(text: &str) -> Value {
    json!({"target": "admission.k8s.gatekeeper.sh", "rego": text})
}

fn constraint(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn pod(namespace: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace, "labels": labels}})
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// Names of the constraints that are about an object, each with what it says.
fn said(
    set: &Gatekeeper,
    object: &Value,
    namespace: Option<&Value>,
) -> Vec<(String, Vec<String>, Vec<String>)> {
    let kind = GroupVersionKind::new(group_of(object), "v1", text(object, "kind"));
    let reviewed = Reviewed { kind: &kind, object, namespace, request: None };
    let all = set.review(&reviewed).into_iter();
    all.map(|(constraint, said)| (constraint.name.clone(), said.violations, said.errors)).collect()
}

fn judged_by(spec: Value, object: &Value, namespace: Option<&Value>) -> bool {
    let documents = [template("Keys", rego(KEYS)), constraint("Keys", "c", spec)];
    let set = Gatekeeper::compile(&documents, &AUDIT_POINTS);
    let all = said(&set, object, namespace);
    assert!(all.iter().all(|(_, _, errors)| errors.is_empty()), "{all:?}");
    !all.is_empty()
}

#[test]
fn a_constraint_asks_with_its_parameters_or_the_templates() {
    let documents = [
        template("Keys", rego(KEYS)),
        constraint("Keys", "team", json!({"enforcementAction": "warn", "parameters": {"keys": ["team"]}})),
        constraint("Keys", "usual", json!({"enforcementAction": "dryrun", "parameters": {}})),
    ];
    assert_eq!(Gatekeeper::check(&documents, &AUDIT_POINTS), []);
    let set = Gatekeeper::compile(&documents, &AUDIT_POINTS);
    let actions: Vec<_> = set.constraints().iter().map(|one| (one.policy(), one.actions.clone())).collect();
    assert_eq!(
        actions,
        [
            ("Keys/team".to_owned(), vec!["Warn".to_owned()]),
            ("Keys/usual".to_owned(), vec!["Audit".to_owned()])
        ]
    );
    let found = said(&set, &pod("shop", json!({"team": "a"})), None);
    assert_eq!(
        found,
        [
            ("team".to_owned(), vec![], vec![]),
            ("usual".to_owned(), vec!["web lacks owner".to_owned()], vec![])
        ]
    );
}

#[test]
fn cel_says_what_rego_says_and_is_preferred() {
    let source = json!({"validations": [{
        "expression": "variables.params.keys.all(key, has(variables.anyObject.metadata.labels) && key in variables.anyObject.metadata.labels)",
        "messageExpression": "object.metadata.name + ' lacks ' + variables.params.keys.join(', ')"}]});
    let target = json!({"target": "admission.k8s.gatekeeper.sh", "code": [
        {"engine": "Rego", "source": {"rego": KEYS}}, {"engine": "K8sNativeValidation", "source": source}]});
    let document = template("Keys", target);
    let asked = constraint("Keys", "c", json!({"parameters": {"keys": ["team", "owner"]}}));
    let with = |preferred| {
        let compiled = Template::compile_for(&document, preferred).1.expect("a template");
        let set = Gatekeeper::of(compiled, &asked, &AUDIT_POINTS);
        let bad = said(&set, &pod("shop", json!({"team": "a"})), None).remove(0);
        let good = said(&set, &pod("shop", json!({"team": "a", "owner": "b"})), None).remove(0);
        assert_eq!((good.1, good.2, bad.2), (vec![], vec![], vec![]), "{preferred:?}");
        bad.1
    };
    assert_eq!(with(Preferred::Cel), ["web lacks team, owner"]);
    assert_eq!(with(Preferred::Rego), ["web lacks owner"]);
}

#[test]
fn constraints_choose_as_gatekeeper_does() {
    let (shop, system) = (namespace("shop", json!({"env": "prod"})), namespace("kube-system", json!({})));
    let web = pod("shop", json!({"app": "web"}));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {}}});
    let cases = [
        ("nothing", json!({}), true, true, true),
        ("a kind", json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}), true, false, false),
        ("another group", json!({"kinds": [{"apiGroups": ["apps"], "kinds": ["*"]}]}), false, false, false),
        (
            "one of two",
            json!({"kinds": [{"apiGroups": ["apps"], "kinds": ["Pod"]}, {"apiGroups": ["*"], "kinds": ["Node"]}]}),
            false,
            false,
            true,
        ),
        ("a namespace", json!({"namespaces": ["shop"]}), true, false, true),
        ("the begin of one", json!({"namespaces": ["kube-*"]}), false, true, true),
        ("all but some", json!({"excludedNamespaces": ["*-system"]}), true, false, true),
        ("namespaced", json!({"scope": "Namespaced"}), true, false, false),
        ("the cluster's", json!({"scope": "Cluster"}), false, true, true),
        ("labels", json!({"labelSelector": {"matchLabels": {"app": "web"}}}), true, false, false),
        (
            "a namespace's labels",
            json!({"namespaceSelector": {"matchExpressions": [{"key": "env", "operator": "Exists"}]}}),
            true,
            false,
            true,
        ),
        ("a name", json!({"name": "we*"}), true, false, false),
        ("what is generated", json!({"source": "Generated"}), false, false, false),
    ];
    for (what, choice, of_pod, of_namespace, of_node) in cases {
        let spec = || json!({"match": choice});
        assert_eq!(judged_by(spec(), &web, Some(&shop)), of_pod, "{what}: a pod");
        assert_eq!(judged_by(spec(), &system, None), of_namespace, "{what}: a namespace");
        assert_eq!(judged_by(spec(), &node, None), of_node, "{what}: a node");
    }
}

#[test]
fn what_cannot_be_evaluated_is_an_error_of_each_object_and_told_with_its_field() {
    let spec = json!({"match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}});
    let good = template("Keys", rego(KEYS));
    let with = |field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    let cases = [
        (rego_template("violation[{"), spec.clone(), "spec.targets[0].rego", "does not compile"),
        (
            rego_template("violation[{\"msg\": \"m\"}] { external_data({}) }"),
            spec.clone(),
            "spec.targets[0].rego",
            "external_data",
        ),
        (template("Other", rego(KEYS)), spec.clone(), "kind", "there is no template of kind Keys"),
        (
            good.clone(),
            with("parameters", json!({"keys": "team"})),
            "spec.parameters.keys",
            "must be of type array",
        ),
        (good.clone(), with("enforcementAction", json!("block")), "spec.enforcementAction", "is no action"),
    ];
    for (template, spec, field, message) in cases {
        let documents = [template, constraint("Keys", "c", spec)];
        let problems = Gatekeeper::check(&documents, &AUDIT_POINTS);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].field, field, "{problems:?}");
        assert!(problems[0].message.contains(message), "{problems:?}");
        let set = Gatekeeper::compile(&documents, &AUDIT_POINTS);
        let told = said(&set, &pod("shop", json!({})), None);
        assert!(told.len() == 1 && told[0].1.is_empty() && told[0].2[0].contains(message), "{told:?}");
        assert!(said(&set, &namespace("shop", json!({})), None).is_empty(), "it is not about namespaces");
    }
    for wrong in [
        json!({"namespaces": "shop"}),
        json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
    ] {
        let documents = [good.clone(), constraint("Keys", "c", json!({"match": wrong}))];
        assert_eq!(Gatekeeper::check(&documents, &AUDIT_POINTS)[0].field, "spec.match");
    }
    let chooses = json!({"match": {"namespaceSelector": {"matchLabels": {"a": "b"}}}});
    let set = Gatekeeper::compile(&[good, constraint("Keys", "c", chooses)], &AUDIT_POINTS);
    let told = said(&set, &pod("shop", json!({})), None);
    assert!(told[0].2[0].contains("of which nothing is known"), "{told:?}");
}

fn rego_template(body: &str) -> Value {
    template("Keys", rego(&format!("package keys\n{body}\n")))
}

#[test]
fn actions_with_a_scope_count_where_they_are_asked_for() {
    let spec = json!({"enforcementAction": "scoped", "scopedEnforcementActions": [
        {"action": "deny", "enforcementPoints": [{"name": "validation.gatekeeper.sh"}]},
        {"action": "warn", "enforcementPoints": [{"name": "audit.gatekeeper.sh"}, {"name": "validation.gatekeeper.sh"}]}]});
    let documents = [template("Keys", rego(KEYS)), constraint("Keys", "c", spec)];
    let actions = |points: &[&str]| Gatekeeper::compile(&documents, points).constraints()[0].actions.clone();
    assert_eq!(actions(&AUDIT_POINTS), ["Warn"]);
    assert_eq!(actions(&TRIAL_POINTS), ["Deny", "Warn"]);
    assert!(
        Gatekeeper::compile(&documents, &["vap.k8s.io"]).constraints().is_empty(),
        "nothing is asked for there"
    );
}

#[test]
fn referential_policies_see_what_they_ask_for() {
    let text = "package keys\nviolation[{\"msg\": msg}] {\n  other := data.inventory.namespace[ns][_][\"Pod\"][name]\n  \
        name != input.review.name\n  other.metadata.labels.app == input.review.object.metadata.labels.app\n  \
        msg := sprintf(\"%v/%v has the same app\", [ns, name])\n}\n";
    let mut asks = template("Keys", rego(text));
    asks["metadata"]["annotations"]["metadata.gatekeeper.sh/requires-sync-data"] =
        json!("\"[[{\"groups\": [\"\"], \"versions\": [\"v1\"], \"kinds\": [\"Pod\", \"Service\"]}]]\"\n");
    let names = json!({"apiVersion": "syncset.gatekeeper.sh/v1alpha1", "kind": "SyncSet", "metadata": {"name": "s"},
        "spec": {"gvks": [{"group": "apps", "version": "v1", "kind": "Deployment"}]}});
    let config = json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config", "metadata": {"name": "config"},
        "spec": {"sync": {"syncOnly": [{"group": "", "version": "v1", "kind": "Pod"}]}}});
    let plain = [template("Keys", rego(KEYS)), constraint("Keys", "c", json!({})), names.clone()];
    assert_eq!(Gatekeeper::compile(&plain, &AUDIT_POINTS).inventory_kinds(), [], "nobody looks at it");
    let set = Gatekeeper::compile(&[asks, constraint("Keys", "c", json!({})), names, config], &AUDIT_POINTS);
    let kinds: Vec<String> = set.inventory_kinds().into_iter().map(|kind| kind.kind).collect();
    assert_eq!(kinds, ["Pod", "Service", "Deployment"]);
    let web = pod("shop", json!({"app": "web"}));
    let mut other = pod("other", json!({"app": "web"}));
    other["metadata"]["name"] = json!("second");
    set.set_inventory([&web]).expect("an inventory");
    assert_eq!(said(&set, &web, None)[0].1, Vec::<String>::new(), "it is alone");
    set.set_inventory([&web, &other]).expect("an inventory");
    assert_eq!(said(&set, &web, None)[0].1, ["other/second has the same app"]);
}

#[test]
fn suites_say_what_did_not_come_true() {
    let files = |path: &str| -> Result<Vec<Value>, String> {
        Ok(vec![match path {
            "t" => template("Keys", rego(KEYS)),
            "c" => constraint("Keys", "c", json!({"parameters": {"keys": ["team", "cost"]}})),
            "wrong" => constraint("Keys", "c", json!({"parameters": {"keys": 1}})),
            "pod" => pod("shop", json!({"team": "a"})),
            "review" => json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "operation": "DELETE", "name": "old", "oldObject": pod("shop", json!({}))}}),
            other => return Err(format!("there is no {other}")),
        }])
    };
    let suite = json!({"apiVersion": "test.gatekeeper.sh/v1alpha1", "kind": "Suite", "tests": [
        {"name": "one", "template": "t", "constraint": "c", "cases": [
            {"name": "right", "object": "pod", "assertions": [{"violations": 1, "message": "lacks c.st$"}, {"violations": "yes"}]},
            {"name": "wrong", "object": "pod", "assertions": [{"violations": "no"}]},
            {"name": "deleted", "object": "review", "assertions": [{"violations": 2, "message": "^old lacks"}]},
            {"name": "absent", "object": "nothing", "assertions": [{}]},
            {"name": "empty", "object": "pod"},
            {"name": "later", "skip": true}]},
        {"name": "unfit", "template": "t", "constraint": "wrong", "invalid": true},
        {"name": "fit", "template": "t", "constraint": "c", "invalid": true},
        {"name": "broken", "template": "t", "constraint": "wrong", "cases": []},
        {"name": "later", "skip": true}]});
    assert!(suite::is_suite(&suite));
    let results = suite::run(&suite, Preferred::default(), &files);
    let words: Vec<(&str, &str, &str)> = results
        .iter()
        .map(|result| {
            let word = match &result.outcome {
                suite::Outcome::Passed => "passed",
                suite::Outcome::Failed(_) => "failed",
                suite::Outcome::Error(_) => "error",
                suite::Outcome::Skipped => "skipped",
            };
            (result.test.as_str(), result.case.as_str(), word)
        })
        .collect();
    assert_eq!(
        words,
        [
            ("one", "right", "passed"),
            ("one", "wrong", "failed"),
            ("one", "deleted", "passed"),
            ("one", "absent", "error"),
            ("one", "empty", "error"),
            ("one", "later", "skipped"),
            ("unfit", "", "passed"),
            ("fit", "", "failed"),
            ("broken", "", "error"),
            ("later", "", "skipped"),
        ]
    );
    let suite::Outcome::Failed(why) = &results[1].outcome else { unreachable!("it failed") };
    assert_eq!(why, "1 violations, expected none: [\"web lacks cost\"]");
}
