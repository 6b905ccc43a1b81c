//! NamespaceLifecycle: nothing is created in a namespace that is not there or on its way out.

use access::authorization::forbidden;
use kube_objects::{Status, StatusCause};

use crate::registry::strategy::RequestContext;

/// Refuses a create in a missing (404) or terminating (403) namespace.
pub(super) async fn check(cx: &RequestContext<'_>) -> Result<(), Status> {
    if !cx.resource.namespaced || cx.resource.virtual_only {
        return Ok(());
    }
    let Some(namespace) = cx.objects.get("", "namespaces", "", cx.namespace).await? else {
        return Err(Status::not_found("", "namespaces", cx.namespace));
    };
    if namespace["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why =
        format!("unable to create new content in namespace {} because it is being terminated", cx.namespace);
    let mut refused = forbidden(&cx.resource.gvr.group, &cx.resource.gvr.resource, cx.name, &why);
    if let Some(details) = &mut refused.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {} is being terminated", cx.namespace),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(refused)
}
