//! Where volumes appear in a container.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::json::{given, list, text, truth};
use crate::path::Path;
use crate::pod_spec::volumes::{Sources, paths};
use crate::problems::Problems;

/// `volumeMounts`.
pub(super) fn mounts(problems: &mut Problems, at: &Path<'_>, container: &Value, volumes: &Sources<'_>) {
    let devices = list(container, "volumeDevices");
    let mut seen = BTreeSet::new();
    let whole = at;
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = at.index(index);
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            problems.required(at.field("name"), "");
        }
        if volumes.get(name).is_none() {
            problems.not_found(at.field("name"), name);
        }
        if path.is_empty() {
            problems.required(at.field("mountPath"), "");
        }
        if !seen.insert(path) {
            problems.invalid(at.field("mountPath"), path, "must be unique");
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            problems.invalid(at.field("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == path) {
            let why = "must not already exist as a path in volumeDevices";
            problems.invalid(at.field("mountPath"), path, why);
        }
        inside(problems, whole, &at, mount);
        propagation(problems, whole, mount, container);
        recursive_read_only(problems, &whole.field("recursiveReadOnly"), mount);
    }
}

/// Upstream names these fields without the index of the mount.
fn inside(problems: &mut Problems, whole: &Path<'_>, at: &Path<'_>, mount: &Value) {
    let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if !sub.is_empty() {
        paths::descending(problems, whole.field("subPath"), sub);
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            problems.invalid(at.field("subPathExpr"), expression, why);
        }
        paths::descending(problems, whole.field("subPathExpr"), expression);
    }
}

fn propagation(problems: &mut Problems, whole: &Path<'_>, mount: &Value, container: &Value) {
    let Some(mode) = given(mount, "mountPropagation") else { return };
    let at = whole.field("mountPropagation");
    match mode.as_str() {
        Some("None" | "HostToContainer") => {}
        Some("Bidirectional") => {
            if !truth(&container["securityContext"], "privileged") {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                problems.forbidden(at, why);
            }
        }
        _ => problems.unsupported(at, mode, &["Bidirectional", "HostToContainer", "None"]),
    }
}

fn recursive_read_only(problems: &mut Problems, at: &Path<'_>, mount: &Value) {
    let Some(mode) = given(mount, "recursiveReadOnly") else { return };
    match mode.as_str() {
        Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !truth(mount, "readOnly") {
                problems.forbidden(at, "may only be specified when readOnly is true");
            }
            if given(mount, "mountPropagation").is_some_and(|mode| mode != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                problems.forbidden(at, why);
            }
        }
        _ => problems.unsupported(at, mode, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// `volumeDevices`.
pub(super) fn devices(problems: &mut Problems, at: &Path<'_>, container: &Value, volumes: &Sources<'_>) {
    let mounts = list(container, "volumeMounts");
    let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        let at = at.index(index);
        let (name, path) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            problems.required(at.field("name"), "");
        }
        if names.contains(name) {
            problems.invalid(at.field("name"), name, "must be unique");
        }
        match volumes.get(name) {
            None => problems.not_found(at.field("name"), name),
            Some(volume)
                if given(volume, "persistentVolumeClaim").or(given(volume, "ephemeral")).is_none() =>
            {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                problems.invalid(at.field("name"), name, why);
            }
            Some(_) => {}
        }
        if path.is_empty() {
            problems.required(at.field("devicePath"), "");
        }
        if seen.contains(path) {
            problems.invalid(at.field("devicePath"), path, "must be unique");
        }
        if paths::steps_back(path) {
            problems.invalid(at.field("devicePath"), path, "can not contain backsteps ('..')");
        } else {
            seen.insert(path);
        }
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            problems.invalid(at.field("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == path) {
            let why = "must not already exist as a path in volumeMounts";
            problems.invalid(at.field("devicePath"), path, why);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
