//! Existing objects judged by policies: what a ValidatingAdmissionPolicy would say if the object were written now, what
//! Gatekeeper's constraints say of it, and what the Pod Security Standards do.
//!
//! An object is judged as if it were created; by a policy that is for updates alone, as if it were written without a
//! change. DELETE and CONNECT are not judged: nothing of them stands still. Who asks is [`USER`], who has no rights, so
//! expressions that ask the authorizer fail.
//!
//! Must never: report an object as breaking a policy that could not be evaluated; that is an [`Outcome::Error`].

pub mod offline;

use kind_rules::json::text;
use kube_objects::{GroupVersionKind, GroupVersionResource, UserInfo};
use serde_json::Value;

use crate::admission_policy::{
    Binding, Decision, FailurePolicy, Inputs, Invocation, Policy, Request, Surroundings, ValidatingPolicy,
    Wanted, is_exempt, namespace_document, request_document, select,
};
use crate::cel::authorizer::Question;
use crate::gatekeeper::{Gatekeeper, Reviewed, Said, SyncKind};
use crate::pod_security::{self, Level, LevelVersion};

/// The name under which the Pod Security Standards are reported.
pub const POD_SECURITY: &str = "pod-security";
/// Whom policies see as the one who writes.
pub const USER: &str = "system:fairlead:audit";

/// As which operations existing objects are judged, in this order.
const OPERATIONS: [&str; 2] = ["CREATE", "UPDATE"];

/// Policies to judge by, compiled.
#[derive(Debug, Default)]
pub struct PolicySet {
    policies: Vec<Policy<ValidatingPolicy>>,
    bindings: Vec<Binding>,
    standards: Option<Standards>,
    gatekeeper: Gatekeeper,
}

/// How pods are held to the Pod Security Standards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standards {
    /// What counts where a namespace's labels say nothing.
    pub defaults: pod_security::Policy,
    /// Only in namespaces with this label.
    pub among: Option<String>,
}

/// An object to judge. Its namespace and name are what its metadata says.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its kind.
    pub kind: &'a GroupVersionKind,
    /// Where it is served.
    pub resource: &'a GroupVersionResource,
    /// The object.
    pub object: &'a Value,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy's name, a constraint's kind and name (`K8sRequiredLabels/owners`), or [`POD_SECURITY`].
    pub policy: String,
    /// The binding's; "" for constraints, the Pod Security Standards and where the policy itself cannot be used.
    pub binding: String,
    /// `validations[0]`, or a level of the standards like `restricted:latest`; "" for constraints and for a policy that cannot be
    /// used.
    pub rule: String,
    /// Whether it breaks the rule.
    pub outcome: Outcome,
    /// What is to happen: `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
    /// Why.
    pub message: String,
}

/// What judging came to, where it was not that all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object breaks the policy.
    Fail,
    /// Whether it does could not be found out.
    Error,
}

