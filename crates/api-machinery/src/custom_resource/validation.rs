//! Whether a definition is one that can be served (upstream `apiextensions/validation`).
//!
//! Upstream looks at an internal form in which what all versions say alike stands once, above them: a definition of one
//! version is told about `spec.validation.openAPIV3Schema`, not about `spec.versions[0].schema.openAPIV3Schema`.
//! Expressions (`x-kubernetes-validations`) are judged elsewhere.

mod conversion;
mod parts;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::structure::{flag, list, text};
use super::{defaults, rules, status, structure};
use crate::field_path::{FieldError, FieldPath};
use crate::names;

/// Where a version's schema stands for who reads messages: path and JSON, once for all versions when they agree.
#[must_use]
pub fn schemas(definition: &Value) -> Vec<(FieldPath, &Value)> {
    let spec = &definition["spec"];
    let root = FieldPath::new("spec");
    let versions = list(spec, "versions");
    if let Some(same) = alike(spec, "schema") {
        let path = root.child("validation").child("openAPIV3Schema");
        return same
            .and_then(|schema| schema.get("openAPIV3Schema"))
            .map(|schema| (path, schema))
            .into_iter()
            .collect();
    }
    let own = versions.iter().enumerate().filter_map(|(index, version)| {
        let path = root.child("versions").index(index).child("schema").child("openAPIV3Schema");
        Some((path, version["schema"].get("openAPIV3Schema")?))
    });
    own.collect()
}

/// What all versions say alike of `key`; `Some(None)`: all of them nothing.
fn alike<'v>(spec: &'v Value, key: &str) -> Option<Option<&'v Value>> {
    let mut versions =
        list(spec, "versions").iter().map(|version| version.get(key).filter(|part| !part.is_null()));
    let first = versions.next()?;
    versions.all(|other| other == first).then_some(first)
}

/// What is wrong with a definition, normalised; `old` is the version before, for an update.
#[must_use]
pub fn definition(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &definition["spec"];
    if old.is_none() {
        let name = text(&definition["metadata"], "name");
        let wanted = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
        if name != wanted {
            let path = FieldPath::new("metadata").child("name");
            errors.push(FieldError::invalid(&path, name, "must be spec.names.plural+\".\"+spec.group"));
        }
    }
    errors.extend(self::spec(spec, old.map(|old| &old["spec"])));
    if let Some(old) = old {
        immutable(definition, old, &mut errors);
    }
    errors.extend(self::status(definition));
    stored_versions(definition, &mut errors);
    approval(definition, old, &mut errors);
    if flag(spec, "preserveUnknownFields")
        && !old.is_some_and(|old| flag(&old["spec"], "preserveUnknownFields"))
    {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&FieldPath::new("spec").child("preserveUnknownFields"), true, why));
    }
    errors
}

/// What is wrong with a definition's status.
#[must_use]
pub fn status(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let accepted = &definition["status"]["acceptedNames"];
    parts::names(accepted, &FieldPath::new("status").child("acceptedNames"), &mut errors);
    errors
}

fn spec(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = FieldPath::new("spec");
    let mut errors = Vec::new();
    let group = text(spec, "group");
    let wrong = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&root.child("group"), ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(&root.child("group"), group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            &root.child("group"),
            group,
            "should be a domain with at least one dot",
        ));
    }
    one_of(text(spec, "scope"), &["Cluster", "Namespaced"], &root.child("scope"), &mut errors);
    // What an older definition was allowed, its successor is: only what is new is held against it.
    let before = errors.len();
    versions(spec, &root, &mut errors);
    if errors.len() > before
        && let Some(old) = old
    {
        let mut known = Vec::new();
        versions(old, &root, &mut known);
        let fresh: Vec<FieldError> =
            errors.split_off(before).into_iter().filter(|error| !known.contains(error)).collect();
        errors.extend(fresh);
    }
    for (key, value) in ["plural", "singular", "kind", "listKind"].map(|key| (key, text(&spec["names"], key)))
    {
        if value.is_empty() {
            errors.push(FieldError::required(&root.child("names").child(key), ""));
        }
    }
    parts::names(&spec["names"], &root.child("names"), &mut errors);
    let strategy = text(&spec["conversion"], "strategy");
    if strategy != "None" && flag(spec, "preserveUnknownFields") {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(FieldError::invalid(&root.child("conversion").child("strategy"), strategy, why));
    }
    conversion::check(&spec["conversion"], &root.child("conversion"), &mut errors);
    errors
}

fn one_of(value: &str, accepted: &[&str], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !accepted.contains(&value) {
        errors.push(FieldError::not_supported(path, value, accepted));
    }
}

