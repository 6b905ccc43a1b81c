//! When a container starts again, and whether changing its resources restarts it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::json::{given, list, text};
use crate::path::Path;
use crate::pod_spec::validation::Scope;
use crate::problems::Problems;

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const NEEDED: &str = "must specify restartPolicy when restart rules are used";

/// An init container that goes on beside the ordinary ones.
pub(super) fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// Of an ordinary container, whose policy overrides the pod's.
pub(super) fn policy(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    let rules = list(container, "restartPolicyRules");
    match given(container, "restartPolicy") {
        None if rules.is_empty() => return,
        None => problems.required(at.field("restartPolicy"), NEEDED),
        Some(policy) if policy.as_str().is_some_and(|policy| POLICIES.contains(&policy)) => {}
        Some(policy) => problems.unsupported(at.field("restartPolicy"), policy, &POLICIES),
    }
    let at = at.field("restartPolicyRules");
    if rules.len() > RULES {
        problems.too_many(at, rules.len(), RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.index(index);
        let action = text(rule, "action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            problems.unsupported(at.field("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let Some(codes) = given(rule, "exitCodes") else {
            problems.required(at.field("exitCodes"), "must be specified");
            continue;
        };
        let at = at.field("exitCodes");
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            problems.unsupported(at.field("operator"), operator, &["In", "NotIn"]);
        }
        let count = list(codes, "values").len();
        if count > EXIT_CODES {
            problems.too_many(at.field("values"), count, EXIT_CODES);
        }
    }
}

/// Of an init container.
pub(super) fn of_init(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    if given(container, "restartPolicy").is_some() {
        policy(problems, at, container);
    } else if !list(container, "restartPolicyRules").is_empty() {
        problems.required(at.field("restartPolicy"), NEEDED);
    }
}

/// An init container that ends cannot be restarted by a resize.
pub(super) fn no_restarting_resize(
    problems: &mut Problems,
    at: &Path<'_>,
    container: &Value,
    scope: Scope<'_>,
) {
    let restarting = |policy: &Value| text(policy, "restartPolicy") == "RestartContainer";
    let tolerated = scope.old.is_some_and(|old| {
        list(old, "initContainers")
            .iter()
            .any(|container| !is_sidecar(container) && list(container, "resizePolicy").iter().any(restarting))
    });
    let at = at.field("resizePolicy");
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        if restarting(policy) && !tolerated {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            problems.invalid(at.index(index).field("restartPolicy"), "RestartContainer", why);
        }
    }
}

/// `resizePolicy`, beside the pod's restart policy.
pub fn resize_policy(problems: &mut Problems, at: &Path<'_>, container: &Value, pod_policy: &str) {
    let mut seen = BTreeSet::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let resource = text(policy, "resourceName");
        if !seen.insert(resource) {
            problems.duplicate(at.index(index), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => problems.required(at, ""),
            _ => problems.unsupported(at, resource, &["cpu", "memory"]),
        }
        let restart = text(policy, "restartPolicy");
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => problems.required(at, ""),
            _ => problems.unsupported(at, restart, &["NotRequired", "RestartContainer"]),
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            problems.invalid(at, restart, why);
        }
    }
}
