//! Admission policies and webhooks: their rules, and what is wrong with the expressions in them.

mod parameters;

use std::sync::OnceLock;

use kind_rules::admissionregistration::{
    MUTATING_ADMISSION_POLICY, MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_ADMISSION_POLICY,
    VALIDATING_WEBHOOK_CONFIGURATION,
};
use kind_rules::json::{list, text};
use kind_rules::problems::Problems;
use kind_rules::rules::KindRules;
use policy_engines::admission_policy::{
    CheckedKind, check_conditions, check_mutating, check_validating, type_warnings,
};
use serde_json::{Value, json};

use super::strategy::RequestContext;
use crate::catalogue::{Catalogue, Resource};
pub(super) use parameters::authorize_parameters;

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

/// Upstream `maxTypesToCheck`.
const MAX_KINDS: usize = 10;

/// After a ValidatingAdmissionPolicy was written: what its expressions say of the kinds that it is for, in its status.
/// Upstream does this in a controller of its own; clients wait for it. A failure leaves the status as it is until the
/// next write.
pub(super) async fn check_types(cx: &RequestContext<'_>, policy: &Value) {
    let own = &cx.resource.gvr;
    let is_policy =
        own.group == "admissionregistration.k8s.io" && own.resource == "validatingadmissionpolicies";
    let generation = &policy["metadata"]["generation"];
    if !is_policy || cx.subresource.is_some() || policy["status"]["observedGeneration"] == *generation {
        return;
    }
    let params = params_of(&policy["spec"]["paramKind"]);
    let warnings = type_warnings(policy, &kinds_of(policy), params.as_ref());
    let warnings: Vec<Value> =
        warnings.iter().map(|found| json!({"fieldRef": found.field, "warning": found.warning})).collect();
    let checked = if warnings.is_empty() { json!({}) } else { json!({ "expressionWarnings": warnings }) };
    let change = |stored: &mut Value| {
        if stored["metadata"]["generation"] != *generation {
            return Ok(false);
        }
        stored["status"]["observedGeneration"] = generation.clone();
        stored["status"]["typeChecking"] = checked.clone();
        Ok(true)
    };
    let name = text(&policy["metadata"], "name");
    if let Err(error) = cx.objects.modify(&own.group, &own.resource, "", name, &change).await {
        tracing::warn!(policy = name, %error, "could not write the types' check of a policy");
    }
}

fn built_in() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(Catalogue::cluster)
}

fn checked_kind(resource: &Resource) -> CheckedKind {
    CheckedKind {
        shown: format!("{}, Kind={}", resource.api_version(), resource.kind),
        kind: resource.kind.clone(),
        schema: resource.schema.clone(),
    }
}

fn params_of(kind: &Value) -> Option<CheckedKind> {
    let is_it = |resource: &&std::sync::Arc<Resource>| {
        resource.api_version() == text(kind, "apiVersion") && resource.kind == text(kind, "kind")
    };
    built_in().resources().iter().find(is_it).map(|resource| checked_kind(resource))
}

/// The built-in kinds that a policy's rules name. A rule with a wildcard names none.
fn kinds_of(policy: &Value) -> Vec<CheckedKind> {
    let mut found: Vec<&Resource> = Vec::new();
    for rule in list(&policy["spec"]["matchConstraints"], "resourceRules") {
        let texts = |key: &str| -> Option<Vec<&str>> {
            let all: Vec<&str> = list(rule, key).iter().filter_map(Value::as_str).collect();
            (!all.iter().any(|text| text.contains('*'))).then_some(all)
        };
        let (Some(groups), Some(versions)) = (texts("apiGroups"), texts("apiVersions")) else { continue };
        let resources = list(rule, "resources").iter().filter_map(Value::as_str);
        let resources: Vec<&str> = resources.filter(|resource| !resource.contains(['*', '/'])).collect();
        for group in &groups {
            for version in &versions {
                let named = resources.iter().filter_map(|resource| built_in().find(group, version, resource));
                found.extend(named.map(|resource| &**resource));
            }
        }
    }
    found.sort_by_key(|resource| {
        (resource.gvr.group.clone(), resource.gvr.version.clone(), resource.kind.clone())
    });
    found.dedup_by_key(|resource| resource.gvk());
    found.into_iter().take(MAX_KINDS).map(checked_kind).collect()
}
