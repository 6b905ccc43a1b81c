//! ResourceQuota: an object's cost is taken from its namespace's quotas before it is written.
//!
//! `status.used` is raised by compare-and-set, so that of many creates at once no more are let through than fit, on however
//! many servers. What was taken for a write that then failed is given back by the controller's next recalculation.

use async_trait::async_trait;
use kind_rules::json::{child, set, text};
use kind_rules::quota::{Evaluator, charge};
use kind_rules::resource_list::ResourceList;
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

/// The plug-in.
pub(super) struct ResourceQuota;

const QUOTAS: (&str, &str) = ("", "resourcequotas");

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let own = &attributes.cx.resource.gvr;
        if attributes.cx.namespace.is_empty() || attributes.cx.resource.virtual_only {
            return false;
        }
        let (create, update) =
            (attributes.operation == Operation::Create, attributes.operation == Operation::Update);
        match (own.group.as_str(), own.resource.as_str(), attributes.cx.subresource) {
            ("", "pods", Some("resize")) | ("", "persistentvolumeclaims", Some("status")) => update,
            ("", "pods" | "services" | "persistentvolumeclaims", None) => create || update,
            (group, resource, None) => create && Evaluator::of(group, resource).is_some(),
            _ => false,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let cx = &attributes.cx;
        let own = &cx.resource.gvr;
        let Some(evaluator) = Evaluator::of(&own.group, &own.resource) else { return Ok(()) };
        if !concerns(&evaluator, attributes, object) {
            return Ok(());
        }
        let quotas = cx.objects.list(QUOTAS.0, QUOTAS.1, cx.namespace).await?;
        let request = Request { attributes, evaluator, object };
        let mut concerned = Vec::new();
        for quota in &quotas {
            // All have to agree before anything is taken from one.
            if request.cost(quota)?.is_some() {
                concerned.push(text(&quota["metadata"], "name"));
            }
        }
        if cx.dry_run {
            return Ok(());
        }
        for (index, quota) in concerned.iter().enumerate() {
            if let Err(refused) = request.take(quota).await {
                request.give_back(&concerned[..index]).await;
                return Err(refused);
            }
        }
        Ok(())
    }
}

/// Whether an update can change what an object costs.
fn concerns(evaluator: &Evaluator, attributes: &Attributes<'_>, object: &Value) -> bool {
    let Some(old) = attributes.old else { return true };
    match (evaluator, attributes.cx.subresource) {
        (Evaluator::Pods, None) => {
            let ends =
                |pod: &Value| pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|left| left >= 0);
            ends(object) != ends(old)
        }
        _ => true,
    }
}

struct Request<'a, 'r> {
    attributes: &'a Attributes<'r>,
    evaluator: Evaluator,
    object: &'a Value,
}

impl Request<'_, '_> {
    fn cost(&self, quota: &Value) -> Result<Option<ResourceList>, Status> {
        let may_exceed = self.attributes.cx.subresource == Some("status");
        let (old, now) = (self.attributes.old, self.attributes.cx.now);
        charge(quota, &self.evaluator, self.object, old, now, may_exceed)
            .map_err(|why| self.attributes.forbidden(self.object, &why))
    }

    /// Takes the cost from a quota as it is at that moment; a quota that has gone takes nothing.
    async fn take(&self, name: &str) -> Result<(), Status> {
        let change = |quota: &mut Value| {
            let Some(cost) = self.cost(quota)? else { return Ok(false) };
            let mut used = ResourceList::of(&quota["status"]["used"]);
            used.add(&cost);
            write_used(quota, &used);
            Ok(true)
        };
        let cx = &self.attributes.cx;
        cx.objects.modify(QUOTAS.0, QUOTAS.1, cx.namespace, name, &change).await.map(drop)
    }

    async fn give_back(&self, names: &[&str]) {
        let cx = &self.attributes.cx;
        for name in names {
            let change = |quota: &mut Value| {
                // What this request would cost now is what it has cost: it is taken once and not written.
                let used = ResourceList::of(&quota["status"]["used"]);
                let before = self.attributes.old.map(|old| self.evaluator.usage(old, cx.now));
                let cost = self.evaluator.usage(self.object, cx.now).beyond(&before.unwrap_or_default());
                let mut rest = used.clone();
                for (name, amount) in &cost.0 {
                    if let Some(own) = rest.0.get_mut(name) {
                        *own = own.minus(amount);
                    }
                }
                write_used(quota, &rest);
                Ok(rest != used)
            };
            let given = cx.objects.modify(QUOTAS.0, QUOTAS.1, cx.namespace, name, &change).await;
            if let Err(error) = given {
                tracing::warn!(quota = name, %error, "a quota keeps what a refused request took until it is recalculated");
            }
        }
    }
}

fn write_used(quota: &mut Value, used: &ResourceList) {
    if let Some(status) = child(quota, "status") {
        set(status, "used", used.to_json());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn quota(name: &str, hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    fn used(fixture: &Fixture, name: &str) -> Value {
        let quota = fixture.object("", "resourcequotas", name);
        quota["status"]["used"].clone()
    }

    #[tokio::test]
    async fn what_fits_is_taken_from_every_quota_and_what_does_not_from_none() {
        let fixture = Fixture::new()
            .with(QUOTAS.0, QUOTAS.1, quota("a", json!({"secrets": "2"}), json!({"secrets": "0"})))
            .with(
                QUOTAS.0,
                QUOTAS.1,
                quota("b", json!({"count/secrets": "1"}), json!({"count/secrets": "0"})),
            );
        let secret = || json!({"metadata": {"name": "s"}});
        fixture.run(&ResourceQuota, Operation::Create, "", "secrets", "n", secret()).await.unwrap();
        let refused =
            fixture.run(&ResourceQuota, Operation::Create, "", "secrets", "n", secret()).await.unwrap_err();
        assert_eq!(
            refused.message,
            "secrets \"s\" is forbidden: exceeded quota: b, requested: count/secrets=1, used: count/secrets=1, limited: \
             count/secrets=1"
        );
        assert_eq!(
            (used(&fixture, "a"), used(&fixture, "b")),
            (json!({"secrets": "1"}), json!({"count/secrets": "1"}))
        );
    }
}
