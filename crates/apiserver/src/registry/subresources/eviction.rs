//! `pods/eviction`: a deletion that disruption budgets may refuse.

use kube_objects::{Reason, Status, StatusCause};
use serde_json::Value;

use crate::registry::strategy::RequestContext;
use kind_rules::core::pod::{is_ready, is_terminal};
use kind_rules::json::{child, integer, list, present, set, text};
use kind_rules::names;

/// Whether the pod may be evicted now; if a budget matches it, the disruption is counted in the budget's status so that
/// two evictions at once do not both take the last one. The caller then deletes the pod with the eviction's
/// `deleteOptions` and answers 201.
///
/// # Errors
/// 429 with the cause `DisruptionBudget` when a budget does not allow it (to be retried); 500 when several budgets match.
pub async fn check_eviction(cx: &RequestContext<'_>, pod: &Value) -> Result<(), Status> {
    // What has ended or is on no node serves nobody: no budget is asked.
    if is_terminal(pod)
        || text(&pod["status"], "phase") == "Pending"
        || present(&pod["metadata"], "deletionTimestamp")
    {
        return Ok(());
    }
    let budgets = cx.objects.list("policy", "poddisruptionbudgets", cx.namespace).await?;
    let labels = &pod["metadata"]["labels"];
    let matching: Vec<&Value> = budgets
        .iter()
        .map(AsRef::as_ref)
        .filter(|budget: &&Value| {
            budget["spec"]["selector"].is_object() && names::matches(&budget["spec"]["selector"], labels)
        })
        .collect();
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [one] => *one,
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status { code: 500, ..Status::new(Reason::InternalError, message) });
        }
    };
    if !is_ready(pod) && unhealthy_may_go(budget) {
        return Ok(());
    }
    take_disruption(cx, budget, text(&pod["metadata"], "name")).await
}

/// A pod that is not ready may go when the budget says so, or when the budget's own pods are healthy.
fn unhealthy_may_go(budget: &Value) -> bool {
    let status = &budget["status"];
    text(&budget["spec"], "unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || (integer(status, "currentHealthy") >= integer(status, "desiredHealthy")
            && integer(status, "desiredHealthy") > 0)
}

async fn take_disruption(cx: &RequestContext<'_>, budget: &Value, pod: &str) -> Result<(), Status> {
    let name = text(&budget["metadata"], "name").to_owned();
    let (pod, now) = (pod.to_owned(), format!("{:.0}", cx.now));
    let dry_run = cx.dry_run;
    let budget_name = name.clone();
    let change = move |budget: &mut Value| -> Result<bool, Status> {
        allowed(budget, &budget_name)?;
        let left = integer(&budget["status"], "disruptionsAllowed") - 1;
        if let Some(status) = child(budget, "status") {
            set(status, "disruptionsAllowed", left);
            if let Some(disrupted) = child(status, "disruptedPods") {
                set(disrupted, &pod, now.as_str());
            }
        }
        Ok(!dry_run)
    };
    cx.objects.modify("policy", "poddisruptionbudgets", cx.namespace, &name, &change).await.map(drop)
}

pub(super) fn allowed(budget: &Value, name: &str) -> Result<(), Status> {
    let status = &budget["status"];
    let refuse = |message: String| {
        let mut refusal = Status::new(
            Reason::TooManyRequests,
            "Cannot evict pod as it would violate the pod's disruption budget.",
        );
        let cause = StatusCause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
        refusal.details = Some(Box::new(kube_objects::StatusDetails {
            causes: vec![cause],
            ..kube_objects::StatusDetails::default()
        }));
        Err(refusal)
    };
    if integer(status, "observedGeneration") < integer(&budget["metadata"], "generation") {
        return refuse(format!("The disruption budget {name} is still being processed by the server."));
    }
    if integer(status, "disruptionsAllowed") > 0 {
        return Ok(());
    }
    // A condition may say why.
    let why =
        list(status, "conditions").iter().find(|condition| text(condition, "type") == "DisruptionAllowed");
    match why.map(|condition| text(condition, "reason")) {
        Some("SyncFailed") => refuse(format!("The disruption budget {name} could not be computed.")),
        _ => refuse(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            integer(status, "desiredHealthy"),
            integer(status, "currentHealthy")
        )),
    }
}
