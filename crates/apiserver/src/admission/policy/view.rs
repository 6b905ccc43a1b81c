//! What expressions see of a request.

use kube_objects::{GroupVersionResource, Status};
use policy_engines::admission_policy::{Inputs, Invocation, namespace_document, request_document};
use serde_json::{Value, json};

use crate::admission::Attributes;
use crate::admission::rights::{self, Rights};
use crate::admission::seen::Seen;
use crate::registry::objects::ObjectAccess;

/// The documents of a request that are the same for all policies.
pub(super) struct View<'a> {
    objects: &'a ObjectAccess,
    attributes: &'a Attributes<'a>,
    rights: Rights<'a>,
    /// `request`, as it was made.
    request: Value,
    /// `namespaceObject`.
    namespace: Value,
}

/// A request in the version that a policy wants.
pub(super) struct Version<'a> {
    resource: GroupVersionResource,
    pub(super) seen: Seen<'a>,
    request: Value,
}

impl<'a> View<'a> {
    /// # Errors
    /// 404 for a namespace that is not there.
    pub(super) async fn of(
        objects: &'a ObjectAccess,
        attributes: &'a Attributes<'a>,
    ) -> Result<Self, Status> {
        let cx = &attributes.cx;
        let name = cx.namespace;
        let namespace = if name.is_empty() || attributes.is_resource("", "namespaces") {
            Value::Null
        } else {
            let found = cx.objects.get("", "namespaces", "", name).await?;
            let found = found.ok_or_else(|| Status::not_found("", "namespaces", name))?;
            namespace_document(&found)
        };
        let request = request_document(
            &attributes.asked(&Value::Null),
            &attributes.kind,
            cx.user,
            cx.dry_run,
            attributes.options_document(),
        );
        Ok(Self { objects, attributes, rights: Rights(cx.authorizer), request, namespace })
    }

    /// The request as `resource`.
    ///
    /// # Errors
    /// Why the object cannot be shown so.
    pub(super) async fn version(
        &self,
        resource: &GroupVersionResource,
        object: &Value,
    ) -> Result<Version<'a>, String> {
        let seen = Seen::of(self.objects, resource, self.attributes, object).await;
        let seen = seen.map_err(|status| format!("failed to convert object version: {}", status.message))?;
        let mut request = self.request.clone();
        if *resource != self.attributes.cx.resource.gvr {
            let GroupVersionResource { group, version, resource } = resource;
            request["resource"] = json!({"group": group, "version": version, "resource": resource});
            let kind = &seen.kind;
            request["kind"] = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        }
        Ok(Version { resource: resource.clone(), seen, request })
    }

    /// What one policy judges.
    pub(super) fn inputs<'v, P>(
        &'v self,
        version: &'v Version<'_>,
        one: &'v Invocation<'_, P>,
    ) -> Inputs<'v> {
        Inputs {
            object: &version.seen.object,
            old_object: &version.seen.old,
            request: &version.request,
            namespace_object: &self.namespace,
            params: one.parameter.as_ref(),
            authorizer: Some((&self.rights, self.attributes.cx.user)),
            request_resource: rights::question(self.attributes),
        }
    }
}

impl Version<'_> {
    /// Whether it is `resource`'s.
    pub(super) fn is(&self, resource: &GroupVersionResource) -> bool {
        self.resource == *resource
    }
}
