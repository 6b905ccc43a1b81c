//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: others' say over HTTPS.
//!
//! * [`hook`]: a webhook of a configuration, parsed once per change of it.
//! * [`review`]: the AdmissionReview that is sent, and what an answer may say.
//! * [`conditions`]: its match conditions in CEL.
//! * [`call`]: one call with its failure policy.
//! * [`mutating`], [`validating`]: the plug-ins.
//!
//! Webhook configurations and admission policies are never shown to webhooks: one that refuses everything could not be
//! removed any more.

mod call;
mod conditions;
mod hook;
mod mutating;
mod review;
mod selection;
mod validating;

pub(super) use mutating::MutatingWebhooks;
pub(super) use validating::ValidatingWebhooks;

use super::Attributes;

/// Whether a request is about what decides on admission itself.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.kind.group == "admissionregistration.k8s.io"
        && matches!(
            attributes.kind.kind.as_str(),
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}