/// What the policies said of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The policies that judged it, whatever they said.
    pub judged: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl PolicySet {
    /// Compiles ValidatingAdmissionPolicies and their bindings. `standards`: pods and what makes pods are judged by the
    /// labels of their namespaces.
    #[must_use]
    pub fn compile<'a>(
        policies: impl IntoIterator<Item = &'a Value>,
        bindings: impl IntoIterator<Item = &'a Value>,
        standards: Option<Standards>,
    ) -> Self {
        let policies = policies.into_iter().map(|object| Policy::of(object, ValidatingPolicy::compile));
        Self {
            policies: policies.collect(),
            bindings: bindings.into_iter().map(Binding::of).collect(),
            standards,
            gatekeeper: Gatekeeper::default(),
        }
    }

    /// The same with constraints.
    #[must_use]
    pub fn with_constraints(mut self, gatekeeper: Gatekeeper) -> Self {
        self.gatekeeper = gatekeeper;
        self
    }

    /// The kinds whose objects constraints look at besides the one that is judged; give them by [`Self::set_inventory`].
    #[must_use]
    pub fn inventory_kinds(&self) -> Vec<SyncKind> {
        self.gatekeeper.inventory_kinds()
    }

    /// The objects of [`Self::inventory_kinds`], as they are from now on.
    ///
    /// # Errors
    /// When they cannot be taken.
    pub fn set_inventory<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<(), String> {
        self.gatekeeper.set_inventory(objects)
    }

    /// Whether objects of a resource may be judged at all.
    #[must_use]
    pub fn may_judge(&self, resource: &GroupVersionResource, kind: &str) -> bool {
        let bound = |policy: &&Policy<ValidatingPolicy>| {
            self.bindings.iter().any(|binding| binding.policy == policy.name)
        };
        let standards =
            self.standards.is_some() && pod_security::makes_pods(&resource.group, &resource.resource);
        standards
            || self.gatekeeper.may_judge(&resource.group, kind)
            || self.policies.iter().filter(bound).any(|policy| policy.may_want(&OPERATIONS, resource))
    }

    /// API version and kind of what policies take parameters from.
    #[must_use]
    pub fn param_kinds(&self) -> Vec<(String, String)> {
        let kinds = self.policies.iter().filter_map(Policy::param_kind);
        let mut kinds: Vec<_> = kinds.map(|(version, kind)| (version.to_owned(), kind.to_owned())).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Judges one object.
    ///
    /// # Errors
    /// As the surroundings'; nothing was found out then.
    pub async fn judge<S: Surroundings>(
        &self,
        subject: &Subject<'_>,
        surroundings: &S,
    ) -> Result<Judgement, S::Error> {
        let mut judgement = Judgement::default();
        for policy in &self.policies {
            self.judge_by(policy, subject, surroundings, &mut judgement).await?;
        }
        self.by_constraints(subject, surroundings, &mut judgement).await?;
        if let Some(standards) = &self.standards {
            by_standards(standards, subject, surroundings, &mut judgement).await?;
        }
        Ok(judgement)
    }

    async fn by_constraints<S: Surroundings>(
        &self,
        subject: &Subject<'_>,
        surroundings: &S,
        judgement: &mut Judgement,
    ) -> Result<(), S::Error> {
        let kind = subject.kind;
        if !self.gatekeeper.may_judge(&kind.group, &kind.kind) {
            return Ok(());
        }
        let namespace = match text(&subject.object["metadata"], "namespace") {
            "" => None,
            name => Some(surroundings.namespace(name).await?),
        };
        let reviewed =
            Reviewed { kind, object: subject.object, namespace: namespace.as_ref(), request: None };
        for (constraint, Said { mut violations, errors }) in self.gatekeeper.review(&reviewed) {
            let policy = constraint.policy();
            violations.dedup();
            let found = violations.into_iter().map(|message| (Outcome::Fail, message));
            let found = found.chain(errors.into_iter().map(|message| (Outcome::Error, message)));
            judgement.findings.extend(found.map(|(outcome, message)| Finding {
                policy: policy.clone(),
                binding: String::new(),
                rule: String::new(),
                outcome,
                actions: constraint.actions.clone(),
                message,
            }));
            judgement.judged.push(policy);
        }
        Ok(())
    }

    async fn judge_by<S: Surroundings>(
        &self,
        policy: &Policy<ValidatingPolicy>,
        subject: &Subject<'_>,
        surroundings: &S,
        judgement: &mut Judgement,
    ) -> Result<(), S::Error> {
        if is_exempt(subject.resource) {
            return Ok(());
        }
        for operation in OPERATIONS {
            let request = subject.request(operation);
            let wanted = select([policy], &self.bindings, &request, surroundings).await?;
            if wanted.is_empty() {
                continue;
            }
            judgement.judged.push(policy.name.clone());
            let namespace = match request.within {
                "" => Value::Null,
                name => namespace_document(&surroundings.namespace(name).await?),
            };
            for wanted in &wanted {
                match wanted {
                    Wanted::Misconfigured(one) if policy.program.failure_policy() == FailurePolicy::Fail => {
                        judgement.findings.push(Finding {
                            policy: policy.name.clone(),
                            binding: one.binding.map(|binding| binding.name.clone()).unwrap_or_default(),
                            rule: String::new(),
                            outcome: Outcome::Error,
                            actions: one.binding.map(|binding| binding.actions.clone()).unwrap_or_default(),
                            message: one.why.clone(),
                        });
                    }
                    Wanted::Misconfigured(_) => {}
                    Wanted::Invocation(one) => {
                        evaluate(one, subject, &request, &namespace, &mut judgement.findings);
                    }
                }
            }
            return Ok(());
        }
        Ok(())
    }
}

