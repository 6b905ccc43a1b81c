//! What is judged and by what, and what was found. Pure.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::compliance::{
    ComplianceState, MAX_VIOLATIONS, PolicyCompliance, PolicyViolation, ResultCounts, ViolationResult, cut,
};
use fleet_objects::{LABEL_ASSIGNMENT, ObjectReference};
use serde_json::{Value, json};

use super::{Finding, Judged, Policies, PolicyDocuments, ServedKind};
use crate::enforcer::HeldPolicy;

/// Kinds watched at most. A policy for everything (`*`) is for some 70 kinds of a plain cluster.
pub(super) const MAX_KINDS: usize = 200;
/// Objects whose results are kept: at some 200 bytes each 20 MB. More are counted and not judged.
pub(super) const MAX_OBJECTS: usize = 100_000;
/// Objects kept for policies that look at others than the one that is judged: at some 2 kB each, twice, 40 MB.
pub(super) const MAX_INVENTORY: usize = 10_000;
/// What is wrong with one object at most.
const MAX_FINDINGS: usize = 20;
/// Results listed in one report object: with their messages well below what an API server stores in one object.
pub(super) const MAX_REPORTED: usize = 500;
/// Under which policy the Pod Security Standards are reported.
const POD_SECURITY: &str = "pod-security";
const POD_SECURITY_LABELS: &str = "pod-security.kubernetes.io/";
/// Kinds that are news rather than state: they change all the time and nobody can mend them.
const NEWS: [(&str, &str); 4] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    ("coordination.k8s.io", "leases"),
    ("", "componentstatuses"),
];

/// A namespace and a name.
pub(super) type Key = (String, String);

/// What is to be judged by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Source {
    pub(super) documents: PolicyDocuments,
    /// Of namespaces what policies choose and judge by; without the rest a change of it begins no round.
    pub(super) namespaces: BTreeMap<String, Value>,
    /// Which profile brought a policy.
    profiles: BTreeMap<String, String>,
    /// Constraints as results name them.
    constraints: Vec<String>,
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn assignment(object: &Value) -> Option<String> {
    object["metadata"]["labels"][LABEL_ASSIGNMENT].as_str().map(str::to_owned)
}

fn is_of(document: &Value, group: &str) -> bool {
    document["apiVersion"].as_str().is_some_and(|version| version.starts_with(group))
}

/// How results name a constraint (`policy_engines::gatekeeper` writes it so, too); `None`: it is none.
fn constraint(document: &Value) -> Option<String> {
    is_of(document, "constraints.gatekeeper.sh/")
        .then(|| format!("{}/{}", document["kind"].as_str().unwrap_or_default(), name(document)))
}

/// Only what changes what is judged: not the version, the status, nor who manages which field.
fn essential(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "metadata": {"name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"]},
        "spec": object["spec"],
    })
}

/// A namespace as policies see it, but for its version.
fn essential_namespace(object: &Value) -> Value {
    let mut namespace = object.clone();
    if let Some(metadata) = namespace.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    namespace
}

impl Source {
    pub(super) fn of(
        policies: Vec<Value>,
        bindings: Vec<Value>,
        namespaces: Vec<Value>,
        held: &[HeldPolicy],
    ) -> Self {
        let (admission, held): (Vec<&HeldPolicy>, Vec<&HeldPolicy>) =
            held.iter().partition(|held| is_of(&held.document, "admissionregistration.k8s.io/"));
        let (mut policies, mut bindings) = (policies, bindings);
        for HeldPolicy { document, .. } in admission {
            let into =
                if document["kind"] == "ValidatingAdmissionPolicy" { &mut policies } else { &mut bindings };
            into.push(document.clone());
        }
        let sorted = |objects: Vec<Value>| -> Vec<Value> {
            let by_name: BTreeMap<String, Value> =
                objects.iter().map(|object| (name(object), essential(object))).collect();
            by_name.into_values().collect()
        };
        let mut profiles: BTreeMap<String, String> = BTreeMap::new();
        let bound: BTreeSet<String> = bindings
            .iter()
            .filter_map(|binding| binding["spec"]["policyName"].as_str().map(str::to_owned))
            .collect();
        let policies: Vec<Value> =
            policies.into_iter().filter(|policy| bound.contains(&name(policy))).collect();
        for policy in &policies {
            profiles.extend(assignment(policy).map(|profile| (name(policy), profile)));
        }
        let standards = namespaces.iter().any(|namespace| {
            let labels = namespace["metadata"]["labels"].as_object();
            assignment(namespace).is_some()
                && labels.is_some_and(|labels| labels.keys().any(|key| key.starts_with(POD_SECURITY_LABELS)))
        });
        let of_policies = |binding: &Value| {
            let policy = binding["spec"]["policyName"].as_str().unwrap_or_default();
            policies.iter().any(|known| name(known) == policy)
        };
        let bindings: Vec<Value> = bindings.into_iter().filter(of_policies).collect();
        let mut constraints = Vec::new();
        for HeldPolicy { assignment, document } in &held {
            if let Some(name) = constraint(document) {
                profiles.insert(name.clone(), assignment.clone());
                constraints.push(name);
            }
        }
        constraints.sort();
        constraints.dedup();
        // Templates that nothing is held to judge nothing.
        let gatekeeper = if constraints.is_empty() { Vec::new() } else { held };
        let judges = standards || !policies.is_empty() || !constraints.is_empty();
        Self {
            documents: PolicyDocuments {
                policies: sorted(policies),
                bindings: sorted(bindings),
                gatekeeper: gatekeeper.iter().map(|held| held.document.clone()).collect(),
                pod_security: standards.then_some(LABEL_ASSIGNMENT),
            },
            // Where nothing is judged, namespaces may change as they like.
            namespaces: namespaces
                .iter()
                .filter(|_| judges)
                .map(|namespace| (name(namespace), essential_namespace(namespace)))
                .collect(),
            profiles,
            constraints,
        }
    }

