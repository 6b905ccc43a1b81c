//! What may change in a pod's spec after its creation (upstream `ValidatePodUpdate`).

use serde_json::Value;

use kind_rules::json::{list, list_mut, remove, set, text};
use kind_rules::problems::Problems;

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate_spec_update(problems: &mut Problems, object: &Value, old: &Value) {
    let (new_spec, old_spec) = (&object["spec"], &old["spec"]);
    for key in ["containers", "initContainers"] {
        if list(new_spec, key).len() != list(old_spec, key).len() {
            problems.forbidden(&format!("spec.{key}"), "pod updates may not add or remove containers");
            return;
        }
    }
    validate_deadline(problems, new_spec, old_spec);
    validate_tolerations(problems, new_spec, old_spec);
    // Put back what may change; anything still different may not.
    let mut masked = new_spec.clone();
    for key in ["containers", "initContainers"] {
        for (new, old) in list_mut(&mut masked, key).iter_mut().zip(list(old_spec, key)) {
            set(new, "image", old["image"].clone());
        }
    }
    let mut changeable = vec!["activeDeadlineSeconds", "tolerations"];
    if old_spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0)
        && new_spec["terminationGracePeriodSeconds"] == 1
    {
        changeable.push("terminationGracePeriodSeconds");
    }
    let (gates, old_gates) = (list(new_spec, "schedulingGates"), list(old_spec, "schedulingGates"));
    if gates.iter().all(|gate| old_gates.contains(gate)) {
        changeable.push("schedulingGates");
    } else {
        problems
            .forbidden("spec.schedulingGates", "only deletion is allowed, but found new scheduling gates");
    }
    if !old_gates.is_empty() {
        // A gated pod's placement may still be narrowed.
        changeable.extend(["nodeSelector", "affinity"]);
    }
    let mut before = old_spec.clone();
    for key in changeable {
        remove(&mut masked, key);
        remove(&mut before, key);
    }
    without_nothings(&mut masked);
    without_nothings(&mut before);
    if masked != before {
        problems.forbidden("spec", MAY_CHANGE);
    }
}

/// A field that is null and one that is not there are the same; so are an empty list and none.
fn without_nothings(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, inner| {
            without_nothings(inner);
            !inner.is_null() && !inner.as_array().is_some_and(Vec::is_empty)
        }),
        Value::Array(elements) => elements.iter_mut().for_each(without_nothings),
        _ => {}
    }
}

fn validate_deadline(problems: &mut Problems, new: &Value, old: &Value) {
    let field = "spec.activeDeadlineSeconds";
    match (old["activeDeadlineSeconds"].as_i64(), new["activeDeadlineSeconds"].as_i64()) {
        (Some(_), None) => {
            problems.invalid(field, &Value::Null, "must not update from a positive integer to nil value");
        }
        (Some(old), Some(seconds)) if seconds > old => problems.invalid(
            field,
            &new["activeDeadlineSeconds"],
            &format!("must be less than or equal to previous value ({old})"),
        ),
        _ => {}
    }
}

fn validate_tolerations(problems: &mut Problems, new: &Value, old: &Value) {
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|key| text(a, key) == text(b, key))
    };
    for toleration in list(old, "tolerations") {
        if !list(new, "tolerations").iter().any(|other| same(other, toleration)) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            problems.forbidden("spec.tolerations", detail);
            return;
        }
    }
}

/// Ephemeral containers are only ever added.
pub(super) fn validate_ephemeral(problems: &mut Problems, object: &Value, old: &Value) {
    const AT: &str = "spec.ephemeralContainers";
    let new = list(&object["spec"], "ephemeralContainers");
    for container in list(&old["spec"], "ephemeralContainers") {
        let name = text(container, "name");
        match new.iter().find(|other| text(other, "name") == name) {
            None => {
                problems
                    .forbidden(AT, &format!("existing ephemeral containers {name:?} may not be removed\n"));
            }
            Some(other) if other != container => {
                problems
                    .forbidden(AT, &format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
    for (index, container) in new.iter().enumerate() {
        kind_rules::names::label(problems, &format!("{AT}[{index}].name"), &container["name"]);
        if text(container, "image").is_empty() {
            problems.required(&format!("{AT}[{index}].image"), "");
        }
    }
}
