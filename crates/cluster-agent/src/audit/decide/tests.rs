//! What is judged, and what is told of it.

use serde_json::json;

use super::super::Surroundings;
use super::*;

fn policy(name: &str, labelled: bool) -> Value {
    let labels = if labelled { json!({LABEL_ASSIGNMENT: "default.shop"}) } else { json!({}) };
    json!({"metadata": {"name": name, "labels": labels, "resourceVersion": "1"}, "spec": {"validations": []}})
}

fn binding(policy: &str) -> Value {
    json!({"metadata": {"name": format!("{policy}-b")}, "spec": {"policyName": policy}})
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels, "resourceVersion": "7"}, "status": {"phase": "Active"}})
}

fn kind(group: &str, plural: &str) -> ServedKind {
    ServedKind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: plural.to_owned(),
        namespaced: true,
    }
}

fn key(name: &str) -> Key {
    ("shop".to_owned(), name.to_owned())
}

fn judged(results: &[(&str, Option<ViolationResult>)]) -> Option<Judged> {
    let finding = |(policy, result): &(&str, Option<ViolationResult>)| {
        result.map(|result| Finding {
            policy: (*policy).to_owned(),
            rule: "validations[0]".to_owned(),
            result,
            actions: vec!["Audit".to_owned()],
            message: "m".to_owned(),
        })
    };
    Some(Judged {
        policies: results.iter().map(|(policy, _)| (*policy).to_owned()).collect(),
        findings: results.iter().filter_map(finding).collect(),
    })
}

struct Everything;

impl Policies for Everything {
    fn may_judge(&self, _: &ServedKind) -> bool {
        true
    }

    fn param_kinds(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn inventory_kinds(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn set_inventory(&self, _: &[&Value]) -> Result<(), String> {
        Ok(())
    }

    fn judge(&self, _: &ServedKind, _: &Value, _: &dyn Surroundings) -> Option<Judged> {
        None
    }
}

#[test]
fn only_what_profiles_brought_and_bound_is_judged() {
    let source = Source::of(
        vec![policy("a", true), policy("unbound", true)],
        vec![binding("a"), binding("x")],
        vec![],
        &[],
    );
    assert_eq!(source.policy_names(), ["a"]);
    assert_eq!(source.documents.bindings.len(), 1, "bindings of other policies are nobody's business");
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let of_namespace = |labels| Source::of(vec![], vec![], vec![namespace("shop", labels)], &[]);
    assert!(of_namespace(restricted.clone()).is_empty(), "somebody else's labels");
    let mut delivered = restricted;
    delivered[LABEL_ASSIGNMENT] = json!("default.shop");
    assert_eq!(of_namespace(delivered).policy_names(), [POD_SECURITY]);
}

#[test]
fn constraints_that_profiles_brought_are_judged_and_templates_alone_are_not() {
    let held = |documents: &[Value]| -> Vec<HeldPolicy> {
        let one = |document: &Value| HeldPolicy {
            assignment: "default.rules".to_owned(),
            document: document.clone(),
        };
        documents.iter().map(one).collect()
    };
    let template = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "owners"}});
    let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Owners", "metadata": {"name": "all"}});
    let source = |held: &[HeldPolicy]| Source::of(vec![], vec![], vec![namespace("shop", json!({}))], held);
    let alone = source(&held(std::slice::from_ref(&template)));
    assert!(alone.is_empty() && alone.documents.gatekeeper.is_empty() && alone.namespaces.is_empty());
    let both = source(&held(&[template, constraint.clone()]));
    assert_eq!((both.policy_names(), both.documents.gatekeeper.len()), (vec!["Owners/all".to_owned()], 2));
    assert_eq!(both.profiles["Owners/all"], "default.rules");
    assert_eq!(both.namespaces.len(), 1, "constraints choose by them");
    // What the cluster is too old to know is judged as if it did.
    let old = |mut object: Value, kind: &str| {
        object["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        object["kind"] = json!(kind);
        object
    };
    let kept = [
        old(policy("a", true), "ValidatingAdmissionPolicy"),
        old(binding("a"), "ValidatingAdmissionPolicyBinding"),
    ];
    let kept = source(&held(&kept));
    assert_eq!(kept.policy_names(), ["a"]);
    assert_eq!((kept.documents.bindings.len(), kept.documents.gatekeeper.len()), (1, 0));
    let mut other = constraint;
    other["spec"] = json!({"enforcementAction": "warn"});
    assert!(both.is_outdated_by(&source(&held(&[other])), false));
}

