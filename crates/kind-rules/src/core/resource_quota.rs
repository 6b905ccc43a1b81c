//! `v1.ResourceQuota`.

use serde_json::{Value, json};

use crate::columns::{Column, age};
use crate::json::{child, entries, given, list, set, text, texts};
use crate::path::Path;
use crate::pod_spec::{canonical, is_quota_standard, qualified_resource, quantity_value};
use crate::problems::{IMMUTABLE, Problems};
use crate::rules::KindRules;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// What Kubernetes demands of quotas.
pub const RULES: KindRules = KindRules {
    prepare_create: |object| set(object, "status", json!({})),
    validate: |problems, object| {
        validate_spec(problems, &object["spec"]);
        validate_status(problems, &object["status"]);
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate_spec(problems, &object["spec"]);
        let set = |object: &Value| -> std::collections::BTreeSet<String> {
            texts(&object["spec"], "scopes").map(str::to_owned).collect()
        };
        if set(object) != set(old) {
            problems.invalid("spec.scopes", given(&object["spec"], "scopes"), IMMUTABLE);
        }
    },
    validate_status: |problems, object, _| validate_status(problems, &object["status"]),
    prepare_status: |object, _| {
        child(object, "status");
    },
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Request").saying("Request represents a minimum amount of cpu/memory that a container may consume."),
            Column::new("Limit").saying("Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
            Column::age(),
        ]
    },
    cells: |object, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in entries(&object["status"], "hard") {
            let used = object["status"]["used"].get(name).map_or_else(|| "0".to_owned(), canonical);
            let part = format!("{name}: {used}/{}", canonical(hard));
            if name.starts_with("limits") { limits.push(part) } else { requests.push(part) }
        }
        vec![requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
    },
    counts_generation: false,
    ..KindRules::NEW
};

fn amounts(problems: &mut Problems, at: &Path<'_>, holder: &Value, key: &str) {
    let at = at.field(key);
    for (name, value) in entries(holder, key) {
        let at = at.key(name);
        qualified_resource(problems, at, name);
        if !name.contains('/') && !is_quota_standard(name) {
            problems.invalid(at, name, "must be a standard resource for quota");
        }
        quantity_value(problems, at, name, value);
    }
}

fn validate_status(problems: &mut Problems, status: &Value) {
    for key in ["hard", "used"] {
        amounts(problems, &Path::new("status"), status, key);
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec");
    amounts(problems, &at, spec, "hard");
    let shown = given(spec, "scopes");
    let field = at.field("scopes");
    let scopes: Vec<&str> = texts(spec, "scopes").collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            problems.invalid(field, shown, "unsupported scope");
        }
        for (name, _) in entries(spec, "hard").filter(|(name, _)| !applies(scope, name)) {
            let _ = name;
            problems.invalid(field, shown, "unsupported scope applied to resource");
        }
    }
    conflicts(problems, &field, &scopes, shown);
    selector(problems, &at, spec);
}

/// Whether a scope narrows a count of `name`; resources that are not Kubernetes' own are let pass.
fn applies(scope: &str, name: &str) -> bool {
    if !is_quota_standard(name) {
        return true;
    }
    let compute = matches!(
        name,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || compute,
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn conflicts(problems: &mut Problems, at: &Path<'_>, scopes: &[&str], shown: Option<&Value>) {
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            problems.invalid(at, shown, "conflicting scopes");
        }
    }
}

fn selector(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(selector) = given(spec, "scopeSelector") else { return };
    let at = at.field("scopeSelector");
    let at = at.field("matchExpressions");
    let mut scopes = Vec::new();
    for requirement in list(selector, "matchExpressions") {
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        if !SCOPES.contains(&scope) {
            problems.invalid(at.field("scopeName"), scope, "unsupported scope");
        }
        for _ in entries(spec, "hard").filter(|(name, _)| !applies(scope, name)) {
            problems.invalid(at, selector, "unsupported scope applied to resource");
        }
        let plain = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if plain && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            problems.invalid(at.field("operator"), operator, why);
        }
        let values = list(requirement, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => problems.required(
                at.field("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => problems.invalid(
                at.field("values"),
                requirement.get("values"),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => problems.invalid(at.field("operator"), operator, "not a valid selector operator"),
        }
        scopes.push(scope);
    }
    conflicts(problems, &at, &scopes, given(spec, "scopes"));
}
