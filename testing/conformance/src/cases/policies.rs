//! Admission policies at work: CEL that denies, warns, is recorded, or mutates.

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use crate::case;
use crate::case::Case;
use crate::subject::{Answer, Namespace, Subject};

pub(super) const CASES: &[Case] = &[
    case!(
        "policies/deny what their expressions do not hold for",
        ApiServer,
        ["ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment"],
        denying
    ),
    case!(
        "policies/variables are for later expressions",
        ApiServer,
        ["ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables."],
        variables
    ),
    case!("policies/warn where the binding says so", ApiServer, [], warning),
    case!("policies/ask parameters", ApiServer, [], parameters),
    case!("policies/that do not compile are refused", ApiServer, [], refused),
    case!("policies/are checked against the types they match", Controllers, [], type_checked),
    case!(
        "policies/mutate by apply configurations",
        ApiServer,
        [
            "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment",
            "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations",
        ],
        mutating
    ),
    case!("policies/mutate by JSON patches", ApiServer, [], patching),
    case!("policies/judge objects in the version that they name", ApiServer, [], judging_another_version),
];

const ROOT: &str = "/apis/admissionregistration.k8s.io/v1";

/// A sort of policy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Validating,
    Mutating,
}

/// A policy with its binding for one namespace, gone when [`Policy::end`] is called.
struct Policy<'a> {
    subject: &'a Subject,
    space: Namespace<'a>,
    paths: Vec<String>,
}

impl<'a> Policy<'a> {
    /// For config maps and deployments that are created in a namespace of its own; `binding` is added to the binding's spec.
    async fn new(subject: &'a Subject, sort: Sort, spec: Value, binding: Value) -> anyhow::Result<Self> {
        let space = subject.namespace("policies").await?;
        let mut policy = Self { subject, space, paths: Vec::new() };
        let word = if sort == Sort::Validating { "validating" } else { "mutating" };
        let kind =
            if sort == Sort::Validating { "ValidatingAdmissionPolicy" } else { "MutatingAdmissionPolicy" };
        let policies = format!("{ROOT}/{word}admissionpolicies");
        policy.create(&policies, kind, with_rules(spec)).await?;
        let mut bound = json!({"policyName": policy.space.name, "matchResources": {"namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": policy.space.name},
        }}});
        if sort == Sort::Validating {
            bound["validationActions"] = json!(["Deny"]);
        }
        for (key, value) in binding.as_object().into_iter().flatten() {
            bound[key] = value.clone();
        }
        let bindings = format!("{ROOT}/{word}admissionpolicybindings");
        policy.create(&bindings, &format!("{kind}Binding"), bound).await?;
        Ok(policy)
    }

    async fn create(&mut self, collection: &str, kind: &str, spec: Value) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": self.space.name}, "spec": spec,
        });
        let answer = self.subject.post(collection, &object).await?;
        if answer.code == 201 {
            self.paths.push(format!("{collection}/{}", self.space.name));
        }
        answer.expect(201).map(drop)
    }

    /// Tries an object, without keeping it, until what comes is as wanted.
    async fn until(
        &self,
        path: &str,
        object: &Value,
        wanted: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<Answer> {
        loop {
            let answer = self.subject.post(&format!("{path}?dryRun=All"), object).await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            ensure!(
                matches!(answer.code, 201 | 422),
                "neither admitted nor denied: {} {}",
                answer.code,
                answer.json
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn deployments(&self) -> String {
        self.space.of("apps/v1", "deployments")
    }

    async fn end(self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        for path in self.paths.iter().rev() {
            self.subject.delete(path).await?.expect(200)?;
        }
        outcome?;
        self.space.end().await
    }
}

fn with_rules(mut spec: Value) -> Value {
    let rule = |group: &str, resource: &str| json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]});
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] =
            json!({"resourceRules": [rule("apps", "deployments"), rule("", "configmaps")]});
    }
    spec
}

fn only_deployments() -> Value {
    json!({"resourceRules": [{
        "operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
    }]})
}

/// Autoscalers as `autoscaling/v2`.
fn new_autoscalers() -> Value {
    json!({"matchPolicy": "Equivalent", "resourceRules": [{
        "operations": ["CREATE", "UPDATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"],
    }]})
}

/// An autoscaler as `autoscaling/v1`, whose only metric is a field of its own.
fn old_autoscaler(percentage: u32) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
        "targetCPUUtilizationPercentage": percentage,
    }})
}

fn replicated(count: u32) -> Value {
    let mut object = deployment("d");
    object["spec"]["replicas"] = json!(count);
    // A controller shall make nothing of it.
    object["spec"]["paused"] = json!(true);
    object
}

