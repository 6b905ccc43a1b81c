//! The roles of people in projects: `fleet-viewer`, `fleet-operator`, `fleet-admin`. Each is an aggregation, so that whoever
//! adds a kind adds a ClusterRole with the label of the weakest role that may have it.

use kube::Client;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, core::GroupVersionKind};
use serde_json::{Value, json};

use crate::error::Error;

const API: &str = "rbac.authorization.k8s.io/v1";
/// Who says what the roles are.
const MANAGER: &str = "fairlead-hub";

/// Writes the roles as this release has them. What others add to them stays.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn ensure(client: &Client) -> Result<(), Error> {
    let kind =
        ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "ClusterRole"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    for role in roles() {
        let name = role["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let written = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&role)).await;
        written.map_err(Error::api(format!("write the ClusterRole {name}")))?;
    }
    Ok(())
}

/// The label by which a ClusterRole becomes part of a role.
fn label(role: &str) -> String {
    format!("fleet.fairlead.dev/aggregate-to-{role}")
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// What each role has beyond those before it.
fn steps() -> [(&'static str, Vec<Value>); 3] {
    const FLEET: &[&str] = &[fleet_objects::GROUP];
    const READ: &[&str] = &["get", "list", "watch"];
    const WRITE: &[&str] = &["create", "update", "patch", "delete"];
    let viewer = vec![
        // Through a cluster's proxy `get` is looking and watching; what is seen there the cluster's own roles decide.
        rule(FLEET, &["*"], READ),
        rule(&["multicluster.x-k8s.io"], &["clusterprofiles", "placementdecisions"], READ),
        rule(&["", "events.k8s.io"], &["events"], READ),
    ];
    let operator = vec![
        rule(FLEET, &["placements", "rollouts", "testruns", "testworkflows", "testtriggers"], WRITE),
        rule(FLEET, &["assignments"], &["patch"]),
        rule(FLEET, &["clusters/proxy"], WRITE),
    ];
    let admin = vec![
        // Clusters themselves, and which set they are in, are the hub's administrators'.
        rule(FLEET, &["profiles"], WRITE),
        rule(
            &[""],
            &["secrets", "configmaps"],
            &["get", "list", "watch", "create", "update", "patch", "delete"],
        ),
        rule(&["rbac.authorization.k8s.io"], &["roles", "rolebindings"], &["get", "list", "watch"]),
        rule(&["rbac.authorization.k8s.io"], &["rolebindings"], WRITE),
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
            "resourceNames": fleet_objects::project::ROLES}),
    ];
    [("viewer", viewer), ("operator", operator), ("admin", admin)]
}

fn roles() -> Vec<Value> {
    let names = ["viewer", "operator", "admin"];
    let mut all = Vec::new();
    for (index, (role, rules)) in steps().into_iter().enumerate() {
        let labels: serde_json::Map<String, Value> =
            names[index..].iter().map(|stronger| (label(stronger), "true".into())).collect();
        all.push(json!({"apiVersion": API, "kind": "ClusterRole", "rules": rules,
            "metadata": {"name": format!("fairlead:aggregate-to-{role}"), "labels": labels}}));
        all.push(
            json!({"apiVersion": API, "kind": "ClusterRole", "metadata": {"name": format!("fleet-{role}")},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label(role): "true"}}]}}),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_holds_what_the_weaker_ones_hold() {
        let all = roles();
        // As their aggregation has them.
        let rules = |name: &str| -> Vec<Value> {
            let label = label(name.strip_prefix("fleet-").expect("a role of the fleet"));
            let parts = all.iter().filter(|role| role["metadata"]["labels"][&label] == "true");
            parts.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect()
        };
        let [viewer, operator, admin] = fleet_objects::project::ROLES;
        assert!(all.iter().any(|role| role["metadata"]["name"] == viewer));
        assert!(rules(viewer).iter().all(|rule| rules(operator).contains(rule)));
        assert!(rules(operator).iter().all(|rule| rules(admin).contains(rule)));
        assert!(rules(viewer).len() < rules(operator).len() && rules(operator).len() < rules(admin).len());
        let writes =
            |rule: &Value| rule["verbs"].as_array().is_some_and(|verbs| verbs.contains(&"patch".into()));
        assert!(!rules(viewer).iter().any(writes));
        assert!(!rules(admin).iter().any(|rule| writes(rule) && rule["resources"] == json!(["clusters"])));
    }
}
