//! Rules of aggregating ClusterRoles: those of every ClusterRole that their selectors choose, by name, each once (upstream
//! `pkg/controller/clusterroleaggregation`). Part of every control plane, for also a hub's roles are made of parts.

use std::time::Duration;

use api_client::{CacheOptions, ObjectCache, ObjectKey};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt as _};
use kube::{Api, Client, ResourceExt};
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use crate::error::{Doing, Error, Gone};

/// Keeps the rules of aggregating roles.
pub(super) struct Aggregation {
    client: Client,
    roles: ObjectCache<ClusterRole>,
}

impl Aggregation {
    pub(super) fn start(client: Client) -> Self {
        let roles = ObjectCache::start(Api::all(client.clone()), CacheOptions::new("cluster roles"));
        Self { client, roles }
    }

    pub(super) async fn has_synced(&self) {
        self.roles.has_synced().await;
    }

    /// One key for everything: any role may be part of any aggregation.
    pub(super) fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let fed = queue.clone();
        self.roles.on_change(move |_| fed.add(ObjectKey::new("", "all")));
        queue
    }

    async fn write(&self, role: &ClusterRole) -> Result<(), Error> {
        let Some(rules) = aggregated(role, &self.roles.list()) else { return Ok(()) };
        // In another order they are the same rules: those that servers are born with come in theirs.
        let has = role.rules.clone().unwrap_or_default();
        if has.len() == rules.len() && rules.iter().all(|rule| has.contains(rule)) {
            return Ok(());
        }
        let name = role.name_any();
        let patch = json!({"metadata": {"resourceVersion": role.resource_version()}, "rules": rules});
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unless_gone() {
            // Somebody changed it meanwhile: the change brings it back.
            Err(error) if api_client::error::is_conflict(&error) => {}
            written => {
                if let Some(written) = written.doing("aggregating the rules of ClusterRole", &name)? {
                    self.roles.observe(&written);
                }
            }
        }
        Ok(())
    }
}

/// The rules of `role` out of all roles; `None` when it does not aggregate, or cannot be told.
fn aggregated(role: &ClusterRole, all: &[std::sync::Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
    let selectors: Vec<Selector> =
        selectors.into_iter().map(Selector::try_from).collect::<Result<_, _>>().ok()?;
    let mut parts: Vec<_> = all
        .iter()
        .filter(|part| part.name_any() != role.name_any())
        .filter(|part| selectors.iter().any(|selector| selector.matches(part.labels())))
        .collect();
    parts.sort_by_key(|part| part.name_any());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in parts.into_iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}

impl Reconciler for Aggregation {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, _: ObjectKey) -> Result<Action, Error> {
        for role in self.roles.list() {
            self.write(&role).await?;
        }
        Ok(Action::Done)
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn rules_are_those_of_every_chosen_role_once_and_by_name() {
        let role = |name: &str, labels: serde_json::Value, resources: &[&str]| -> Arc<ClusterRole> {
            let rules: Vec<_> = resources
                .iter()
                .map(|resource| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]}))
                .collect();
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "rules": rules}))
                    .expect("a role"),
            )
        };
        let (part, other) = (json!({"to": "a"}), json!({"to": "b"}));
        let mut whole = (*role("whole", part.clone(), &["stale"])).clone();
        assert!(aggregated(&whole, &[]).is_none(), "it does not aggregate");
        whole.aggregation_rule =
            serde_json::from_value(json!({"clusterRoleSelectors": [{"matchLabels": {"to": "a"}}]}))
                .expect("a rule");
        let all = [
            role("z", part.clone(), &["pods", "nodes"]),
            role("a", part, &["services", "pods"]),
            role("o", other, &["secrets"]),
            Arc::new(whole.clone()),
        ];
        let rules = aggregated(&whole, &all).expect("it aggregates");
        let named: Vec<_> =
            rules.iter().map(|rule| rule.resources.clone().unwrap_or_default().join(",")).collect();
        assert_eq!(named, ["services", "pods", "nodes"], "its own stale rules are none of its parts");
    }
}