fn replica_set(policy: &Policy<'_>) -> (String, Value) {
    let mut set = replicated(1);
    set["kind"] = json!("ReplicaSet");
    if let Some(fields) = set["spec"].as_object_mut() {
        fields.remove("paused");
    }
    (policy.space.of("apps/v1", "replicasets?dryRun=All"), set)
}

async fn denying(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({
        "matchConstraints": only_deployments(),
        "validations": [
            {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"},
            {"expression": "namespaceObject.metadata.name.startsWith('conformance-policies-')", "message": "another namespace"},
        ],
    });
    let policy = Policy::new(subject, Sort::Validating, spec, json!({})).await?;
    let outcome = async {
        let all = policy.deployments();
        let denied = policy.until(&all, &replicated(1), |answer| answer.code == 422).await?;
        denied.refused(422, "Invalid")?;
        let name = &policy.space.name;
        let wanted = format!(
            "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: \
             wants replicas > 1, got 1"
        );
        ensure!(denied.message() == wanted, "{wanted:?} expected, not {:?}", denied.message());
        subject.post(&all, &replicated(2)).await?.expect(201)?;
        let scaled = subject.patch(&format!("{all}/d"), "merge", &json!({"spec": {"replicas": 1}})).await?;
        scaled.refused(422, "Invalid")?;
        let (path, set) = replica_set(&policy);
        subject.post(&path, &set).await?.expect(201)?;
        let elsewhere = subject.namespace("policies").await?;
        let path = elsewhere.of("apps/v1", "deployments?dryRun=All");
        subject.post(&path, &replicated(1)).await?.expect(201)?;
        elsewhere.end().await
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn variables(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({
        "matchConstraints": only_deployments(),
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
        "validations": [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}],
    });
    let policy = Policy::new(subject, Sort::Validating, spec, json!({})).await?;
    let outcome = async {
        let all = policy.deployments();
        let denied = policy.until(&all, &replicated(1), |answer| answer.code == 422).await?;
        ensure!(
            denied.message().ends_with("denied request: failed expression: variables.replicas > 1"),
            "{}",
            denied.message()
        );
        let even = subject.post(&all, &replicated(2)).await?;
        even.refused(422, "Invalid")?;
        ensure!(even.message().ends_with("failed expression: variables.oddReplicas"), "{}", even.message());
        subject.post(&all, &replicated(3)).await?.expect(201)?;
        let (path, set) = replica_set(&policy);
        subject.post(&path, &set).await?.expect(201)?;
        Ok(())
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn warning(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({"validations": [{"expression": "!has(object.data)", "message": "no data, please"}]});
    let policy =
        Policy::new(subject, Sort::Validating, spec, json!({"validationActions": ["Warn", "Audit"]})).await?;
    let outcome = async {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "1"}});
        let path = policy.space.core("configmaps");
        let warned = policy.until(&path, &map, |answer| !answer.warnings().is_empty()).await?;
        let name = &policy.space.name;
        let wanted = format!(
            "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{name}': no data, please"
        );
        ensure!(warned.code == 201 && warned.warnings() == [wanted.as_str()], "{:?}", warned.warnings());
        Ok(())
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn parameters(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({
        "matchConstraints": only_deployments(),
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)"}],
    });
    let bound = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    let policy = Policy::new(subject, Sort::Validating, spec, bound).await?;
    let outcome = async {
        let all = policy.deployments();
        policy.until(&all, &replicated(1), |answer| answer.code == 422).await?;
        let limits = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "limits"}, "data": {"most": "3"}});
        subject.post(&policy.space.core("configmaps"), &limits).await?.expect(201)?;
        policy.until(&all, &replicated(3), |answer| answer.code == 201).await?;
        subject.post(&all, &replicated(4)).await?.refused(422, "Invalid")
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn refused(subject: &Subject) -> anyhow::Result<()> {
    let policy = |expression: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": format!("conformance-{}", uuid::Uuid::new_v4().simple())},
            "spec": with_rules(json!({"validations": [{"expression": expression}]})),
        })
    };
    let path = format!("{ROOT}/validatingadmissionpolicies?dryRun=All");
    for expression in ["object.", "unknown > 1", "1 + 1"] {
        let answer = subject.post(&path, &policy(expression)).await?;
        answer.refused(422, "Invalid")?;
        let cause = &answer.json["details"]["causes"][0];
        ensure!(cause["field"] == "spec.validations[0].expression", "{expression}: {}", answer.json);
    }
    subject.post(&path, &policy("object.spec.replicas > 1")).await?.expect(201)?;
    Ok(())
}

