//! Policies wired to what they are tried on: manifests, by what the API server knows of kinds, and the objects of an
//! agent's cluster.

use std::sync::Arc;

use apiserver::{Catalogue, Ownership};
use cluster_agent::audit::{
    Finding, Judged, Policies, PolicyDocuments, PolicyEngine, ServedKind, Surroundings as InCluster,
};
use fleet_objects::compliance::ViolationResult;
use futures::FutureExt as _;
use kube_objects::{GroupVersionKind, GroupVersionResource};
use policy_engines::admission_policy::{ParamKind, Surroundings};
use policy_engines::audit::offline::{Kinds, Served};
use policy_engines::audit::{Outcome, PolicySet, Standards, Subject};
use policy_engines::gatekeeper::{AUDIT_POINTS, Gatekeeper, SyncKind};
use serde_json::Value;

use crate::error::AssemblyError;

/// The built-in kinds of a cluster, and custom ones.
#[derive(Clone, Debug)]
pub struct CatalogueKinds(Catalogue);

impl CatalogueKinds {
    /// With the kinds that these CustomResourceDefinitions define.
    ///
    /// # Errors
    /// When a definition lacks what serving needs.
    pub fn with<'a>(definitions: impl IntoIterator<Item = &'a Value>) -> Result<Self, AssemblyError> {
        let add = |catalogue: Catalogue, definition| {
            let added = catalogue.with_custom_resource(definition, Ownership::FromCreation);
            added.map_err(|error| AssemblyError::new("cannot use a custom resource definition", error.into()))
        };
        definitions.into_iter().try_fold(Catalogue::cluster(), add).map(Self)
    }

    /// The fields of an object that its kind does not have, `spec.foo`; nothing of a kind that is not known.
    #[must_use]
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let found = self.find(&GroupVersionKind::new(group, version, text("kind")));
        found.map(|resource| resource.unknown_fields(object.clone())).unwrap_or_default()
    }

    fn find(&self, kind: &GroupVersionKind) -> Option<&apiserver::Resource> {
        let mut all = self.0.resources().iter();
        all.find(|resource| !resource.virtual_only && resource.gvk() == *kind).map(|found| &**found)
    }
}

impl Kinds for CatalogueKinds {
    fn served(&self, kind: &GroupVersionKind) -> Option<Served> {
        let found = self.find(kind)?;
        Some(Served { resource: found.gvr.clone(), namespaced: found.namespaced })
    }

    fn defaulted(&self, kind: &GroupVersionKind, object: Value) -> Value {
        match self.find(kind) {
            Some(resource) => resource.defaulted(object),
            None => object,
        }
    }

    fn equivalents(&self, resource: &GroupVersionResource) -> Vec<GroupVersionResource> {
        let GroupVersionResource { group, version, resource } = resource;
        let own = self.0.find(group, version, resource);
        own.into_iter().flat_map(|own| self.0.equivalents(own)).map(|other| other.gvr.clone()).collect()
    }
}

/// Judges an agent's objects.
#[derive(Clone, Copy, Debug)]
pub struct Engine;

impl PolicyEngine for Engine {
    fn compile(&self, documents: &PolicyDocuments) -> Arc<dyn Policies> {
        let standards = documents
            .pod_security
            .map(|label| Standards { among: Some(label.to_owned()), ..Standards::default() });
        let constraints = Gatekeeper::compile(&documents.gatekeeper, &AUDIT_POINTS);
        let set = PolicySet::compile(&documents.policies, &documents.bindings, standards);
        Arc::new(Compiled(set.with_constraints(constraints)))
    }
}

struct Compiled(PolicySet);

fn resource(kind: &ServedKind) -> GroupVersionResource {
    GroupVersionResource::new(kind.group.as_str(), kind.version.as_str(), kind.plural.as_str())
}

impl Policies for Compiled {
    fn may_judge(&self, kind: &ServedKind) -> bool {
        self.0.may_judge(&resource(kind), &kind.kind)
    }

    fn param_kinds(&self) -> Vec<(String, String)> {
        self.0.param_kinds()
    }

    fn inventory_kinds(&self) -> Vec<(String, String)> {
        let kinds = self.0.inventory_kinds().into_iter();
        let api_version = |SyncKind { group, version, .. }: &SyncKind| match group.as_str() {
            "" => version.clone(),
            group => format!("{group}/{version}"),
        };
        kinds.map(|kind| (api_version(&kind), kind.kind)).collect()
    }

    fn set_inventory(&self, objects: &[&Value]) -> Result<(), String> {
        self.0.set_inventory(objects.iter().copied())
    }

    fn judge(&self, kind: &ServedKind, object: &Value, around: &dyn InCluster) -> Option<Judged> {
        let resource = resource(kind);
        let kind = GroupVersionKind::new(kind.group.as_str(), kind.version.as_str(), kind.kind.as_str());
        let subject = Subject { kind: &kind, resource: &resource, object };
        // Everything around it is in memory: nothing is waited for.
        let judgement = self.0.judge(&subject, &Around(around)).now_or_never()?.ok()?;
        let finding = |finding: policy_engines::audit::Finding| Finding {
            policy: finding.policy,
            rule: finding.rule,
            result: match finding.outcome {
                Outcome::Fail => ViolationResult::Fail,
                Outcome::Error => ViolationResult::Error,
            },
            actions: finding.actions,
            message: finding.message,
        };
        let findings = judgement.findings.into_iter().map(finding).collect();
        Some(Judged { policies: judgement.judged, findings })
    }
}

/// A namespace is not known yet.
struct NotKnown;

struct Around<'a>(&'a dyn InCluster);

/// Events are one kind in two groups.
fn are_events(resource: &GroupVersionResource) -> bool {
    resource.resource == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io")
}

impl Surroundings for Around<'_> {
    type Error = NotKnown;

    async fn namespace(&self, name: &str) -> Result<Value, NotKnown> {
        self.0.namespace(name).ok_or(NotKnown)
    }

    fn equivalents(&self, own: &GroupVersionResource) -> Vec<GroupVersionResource> {
        let same = |other: &GroupVersionResource| {
            (other.group == own.group && other.resource == own.resource)
                || (are_events(own) && are_events(other))
        };
        self.0.served().iter().map(resource).filter(|other| other != own && same(other)).collect()
    }

    fn param_kind(&self, api_version: &str, kind: &str) -> Option<ParamKind> {
        let found = self
            .0
            .served()
            .iter()
            .find(|served| served.kind == kind && served.api_version() == api_version)?;
        Some(ParamKind { resource: resource(found), namespaced: found.namespaced })
    }

    async fn param(&self, kind: &ParamKind, namespace: &str, name: &str) -> Result<Option<Value>, NotKnown> {
        let all = self.params(kind, namespace).await?;
        Ok(all.into_iter().find(|object| object["metadata"]["name"] == name))
    }

    async fn params(&self, kind: &ParamKind, namespace: &str) -> Result<Vec<Value>, NotKnown> {
        let GroupVersionResource { group, version, resource } = &kind.resource;
        let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
        Ok(self.0.params(&api_version, resource, namespace))
    }
}