impl<'a> Subject<'a> {
    fn request(&self, operation: &'a str) -> Request<'a> {
        let metadata = &self.object["metadata"];
        let is_namespace = self.resource.group.is_empty() && self.resource.resource == "namespaces";
        Request {
            operation,
            resource: self.resource,
            subresource: "",
            within: if is_namespace { "" } else { text(metadata, "namespace") },
            name: text(metadata, "name"),
            object: self.object,
            old: (operation == "UPDATE").then_some(self.object),
        }
    }
}

/// One policy by one binding with one parameter.
fn evaluate(
    one: &Invocation<'_, ValidatingPolicy>,
    subject: &Subject<'_>,
    request: &Request<'_>,
    namespace: &Value,
    findings: &mut Vec<Finding>,
) {
    let user = UserInfo::new(USER, &["system:authenticated"]);
    let document = request_document(request, subject.kind, &user, true, Value::Null);
    let inputs = Inputs {
        object: subject.object,
        old_object: request.old.unwrap_or(&Value::Null),
        request: &document,
        namespace_object: namespace,
        params: one.parameter.as_ref(),
        authorizer: None,
        request_resource: Question::default(),
    };
    let evaluated = one.policy.program.evaluate(&inputs);
    for (index, decision) in evaluated.decisions.into_iter().enumerate() {
        let (outcome, message) = match decision {
            Decision::Admit => continue,
            Decision::Deny { message, .. } => (Outcome::Fail, message),
            Decision::Failed { message } => (Outcome::Error, message),
        };
        findings.push(Finding {
            policy: one.policy.name.clone(),
            binding: one.binding.name.clone(),
            rule: format!("validations[{index}]"),
            outcome,
            actions: one.binding.actions.clone(),
            message,
        });
    }
}

/// What the labels of the object's namespace ask of it. What makes pods is only warned about and noted, as admission
/// does.
async fn by_standards<S: Surroundings>(
    standards: &Standards,
    subject: &Subject<'_>,
    surroundings: &S,
    judgement: &mut Judgement,
) -> Result<(), S::Error> {
    let resource = subject.resource;
    let Some(pod) = pod_security::pod_of(&resource.group, &resource.resource, subject.object) else {
        return Ok(());
    };
    let namespace = text(&subject.object["metadata"], "namespace");
    if namespace.is_empty() || !pod.is_object() {
        return Ok(());
    }
    let namespace = surroundings.namespace(namespace).await?;
    let labels = &namespace["metadata"]["labels"];
    if standards.among.as_ref().is_some_and(|label| labels.get(label).is_none()) {
        return Ok(());
    }
    let (policy, _) = pod_security::Policy::of_labels(labels, &standards.defaults);
    let is_pod = resource.resource == "pods";
    let modes =
        [("Deny", policy.enforce, is_pod), ("Audit", policy.audit, true), ("Warn", policy.warn, true)];
    // One finding per level, whatever is to happen: people have one thing to mend.
    let mut asked: Vec<(LevelVersion, Vec<String>)> = Vec::new();
    for (action, standard, applies) in modes {
        if !applies || standard.level == Level::Privileged {
            continue;
        }
        match asked.iter_mut().find(|(known, _)| *known == standard) {
            Some((_, actions)) => actions.push(action.to_owned()),
            None => asked.push((standard, vec![action.to_owned()])),
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    judgement.judged.push(POD_SECURITY.to_owned());
    for (standard, actions) in asked {
        let violations = pod_security::evaluate(standard, &pod["metadata"], &pod["spec"]);
        if !violations.is_empty() {
            judgement.findings.push(Finding {
                policy: POD_SECURITY.to_owned(),
                binding: String::new(),
                rule: standard.to_string(),
                outcome: Outcome::Fail,
                actions,
                message: pod_security::details(&violations),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