#[test]
fn a_round_ends_with_what_it_judges_by_and_not_with_every_write() {
    let source = |label: &str, names: &[&str]| {
        let namespaces = names.iter().map(|name| namespace(name, json!({"env": label}))).collect();
        Source::of(vec![policy("a", true)], vec![binding("a")], namespaces, &[])
    };
    let one = source("prod", &["shop"]);
    let mut touched = policy("a", true);
    touched["metadata"]["resourceVersion"] = json!("2");
    let same =
        Source::of(vec![touched], vec![binding("a")], vec![namespace("shop", json!({"env": "prod"}))], &[]);
    assert!(!one.is_outdated_by(&same, true));
    assert!(one.is_outdated_by(&source("test", &["shop"]), false), "labels choose");
    let more = source("prod", &["shop", "new"]);
    assert!(!one.is_outdated_by(&more, false), "nothing judged changes");
    assert!(one.is_outdated_by(&more, true), "an object waits for its namespace");
    let mut other = one.clone();
    other.documents.bindings.clear();
    assert!(one.is_outdated_by(&other, false));
}

#[test]
fn kinds_are_watched_once_and_news_not_at_all() {
    let mut newer = kind("apps", "deployments");
    newer.version = "v2".to_owned();
    let served =
        [kind("apps", "deployments"), newer, kind("", "events"), kind("coordination.k8s.io", "leases")];
    let (chosen, beyond) = kinds(&served, &Everything);
    assert_eq!((chosen, beyond), (vec![kind("apps", "deployments")], 0));
    let many: Vec<ServedKind> = (0..MAX_KINDS + 3).map(|index| kind("x", &format!("k{index}"))).collect();
    let (chosen, beyond) = kinds(&many, &Everything);
    assert_eq!((chosen.len(), beyond), (MAX_KINDS, 3));
}

#[test]
fn policies_see_no_values_of_secrets() {
    let secret = || {
        json!({"metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "a": "b"}},
            "type": "Opaque", "data": {"password": "aHVudGVyMg=="}, "stringData": {"other": "plain"}})
    };
    let mut seen = secret();
    without_secrets(&kind("", "secrets"), &mut seen);
    assert_eq!(seen["data"], json!({"password": ""}));
    assert!(!seen.to_string().contains("aHVudGVyMg") && !seen.to_string().contains("plain"));
    assert_eq!(seen["metadata"]["annotations"], json!({"a": "b"}));
    let mut other = secret();
    without_secrets(&kind("", "configmaps"), &mut other);
    assert_eq!(other, secret());
    let mut bare = json!({"metadata": {"name": "s"}});
    without_secrets(&kind("", "secrets"), &mut bare);
    assert_eq!(bare, json!({"metadata": {"name": "s"}}));
}

#[test]
fn figures_count_every_object_once_by_its_worst() {
    use ViolationResult::{Error, Fail};
    let source =
        Source::of(vec![policy("a", true), policy("b", true)], vec![binding("a"), binding("b")], vec![], &[]);
    let kinds = [kind("apps", "deployments"), kind("", "pods")];
    let mut results = Results::default();
    results.put(0, key("good"), judged(&[("a", None), ("b", None)]));
    results.put(0, key("bad"), judged(&[("a", Some(Fail)), ("b", None)]));
    results.put(1, key("odd"), judged(&[("b", Some(Error))]));
    results.put(1, key("nobody"), judged(&[]));
    results.put(1, key("waits"), None);
    assert!(results.waits());
    let state = results.state(&source, &kinds, None);
    let of = |name: &str| state.policies.iter().find(|policy| policy.policy == name).unwrap();
    assert_eq!(of("a").counts, ResultCounts { pass: 1, fail: 1, error: 0 });
    assert_eq!(of("b").counts, ResultCounts { pass: 2, fail: 0, error: 1 });
    assert_eq!(of("a").profile.as_deref(), Some("default.shop"));
    assert_eq!((state.counts, state.unjudged), (ResultCounts { pass: 3, fail: 1, error: 1 }, 1));
    assert_eq!(state.violations[0].object.name, "bad", "failures come first");
    let reports = results.by_namespace(&source, &kinds);
    assert_eq!(reports["shop"]["summary"], json!({"pass": 3, "fail": 1, "error": 1, "warn": 0, "skip": 0}));
    assert_eq!(reports["shop"]["results"][0]["properties"]["profile"], "default.shop");
    // What is mended or gone counts no more; what a new list does not name is gone.
    results.put(0, key("bad"), judged(&[("a", None), ("b", None)]));
    results.gone(1, key("waits"));
    results.keep(1, &BTreeSet::new());
    let state = results.state(&source, &kinds, None);
    assert_eq!((state.counts, state.unjudged), (ResultCounts { pass: 4, fail: 0, error: 0 }, 0));
    assert!(state.is_compliant());
}

#[test]
fn what_is_told_is_bounded_and_says_what_it_leaves_out() {
    let source = Source::of(vec![policy("a", true)], vec![binding("a")], vec![], &[]);
    let mut results = Results::default();
    for index in 0..MAX_VIOLATIONS + 20 {
        results.put(0, key(&format!("x{index}")), judged(&[("a", Some(ViolationResult::Fail))]));
    }
    let state = results.state(&source, &[kind("apps", "deployments")], None);
    assert_eq!((state.violations.len(), state.violations_omitted), (MAX_VIOLATIONS, 20));
    assert_eq!(state.counts.fail, 120);
}