async fn type_checked(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({
        "matchConstraints": only_deployments(),
        "validations": [{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.nothing == 1"}],
    });
    let policy = Policy::new(subject, Sort::Validating, spec, json!({})).await?;
    let outcome = async {
        let path = format!("{ROOT}/validatingadmissionpolicies/{}", policy.space.name);
        let checked = |answer: &Answer| answer.json["status"]["typeChecking"].is_object();
        let checked = subject.wait_for(&path, checked).await?.json;
        let status = &checked["status"];
        ensure!(status["observedGeneration"] == 1, "{status}");
        let warnings = status["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
        let fields: Vec<_> = warnings.iter().filter_map(|one| one["fieldRef"].as_str()).collect();
        ensure!(fields == ["spec.validations[0].expression", "spec.validations[1].expression"], "{fields:?}");
        let warning = warnings[0]["warning"].as_str().unwrap_or_default();
        ensure!(warning.contains("apps/v1, Kind=Deployment: compilation failed: ERROR:"), "{warning}");
        let warning = warnings[1]["warning"].as_str().unwrap_or_default();
        ensure!(warning.contains("undefined field 'nothing'"), "{warning}");
        Ok(())
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn mutating(subject: &Subject) -> anyhow::Result<()> {
    let expression = "Object{metadata: Object.metadata{annotations: {'mutated-by': 'admission-policy'}}, spec: Object.spec{replicas: 1337}}";
    let spec = json!({
        "matchConstraints": only_deployments(), "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    });
    let policy = Policy::new(subject, Sort::Mutating, spec, json!({})).await?;
    let outcome = async {
        let all = policy.deployments();
        let changed = |answer: &Answer| answer.json["spec"]["replicas"] == 1337;
        let made = policy.until(&all, &replicated(1), changed).await?.json;
        ensure!(made["metadata"]["annotations"]["mutated-by"] == "admission-policy", "{}", made["metadata"]);
        ensure!(made["spec"]["template"]["spec"]["containers"][1]["name"] == "two", "the rest stays: {made}");
        let elsewhere = subject.namespace("policies").await?;
        let path = elsewhere.of("apps/v1", "deployments?dryRun=All");
        let made = subject.post(&path, &replicated(1)).await?.expect(201)?;
        ensure!(made["spec"]["replicas"] == 1, "another namespace: {made}");
        elsewhere.end().await
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn patching(subject: &Subject) -> anyhow::Result<()> {
    let expression = "[JSONPatch{op: 'test', path: '/spec/paused', value: true}, \
         JSONPatch{op: 'add', path: '/metadata/labels', value: {'a~b/c': 'd'}}, \
         JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('e/f'), value: 'g'}]";
    let spec = json!({
        "matchConstraints": only_deployments(), "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "paused", "expression": "object.spec.paused == true"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression.replace("'a~b/c'", "'a-b/c'")}}],
    });
    let policy = Policy::new(subject, Sort::Mutating, spec, json!({})).await?;
    let outcome = async {
        let labelled = |answer: &Answer| answer.json["metadata"]["labels"].is_object();
        let made = policy.until(&policy.deployments(), &replicated(1), labelled).await?.json;
        let labels = &made["metadata"]["labels"];
        ensure!(*labels == json!({"a-b/c": "d", "e/f": "g"}), "{labels}");
        Ok(())
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}

async fn judging_another_version(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({
        "matchConstraints": new_autoscalers(),
        "validations": [
            {"expression": "object.spec.metrics[0].resource.target.averageUtilization < 50"},
            {"expression": "object.apiVersion == 'autoscaling/v2' && request.kind.version == 'v2' && request.resource.version == 'v2' && request.requestKind.version == 'v1' && request.requestResource.version == 'v1'"},
        ],
    });
    let policy = Policy::new(subject, Sort::Validating, spec, json!({})).await?;
    let outcome = async {
        let all = policy.space.of("autoscaling/v1", "horizontalpodautoscalers");
        let denied = policy.until(&all, &old_autoscaler(50), |answer| answer.code == 422).await?;
        let wanted = "failed expression: object.spec.metrics[0].resource.target.averageUtilization < 50";
        ensure!(denied.message().ends_with(wanted), "{}", denied.message());
        subject.post(&all, &old_autoscaler(49)).await?.expect(201)?;
        let path = format!("{all}/a");
        let change = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
        subject.patch(&path, "merge", &change).await?.refused(422, "Invalid")
    };
    let outcome = outcome.await;
    policy.end(outcome).await
}
