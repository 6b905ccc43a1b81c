//! What a pod may be told of itself, as variables and as files.

use serde_json::Value;

use super::{files, paths, required};
use crate::json::{given, list, text};
use crate::names;
use crate::path::Path;
use crate::pod_spec::resources::amount;
use crate::problems::Problems;

/// What a file may say of its pod.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// What both may say of a container's resources.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// A `fieldRef`; `supported` are the fields that may be named there.
pub fn field(problems: &mut Problems, at: &Path<'_>, reference: &Value, supported: &[&str]) {
    let (version, path) = (text(reference, "apiVersion"), text(reference, "fieldPath"));
    // Upstream goes no further after each of these.
    if version.is_empty() {
        return problems.required(at.field("apiVersion"), "");
    }
    if path.is_empty() {
        return problems.required(at.field("fieldPath"), "");
    }
    let (stem, subscript) = subscripted(path);
    let wrong = if version != "v1" {
        Some(format!("unsupported pod version: {version}"))
    } else if subscript.is_some() && !matches!(stem, "metadata.annotations" | "metadata.labels") {
        Some(format!("field label does not support subscript: {path}"))
    } else if subscript.is_none() && !KNOWN_FIELDS.contains(&path) && path != "spec.host" {
        Some(format!("field label not supported: {path}"))
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let why = format!("error converting fieldPath: {wrong}");
        return problems.invalid(at.field("fieldPath"), path, &why);
    }
    match (stem, subscript) {
        ("metadata.annotations", Some(key)) => problems.check(at, &key.to_lowercase(), names::qualified_name),
        (_, Some(key)) => problems.check(at, key, names::qualified_name),
        (stem, None) => {
            let stem = if stem == "spec.host" { "spec.nodeName" } else { stem };
            if !supported.contains(&stem) {
                problems.unsupported(at.field("fieldPath"), stem, supported);
            }
        }
    }
}

/// `metadata.labels['key']`.
fn subscripted(path: &str) -> (&str, Option<&str>) {
    let split = path.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match split.filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, key)) => (stem, Some(key)),
        None => (path, None),
    }
}

/// A `resourceFieldRef`; in a volume it has to name a container.
pub fn resource(problems: &mut Problems, at: &Path<'_>, reference: &Value, in_volume: bool) {
    let name = text(reference, "resource");
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        problems.required(at.field("containerName"), "");
    } else if name.is_empty() {
        problems.required(at.field("resource"), "");
    } else if !RESOURCES.contains(&name) && !huge {
        problems.unsupported(at.field("resource"), name, &RESOURCES);
    }
    divisor(problems, &at.field("divisor"), name, huge, reference);
}

fn divisor(problems: &mut Problems, at: &Path<'_>, name: &str, huge: bool, reference: &Value) {
    const SIZES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let Some(given) = given(reference, "divisor").and_then(amount).filter(|divisor| !divisor.is_zero())
    else {
        return;
    };
    let shown = given.to_string();
    let what = match name {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(shown.as_str(), "1" | "1m") {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                problems.invalid(at, name, why);
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !SIZES.contains(&shown.as_str()) {
        let why =
            format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", "));
        problems.invalid(at, name, &why);
    }
}

/// One file.
pub(super) fn file(problems: &mut Problems, at: &Path<'_>, file: &Value) {
    required(problems, at, file, &["path"]);
    paths::not_reserved(problems, at.field("path"), text(file, "path"));
    match (given(file, "fieldRef"), given(file, "resourceFieldRef")) {
        (Some(reference), other) => {
            field(problems, &at.field("fieldRef"), reference, &FIELDS);
            if other.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                problems.invalid(at, "resource", why);
            }
        }
        (None, Some(reference)) => resource(problems, &at.field("resourceFieldRef"), reference, true),
        (None, None) => problems.required(at, "one of fieldRef and resourceFieldRef is required"),
    }
    files::mode(problems, at, file, "mode");
}

/// A `downwardAPI` volume; upstream names no index of its files.
pub(super) fn volume(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    files::mode(problems, at, source, "defaultMode");
    for item in list(source, "items") {
        file(problems, at, item);
    }
}
