//! `v1.Pod`.

mod table;
mod update;

use api_machinery::quantity::Quantity;
use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use crate::registry::strategy::{RequestContext, Strategy};
use kind_rules::columns::Column;
use kind_rules::json::{child, default, default_text, existing, list, remove, set, text, truth};
use kind_rules::pod_spec;
use kind_rules::problems::Problems;

/// Pods: status by its subresource alone, graceful deletion, a spec that hardly changes.
#[derive(Debug)]
pub(crate) struct Pod;

#[async_trait]
impl Strategy for Pod {
    fn default_fields(&self, object: &mut Value) {
        if let Some(spec) = existing(object, "spec") {
            pod_spec::default_pod_spec(spec);
            default(spec, "enableServiceLinks", true);
        }
    }

    async fn prepare_for_create(&self, _: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        let gated = !list(&object["spec"], "schedulingGates").is_empty();
        let class = quality_of_service(&object["spec"]);
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if gated {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        set(object, "status", status);
        if let Some(spec) = existing(object, "spec") {
            remove(spec, "ephemeralContainers");
        }
        Ok(())
    }

    async fn prepare_for_status_update(
        &self,
        _: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if let Some(status) = child(object, "status") {
            // The class is decided once, from the spec.
            set(status, "qosClass", old["status"]["qosClass"].clone());
            if status["qosClass"].is_null() {
                remove(status, "qosClass");
            }
            default_text(status, "phase", "Pending");
        }
        Ok(())
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        pod_spec::validate(&mut problems, "spec", &object["spec"]);
        let gates = list(&object["spec"], "schedulingGates");
        if !gates.is_empty() && !text(&object["spec"], "nodeName").is_empty() {
            problems.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared");
        }
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        match cx.subresource {
            Some("status") => {}
            Some("ephemeralcontainers") => update::validate_ephemeral(&mut problems, object, old),
            _ => {
                pod_spec::validate(&mut problems, "spec", &object["spec"]);
                update::validate_spec_update(&mut problems, object, old);
            }
        }
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        match path.split_once('.') {
            // A flag that is not set is false, not "".
            Some(("spec", "hostNetwork")) => truth(&object["spec"], "hostNetwork").to_string(),
            Some((part, field)) => text(&object[part], field).to_owned(),
            None => String::new(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        table::columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        table::cells(object, now)
    }

    fn graceful_deletion(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let spec = &object["spec"];
        let phase = text(&object["status"], "phase");
        // Nobody would end the work of a pod that is on no node or has ended.
        if text(spec, "nodeName").is_empty() || phase == "Succeeded" || phase == "Failed" {
            return None;
        }
        let seconds =
            requested.unwrap_or_else(|| spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30));
        // Negative means "at once, but let the node agent have its say" (upstream's rule); 0 is force.
        let seconds = if seconds < 0 { 1 } else { seconds };
        (seconds > 0).then_some(seconds)
    }
}

/// `Guaranteed`: every container limits cpu and memory and requests as much; `BestEffort`: none says anything;
/// `Burstable`: the rest.
pub(crate) fn quality_of_service(spec: &Value) -> &'static str {
    let amount = |resources: &Value, kind: &str, name: &str| {
        let given = resources[kind].get(name).and_then(Value::as_str);
        given.and_then(|text| text.parse::<Quantity>().ok()).filter(|amount| *amount > Quantity::ZERO)
    };
    let mut anything = false;
    let mut all_guaranteed = true;
    for container in list(spec, "initContainers").iter().chain(list(spec, "containers")) {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount(resources, "limits", name), amount(resources, "requests", name));
            anything |= limit.is_some() || request.is_some();
            all_guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (anything, all_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Whether a pod has ended by itself.
pub(crate) fn is_terminal(pod: &Value) -> bool {
    matches!(text(&pod["status"], "phase"), "Succeeded" | "Failed")
}

/// Whether its Ready condition is true.
pub(crate) fn is_ready(pod: &Value) -> bool {
    list(&pod["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
}

#[cfg(test)]
mod tests;
