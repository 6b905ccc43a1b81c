//! What policies say of objects that are there already.

use std::convert::Infallible;

use futures::FutureExt as _;
use serde_json::json;

use super::*;
use crate::admission_policy::ParamKind;

struct World {
    namespace: Value,
    params: Vec<Value>,
}

impl Surroundings for World {
    type Error = Infallible;

    async fn namespace(&self, _: &str) -> Result<Value, Infallible> {
        Ok(self.namespace.clone())
    }

    fn equivalents(&self, _: &GroupVersionResource) -> Vec<GroupVersionResource> {
        vec![GroupVersionResource::new("apps", "v1beta1", "deployments")]
    }

    fn param_kind(&self, _: &str, kind: &str) -> Option<ParamKind> {
        (kind == "ConfigMap").then(|| ParamKind {
            resource: GroupVersionResource::new("", "v1", "configmaps"),
            namespaced: true,
        })
    }

    async fn param(&self, _: &ParamKind, _: &str, name: &str) -> Result<Option<Value>, Infallible> {
        Ok(self.params.iter().find(|param| param["metadata"]["name"] == name).cloned())
    }

    async fn params(&self, _: &ParamKind, _: &str) -> Result<Vec<Value>, Infallible> {
        Ok(self.params.clone())
    }
}

fn world() -> World {
    World {
        namespace: json!({"metadata": {"name": "shop", "labels": {"env": "prod",
            "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/audit": "restricted"}}}),
        params: vec![json!({"metadata": {"name": "limits"}, "data": {"max": "3"}})],
    }
}

fn deployment(replicas: i64) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": replicas}})
}

fn judged(policy: Value, binding: Value, object: &Value) -> Judgement {
    let policy = json!({"metadata": {"name": "p"}, "spec": policy});
    let mut bound = json!({"metadata": {"name": "b"}, "spec": binding});
    bound["spec"]["policyName"] = json!("p");
    let set = PolicySet::compile([&policy], [&bound], None);
    let (kind, resource) = (
        GroupVersionKind::new("apps", "v1", "Deployment"),
        GroupVersionResource::new("apps", "v1", "deployments"),
    );
    let subject = Subject { kind: &kind, resource: &resource, object };
    set.judge(&subject, &world()).now_or_never().unwrap().unwrap()
}

fn rules(operations: &[&str], version: &str) -> Value {
    json!({"resourceRules": [{"operations": operations, "apiGroups": ["apps"], "apiVersions": [version],
        "resources": ["deployments"]}]})
}

fn messages(judgement: &Judgement) -> Vec<(Outcome, &str)> {
    judgement.findings.iter().map(|finding| (finding.outcome, finding.message.as_str())).collect()
}

#[test]
fn an_object_is_judged_as_if_it_were_written_now() {
    let validations = json!([{"expression": "object.spec.replicas <= 5", "message": "too many"},
        {"expression": "request.operation == 'CREATE' ? oldObject == null : oldObject == object"}]);
    let audit = json!({"validationActions": ["Audit", "Warn"]});
    for (operations, looked_at) in [
        (&["CREATE"][..], true),
        (&["UPDATE"], true),
        (&["CREATE", "UPDATE"], true),
        (&["DELETE", "CONNECT"], false),
    ] {
        let policy = json!({"matchConstraints": rules(operations, "v1"), "validations": validations});
        let bad = judged(policy.clone(), audit.clone(), &deployment(6));
        let wanted: &[_] = if looked_at { &[(Outcome::Fail, "too many")] } else { &[] };
        assert_eq!(messages(&bad), wanted, "{operations:?}");
        assert_eq!(bad.judged.len(), usize::from(looked_at));
        let good = judged(policy, audit.clone(), &deployment(5));
        assert!(good.findings.is_empty() && good.judged == bad.judged);
    }
}

#[test]
fn what_cannot_be_found_out_is_an_error_and_no_violation() {
    let policy = |failure: &str| {
        json!({"failurePolicy": failure, "matchConstraints": rules(&["*"], "v1"),
            "validations": [{"expression": "object.spec.nope == 1"}, {"expression": "authorizer.path('/x').check('get').allowed()"}]})
    };
    let binding = json!({"validationActions": ["Deny"]});
    let found = judged(policy("Fail"), binding.clone(), &deployment(1));
    assert_eq!(found.findings.len(), 2);
    assert!(found.findings.iter().all(|finding| finding.outcome == Outcome::Error), "{found:?}");
    assert!(judged(policy("Ignore"), binding, &deployment(1)).findings.is_empty());
}

