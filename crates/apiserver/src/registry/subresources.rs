//! What single kinds' subresources do: pod binding and eviction, service-account tokens, scale.

mod eviction;
mod scale;
mod token;

use kube_objects::Status;
use serde_json::{Value, json};

use super::strategy::RequestContext;
use kind_rules::json::{child, default, entries, existing, list, set, text};

pub use eviction::check_eviction;
pub use scale::{apply_scale, scale_of};
pub use token::token_request;

/// Puts the pod `cx.name` on the node that a `v1.Binding` names: sets `spec.nodeName` and the PodScheduled condition and
/// copies the binding's annotations and labels. The caller answers 201 with a `Status` of success.
///
/// # Errors
/// 500 without a reason, as upstream, for a target that is no node; 404 when there is no such pod; 409 when the pod is bound already, is being deleted,
/// is another by uid, or waits for its scheduling gates.
pub async fn bind_pod(cx: &RequestContext<'_>, binding: &Value) -> Result<(), Status> {
    let target = &binding["target"];
    let node = text(target, "name").to_owned();
    let kind = text(target, "kind");
    if !matches!(kind, "" | "Node") {
        let message =
            format!("target.kind: Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"");
        return Err(Status::unreasoned(message));
    }
    if node.is_empty() {
        return Err(Status::unreasoned("target.name: Required value"));
    }
    let (name, now) = (cx.name.to_owned(), format!("{:.0}", cx.now));
    let binding = binding.clone();
    let change = move |pod: &mut Value| -> Result<bool, Status> {
        refuse_binding(pod, &binding, &name, &node)?;
        if let Some(spec) = existing(pod, "spec") {
            set(spec, "nodeName", node.as_str());
        }
        for key in ["annotations", "labels"] {
            if entries(&binding["metadata"], key).next().is_none() {
                continue;
            }
            if let Some(map) = child(pod, "metadata").and_then(|metadata| child(metadata, key)) {
                for (name, value) in entries(&binding["metadata"], key) {
                    set(map, name, value.clone());
                }
            }
        }
        if let Some(status) = child(pod, "status") {
            set_scheduled(status, &now);
        }
        Ok(true)
    };
    if cx.objects.modify("", "pods", cx.namespace, cx.name, &change).await? {
        Ok(())
    } else {
        Err(Status::not_found("", "pods", cx.name))
    }
}

fn refuse_binding(pod: &Value, binding: &Value, name: &str, node: &str) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, &why));
    let wanted = text(&binding["metadata"], "uid");
    let uid = text(&pod["metadata"], "uid");
    if !wanted.is_empty() && wanted != uid {
        return conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = text(&pod["spec"], "nodeName");
    if !current.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {current:?}"));
    }
    if !list(&pod["spec"], "schedulingGates").is_empty() {
        return conflict(format!(
            "pod {name} has non-empty .spec.schedulingGates, so it cannot go to node {node:?}"
        ));
    }
    Ok(())
}

fn set_scheduled(status: &mut Value, now: &str) {
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    default(status, "conditions", json!([]));
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    match conditions.iter_mut().find(|condition| text(condition, "type") == "PodScheduled") {
        Some(own) if text(own, "status") == "True" => {}
        Some(own) => *own = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests;
