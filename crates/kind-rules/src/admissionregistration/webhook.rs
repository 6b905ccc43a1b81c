//! `MutatingWebhookConfiguration` and `ValidatingWebhookConfiguration`.

use serde_json::{Value, json};

use super::COUNTED;
use super::matching::{self, FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, one_of};
use crate::checks::{columns, count_generation, each, selector, selector_is_sound};
use crate::columns::age;
use crate::json::{default, existing, integer, list, list_mut, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// Versions of AdmissionReview that this server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// `admissionregistration.k8s.io/v1.ValidatingWebhookConfiguration`.
pub const VALIDATING_WEBHOOK_CONFIGURATION: KindRules = KindRules {
    defaults: |object| defaults(object, false),
    prepare_update: |object, old| count_generation(object, old, "webhooks"),
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    columns: || columns(&["Webhooks:integer", "Age"]),
    cells: |object, now| vec![list(object, "webhooks").len().into(), age(object, now)],
    ..COUNTED
};

/// `admissionregistration.k8s.io/v1.MutatingWebhookConfiguration`.
pub const MUTATING_WEBHOOK_CONFIGURATION: KindRules =
    KindRules { defaults: |object| defaults(object, true), ..VALIDATING_WEBHOOK_CONFIGURATION };

fn defaults(object: &mut Value, mutating: bool) {
    for hook in list_mut(object, "webhooks") {
        default(hook, "failurePolicy", "Fail");
        default(hook, "matchPolicy", "Equivalent");
        default(hook, "namespaceSelector", json!({}));
        default(hook, "objectSelector", json!({}));
        default(hook, "timeoutSeconds", 10);
        if mutating {
            default(hook, "reinvocationPolicy", "Never");
        }
        list_mut(hook, "rules").iter_mut().for_each(|rule| default(rule, "scope", "*"));
        if let Some(service) = existing(hook, "clientConfig").and_then(|config| existing(config, "service")) {
            default(service, "port", 443);
        }
    }
}

/// What an older version held, an update may keep.
struct Demands {
    conditions: bool,
    no_side_effects: bool,
    known_version: bool,
    unique_names: bool,
    strict_selectors: bool,
}

fn demands(object: &Value, old: Option<&Value>) -> Demands {
    let Some(old) = old.map(|old| list(old, "webhooks")) else {
        return Demands {
            conditions: true,
            no_side_effects: true,
            known_version: true,
            unique_names: true,
            strict_selectors: true,
        };
    };
    let new = list(object, "webhooks");
    let conditions_of = |hooks: &[Value]| -> Vec<Value> {
        hooks.iter().map(|hook| hook.get("matchConditions").cloned().unwrap_or_default()).collect()
    };
    let speaks = |hook: &Value| {
        let versions = list(hook, "admissionReviewVersions");
        versions.is_empty() || versions.iter().any(is_known_version)
    };
    let name_is_new = |(index, hook): (usize, &Value)| {
        !old[..index].iter().any(|earlier| text(earlier, "name") == text(hook, "name"))
    };
    Demands {
        conditions: conditions_of(new) != conditions_of(old),
        no_side_effects: old.iter().all(|hook| NO_SIDE_EFFECTS.contains(&text(hook, "sideEffects"))),
        known_version: old.iter().all(speaks),
        unique_names: old.iter().enumerate().all(name_is_new),
        strict_selectors: old.iter().all(|hook| {
            selector_is_sound(&hook["namespaceSelector"]) && selector_is_sound(&hook["objectSelector"])
        }),
    }
}

fn is_known_version(version: &Value) -> bool {
    REVIEW_VERSIONS.iter().any(|known| version == known)
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let demands = demands(object, old);
    let at = Path::new("webhooks");
    let hooks = list(object, "webhooks");
    for (index, own) in hooks.iter().enumerate() {
        let here = at.index(index);
        hook(problems, &here, own, &demands);
        versions(problems, &here.field("admissionReviewVersions"), own, demands.known_version);
        let name = text(own, "name");
        let taken = hooks[..index].iter().any(|earlier| text(earlier, "name") == name);
        if demands.unique_names && !name.is_empty() && taken {
            problems.duplicate(here.field("name"), name);
        }
    }
}

fn hook(problems: &mut Problems, at: &Path<'_>, own: &Value, demands: &Demands) {
    names::fully_qualified_name(problems, at.field("name"), text(own, "name"));
    for (index, rule) in list(own, "rules").iter().enumerate() {
        let rules = at.field("rules");
        matching::rule(problems, &rules.index(index), rule);
    }
    one_of(problems, at.field("failurePolicy"), own.get("failurePolicy"), &FAILURE_POLICIES);
    one_of(problems, at.field("matchPolicy"), own.get("matchPolicy"), &MATCH_POLICIES);
    let allowed: &[&str] = if demands.no_side_effects { &NO_SIDE_EFFECTS } else { &SIDE_EFFECTS };
    match own["sideEffects"].as_str() {
        None => {
            let detail = format!("must specify one of {}", allowed.join(", "));
            problems.required(at.field("sideEffects"), &detail);
        }
        Some(class) if allowed.contains(&class) => {}
        Some(other) => problems.unsupported(at.field("sideEffects"), other, allowed),
    }
    if let Some(seconds) = own["timeoutSeconds"].as_i64().filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        problems.invalid(at.field("timeoutSeconds"), seconds, detail);
    }
    for key in ["namespaceSelector", "objectSelector"] {
        selector(problems, &at.field(key), &own[key], !demands.strict_selectors);
    }
    one_of(problems, at.field("reinvocationPolicy"), own.get("reinvocationPolicy"), &REINVOCATION_POLICIES);
    client_config(problems, &at.field("clientConfig"), &own["clientConfig"]);
    if demands.conditions {
        matching::conditions(problems, &at.field("matchConditions"), list(own, "matchConditions"));
    }
}

