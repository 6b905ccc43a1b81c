//! What may change in a pod after its creation (upstream's `ValidatePodUpdate`).

use serde_json::Value;

use crate::go_structures;
use crate::json::{entries, existing, given, list, list_mut, number, remove, same, same_field, set, text};
use crate::path::Path;
use crate::pod_spec;
use crate::problems::{Problems, quoted};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(problems: &mut Problems, object: &Value, old: &Value) {
    super::validate_whole(problems, object, Some(old));
    annotations(problems, object, old);
    let (new, before) = (&object["spec"], &old["spec"]);
    let at = Path::new("spec");
    for key in ["containers", "initContainers"] {
        if !same_count(problems, &at.field(key), new, before, key) {
            return;
        }
    }
    deadline(problems, &at.field("activeDeadlineSeconds"), new, before);
    tolerations(problems, &at.field("tolerations"), new, before);
    gates(problems, &at.field("schedulingGates"), new, before);
    if same(new, before) {
        return;
    }
    let mut masked = masked(new, before);
    if !list(before, "schedulingGates").is_empty() {
        placement(problems, &at, &mut masked, before);
    }
    if !same(&masked, before) {
        let why = format!("{MAY_CHANGE}\n{}", go_structures::difference("PodSpec", before, &masked));
        problems.forbidden(at, &why);
    }
}

