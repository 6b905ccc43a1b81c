//! Which webhooks a request goes to, and in which version of its resource.

use kube_objects::{GroupVersionResource, Reason, Status};
use policy_engines::admission_policy::{Asked, wanted_as};
use serde_json::Value;

use super::conditions;
use super::hook::Hook;
use super::review::Shown;
use crate::admission::seen::Seen;
use crate::admission::{Attributes, Operation};
use crate::registry::objects::ObjectAccess;

/// A webhook that wants a request, and what it is shown of it.
pub(super) struct Invocation<'h> {
    pub(super) hook: &'h Hook,
    pub(super) seen: Seen<'h>,
}

/// Whether `hook` wants the request (upstream `ShouldCallHook`).
///
/// # Errors
/// 404 for a namespace that is not there, 500 for selectors that cannot be read and conversions that fail.
pub(super) async fn select<'h>(
    objects: &ObjectAccess,
    hook: &'h Hook,
    attributes: &Attributes<'h>,
    object: &Value,
) -> Result<Option<Invocation<'h>>, Status> {
    let Some(wanted) = wanted(objects, hook, attributes) else { return Ok(None) };
    if !namespace_matches(hook, attributes, object).await? || !object_matches(hook, attributes, object)? {
        return Ok(None);
    }
    let seen = Seen::of(objects, &wanted, attributes, object).await?;
    let holds = conditions::hold(&hook.conditions, hook.fails_open, attributes, &Shown::of(&seen))?;
    Ok(holds.then_some(Invocation { hook, seen }))
}

/// As which resource a rule wants the request; `None`: none does.
fn wanted(objects: &ObjectAccess, hook: &Hook, attributes: &Attributes<'_>) -> Option<GroupVersionResource> {
    let cx = &attributes.cx;
    let asked = Asked {
        operation: attributes.operation.as_str(),
        resource: &cx.resource.gvr,
        subresource: cx.subresource.unwrap_or_default(),
        namespaced: !cx.namespace.is_empty(),
        name: cx.name,
    };
    wanted_as(&hook.rules, &asked, || {
        if !hook.equivalent {
            return Vec::new();
        }
        let catalogue = objects.kinds.catalogue();
        catalogue.equivalents(cx.resource).map(|other| other.gvr.clone()).collect()
    })
}

fn unreadable(why: &str) -> Status {
    Status::new(Reason::InternalError, format!("Internal error occurred: {why}"))
}

async fn namespace_matches(hook: &Hook, attributes: &Attributes<'_>, object: &Value) -> Result<bool, Status> {
    let namespace = attributes.namespace();
    let about_namespace = attributes.is_resource("", "namespaces");
    if namespace.is_empty() && !about_namespace {
        return Ok(true);
    }
    let selector = hook.namespaces.as_ref().map_err(|why| unreadable(why))?;
    if selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if about_namespace && attributes.cx.subresource.is_none() && written {
        return Ok(selector.matches_object(object));
    }
    let found = attributes.cx.objects.get("", "namespaces", "", namespace).await?;
    let found = found.ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
    Ok(selector.matches_object(&found))
}

fn object_matches(hook: &Hook, attributes: &Attributes<'_>, object: &Value) -> Result<bool, Status> {
    let selector = hook.objects.as_ref().map_err(|why| unreadable(why))?;
    Ok(attributes.asked(object).selected_by(selector))
}
