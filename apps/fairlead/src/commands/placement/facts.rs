//! One cluster as a placement sees it.

use fleet_objects::{Cluster, Placement};
use fleet_planner::cluster_view::ClusterView;
use kube::ResourceExt;

/// What was decided about the cluster, and everything it was decided by.
pub(super) fn explain(placement: &Placement, cluster: &Cluster) -> String {
    let (name, own) = (cluster.name_any(), placement.name_any());
    let status = placement.status.clone().unwrap_or_default();
    let decision = status.decisions.iter().find(|decision| decision.cluster == name);
    let verdict = decision.map_or_else(
        || format!("placement {own}: the hub has not told what it decided about {name}"),
        |decision| {
            let chosen = if decision.selected { "chosen" } else { "not chosen" };
            format!("placement {own}: {name} is {chosen} at step {:?}: {}", decision.step, decision.reason)
        },
    );
    let mut rows = vec![["WHERE", "NAME", "VALUE"].map(str::to_owned).to_vec()];
    let mut add = |place: &str, name: &str, value: &str| {
        rows.push(vec![place.to_owned(), name.to_owned(), value.to_owned()]);
    };
    let view = ClusterView::from(cluster);
    for (key, value) in &view.labels {
        add("label", key, value);
    }
    for taint in &view.taints {
        let value = taint.value.as_deref().unwrap_or_default();
        add("taint", &taint.key, format!("{value} {:?}", taint.effect).trim());
    }
    for (key, value) in &view.fields {
        add("field", key, value);
    }
    for (key, value) in &view.properties {
        add("property", key, value);
    }
    for own in &view.api_groups {
        let (group, version) = own.split_once('/').unwrap_or((own, ""));
        add("API group", group, version);
    }
    format!("{verdict}\n\n{}", workflow::report::columns(&rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_can_be_selected_by_is_shown() {
        let cluster: Cluster = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "edge", "labels": {"tier": "gold"}},
            "spec": {"taints": [{"key": "leaving", "effect": "Evict"}]},
            "status": {"kubernetesVersion": "v1.36.0", "apiGroups": ["cert-manager.io/v1"],
                "properties": {"region.fleet.fairlead.dev": "eu"}}}))
        .unwrap();
        let decision = json!({"cluster": "edge", "selected": false, "step": "Taint",
            "reason": "taint leaving is not tolerated"});
        let placement: Placement = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement", "metadata": {"name": "app"},
            "spec": {"profile": "app"}, "status": {"decisions": [decision]}}))
        .unwrap();
        let said = explain(&placement, &cluster);
        for part in [
            "placement app: edge is not chosen at step Taint: taint leaving is not tolerated",
            "label       tier ",
            "taint       leaving                     Evict",
            "field       kubernetesVersion           v1.36.0",
            "property    region.fleet.fairlead.dev   eu",
            "API group   cert-manager.io             v1",
        ] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
    }
}