    /// Whether nothing is judged.
    pub(super) fn is_empty(&self) -> bool {
        self.documents.policies.is_empty()
            && self.documents.pod_security.is_none()
            && self.constraints.is_empty()
    }

    /// Whether `newer` says of something that is known here another thing, or `all`: anything else at all. A namespace
    /// more or less changes nothing of the objects judged already.
    pub(super) fn is_outdated_by(&self, newer: &Self, all: bool) -> bool {
        let known = |name: &String, value: &Value| newer.namespaces.get(name).is_some_and(|new| new != value);
        self.documents != newer.documents
            || self.namespaces.iter().any(|(name, value)| known(name, value))
            || (all && self.namespaces != newer.namespaces)
    }

    fn policy_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.documents.policies.iter().map(name).collect();
        names.extend(self.constraints.iter().cloned());
        names.extend(self.documents.pod_security.map(|_| POD_SECURITY.to_owned()));
        names
    }
}

/// The kinds to watch, one version each, and how many there are beyond the bound.
pub(super) fn kinds(served: &[ServedKind], policies: &dyn Policies) -> (Vec<ServedKind>, usize) {
    let mut chosen: BTreeMap<(&str, &str), &ServedKind> = BTreeMap::new();
    for kind in served {
        let place = (kind.group.as_str(), kind.plural.as_str());
        if !NEWS.contains(&place) && policies.may_judge(kind) {
            // Served in the order of preference.
            chosen.entry(place).or_insert(kind);
        }
    }
    let beyond = chosen.len().saturating_sub(MAX_KINDS);
    (chosen.into_values().take(MAX_KINDS).cloned().collect(), beyond)
}

/// Takes the values out of a Secret: policies come from the hub, and what they say is told to the hub.
pub(super) fn without_secrets(kind: &ServedKind, object: &mut Value) {
    if !kind.group.is_empty() || kind.plural != "secrets" {
        return;
    }
    for part in ["data", "stringData"] {
        let values = object.get_mut(part).and_then(Value::as_object_mut);
        values.into_iter().flatten().for_each(|(_, value)| *value = Value::String(String::new()));
    }
    // A whole Secret as it was applied once.
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// What was found of each object.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    objects: BTreeMap<(usize, Key), Judged>,
    /// Seen and not judged.
    unjudged: BTreeSet<(usize, Key)>,
    /// Beyond the bound; of these as many again are told apart.
    beyond: BTreeSet<(usize, Key)>,
}

impl Results {
    /// Takes what was found of an object; `None`: it could not be judged.
    pub(super) fn put(&mut self, kind: usize, key: Key, judged: Option<Judged>) {
        let place = (kind, key);
        self.unjudged.remove(&place);
        self.beyond.remove(&place);
        match judged {
            // Nobody looks at it.
            Some(judged) if judged.policies.is_empty() => drop(self.objects.remove(&place)),
            Some(_) if self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(&place) => {
                if self.beyond.len() < MAX_OBJECTS {
                    self.beyond.insert(place);
                }
            }
            Some(mut judged) => {
                judged.findings.truncate(MAX_FINDINGS);
                judged.findings.iter_mut().for_each(|finding| cut(&mut finding.message));
                self.objects.insert(place, judged);
            }
            None => {
                self.objects.remove(&place);
                if self.unjudged.len() < MAX_OBJECTS {
                    self.unjudged.insert(place);
                }
            }
        }
    }

    pub(super) fn gone(&mut self, kind: usize, key: Key) {
        let place = (kind, key);
        self.unjudged.remove(&place);
        self.beyond.remove(&place);
        self.objects.remove(&place);
    }

    /// A new list of a kind has ended: what it did not name is gone.
    pub(super) fn keep(&mut self, kind: usize, listed: &BTreeSet<Key>) {
        let kept = |place: &(usize, Key)| place.0 != kind || listed.contains(&place.1);
        self.objects.retain(|place, _| kept(place));
        self.unjudged.retain(kept);
        self.beyond.retain(kept);
    }

