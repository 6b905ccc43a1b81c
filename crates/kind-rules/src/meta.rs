//! What every object's metadata has to satisfy (apimachinery `pkg/api/validation/objectmeta.go`).

use std::fmt::Display;

use serde_json::Value;

use crate::json::{entries, integer, list, text};
use crate::names::{self, NameRule, qualified_name};
use crate::path::Path;
use crate::problems::{NOT_NEGATIVE, Problems};

/// Bound of all annotations of an object together, in bytes (upstream `TotalAnnotationSizeLimitB`).
pub const ANNOTATIONS_LIMIT_BYTES: usize = 256 << 10;
/// Longest field manager, in bytes.
const MANAGER_LIMIT_BYTES: usize = 128;
/// Longest subresource in a managed fields entry, in bytes.
const SUBRESOURCE_LIMIT_BYTES: usize = 256;

/// A new object's metadata at `at` (upstream's `ValidateObjectMeta`).
pub fn validate(problems: &mut Problems, at: &Path<'_>, metadata: &Value, namespaced: bool, rule: NameRule) {
    let generated = text(metadata, "generateName");
    if !generated.is_empty() {
        for why in rule.check(generated, true) {
            problems.invalid(at.field("generateName"), generated, &why);
        }
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        problems.required(at.field("name"), "name or generateName is required");
    } else {
        for why in rule.check(name, false) {
            problems.invalid(at.field("name"), name, &why);
        }
    }
    let namespace = text(metadata, "namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => problems.required(at.field("namespace"), ""),
        (true, false) => problems.check(at.field("namespace"), namespace, names::dns1123_label),
        (false, false) => problems.forbidden(at.field("namespace"), "not allowed on this type"),
        (false, true) => {}
    }
    if integer(metadata, "generation") < 0 {
        problems.invalid(at.field("generation"), integer(metadata, "generation"), NOT_NEGATIVE);
    }
    names::labels(problems, &at.field("labels"), metadata, "labels");
    annotations(problems, &at.field("annotations"), metadata);
    owners(problems, &at.field("ownerReferences"), metadata);
    finalizers(problems, &at.field("finalizers"), metadata);
    managed_fields(problems, &at.field("managedFields"), metadata);
}

/// An updated object's metadata (upstream's `ValidateObjectMetaUpdate`, after the server has put back what a client
/// cannot change).
pub fn validate_update(problems: &mut Problems, at: &Path<'_>, metadata: &Value, old: &Value) {
    if !old["deletionTimestamp"].is_null() {
        no_new_finalizers(problems, &at.field("finalizers"), metadata, old);
    }
    for key in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        problems.immutable(at.field(key), metadata.get(key), old.get(key));
    }
    names::labels(problems, &at.field("labels"), metadata, "labels");
    annotations(problems, &at.field("annotations"), metadata);
    owners(problems, &at.field("ownerReferences"), metadata);
    managed_fields(problems, &at.field("managedFields"), metadata);
}

