//! Webhooks as their configurations describe them. Pure.

use std::collections::HashMap;
use std::time::Duration;

use api_machinery::selector::LabelSelector;
use kind_rules::json::{list, present, text};
use policy_engines::admission_policy::{Conditions, Rule};
use serde_json::Value;

use crate::webhook_client::ClientConfig;

/// Without `timeoutSeconds` (the API's default; stored objects carry it already).
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// One webhook.
#[derive(Debug)]
pub(super) struct Hook {
    /// The name of its configuration object.
    pub(super) configuration: String,
    pub(super) name: String,
    /// Configuration, name and how many of that name came before it.
    pub(super) uid: String,
    pub(super) client: Result<ClientConfig, String>,
    pub(super) rules: Vec<Rule>,
    /// `matchPolicy: Equivalent`.
    pub(super) equivalent: bool,
    /// `failurePolicy: Ignore`.
    pub(super) fails_open: bool,
    pub(super) timeout: Duration,
    pub(super) side_effects: Option<String>,
    pub(super) review_versions: Vec<String>,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
    pub(super) conditions: Conditions,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoke: bool,
}

/// The webhooks of configurations, which come in the order of their names.
pub(super) fn hooks(configurations: &[Value]) -> Vec<Hook> {
    let mut found = Vec::new();
    for configuration in configurations {
        let name = text(&configuration["metadata"], "name");
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for webhook in list(configuration, "webhooks") {
            let count = seen.entry(text(webhook, "name")).or_default();
            found.push(hook(name, webhook, *count));
            *count += 1;
        }
    }
    found
}

fn selector(webhook: &Value, key: &str) -> Result<LabelSelector, String> {
    // An absent selector selects everything here.
    if !present(webhook, key) {
        return Ok(LabelSelector::everything());
    }
    LabelSelector::from_object(&webhook[key]).map_err(|error| error.to_string())
}

fn hook(configuration: &str, webhook: &Value, count: usize) -> Hook {
    let name = text(webhook, "name");
    let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let versions = list(webhook, "admissionReviewVersions").iter();
    Hook {
        configuration: configuration.to_owned(),
        name: name.to_owned(),
        uid: format!("{configuration}/{name}/{count}"),
        client: ClientConfig::from_json(&webhook["clientConfig"]),
        rules: list(webhook, "rules").iter().map(Rule::of).collect(),
        equivalent: text(webhook, "matchPolicy") != "Exact",
        fails_open: text(webhook, "failurePolicy") == "Ignore",
        timeout: Duration::from_secs(seconds),
        side_effects: webhook["sideEffects"].as_str().map(str::to_owned),
        review_versions: versions.filter_map(|version| version.as_str().map(str::to_owned)).collect(),
        namespaces: selector(webhook, "namespaceSelector"),
        objects: selector(webhook, "objectSelector"),
        conditions: Conditions::compile(list(webhook, "matchConditions")),
        reinvoke: text(webhook, "reinvocationPolicy") == "IfNeeded",
    }
}
