//! Kinds by which the API server itself is set up: flow control, admission, quotas.

use serde_json::{Value, json};

use super::{condition, kind};
use crate::case::Case;
use crate::operations::Kind;

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/flow schemas",
        ["API priority and fairness should support FlowSchema API operations"],
        flow_schema()
    ),
    kind!(
        "kinds/priority level configurations",
        ["API priority and fairness should support PriorityLevelConfiguration API operations"],
        priority_level()
    ),
    kind!(
        "kinds/validating admission policies",
        [
            "ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations"
        ],
        validating_policy()
    ),
    kind!(
        "kinds/validating admission policy bindings",
        [
            "ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations"
        ],
        binding("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .with_change(json!({"spec": {"validationActions": ["Warn"]}}))
    ),
    kind!(
        "kinds/mutating admission policies",
        [
            "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations"
        ],
        mutating_policy()
    ),
    kind!(
        "kinds/mutating admission policy bindings",
        [
            "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations"
        ],
        binding("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
            .with_change(json!({"spec": {"policyName": "nothing-else.example.com"}}))
    ),
    kind!(
        "kinds/resource quotas",
        [
            "ResourceQuota should be able to update and delete ResourceQuota.",
            "ResourceQuota should manage the lifecycle of a ResourceQuota",
        ],
        Kind::namespaced(
            "v1",
            "resourcequotas",
            json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "spec": {"hard": {"requests.storage": "500Mi", "services": "10"}},
            })
        )
        .with_status(json!({"hard": {"services": "7"}, "used": {"services": "3"}}))
        .with_change(json!({"spec": {"hard": {"requests.storage": "750Mi"}}}))
    ),
];

fn flow_schema() -> Kind {
    let body = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "spec": {
            "matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "nobody-at-all"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    });
    Kind::of_cluster("flowcontrol.apiserver.k8s.io/v1", "flowschemas", body)
        .with_status_alone(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"matchingPrecedence": 9999}}))
}

fn priority_level() -> Kind {
    let body = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"},
        }},
    });
    Kind::of_cluster("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", body)
        .with_status_alone(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"limited": {"nominalConcurrencyShares": 4}}}))
}

/// What no request is.
fn nothing() -> Value {
    json!({"resourceRules": [{
        "operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["nothings"],
    }]})
}

fn validating_policy() -> Kind {
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "spec": {
            "matchConstraints": nothing(), "failurePolicy": "Fail",
            "validations": [{"expression": "object.spec.replicas <= 100", "messageExpression": "'at most 100'"}],
        },
    });
    Kind::of_cluster("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", body)
        .with_status_alone(json!({"conditions": [condition()]}))
        .with_change(json!({"spec": {"failurePolicy": "Ignore"}}))
}

fn mutating_policy() -> Kind {
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "spec": {
            "matchConstraints": nothing(), "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 100}}"},
            }],
        },
    });
    Kind::of_cluster("admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", body)
        .with_change(json!({"spec": {"failurePolicy": "Ignore"}}))
}

fn binding(kind: &str, resource: &'static str) -> Kind {
    let mut spec = json!({"policyName": "nothing.example.com", "matchResources": nothing()});
    if kind.starts_with("Validating") {
        spec["validationActions"] = json!(["Deny"]);
    }
    let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "spec": spec});
    Kind::of_cluster("admissionregistration.k8s.io/v1", resource, body)
}