#[test]
fn constraints_conditions_and_parameters_are_those_of_admission() {
    let policy = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": rules(&["CREATE"], "v1beta1"),
        "matchConditions": [{"name": "c", "expression": "object.metadata.name != 'exempt'"}],
        "variables": [{"name": "max", "expression": "int(params.data.max)"}],
        "validations": [{"expression": "object.spec.replicas <= variables.max",
            "messageExpression": "'at most ' + string(variables.max) + ' in ' + namespaceObject.metadata.name"}]});
    let binding = |name: &str| {
        json!({"validationActions": ["Deny"], "paramRef": {"name": name, "parameterNotFoundAction": "Deny"},
        "matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}})
    };
    // The deployment is `apps/v1`; the rule names another version of the same objects.
    let bad = judged(policy.clone(), binding("limits"), &deployment(4));
    assert_eq!(messages(&bad), [(Outcome::Fail, "at most 3 in shop")]);
    let missing = judged(policy.clone(), binding("nope"), &deployment(1));
    assert_eq!(
        messages(&missing),
        [(
            Outcome::Error,
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        )]
    );
    let elsewhere = json!({"validationActions": ["Deny"], "paramRef": {"name": "limits"},
        "matchResources": {"namespaceSelector": {"matchLabels": {"env": "test"}}}});
    assert_eq!(judged(policy.clone(), elsewhere, &deployment(9)), Judgement::default());
    let mut exempt = deployment(9);
    exempt["metadata"]["name"] = json!("exempt");
    let exempted = judged(policy, binding("limits"), &exempt);
    assert_eq!((exempted.judged.len(), exempted.findings.len()), (1, 0));
}

#[test]
fn pods_and_what_makes_them_are_held_to_their_namespaces_labels() {
    let set = PolicySet::compile([], [], Some(Standards::default()));
    let pod = json!({"metadata": {"name": "x", "namespace": "shop"},
        "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    let workload =
        json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": {"template": {"spec": pod["spec"]}}});
    let judge = |resource: GroupVersionResource, kind: &str, object: &Value| {
        let kind = GroupVersionKind::new(resource.group.clone(), "v1", kind);
        assert!(set.may_judge(&resource, ""));
        let subject = Subject { kind: &kind, resource: &resource, object };
        set.judge(&subject, &world()).now_or_never().unwrap().unwrap()
    };
    let found = judge(GroupVersionResource::new("", "v1", "pods"), "Pod", &pod);
    let rules: Vec<_> = found.findings.iter().map(|one| (one.rule.as_str(), one.actions.join(","))).collect();
    assert_eq!(
        rules,
        [("baseline:latest", "Deny".to_owned()), ("restricted:latest", "Audit,Warn".to_owned())]
    );
    assert!(found.findings[0].message.contains("host namespaces (hostNetwork=true)"), "{found:?}");
    let found = judge(GroupVersionResource::new("apps", "v1", "deployments"), "Deployment", &workload);
    assert_eq!(found.findings.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>(), ["restricted:latest"]);
    assert!(!set.may_judge(&GroupVersionResource::new("", "v1", "configmaps"), "ConfigMap"));
    let elsewhere = Standards { among: Some("delivered".to_owned()), ..Standards::default() };
    let elsewhere = PolicySet::compile([], [], Some(elsewhere));
    let (kind, resource) =
        (GroupVersionKind::new("", "v1", "Pod"), GroupVersionResource::new("", "v1", "pods"));
    let subject = Subject { kind: &kind, resource: &resource, object: &pod };
    assert_eq!(elsewhere.judge(&subject, &world()).now_or_never().unwrap().unwrap(), Judgement::default());
}

#[test]
fn only_bound_policies_make_a_kind_worth_watching() {
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": rules(&["CREATE"], "v1")}});
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    let deployments = GroupVersionResource::new("apps", "v1", "deployments");
    assert!(!PolicySet::compile([&policy], [], None).may_judge(&deployments, "Deployment"));
    let bound = PolicySet::compile([&policy], [&binding], None);
    assert!(bound.may_judge(&deployments, "Deployment"));
    assert!(!bound.may_judge(&GroupVersionResource::new("apps", "v1", "daemonsets"), "DaemonSet"));
}
