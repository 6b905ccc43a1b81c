//! ValidatingAdmissionPolicy (upstream `plugin/policy/validating/dispatcher.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kube_objects::{GroupVersionResource, Reason, Status, StatusCause};
use policy_engines::admission_policy::{
    Annotation, Binding, Decision, Evaluated, FailurePolicy, GROUP, Policy, ValidatingPolicy, Wanted,
    is_exempt, select,
};
use serde::Serialize;
use serde_json::Value;

use super::view::{Version, View};
use super::{Around, bindings, policies};
use crate::admission::compiled::Compiled;
use crate::admission::{Attributes, Plugin};
use crate::registry::objects::ObjectAccess;

/// A longer value of an audit annotation is cut off, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// The plug-in.
pub(in super::super) struct ValidatingPolicies {
    objects: Arc<ObjectAccess>,
    policies: Compiled<Vec<Policy<ValidatingPolicy>>>,
    bindings: Compiled<Vec<Binding>>,
}

/// What is told of a validation that failed, as audit annotation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    /// The first that refuses: its message and reason.
    refused: Option<(String, Option<String>)>,
    annotations: BTreeMap<(String, String), Vec<String>>,
}

impl ValidatingPolicies {
    pub(in super::super) fn new(objects: &Arc<ObjectAccess>) -> Self {
        Self {
            objects: Arc::clone(objects),
            policies: Compiled::new(objects, GROUP, "validatingadmissionpolicies", |objects| {
                policies(objects, ValidatingPolicy::compile)
            }),
            bindings: Compiled::new(objects, GROUP, "validatingadmissionpolicybindings", bindings),
        }
    }
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.bindings.get().is_empty()
            && !self.policies.get().is_empty()
            && !is_exempt(&attributes.cx.resource.gvr)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let (policies, bindings) = (self.policies.get(), self.bindings.get());
        let catalogue = self.objects.kinds.catalogue();
        let around = Around { attributes, catalogue: &catalogue };
        let wanted = select(&*policies, &bindings, &attributes.asked(object), &around).await?;
        if wanted.is_empty() {
            return Ok(());
        }
        let view = View::of(&self.objects, attributes).await?;
        let mut versions: Vec<Version<'_>> = Vec::new();
        let mut findings = Findings::default();
        for wanted in &wanted {
            match wanted {
                Wanted::Misconfigured(one) => {
                    if one.policy.program.failure_policy() == FailurePolicy::Fail {
                        findings.refuse(
                            &one.policy.name,
                            one.binding.map(|binding| binding.name.as_str()),
                            &one.why,
                            None,
                        );
                    }
                }
                Wanted::Invocation(one) => {
                    let fails = one.policy.program.failure_policy() == FailurePolicy::Fail;
                    match among(&mut versions, &view, &one.resource, object).await {
                        Ok(version) => {
                            let evaluated = one.policy.program.evaluate(&view.inputs(version, one));
                            findings.take(attributes, &one.policy.name, one.binding, evaluated);
                        }
                        Err(why) if fails => {
                            let why = format!("failed to configure binding: {why}");
                            findings.refuse(&one.policy.name, Some(&one.binding.name), &why, None);
                        }
                        Err(_) => {}
                    }
                }
            }
        }
        findings.finish(attributes, object)
    }
}

/// The request as `resource`, converted when the first policy wants it so.
async fn among<'v, 'a>(
    versions: &'v mut Vec<Version<'a>>,
    view: &View<'a>,
    resource: &GroupVersionResource,
    object: &Value,
) -> Result<&'v Version<'a>, String> {
    let found = versions.iter().position(|version| version.is(resource));
    let at = match found {
        Some(at) => at,
        None => {
            versions.push(view.version(resource, object).await?);
            versions.len() - 1
        }
    };
    Ok(&versions[at])
}

impl Findings {
    fn refuse(&mut self, policy: &str, binding: Option<&str>, why: &str, reason: Option<String>) {
        let with = binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {why}");
        self.refused.get_or_insert((message, reason));
    }

    fn take(&mut self, attributes: &Attributes<'_>, policy: &str, binding: &Binding, evaluated: Evaluated) {
        for (index, decision) in evaluated.decisions.into_iter().enumerate() {
            let (message, reason) = match decision {
                Decision::Admit => continue,
                Decision::Deny { message, reason } => (message, reason),
                Decision::Failed { message } => (message, None),
            };
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => self.refuse(policy, Some(&binding.name), &message, reason.clone()),
                    "Warn" => attributes.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{}': {message}",
                        binding.name
                    )),
                    "Audit" => annotate_failure(attributes, policy, binding, index, &message),
                    _ => {}
                }
            }
        }
        for annotation in evaluated.annotations {
            match annotation {
                Annotation::Publish { key, mut value } => {
                    value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                    let values = self.annotations.entry((policy.to_owned(), key)).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                Annotation::Error(why) => self.refuse(policy, Some(&binding.name), &why, None),
            }
        }
    }

    fn finish(self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        for ((policy, key), values) in self.annotations {
            attributes.annotate(format!("{policy}/{key}"), values.join(", "));
        }
        let Some((message, reason)) = self.refused else { return Ok(()) };
        let subject = if object.is_null() { attributes.old.unwrap_or(object) } else { object };
        let mut status = attributes.forbidden(subject, &message);
        let reason = reason.unwrap_or_else(|| "Invalid".to_owned());
        let known: Option<Reason> = serde_json::from_value(Value::String(reason.clone())).ok();
        status.reason = known;
        if known.is_none() {
            status.other_reason = Some(reason.into());
        }
        status.code = match known {
            Some(known @ (Reason::Forbidden | Reason::Unauthorized | Reason::RequestEntityTooLarge)) => {
                known.code()
            }
            _ => Reason::Invalid.code(),
        };
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause { message, ..StatusCause::default() });
        }
        Err(status)
    }
}

fn annotate_failure(
    attributes: &Attributes<'_>,
    policy: &str,
    binding: &Binding,
    index: usize,
    message: &str,
) {
    let failure = Failure {
        message,
        policy,
        binding: &binding.name,
        expression_index: index,
        validation_actions: &binding.actions,
    };
    if let Ok(text) = serde_json::to_string(&[failure]) {
        attributes.annotate("validation.policy.admission.k8s.io/validation_failure", text);
    }
}