/// `metadata.annotations`: keys as labels have them, in any case; bounded in all.
pub fn annotations(problems: &mut Problems, at: &Path<'_>, metadata: &Value) {
    let mut bytes = 0;
    for (key, value) in entries(metadata, "annotations") {
        for why in qualified_name(&key.to_lowercase()) {
            problems.invalid(at, key, &why);
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_LIMIT_BYTES {
        problems.too_many_bytes(at, ANNOTATIONS_LIMIT_BYTES);
    }
}

fn owners(problems: &mut Problems, at: &Path<'_>, metadata: &Value) {
    let owners = list(metadata, "ownerReferences");
    let mut controller = String::new();
    for owner in owners {
        let (api, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        // `group/` has no version; neither has more than one slash.
        if api.rsplit('/').next().unwrap_or_default().is_empty() || api.matches('/').count() > 1 {
            problems.invalid(at.field("apiVersion"), api, "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                problems.invalid(at.field(key), "", "must not be empty");
            }
        }
        if api == "v1" && kind == "Event" {
            problems.invalid(at, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == true {
            let this = format!("{kind}/{}", text(owner, "name"));
            if controller.is_empty() {
                controller = this;
            } else {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {controller} and {this}"
                );
                problems.invalid(at, metadata.get("ownerReferences"), &why);
            }
        }
    }
}

fn finalizers(problems: &mut Problems, at: &Path<'_>, metadata: &Value) {
    let given = list(metadata, "finalizers");
    for finalizer in given.iter().filter_map(Value::as_str) {
        problems.check(at, finalizer, qualified_name);
    }
    let has = |name: &str| given.iter().any(|given| given == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        problems.invalid(at, metadata.get("finalizers"), why);
    }
}

/// What built-in kinds ask of finalizers besides: one without a group is one of the standard ones (upstream's
/// `validateKubeFinalizerName`).
pub fn standard_finalizers(problems: &mut Problems, at: &Path<'_>, metadata: &Value) {
    let given = list(metadata, "finalizers").iter().filter_map(Value::as_str);
    for (index, finalizer) in given.enumerate() {
        standard_finalizer(problems, at.index(index), finalizer);
    }
}

/// The same of one.
pub fn standard_finalizer(problems: &mut Problems, at: impl std::fmt::Display, finalizer: &str) {
    let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
    if !standard && !finalizer.contains('/') {
        problems.invalid(
            at,
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

fn no_new_finalizers(problems: &mut Problems, at: &Path<'_>, metadata: &Value, old: &Value) {
    let before = list(old, "finalizers");
    let mut added: Vec<&str> = list(metadata, "finalizers")
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .filter_map(Value::as_str)
        .collect();
    if added.is_empty() {
        return;
    }
    added.sort_unstable();
    added.dedup();
    let quoted: Vec<String> = added.iter().map(|name| crate::problems::quoted(name)).collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        quoted.join(", ")
    );
    problems.forbidden(at, &why);
}

fn managed_fields(problems: &mut Problems, at: &Path<'_>, metadata: &Value) {
    let entries = list(metadata, "managedFields");
    // A single empty entry asks to forget all owners (upstream resets them before it judges the object).
    if matches!(entries, [only] if only.as_object().is_some_and(serde_json::Map::is_empty)) {
        return;
    }
    for (index, entry) in entries.iter().enumerate() {
        let at = at.index(index);
        let operation = text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            problems.invalid(at.field("operation"), operation, "must be `Apply` or `Update`");
        }
        let kind = text(entry, "fieldsType");
        if !matches!(kind, "" | "FieldsV1") {
            problems.invalid(at.field("fieldsType"), kind, "must be `FieldsV1`");
        }
        if text(entry, "manager").len() > MANAGER_LIMIT_BYTES {
            problems.too_many_bytes(at.field("manager"), MANAGER_LIMIT_BYTES);
        }
        if text(entry, "subresource").len() > SUBRESOURCE_LIMIT_BYTES {
            problems.too_many_bytes(at.field("subresource"), SUBRESOURCE_LIMIT_BYTES);
        }
    }
}

/// A `metav1.Condition` list (upstream's `ValidateConditions`).
pub fn conditions(problems: &mut Problems, at: &Path<'_>, conditions: &[Value]) {
    for (index, condition) in conditions.iter().enumerate() {
        let at = at.index(index);
        let kind = text(condition, "type");
        if conditions[..index].iter().any(|other| text(other, "type") == kind) {
            problems.duplicate(at.field("type"), kind);
        }
        problems.check(at.field("type"), kind, qualified_name);
        let status = text(condition, "status");
        if !matches!(status, "True" | "False" | "Unknown") {
            problems.unsupported(at.field("status"), status, &["False", "True", "Unknown"]);
        }
        let generation = integer(condition, "observedGeneration");
        if generation < 0 {
            let why = "must be greater than or equal to zero";
            problems.invalid(at.field("observedGeneration"), generation, why);
        }
        if text(condition, "lastTransitionTime").is_empty() {
            problems.required(at.field("lastTransitionTime"), "");
        }
        condition_reason(problems, at.field("reason"), text(condition, "reason"));
        if text(condition, "message").len() > 32 * 1024 {
            problems.too_many_bytes(at.field("message"), 32 * 1024);
        }
    }
}

fn condition_reason(problems: &mut Problems, at: impl Display, reason: &str) {
    if reason.is_empty() {
        return problems.required(at, "");
    }
    let last = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fine = reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(last)
        && reason.chars().all(|c| last(c) || matches!(c, ',' | ':'));
    if !fine {
        let why = api_machinery::names::with_examples(
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
             characters or '_,:', and must end with an alphanumeric character or '_'",
            &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
            "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        );
        problems.invalid(&at, reason, &why);
    }
    if reason.len() > 1024 {
        problems.too_many_bytes(at, 1024);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_judged_as_upstream_judges_it() {
        let metadata = json!({"name": "A", "generateName": "b-", "namespace": "n.s", "generation": -1,
            "labels": {"a": "b c"}, "annotations": {"x/y/z": ""}, "finalizers": ["mine", "orphan", "foregroundDeletion"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u", "controller": true},
                {"apiVersion": "", "kind": "K", "name": "", "uid": "u", "controller": true}],
            "managedFields": [{"operation": "Put"}]});
        let mut problems = Problems::default();
        validate(&mut problems, &Path::new("metadata"), &metadata, true, NameRule::DnsSubdomain);
        standard_finalizers(&mut problems, &Path::new("metadata.finalizers"), &metadata);
        let fields: Vec<String> = problems.into_causes().into_iter().map(|cause| cause.field).collect();
        assert_eq!(
            fields,
            [
                "metadata.name",
                "metadata.namespace",
                "metadata.generation",
                "metadata.labels",
                "metadata.annotations",
                "metadata.ownerReferences",
                "metadata.ownerReferences.apiVersion",
                "metadata.ownerReferences.name",
                "metadata.ownerReferences",
                "metadata.finalizers",
                "metadata.managedFields[0].operation",
                "metadata.finalizers[0]",
            ]
        );
    }

    #[test]
    fn an_object_on_its_way_out_takes_no_new_finalizers() {
        let old = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]});
        let mut new = old.clone();
        new["finalizers"] = json!(["a/b", "a/c"]);
        let mut problems = Problems::default();
        validate_update(&mut problems, &Path::new("metadata"), &new, &old);
        assert_eq!(
            problems.into_causes()[0].message,
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a/c\"}"
        );
    }
}
