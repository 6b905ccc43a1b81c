//! MutatingAdmissionPolicy and ValidatingAdmissionPolicy: policies written in CEL, kept as objects. Which of them want a
//! request is `policy-engines`' to say; here is what it asks of this server.
//!
//! * [`view`]: what expressions see of a request, in the version that a policy wants.
//! * [`validating`], [`mutating`]: the plug-ins.

mod mutating;
mod validating;
mod view;

use std::sync::Arc;

use kube_objects::{GroupVersionResource, Status};
use policy_engines::admission_policy::{Binding, ParamKind, Policy, Surroundings};
use serde_json::Value;

pub(super) use mutating::MutatingPolicies;
pub(super) use validating::ValidatingPolicies;

use super::Attributes;
use crate::catalogue::Catalogue;

fn policies<P>(objects: &[Value], compile: impl Fn(&Value) -> P) -> Vec<Policy<P>> {
    objects.iter().map(|object| Policy::of(object, &compile)).collect()
}

fn bindings(objects: &[Value]) -> Vec<Binding> {
    objects.iter().map(Binding::of).collect()
}

/// What stands around a request.
struct Around<'a> {
    attributes: &'a Attributes<'a>,
    catalogue: &'a Catalogue,
}

impl Surroundings for Around<'_> {
    type Error = Status;

    async fn namespace(&self, name: &str) -> Result<Value, Status> {
        let found = self.attributes.cx.objects.get("", "namespaces", "", name).await?;
        found.map(Arc::unwrap_or_clone).ok_or_else(|| Status::not_found("", "namespaces", name))
    }

    fn equivalents(&self, _: &GroupVersionResource) -> Vec<GroupVersionResource> {
        let others = self.catalogue.equivalents(self.attributes.cx.resource);
        others.map(|other| other.gvr.clone()).collect()
    }

    fn param_kind(&self, api_version: &str, kind: &str) -> Option<ParamKind> {
        let found = self.catalogue.resources().iter().find(|resource| {
            resource.kind == kind && resource.api_version() == api_version && !resource.virtual_only
        })?;
        Some(ParamKind { resource: found.gvr.clone(), namespaced: found.namespaced })
    }

    async fn param(&self, kind: &ParamKind, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        let GroupVersionResource { group, resource, .. } = &kind.resource;
        let found = self.attributes.cx.objects.get(group, resource, namespace, name).await?;
        Ok(found.map(Arc::unwrap_or_clone))
    }

    async fn params(&self, kind: &ParamKind, namespace: &str) -> Result<Vec<Value>, Status> {
        let GroupVersionResource { group, resource, .. } = &kind.resource;
        let found = self.attributes.cx.objects.list(group, resource, namespace).await?;
        Ok(found.into_iter().map(Arc::unwrap_or_clone).collect())
    }
}