fn versions(problems: &mut Problems, at: &Path<'_>, own: &Value, known: bool) {
    let all = list(own, "admissionReviewVersions");
    if all.is_empty() {
        let detail = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        return problems.required(at, &detail);
    }
    for (index, version) in all.iter().enumerate() {
        if all[..index].contains(version) {
            problems.invalid(at.index(index), version, "duplicate version");
            continue;
        }
        let version = version.as_str().unwrap_or_default();
        each(problems, at.index(index), version, names::dns1035_label(version));
    }
    if known && !all.iter().any(is_known_version) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        problems.invalid(at, &own["admissionReviewVersions"], &detail);
    }
}

/// Where a webhook is; CustomResourceDefinitions name their conversion webhook the same way.
pub(crate) fn client_config(problems: &mut Problems, at: &Path<'_>, config: &Value) {
    match (config["url"].as_str(), present(config, "service")) {
        (None, false) | (Some(_), true) => {
            problems.required(at, "exactly one of url or service is required");
        }
        (Some(address), false) => url(problems, &at.field("url"), address),
        (None, true) => service(problems, &at.field("service"), &config["service"]),
    }
}

const FORM: &str = "; desired format: https://host[/path]";

fn url(problems: &mut Problems, at: &Path<'_>, address: &str) {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    if !scheme.eq_ignore_ascii_case("https") {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        problems.invalid(at, scheme.to_lowercase(), &detail);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        problems.invalid(at, "", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        problems.invalid(at, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        problems.invalid(at, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        problems.invalid(at, query, "query parameters are not permitted in the URL");
    }
}

fn service(problems: &mut Problems, at: &Path<'_>, service: &Value) {
    // Upstream hands over name and namespace in the wrong order: the findings are swapped.
    if text(service, "namespace").is_empty() {
        problems.required(at.field("name"), "");
    }
    if text(service, "name").is_empty() {
        problems.required(at.field("namespace"), "");
    }
    let port = integer(service, "port");
    if !(1..=65_535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        problems.invalid(at.field("port"), port, detail);
    }
    let at = at.field("path");
    let path = match text(service, "path") {
        "" | "/" => return,
        "//" => return problems.invalid(at, "//", "segment[0] may not be empty"),
        path => path,
    };
    if !path.starts_with('/') {
        problems.invalid(at, path, "must start with a '/'");
    }
    // Upstream drops the first byte, whatever it is.
    let steps = path.get(1..).unwrap_or_default();
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            problems.invalid(at, path, &format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            problems.invalid(at, path, &format!("segment[{index}]: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{findings, update_findings};

    fn configuration() -> Value {
        let mut object = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a/b"},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
        (VALIDATING_WEBHOOK_CONFIGURATION.defaults)(&mut object);
        object
    }

    #[test]
    fn bad_webhooks_are_refused_where_upstream_refuses_them() {
        assert!(findings(&VALIDATING_WEBHOOK_CONFIGURATION, &configuration()).is_empty());
        for (pointer, value, wanted) in [
            (
                "/name",
                json!("a"),
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            ),
            (
                "/sideEffects",
                json!("Some"),
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                "/admissionReviewVersions",
                json!(["v9"]),
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
            ),
            (
                "/timeoutSeconds",
                json!(31),
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                "/clientConfig/url",
                json!("http://a"),
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                "/clientConfig",
                json!({}),
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                "/rules/0/operations/0",
                json!("GET"),
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"GET\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ),
            (
                "/rules/0/resources",
                json!(["*", "pods"]),
                "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
            ),
            (
                "/rules/0/scope",
                json!("x"),
                "webhooks[0].rules[0].scope: Unsupported value: \"x\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
        ] {
            let mut object = configuration();
            *object.pointer_mut(&format!("/webhooks/0{pointer}")).unwrap() = value;
            assert_eq!(findings(&VALIDATING_WEBHOOK_CONFIGURATION, &object), [wanted]);
        }
    }

    #[test]
    fn old_slips_may_stay() {
        let mut old = configuration();
        old["webhooks"][0]["sideEffects"] = json!("Unknown");
        assert_eq!(findings(&VALIDATING_WEBHOOK_CONFIGURATION, &old).len(), 1);
        assert!(update_findings(&VALIDATING_WEBHOOK_CONFIGURATION, &old, &old).is_empty());
    }
}
