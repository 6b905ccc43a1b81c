//! What objects of some kinds have to keep to beyond their schema, said by the assembly: the last word of admission, so
//! that nothing changes an object behind it. A custom kind's own strategy knows its schema alone.

use std::sync::Arc;

use async_trait::async_trait;
use kube_objects::{Status, StatusCause, Write};
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

/// Judges objects as they would be written.
pub trait ObjectRules: Send + Sync + 'static {
    /// Whether there are rules for such things. Asked for every write: cheap.
    fn concerns(&self, group: &str, resource: &str) -> bool;

    /// What is wrong with the object, with fields; nothing that its last state had already ([`Write::old`]): what was taken
    /// once stays writable. Asked for the object itself, never for a subresource.
    fn problems(&self, write: &Write<'_>) -> Vec<StatusCause>;
}

pub(super) struct OwnRules(pub(super) Arc<dyn ObjectRules>);

#[async_trait]
impl Plugin for OwnRules {
    fn name(&self) -> &'static str {
        "ObjectRules"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let resource = &attributes.cx.resource.gvr;
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && attributes.cx.subresource.is_none()
            && self.0.concerns(&resource.group, &resource.resource)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        // What goes is only let go of: finalizers leave it one by one.
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let cx = &attributes.cx;
        let (group, resource) = (&cx.resource.gvr.group, &cx.resource.gvr.resource);
        let write = Write { group, resource, namespace: cx.namespace, old: attributes.old, new: object };
        let causes = self.0.problems(&write);
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(group, &cx.resource.kind, &attributes.shown_name(object), causes))
    }
}

#[cfg(test)]
mod tests {
    use kube_objects::Reason;
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    /// A ConfigMap's key `colour` is one that there is.
    struct Colours;

    impl ObjectRules for Colours {
        fn concerns(&self, group: &str, resource: &str) -> bool {
            group.is_empty() && resource == "configmaps"
        }

        fn problems(&self, write: &Write<'_>) -> Vec<StatusCause> {
            if write.new["data"]["colour"] == "blue" || write.old.is_some_and(|old| old == write.new) {
                return Vec::new();
            }
            vec![StatusCause {
                reason: "FieldValueInvalid".to_owned(),
                message: "Invalid value: there is no such colour".to_owned(),
                field: "data.colour".to_owned(),
            }]
        }
    }

    async fn outcome(fixture: Fixture, object: Value) -> Result<Value, Status> {
        let operation = if fixture.old.is_some() { Operation::Update } else { Operation::Create };
        fixture.run(&OwnRules(Arc::new(Colours)), operation, "", "configmaps", "n", object).await
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_as_invalid_with_its_field() {
        let map =
            |colour: &str| json!({"metadata": {"name": "m", "namespace": "n"}, "data": {"colour": colour}});
        let refused = outcome(Fixture::new(), map("loud")).await.expect_err("refused");
        assert_eq!((refused.reason, refused.code), (Some(Reason::Invalid), 422));
        assert_eq!(
            refused.message,
            "ConfigMap \"m\" is invalid: data.colour: Invalid value: there is no such colour"
        );
        assert_eq!(refused.details.expect("details").causes[0].field, "data.colour");
        outcome(Fixture::new(), map("blue")).await.expect("a good one");
        // Rules see what was; subresources and what is being deleted are let through.
        outcome(Fixture::new().updating(map("loud")), map("loud")).await.expect("as it was");
        outcome(Fixture::new().updating(map("loud")), map("louder")).await.expect_err("worse");
        outcome(Fixture::new().updating(map("blue")).at("status"), map("loud")).await.expect("a subresource");
        let mut going = map("loud");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        outcome(Fixture::new().updating(map("blue")), going).await.expect("what goes");
    }
}
