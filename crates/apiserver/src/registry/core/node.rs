//! `v1.Node`.

use serde_json::Value;

use kind_rules::columns::{Column, age};
use kind_rules::json::{entries, list, text, truth};
use kind_rules::rules::{KindRules, or};

/// The strategy.
pub(crate) const NODE: KindRules = KindRules {
    validate: |problems, object| {
        for (index, taint) in list(&object["spec"], "taints").iter().enumerate() {
            let at = format!("spec.taints[{index}]");
            if text(taint, "key").is_empty() {
                problems.required(&format!("{at}.key"), "");
            }
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            problems.choice(&format!("{at}.effect"), taint.get("effect"), &effects, false);
        }
    },
    validate_update: |problems, object, old| {
        for key in ["podCIDR", "providerID"] {
            let before = &old["spec"][key];
            if before.as_str().is_some_and(|text| !text.is_empty()) && object["spec"][key] != *before {
                problems.forbidden(&format!("spec.{key}"), "node updates may not change it once it is set");
            }
        }
    },
    selectable: &["spec.unschedulable"],
    columns: || {
        let mut columns = vec![Column::object_name()];
        columns.extend(["Status", "Roles"].map(Column::new));
        columns.extend([Column::age(), Column::new("Version")]);
        let wide = ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"];
        columns.extend(wide.map(Column::wide));
        columns
    },
    cells: |node, now| {
        let info = &node["status"]["nodeInfo"];
        let mut kernel = match text(info, "kernelVersion") {
            "" => "<unknown>".to_owned(),
            version => version.to_owned(),
        };
        if !text(info, "architecture").is_empty() {
            kernel = format!("{kernel} ({})", text(info, "architecture"));
        }
        vec![
            status(node).into(),
            roles(node).into(),
            age(node, now),
            info["kubeletVersion"].clone(),
            address(node, "InternalIP"),
            address(node, "ExternalIP"),
            or(text(info, "osImage"), "<unknown>"),
            kernel.into(),
            or(text(info, "containerRuntimeVersion"), "<unknown>"),
        ]
    },
    ..KindRules::NEW
};

fn status(node: &Value) -> String {
    let ready = list(&node["status"], "conditions").iter().find(|c| text(c, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        None => "Unknown".to_owned(),
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if truth(&node["spec"], "unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let roles: std::collections::BTreeSet<&str> = entries(&node["metadata"], "labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return "<none>".to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, kind: &str) -> Value {
    let found = list(&node["status"], "addresses").iter().find(|address| text(address, "type") == kind);
    or(found.map_or("", |address| text(address, "address")), "<none>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nodes_row() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0"}}});
        let cells = (NODE.cells)(&node, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "Ready,SchedulingDisabled");
        assert_eq!(cells[1], "control-plane");
        assert_eq!(cells[4], "10.0.0.1");
        assert_eq!(cells[5], "<none>");
    }
}
