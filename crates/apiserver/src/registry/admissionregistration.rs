//! Admission policies and webhooks: their rules, and what is wrong with the expressions in them.

use kind_rules::admissionregistration::{
    MUTATING_ADMISSION_POLICY, MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_ADMISSION_POLICY,
    VALIDATING_WEBHOOK_CONFIGURATION,
};
use kind_rules::json::list;
use kind_rules::problems::Problems;
use kind_rules::rules::KindRules;
use policy_engines::admission_policy::{check_conditions, check_mutating, check_validating};
use serde_json::Value;

/// ValidatingAdmissionPolicy.
pub(super) const VALIDATING_POLICY: KindRules = KindRules {
    validate: |problems, policy| {
        (VALIDATING_ADMISSION_POLICY.validate)(problems, policy);
        problems.add_causes(check_validating(policy));
    },
    ..VALIDATING_ADMISSION_POLICY
};

/// MutatingAdmissionPolicy.
pub(super) const MUTATING_POLICY: KindRules = KindRules {
    validate: |problems, policy| {
        (MUTATING_ADMISSION_POLICY.validate)(problems, policy);
        problems.add_causes(check_mutating(policy));
    },
    ..MUTATING_ADMISSION_POLICY
};

/// ValidatingWebhookConfiguration.
pub(super) const VALIDATING_WEBHOOKS: KindRules = KindRules {
    validate: |problems, configuration| {
        (VALIDATING_WEBHOOK_CONFIGURATION.validate)(problems, configuration);
        conditions(problems, configuration);
    },
    ..VALIDATING_WEBHOOK_CONFIGURATION
};

/// MutatingWebhookConfiguration.
pub(super) const MUTATING_WEBHOOKS: KindRules = KindRules {
    validate: |problems, configuration| {
        (MUTATING_WEBHOOK_CONFIGURATION.validate)(problems, configuration);
        conditions(problems, configuration);
    },
    ..MUTATING_WEBHOOK_CONFIGURATION
};

fn conditions(problems: &mut Problems, configuration: &Value) {
    for (index, webhook) in list(configuration, "webhooks").iter().enumerate() {
        let path = format!("webhooks[{index}].matchConditions");
        problems.add_causes(check_conditions(list(webhook, "matchConditions"), &path, false));
    }
}
