//! Which webhooks a request goes to, and in which version of its resource.

use std::sync::Arc;

use kube_objects::{Reason, Status};
use policy_engines::admission_policy::Asked;
use serde_json::Value;

use super::conditions;
use super::hook::Hook;
use super::seen::Seen;
use crate::admission::{Attributes, Operation};
use crate::catalogue::Resource;
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
    let Some(equivalent) = wanted(objects, hook, attributes) else { return Ok(None) };
    if !namespace_matches(hook, attributes, object).await? || !object_matches(hook, attributes, object)? {
        return Ok(None);
    }
    let seen = Seen::of(objects, equivalent, attributes, object).await?;
    let holds = conditions::hold(&hook.conditions, hook.fails_open, attributes, &seen.shown())?;
    Ok(holds.then_some(Invocation { hook, seen }))
}

/// `None`: no rule wants it; `Some(None)`: as it was made. An equivalent resource is one stored in the same place under another group or version.
fn wanted(objects: &ObjectAccess, hook: &Hook, attributes: &Attributes<'_>) -> Option<Option<Arc<Resource>>> {
    let cx = &attributes.cx;
    let asked = Asked {
        operation: attributes.operation.as_str(),
        resource: &cx.resource.gvr,
        subresource: cx.subresource.unwrap_or_default(),
        namespaced: !cx.namespace.is_empty(),
        name: cx.name,
    };
    if hook.rules.iter().any(|rule| rule.wants(&asked)) {
        return Some(None);
    }
    if !hook.equivalent {
        return None;
    }
    let catalogue = objects.kinds.catalogue();
    let others = catalogue.resources().iter().filter(|other| {
        other.storage == cx.resource.storage && other.gvr != cx.resource.gvr && !other.virtual_only
    });
    // Earlier rules count first.
    let others: Vec<&Arc<Resource>> = others.collect();
    hook.rules.iter().find_map(|rule| {
        let wants = |other: &&&Arc<Resource>| rule.wants(&Asked { resource: &other.gvr, ..asked });
        others.iter().find(wants).map(|other| Some(Arc::clone(other)))
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