    /// Whether some object waits for its namespace.
    pub(super) fn waits(&self) -> bool {
        !self.unjudged.is_empty()
    }

    fn counts(&self, policy: &str) -> ResultCounts {
        let mut counts = ResultCounts::default();
        for judged in self.objects.values().filter(|judged| judged.policies.iter().any(|own| own == policy)) {
            match worst(judged, policy) {
                None => counts.pass += 1,
                Some(ViolationResult::Fail) => counts.fail += 1,
                Some(ViolationResult::Error) => counts.error += 1,
            }
        }
        counts
    }

    /// What is told to the hub.
    pub(super) fn state(
        &self,
        source: &Source,
        kinds: &[ServedKind],
        problem: Option<String>,
    ) -> ComplianceState {
        let mut policies = Vec::new();
        let mut counts = ResultCounts::default();
        for policy in source.policy_names() {
            let own = self.counts(&policy);
            counts.pass += own.pass;
            counts.fail += own.fail;
            counts.error += own.error;
            let profile = source.profiles.get(&policy).cloned();
            policies.push(PolicyCompliance { policy, profile, counts: own });
        }
        let all = self.objects.values().map(|judged| judged.findings.len() as u64).sum::<u64>();
        let mut violations: Vec<(&(usize, Key), &Finding)> = self
            .objects
            .iter()
            .flat_map(|(place, judged)| judged.findings.iter().map(move |finding| (place, finding)))
            .collect();
        violations.sort_by_key(|(place, finding)| (finding.result, &finding.policy, *place));
        violations.truncate(MAX_VIOLATIONS);
        let listed = violations.len() as u64;
        let violation = |((kind, key), finding): (&(usize, Key), &Finding)| {
            let object = kinds.get(*kind).map(|kind| reference(kind, key))?;
            Some(PolicyViolation {
                policy: finding.policy.clone(),
                rule: finding.rule.clone(),
                result: finding.result,
                object,
                message: finding.message.clone(),
                actions: finding.actions.clone(),
            })
        };
        ComplianceState {
            counts,
            policies,
            violations: violations.into_iter().filter_map(violation).collect(),
            violations_omitted: all.saturating_sub(listed),
            unjudged: (self.unjudged.len() + self.beyond.len()) as u64,
            problem,
        }
    }

    /// Figures and results of each namespace, "" for what is in none, as report objects show them.
    pub(super) fn by_namespace(&self, source: &Source, kinds: &[ServedKind]) -> BTreeMap<String, Value> {
        let mut reports: BTreeMap<&str, (ResultCounts, Vec<Value>)> = BTreeMap::new();
        for ((kind, key), judged) in &self.objects {
            let Some(kind) = kinds.get(*kind) else { continue };
            let (counts, results) = reports.entry(key.0.as_str()).or_default();
            for policy in &judged.policies {
                match worst(judged, policy) {
                    None => counts.pass += 1,
                    Some(ViolationResult::Fail) => counts.fail += 1,
                    Some(ViolationResult::Error) => counts.error += 1,
                }
            }
            let left = MAX_REPORTED.saturating_sub(results.len());
            results.extend(judged.findings.iter().take(left).map(|finding| {
                let profile = source.profiles.get(&finding.policy);
                result(finding, kind, key, profile.map(String::as_str))
            }));
        }
        let document = |(counts, results): (ResultCounts, Vec<Value>)| {
            let ResultCounts { pass, fail, error } = counts;
            json!({"summary": {"pass": pass, "fail": fail, "error": error, "warn": 0, "skip": 0}, "results": results})
        };
        reports.into_iter().map(|(namespace, report)| (namespace.to_owned(), document(report))).collect()
    }
}

fn worst(judged: &Judged, policy: &str) -> Option<ViolationResult> {
    judged.findings.iter().filter(|finding| finding.policy == policy).map(|finding| finding.result).max()
}

fn reference(kind: &ServedKind, (namespace, name): &Key) -> ObjectReference {
    ObjectReference {
        api_version: kind.api_version(),
        kind: kind.kind.clone(),
        namespace: (!namespace.is_empty()).then(|| namespace.clone()),
        name: name.clone(),
    }
}

/// One result of a report (`wgpolicyk8s.io`, `openreports.io`).
fn result(finding: &Finding, kind: &ServedKind, key: &Key, profile: Option<&str>) -> Value {
    let word = match finding.result {
        ViolationResult::Fail => "fail",
        ViolationResult::Error => "error",
    };
    let mut resource = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "name": key.1});
    if !key.0.is_empty() {
        resource["namespace"] = json!(key.0);
    }
    let mut result = json!({
        "source": "fairlead", "policy": finding.policy, "rule": finding.rule, "result": word,
        "message": finding.message, "scored": true, "resources": [resource],
        "properties": {"actions": finding.actions.join(",")},
    });
    if let Some(profile) = profile {
        result["properties"]["profile"] = json!(profile);
    }
    result
}

#[cfg(test)]
mod tests;