/// Annotations that tell where a pod comes from and how it is confined stay as they are.
pub(super) fn annotations(problems: &mut Problems, object: &Value, old: &Value) {
    let at = Path::new("metadata.annotations");
    let (new, before) = (&object["metadata"]["annotations"], &old["metadata"]["annotations"]);
    for (key, value) in entries(&old["metadata"], "annotations") {
        if new.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            problems.forbidden(at.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            problems.forbidden(at.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in entries(&object["metadata"], "annotations").filter(|(key, _)| before.get(*key).is_none())
    {
        if key.starts_with(APP_ARMOR) {
            problems.forbidden(at.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            problems.forbidden(at.key(key), "may not add mirror pod annotation");
        }
    }
}

fn same_count(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value, key: &str) -> bool {
    if list(new, key).len() != list(old, key).len() {
        problems.forbidden(at, "pod updates may not add or remove containers");
        return false;
    }
    for (index, container) in list(new, key).iter().enumerate() {
        let image = text(container, "image");
        let at = at.index(index);
        if image.is_empty() {
            problems.required(at.field("image"), "");
        }
        if image.trim() != image {
            problems.invalid(at.field("image"), image, "must not have leading or trailing whitespace");
        }
    }
    true
}

fn deadline(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    let before = number(old, "activeDeadlineSeconds");
    match number(new, "activeDeadlineSeconds") {
        Some(seconds) => {
            problems.in_range(at, seconds, 0, i64::from(i32::MAX));
            if before.is_some_and(|before| before < seconds) {
                problems.invalid(at, seconds, "must be less than or equal to previous value");
            }
        }
        None if before.is_some() => {
            problems.invalid(at, &Value::Null, "must not update from a positive integer to nil value");
        }
        None => {}
    }
}

fn tolerations(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    let alike = |one: &Value, other: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|key| text(one, key) == text(other, key))
    };
    for toleration in list(old, "tolerations") {
        if !list(new, "tolerations").iter().any(|other| alike(other, toleration)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            problems.forbidden(at, why);
        }
    }
    pod_spec::tolerations(problems, at, list(new, "tolerations"));
}

fn gates(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !list(old, "schedulingGates").iter().any(|other| text(other, "name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            problems.forbidden(at.index(index).field("name"), &why);
        }
    }
}

/// The new spec with everything put back that may change at any time.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for key in ["containers", "initContainers"] {
        for (container, before) in list_mut(&mut masked, key).iter_mut().zip(list(old, key)) {
            restore(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut masked, old, key);
    }
    if number(old, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && number(&masked, "terminationGracePeriodSeconds") == Some(1)
    {
        restore(&mut masked, old, "terminationGracePeriodSeconds");
    }
    masked
}

pub(super) fn restore(object: &mut Value, old: &Value, key: &str) {
    match given(old, key) {
        Some(value) => set(object, key, value.clone()),
        None => drop(remove(object, key)),
    }
}

/// Where a gated pod may go can still be narrowed.
fn placement(problems: &mut Problems, at: &Path<'_>, masked: &mut Value, old: &Value) {
    if !same_field(masked, old, "nodeSelector") {
        for (key, value) in entries(old, "nodeSelector") {
            if masked["nodeSelector"].get(key) != Some(value) {
                let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
                problems.invalid(at.field("nodeSelector"), given(masked, "nodeSelector"), why);
            }
        }
        restore(masked, old, "nodeSelector");
    }
    let nodes = |spec: &Value| spec["affinity"].get("nodeAffinity").cloned().unwrap_or_default();
    let (new, before) = (nodes(masked), nodes(old));
    if same(&new, &before) {
        return;
    }
    let at = at.field("affinity");
    let at = at.field("nodeAffinity");
    let at = at.field(REQUIRED);
    node_terms(problems, &at.field("nodeSelectorTerms"), &new[REQUIRED], &before[REQUIRED]);
    let only_nodes = given(&masked["affinity"], "podAffinity").is_none()
        && given(&masked["affinity"], "podAntiAffinity").is_none();
    if given(old, "affinity").is_none() && only_nodes {
        remove(masked, "affinity");
    } else if given(masked, "affinity").is_none() {
        if !before.is_null() {
            set(masked, "affinity", serde_json::json!({"nodeAffinity": before}));
        }
    } else if let Some(affinity) = existing(masked, "affinity") {
        restore(affinity, &old["affinity"], "nodeAffinity");
    }
}

fn node_terms(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    let (new_terms, old_terms) = (list(new, "nodeSelectorTerms"), list(old, "nodeSelectorTerms"));
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return problems.invalid(at, new.get("nodeSelectorTerms"), why);
    }
    for (index, (term, before)) in new_terms.iter().zip(old_terms).enumerate() {
        let keys = ["matchExpressions", "matchFields"];
        let was_empty = keys.iter().all(|key| list(before, key).is_empty());
        let is_empty = keys.iter().all(|key| list(term, key).is_empty());
        let added_only = keys.iter().all(|key| {
            let (now, then) = (list(term, key), list(before, key));
            now.len() >= then.len() && now.iter().zip(then).all(|(now, then)| same(now, then))
        });
        if (was_empty && !is_empty) || !added_only {
            let why = "only additions are allowed (no mutations or deletions)";
            problems.invalid(at.index(index), term, why);
        }
    }
}

/// Of an update of `ephemeralcontainers`, everything but these containers stays as it was.
pub fn prepare_ephemeral(object: &mut Value, old: &Value) {
    let containers = object["spec"].get("ephemeralContainers").cloned();
    set(object, "spec", old["spec"].clone());
    set(object, "status", old["status"].clone());
    if let Some(spec) = existing(object, "spec") {
        match containers {
            Some(containers) => set(spec, "ephemeralContainers", containers),
            None => drop(remove(spec, "ephemeralContainers")),
        }
        pod_spec::default_pod_spec(spec);
    }
}

/// Ephemeral containers are only ever added (upstream's `ValidatePodEphemeralContainersUpdate`).
pub fn validate_ephemeral(problems: &mut Problems, object: &Value, old: &Value) {
    if given(&old["metadata"]["annotations"], MIRROR).is_some() {
        return problems.forbidden("", "static pods do not support ephemeral containers");
    }
    super::validate_whole(problems, object, Some(old));
    annotations(problems, object, old);
    let at = Path::new("spec.ephemeralContainers");
    let new = list(&object["spec"], "ephemeralContainers");
    for container in list(&old["spec"], "ephemeralContainers") {
        let name = text(container, "name");
        match new.iter().rfind(|other| text(other, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {} may not be removed\n", quoted(name));
                problems.forbidden(at, &why);
            }
            Some(other) if !same(other, container) => {
                let change = go_structures::difference("EphemeralContainer", container, other);
                let why =
                    format!("existing ephemeral containers {} may not be changed\n{change}", quoted(name));
                problems.forbidden(at, &why);
            }
            Some(_) => {}
        }
    }
}