fn versions(spec: &Value, root: &FieldPath, errors: &mut Vec<FieldError>) {
    let versions = list(spec, "versions");
    let at = |index: usize| root.child("versions").index(index);
    for (index, version) in versions.iter().enumerate() {
        if version["schema"].get("openAPIV3Schema").is_none() {
            errors.push(FieldError::required(&at(index).child("schema").child("openAPIV3Schema"), ""));
        }
    }
    for (index, version) in versions.iter().enumerate() {
        let name = text(version, "name");
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at(index).child("name"), name, wrong.join(",")));
        }
        parts::deprecation(version, &at(index), errors);
        if alike(spec, "schema").is_none() {
            schema(&version["schema"], has_status(version), &at(index).child("schema"), errors);
        }
        per_version(spec, version, &at(index), errors);
    }
    let unique = versions
        .iter()
        .enumerate()
        .all(|(index, version)| versions[..index].iter().all(|other| other["name"] != version["name"]));
    if !unique {
        let path = root.child("versions");
        errors.push(FieldError::invalid(&path, versions.to_vec(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&root.child("versions"), versions.to_vec(), why));
    }
    if let Some(Some(same)) = alike(spec, "schema") {
        schema(same, versions.iter().any(has_status), &root.child("validation"), errors);
    }
    let Some(first) = versions.first() else { return };
    if alike(spec, "subresources").is_some() {
        parts::subresources(&first["subresources"], &root.child("subresources"), errors);
    }
    if alike(spec, "additionalPrinterColumns").is_some() {
        parts::columns(first, &root.child("additionalPrinterColumns"), errors);
    }
    if alike(spec, "selectableFields").is_some() {
        parts::selectable_fields(first, &root.child("selectableFields"), errors);
    }
}

/// What stands below a version only where versions differ.
fn per_version(spec: &Value, version: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if alike(spec, "subresources").is_none() {
        parts::subresources(&version["subresources"], &at.child("subresources"), errors);
    }
    if alike(spec, "additionalPrinterColumns").is_none() {
        parts::columns(version, &at.child("additionalPrinterColumns"), errors);
    }
    if alike(spec, "selectableFields").is_none() {
        parts::selectable_fields(version, &at.child("selectableFields"), errors);
    }
}

fn has_status(version: &Value) -> bool {
    version["subresources"].get("status").is_some_and(|status| !status.is_null())
}

fn schema(holder: &Value, status: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(schema) = holder.get("openAPIV3Schema").filter(|schema| schema.is_object()) else { return };
    let before = errors.len();
    let at = path.child("openAPIV3Schema");
    if status {
        errors.extend(rules::root_with_status(schema, &at));
    }
    if flag(schema, "nullable") {
        let nullable = FieldPath::new(&format!("{at}.nullable"));
        errors.push(FieldError::forbidden(&nullable, "nullable cannot be true at the root"));
    }
    let unsupported = structure::unsupported(schema, 0);
    if unsupported.is_none() {
        let structural = structure::violations(schema, &at);
        let clean = structural.is_empty();
        errors.extend(structural);
        if clean {
            errors.extend(defaults::violations(schema, &at));
        }
    }
    errors.extend(rules::violations(schema, &at));
    // Told only when nothing else says it.
    if let Some(why) = unsupported
        && errors.len() == before
    {
        errors.push(FieldError::invalid(&at, "", why));
    }
}

/// What an established definition can no longer change.
fn immutable(definition: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let root = FieldPath::new("spec");
    let (new, before) = (&definition["spec"], &old["spec"]);
    let names = root.child("names");
    let mut held = vec![
        (root.child("group"), &new["group"], &before["group"]),
        (names.child("plural"), &new["names"]["plural"], &before["names"]["plural"]),
    ];
    if status::is_true(old, "Established") {
        held.insert(0, (names.child("kind"), &new["names"]["kind"], &before["names"]["kind"]));
        held.insert(0, (root.child("scope"), &new["scope"], &before["scope"]));
    }
    for (path, new, before) in held {
        if new != before {
            errors.push(FieldError::invalid(&path, new.clone(), "field is immutable"));
        }
    }
}

fn stored_versions(definition: &Value, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("status").child("storedVersions");
    let stored = list(&definition["status"], "storedVersions");
    if stored.is_empty() {
        errors.push(FieldError::invalid(&path, stored.to_vec(), "must have at least one stored version"));
        return;
    }
    let versions = list(&definition["spec"], "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        if !stored.contains(&version["name"]) {
            let why = format!("must have the storage version {}", text(version, "name"));
            errors.push(FieldError::invalid(&path, stored.to_vec(), why));
        }
    }
    for (index, own) in stored.iter().enumerate() {
        if versions.iter().any(|version| version["name"] == *own) {
            continue;
        }
        let name = own.as_str().unwrap_or_default();
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {name} and removes {name} from \
             status.storedVersions"
        );
        errors.push(FieldError::invalid(&path.index(index), name, why));
    }
}

fn approval(definition: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some((state, reason)) = status::approval(definition) else { return };
    if old.and_then(status::approval).is_some_and(|(before, _)| before == state) {
        return;
    }
    let path = FieldPath::new("metadata").child("annotations").key(status::APPROVED_ANNOTATION);
    let value = &definition["metadata"]["annotations"][status::APPROVED_ANNOTATION];
    match state {
        status::Approval::Approved | status::Approval::Bypassed => {}
        status::Approval::Missing => errors.push(FieldError::required(&path, reason)),
        status::Approval::Invalid => errors.push(FieldError::invalid(&path, value.clone(), reason)),
    }
}

/// Formats in a definition's schemas that mean nothing to Kubernetes: they are told and otherwise ignored.
#[must_use]
pub fn unknown_formats(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(&definition["spec"], "versions") {
        formats(&version["schema"]["openAPIV3Schema"], 0, &mut found);
    }
    found
}

fn formats(schema: &Value, depth: usize, found: &mut Vec<String>) {
    let Some(map) = schema.as_object().filter(|_| depth <= super::MAX_DEPTH) else { return };
    let format = text(schema, "format");
    if !format.is_empty() && !super::values::is_known_format(format, text(schema, "type")) {
        found.push(format.to_owned());
    }
    structure::children(map).for_each(|child| formats(child, depth + 1, found));
}
