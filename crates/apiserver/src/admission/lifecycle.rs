//! NamespaceLifecycle: nothing is created in a namespace that is not there or on its way out; some namespaces stay.

use async_trait::async_trait;
use kube_objects::{Status, StatusCause};
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use kind_rules::json::{present, text};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plug-in.
pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let namespaces = attributes.is_resource("", "namespaces");
        match attributes.operation {
            Operation::Create | Operation::Update => {
                // Saying of a namespace that it is not there would tell those who may only ask what they may do.
                let access_review =
                    attributes.is_resource("authorization.k8s.io", "localsubjectaccessreviews");
                !attributes.cx.namespace.is_empty() && !namespaces && !access_review
            }
            Operation::Delete => namespaces,
            Operation::Connect => false,
        }
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let cx = &attributes.cx;
        if attributes.operation == Operation::Delete {
            if IMMORTAL.contains(&cx.name) {
                let why = "this namespace may not be deleted";
                return Err(access::authorization::forbidden("", "namespaces", cx.name, why));
            }
            return Ok(());
        }
        let Some(namespace) = cx.objects.get("", "namespaces", "", cx.namespace).await? else {
            return Err(Status::not_found("", "namespaces", cx.namespace));
        };
        let terminating = present(&namespace["metadata"], "deletionTimestamp")
            || text(&namespace["status"], "phase") == "Terminating";
        if attributes.operation == Operation::Create && terminating {
            return Err(terminating_refusal(attributes, object));
        }
        Ok(())
    }
}

fn terminating_refusal(attributes: &Attributes<'_>, object: &Value) -> Status {
    let namespace = attributes.cx.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut refused = attributes.forbidden(object, &why);
    if let Some(details) = &mut refused.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    #[tokio::test]
    async fn namespaces_are_guarded() {
        let fixture = Fixture::new().with("", "namespaces", json!({"metadata": {"name": "open"}})).with(
            "",
            "namespaces",
            json!({"metadata": {"name": "closing", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        );
        let map = || json!({"metadata": {"generateName": "a-"}});
        let create = |namespace: &'static str| {
            fixture.run(&NamespaceLifecycle, Operation::Create, "", "configmaps", namespace, map())
        };
        assert!(create("open").await.is_ok());
        assert_eq!(create("gone").await.unwrap_err().message, "namespaces \"gone\" not found");
        let refused = create("closing").await.unwrap_err();
        assert_eq!(
            refused.message,
            "configmaps \"a-\" is forbidden: unable to create new content in namespace closing because it is being \
             terminated"
        );
        assert_eq!(refused.details.unwrap().causes[0].reason, "NamespaceTerminating");
        let update =
            fixture.run(&NamespaceLifecycle, Operation::Update, "", "configmaps", "closing", map()).await;
        assert!(update.is_ok(), "what is there may still be changed");
    }
}
