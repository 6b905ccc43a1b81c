//! Annotations that say something about the pod itself, most of them older than the fields that replaced them.

use serde_json::Value;

use super::os::is_windows;
use super::tolerations;
use super::validation::visit_containers;
use super::volumes::paths;
use crate::json::{entries, given, text};
use crate::path::Path;
use crate::problems::Problems;

pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The annotations of `metadata` at `at`; `old`: the metadata it replaces.
pub fn validate(problems: &mut Problems, at: &Path<'_>, metadata: &Value, spec: &Value, old: Option<&Value>) {
    let annotations = &metadata["annotations"];
    if !annotations.is_object() {
        return;
    }
    if let Some(value) = given(annotations, MIRROR)
        && text(spec, "nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        problems.invalid(at.key(MIRROR), value, why);
    }
    if let Ok(Value::Array(list)) = serde_json::from_str::<Value>(text(annotations, TOLERATIONS)) {
        tolerations::tolerations(problems, &at.field(TOLERATIONS), &list);
    }
    let cost = |annotations: &Value| given(annotations, DELETION_COST).is_some_and(|cost| !is_cost(cost));
    if cost(annotations) && !old.is_some_and(|old| cost(&old["annotations"])) {
        problems.invalid(at.key(DELETION_COST), &annotations[DELETION_COST], "must be a 32bit integer");
    }
    if let Some(profile) = given(annotations, SECCOMP_POD).and_then(Value::as_str) {
        seccomp(problems, &at.field(SECCOMP_POD), profile);
    }
    for (key, value) in entries(metadata, "annotations") {
        let value = value.as_str().unwrap_or_default();
        if key.starts_with(SECCOMP_CONTAINER) {
            seccomp(problems, &at.field(key), value);
        } else if let Some(container) = key.strip_prefix(APP_ARMOR) {
            let mut known = false;
            visit_containers(at, spec, |_, own| known |= text(own, "name") == container);
            if !known {
                problems.invalid(at.key(key), container, "container not found");
            }
            if !matches!(value, "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
                let why = format!("invalid AppArmor profile name: {}", crate::problems::quoted(value));
                problems.invalid(at.key(key), value, &why);
            }
        }
    }
}

fn is_cost(cost: &Value) -> bool {
    let Some(text) = cost.as_str() else { return false };
    let first = text == "0" || text.starts_with(|c: char| c == '-' || ('1'..='9').contains(&c));
    first && text.parse::<i32>().is_ok()
}

fn seccomp(problems: &mut Problems, at: &Path<'_>, profile: &str) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(path) => paths::descending(problems, at, path),
        None => problems.invalid(at, profile, "must be a valid seccomp profile"),
    }
}

/// Where both an annotation and the field that replaced it are there, they agree. Asked of new pods and of templates.
pub fn validate_fields_match(problems: &mut Problems, at: &Path<'_>, metadata: &Value, spec: &Value) {
    seccomp_matches(problems, at, metadata, spec);
    app_armor_matches(problems, at, metadata, spec);
}

fn seccomp_matches(problems: &mut Problems, at: &Path<'_>, metadata: &Value, spec: &Value) {
    let annotations = &metadata["annotations"];
    if !annotations.is_object() {
        return;
    }
    let mut check = |at: &Path<'_>, key: &str, context: &Value| {
        let Some(profile) = given(context, "seccompProfile") else { return };
        let Some(note) = given(annotations, key).and_then(Value::as_str) else { return };
        let at = at.field("securityContext");
        matches(problems, &at.field("seccompProfile"), note, profile, "seccomp");
    };
    check(at, SECCOMP_POD, &spec["securityContext"]);
    visit_containers(at, spec, |at, container| {
        let key = format!("{SECCOMP_CONTAINER}{}", text(container, "name"));
        check(at, &key, &container["securityContext"]);
    });
}

fn app_armor_matches(problems: &mut Problems, at: &Path<'_>, metadata: &Value, spec: &Value) {
    let annotations = &metadata["annotations"];
    if !annotations.is_object() || is_windows(spec) {
        return;
    }
    let of_pod = given(&spec["securityContext"], "appArmorProfile");
    visit_containers(at, spec, |at, container| {
        let Some(profile) = given(&container["securityContext"], "appArmorProfile").or(of_pod) else {
            return;
        };
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        let Some(note) = given(annotations, &key).and_then(Value::as_str) else { return };
        let at = at.field("securityContext");
        matches(problems, &at.field("appArmorProfile"), note, profile, "apparmor");
    });
}

fn matches(problems: &mut Problems, at: &Path<'_>, note: &str, profile: &Value, what: &str) {
    let fine = match text(profile, "type") {
        "Unconfined" => note == "unconfined",
        "RuntimeDefault" => note == "runtime/default" || (what == "seccomp" && note == "docker/default"),
        "Localhost" => match note.strip_prefix("localhost/") {
            None => false,
            Some(path) => {
                if path != text(profile, "localhostProfile") {
                    let why = format!("{what} profile in annotation and field must match");
                    problems.forbidden(at.field("localhostProfile"), &why);
                }
                true
            }
        },
        _ => true,
    };
    if !fine {
        problems.forbidden(at.field("type"), &format!("{what} type in annotation and field must match"));
    }
}
