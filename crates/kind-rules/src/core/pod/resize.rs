//! `pods/resize`: cpu and memory of running containers (upstream's `ValidatePodResize`, KEP-1287).

use serde_json::Value;

use super::quality_of_service;
use super::update::restore;
use crate::json::{child, entries, existing, given, list, list_mut, remove, same, same_field, set, text};
use crate::path::Path;
use crate::problems::Problems;

const ONLY: &str = "only cpu and memory resources are mutable";

/// Everything but resources and resize policies stays as it was.
pub fn prepare(object: &mut Value, old: &Value) {
    const KEYS: [&str; 2] = ["containers", "initContainers"];
    let counts = KEYS.iter().all(|key| list(&object["spec"], key).len() == list(&old["spec"], key).len());
    set(object, "status", old["status"].clone());
    if !counts {
        return;
    }
    let mut spec = old["spec"].clone();
    restore(&mut spec, &object["spec"], "resources");
    for key in KEYS {
        let wanted = list(&object["spec"], key);
        let named =
            wanted.iter().zip(list(&spec, key)).all(|(new, old)| text(new, "name") == text(old, "name"));
        if !named {
            set(&mut spec, key, wanted.to_vec());
            continue;
        }
        for (container, new) in list_mut(&mut spec, key).iter_mut().zip(wanted) {
            restore(container, new, "resources");
            restore(container, new, "resizePolicy");
        }
    }
    set(object, "spec", spec);
}

/// What is wrong with a resize.
pub fn validate(problems: &mut Problems, object: &Value, old: &Value) {
    if given(&old["metadata"]["annotations"], "kubernetes.io/config.mirror").is_some() {
        return problems.forbidden("", "static pods cannot be resized");
    }
    if text(&old["spec"]["os"], "name") == "windows" {
        return problems.forbidden("", "windows pods cannot be resized");
    }
    super::validate_whole(problems, object, Some(old));
    let at = Path::new("spec");
    let class = match text(&old["status"], "qosClass") {
        "" => quality_of_service(&old["spec"]),
        class => class,
    };
    if class != quality_of_service(&object["spec"]) {
        let why = "Pod QOS Class may not change as a result of resizing";
        problems.invalid(at, text(&object["status"], "qosClass"), why);
    }
    if !is_supported(old) {
        problems.forbidden(at, "Pod running on node without support for resize");
    }
    let mut copy = object["spec"].clone();
    pod_level(problems, &at, &object["spec"], &old["spec"], &mut copy);
    if !ordered(problems, &at, &object["spec"], &old["spec"]) {
        return;
    }
    for key in ["initContainers", "containers"] {
        let at = at.field(key);
        let pairs = list(&object["spec"], key).iter().zip(list(&old["spec"], key));
        for (index, (new, before)) in pairs.enumerate() {
            let at = at.index(index);
            not_removed(problems, &at.field("resources"), &new["resources"], &before["resources"]);
        }
    }
    contained(problems, &at, object, old, &mut copy);
    if problems.is_empty() && !same(&copy, &old["spec"]) {
        problems.forbidden(at, ONLY);
    }
}

/// A node that reports no resources of a running container cannot change them.
fn is_supported(pod: &Value) -> bool {
    list(&pod["status"], "containerStatuses")
        .iter()
        .find(|status| given(&status["state"], "running").is_some())
        .is_none_or(|status| given(status, "resources").is_some())
}

fn removed(new: &Value, old: &Value, kind: &str) -> bool {
    entries(old, kind).any(|(name, _)| new[kind].get(name).is_none())
}

fn not_removed(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    if removed(new, old, "requests") {
        problems.forbidden(at.field("requests"), "resource requests cannot be removed");
    }
    if removed(new, old, "limits") {
        problems.forbidden(at.field("limits"), "resource limits cannot be removed");
    }
}

fn pod_level(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value, copy: &mut Value) {
    let set_in = |spec: &Value| {
        ["requests", "limits"].iter().any(|kind| entries(&spec["resources"], kind).next().is_some())
    };
    if !set_in(new) && !set_in(old) {
        return;
    }
    let field = at.field("resources");
    if given(old, "resources").is_some() {
        if given(new, "resources").is_none() {
            return problems.forbidden(field, "pod-level resources cannot be removed");
        }
        if removed(&new["resources"], &old["resources"], "requests") {
            problems.forbidden(field.field("requests"), "pod-level resource requests cannot be removed");
        }
        if removed(&new["resources"], &old["resources"], "limits") {
            problems.forbidden(field.field("limits"), "pod-level resource limits cannot be removed");
        }
    }
    put_back(copy, &old["resources"]);
    if given(old, "resources").is_none() && crate::json::is_nothing_within(&copy["resources"]) {
        remove(copy, "resources");
    }
    if !same_field(copy, old, "resources") {
        problems.forbidden(at, "only cpu and memory resources are mutable at pod-level");
    }
}

/// Puts cpu and memory of `holder.resources` back to what they were.
fn put_back(holder: &mut Value, old: &Value) {
    let Some(resources) = existing(holder, "resources") else { return };
    for kind in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            match old[kind].get(name) {
                Some(value) => {
                    if let Some(map) = child(resources, kind) {
                        set(map, name, value.clone());
                    }
                }
                None => {
                    if let Some(map) = existing(resources, kind) {
                        remove(map, name);
                    }
                }
            }
        }
    }
}

fn ordered(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) -> bool {
    let before = problems.len();
    for key in ["containers", "initContainers"] {
        let at = at.field(key);
        if list(new, key).len() != list(old, key).len() {
            problems.forbidden(at, &format!("{key} may not be added or removed on resize"));
            continue;
        }
        for (index, (container, then)) in list(new, key).iter().zip(list(old, key)).enumerate() {
            if text(container, "name") != text(then, "name") {
                let why = format!("{key} may not be renamed or reordered on resize");
                problems.forbidden(at.index(index).field("name"), &why);
            }
        }
    }
    problems.len() == before
}

fn contained(problems: &mut Problems, at: &Path<'_>, object: &Value, old: &Value, copy: &mut Value) {
    for (container, before) in list_mut(copy, "containers").iter_mut().zip(list(&old["spec"], "containers")) {
        put_back(container, &before["resources"]);
        if !same(container, before) {
            problems.forbidden(at, ONLY);
        }
    }
    let at = at.field("initContainers");
    let given_now = list(&object["spec"], "initContainers");
    let pairs = list_mut(copy, "initContainers").iter_mut().zip(list(&old["spec"], "initContainers"));
    for (index, (container, before)) in pairs.enumerate() {
        let modified = given_now.get(index).is_some_and(|now| !same(now, before));
        put_back(container, &before["resources"]);
        if !same(container, before) {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            problems.forbidden(at.index(index), why);
        }
        if modified && text(container, "restartPolicy") != "Always" {
            for _ in list(container, "resizePolicy")
                .iter()
                .filter(|policy| text(policy, "restartPolicy") == "RestartContainer")
            {
                let why =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                problems.forbidden(at.index(index), why);
            }
        }
    }
}
