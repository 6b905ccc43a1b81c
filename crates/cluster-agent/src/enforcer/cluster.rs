//! The cluster as the enforcer uses it: which kinds it serves, and applying one object.

use std::sync::Arc;

use api_client::dynamic::{Discovery, DynamicError, Kind};
use api_client::error::{is_conflict, is_not_found};
use fleet_objects::{Health, HealthRule, ObjectReference};
use fleet_planner::drift::{Drift, Mode};
use fleet_planner::health::ObjectExpressions;
use fleet_planner::render::Rendered;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::manifest::Manifest;
use super::policies::{self, Brought, Unserved};
use crate::ceiling::Ceilings;
use crate::error::Error;
use crate::fingerprint::{self, Fingerprint};
use crate::health::{self, Verdict};

/// What is said of a policy that is not applied.
const KEPT: &str = "this cluster does not know its kind: the agent's audit judges by it, nothing enforces it";
/// Tries to apply over an object that changes all the time.
const OUTDATED_TRIES: usize = 5;

/// An object to apply, with what the cluster says about its kind.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) reference: Arc<ObjectReference>,
    pub(super) phase: u16,
    pub(super) manifest: Manifest,
    pub(super) resource: Arc<ApiResource>,
    pub(super) namespaced: bool,
    /// The cluster does not know its kind: it is a policy that the audit judges by, and is never applied.
    pub(super) kept: bool,
    /// How far it is enforced.
    pub(super) drift: Drift,
    /// By which rule it is judged, if not by the built-in ones.
    health: Option<HealthRule>,
    expressions: Arc<dyn ObjectExpressions>,
}

impl Target {
    /// How a live object is.
    pub(super) fn judge(&self, live: &Value) -> Verdict {
        if self.kept {
            return (Health::Healthy, KEPT.to_owned());
        }
        match &self.health {
            Some(rule) => health::judge_by(rule, live, &*self.expressions),
            None => health::judge(live),
        }
    }

    /// The digest of a live object that drift is judged by.
    pub(super) fn fingerprint(&self, live: &Value) -> Fingerprint {
        if self.drift.ignored.is_empty() {
            return fingerprint::of(live);
        }
        fingerprint::of(&self.drift.without_ignored(live))
    }
}

/// What came of an apply.
pub(super) enum Outcome {
    /// Applied; the object as the server now has it.
    Applied(Box<Value>),
    /// The server will not take it as it is.
    Rejected(String),
    /// The ceiling of the cluster's owner, or the rights of the profile's identity, do not let it through.
    Forbidden(String),
    /// It may work later.
    Later(String),
}

/// Access to the cluster under the ceiling of its owner. Clones share what discovery knows.
#[derive(Clone)]
pub(super) struct Cluster {
    discovery: Discovery,
    ceilings: Ceilings,
    expressions: Arc<dyn ObjectExpressions>,
    /// With whose rights objects are read and written.
    acting: Client,
    /// Whether somebody judges by policies that the cluster does not know.
    keeps_policies: bool,
}

/// How an apply treats fields of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Force {
    Yes,
    No,
}

impl Cluster {
    pub(super) fn new(
        client: Client,
        ceilings: Ceilings,
        expressions: Arc<dyn ObjectExpressions>,
        keeps_policies: bool,
    ) -> Self {
        Self {
            acting: client.clone(),
            discovery: Discovery::new(client),
            ceilings,
            expressions,
            keeps_policies,
        }
    }

    pub(super) fn keeps_policies(&self) -> bool {
        self.keeps_policies
    }

    /// Everything the cluster serves, as known.
    pub(super) async fn kinds(&self) -> Result<Vec<Kind>, DynamicError> {
        self.discovery.kinds().await
    }

    /// The same with the rights of an assignment's profile.
    pub(super) fn acting_for(&self, assignment: &str) -> Self {
        Self { acting: self.ceilings.client_for(self.discovery.client(), assignment), ..self.clone() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.acting
    }

    pub(super) fn ceilings(&self) -> &Ceilings {
        &self.ceilings
    }

    pub(super) fn api(&self, target: &Target) -> Api<DynamicObject> {
        api(self.client(), &target.resource, target.namespaced, target.reference.namespace.as_deref())
    }

    /// Finds the kind of every object; kinds that a definition among them brings need not be served yet.
    ///
    /// # Errors
    /// `Ok(Err(_))` names what is wrong with the objects; `Err` when the cluster does not answer.
    pub(super) async fn resolve(
        &self,
        rendered: Vec<Rendered>,
        target_namespace: Option<&str>,
    ) -> Result<Result<Vec<Target>, String>, Error> {
        let brought = brought_kinds(&rendered);
        let mut targets = Vec::with_capacity(rendered.len());
        let mut resources = Resources::default();
        for Rendered { mut reference, phase, mut object, health } in rendered {
            let gvk = gvk(&reference);
            let (resource, namespaced, kept) = match self.discovery.resolve(&gvk).await {
                Ok(kind) => (kind.resource, kind.namespaced, false),
                Err(error @ DynamicError::UnknownKind { .. }) => {
                    let defined = brought.get(&(gvk.group.clone(), gvk.kind.clone()));
                    match (self.unserved(&gvk, &brought).await?, defined) {
                        (Unserved::Brought(resource), _) => (resource, false, false),
                        (Unserved::Kept(resource, namespaced), _) => (resource, namespaced, true),
                        (Unserved::Unknown, Some((plural, namespaced))) => {
                            (ApiResource::from_gvk_with_plural(&gvk, plural), *namespaced, false)
                        }
                        (Unserved::Unknown, None) => return Ok(Err(error.to_string())),
                    }
                }
                Err(error) => return Err(error.into()),
            };
            if namespaced {
                let namespace = reference.namespace.take();
                let namespace = namespace.or_else(|| target_namespace.map(str::to_owned));
                let namespace = namespace.unwrap_or_else(|| "default".to_owned());
                object["metadata"]["namespace"] = Value::from(namespace.clone());
                reference.namespace = Some(namespace);
            } else {
                reference.namespace = None;
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("namespace");
                }
            }
            let drift = match Drift::of(&object) {
                Ok(drift) => drift,
                Err(problem) => return Ok(Err(format!("{}: {problem}", describe(&reference)))),
            };
            let manifest = match Manifest::of(&object) {
                Ok(manifest) => manifest,
                Err(problem) => return Ok(Err(format!("{}: {problem}", describe(&reference)))),
            };
            let expressions = Arc::clone(&self.expressions);
            targets.push(Target {
                reference: Arc::new(reference),
                phase,
                manifest,
                resource: resources.shared(resource),
                namespaced,
                kept,
                drift,
                health,
                expressions,
            });
        }
        Ok(Ok(targets))
    }

    /// The resource of a kind, or `None` when the cluster certainly serves no such kind (any more).
    pub(super) async fn served(
        &self,
        reference: &ObjectReference,
    ) -> Result<Option<(ApiResource, bool)>, Error> {
        match self.discovery.resolve(&gvk(reference)).await {
            Ok(kind) => Ok(Some((kind.resource, kind.namespaced))),
            Err(DynamicError::UnknownKind { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks anew at what the cluster serves.
    pub(super) async fn refresh(&self) {
        if let Err(error) = self.discovery.refreshed_kinds().await {
            tracing::debug!(%error, "discovery");
        }
    }

    /// Server-side apply of one object.
    pub(super) async fn apply(&self, target: &Target, manager: &str, force: Force) -> Outcome {
        let object = target.manifest.object();
        if let Err(problem) = self.ceilings.check_apply(&target.reference, &object) {
            return Outcome::Forbidden(problem);
        }
        if target.kept {
            return self.keep(target).await;
        }
        if target.drift.mode == Mode::CreateOnly || !target.drift.ignored.is_empty() {
            return self.apply_around(target, &object, manager, force).await;
        }
        let api = self.api(target);
        let applied = api_client::apply::apply(
            &api,
            &target.reference.name,
            manager,
            force == Force::Yes,
            &target.manifest,
        );
        outcome(applied.await)
    }

    /// [`Self::apply`] of an object of which something is left to others: what is there is looked at first, and applied
    /// over under its version.
    async fn apply_around(&self, target: &Target, wanted: &Value, manager: &str, force: Force) -> Outcome {
        let (api, name) = (self.api(target), &target.reference.name);
        let mut tries = 0;
        loop {
            let live = match api.get_opt(name).await {
                Ok(live) => live.map(|live| serde_json::to_value(live).unwrap_or_default()),
                Err(error) => return outcome(Err(error)),
            };
            let object = match live {
                Some(live) if target.drift.mode == Mode::CreateOnly => {
                    return Outcome::Applied(Box::new(live));
                }
                Some(live) => target.drift.over(wanted, &live),
                None => wanted.clone(),
            };
            let applied = api_client::apply::apply(&api, name, manager, force == Force::Yes, &object).await;
            match applied {
                Err(error) if is_outdated(&error) && tries < OUTDATED_TRIES => tries += 1,
                applied => return outcome(applied),
            }
        }
    }

    /// The same for what is being replaced by `newer`: first our own fields are taken back from whoever changed them
    /// since, then the new version is applied without force, so that only fields it sets for the first time can conflict.
    pub(super) async fn apply_over(&self, older: &Target, newer: &Target, manager: &str) -> Outcome {
        match self.apply(older, manager, Force::Yes).await {
            Outcome::Applied(_) => self.apply(newer, manager, Force::No).await,
            // The old version may have become invalid; the new one decides.
            Outcome::Rejected(_) | Outcome::Forbidden(_) => self.apply(newer, manager, Force::No).await,
            later @ Outcome::Later(_) => later,
        }
    }

    /// Whether the server would take the object, without doing it. Kinds and namespaces that are not there yet cannot
    /// be asked about and count as taken.
    pub(super) async fn preflight(
        &self,
        target: &Target,
        manager: &str,
        force: Force,
        ours: bool,
    ) -> Outcome {
        let object = target.manifest.object();
        if let Err(problem) = self.ceilings.check_apply(&target.reference, &object) {
            return Outcome::Forbidden(problem);
        }
        if target.kept {
            return self.keep(target).await;
        }
        if target.drift.mode == Mode::CreateOnly {
            // Nobody's field is touched: it is made, or left as it is.
            return Outcome::Applied(Box::new(Value::Null));
        }
        let api = self.api(target);
        let force = force == Force::Yes || ours;
        let answer =
            api_client::apply::apply_dry_run(&api, &target.reference.name, manager, force, &target.manifest)
                .await;
        match answer {
            Err(error) if is_not_found(&error) || cannot_dry_run(&error) => {
                Outcome::Applied(Box::new(Value::Null))
            }
            answer => outcome(answer),
        }
    }
}

/// Somebody wrote between our reading and our applying; a field of another manager is a conflict, too, but a lasting one.
fn is_outdated(error: &kube::Error) -> bool {
    is_conflict(error) && message(error).contains("the object has been modified")
}

/// An admission webhook with side effects refuses dry runs; that says nothing about the object.
fn cannot_dry_run(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 400 && status.message.contains("dry run"))
}

fn outcome(answer: kube::Result<DynamicObject>) -> Outcome {
    match answer {
        Ok(object) => match serde_json::to_value(&object) {
            Ok(value) => Outcome::Applied(Box::new(value)),
            Err(error) => Outcome::Later(error.to_string()),
        },
        Err(error) if is_conflict(&error) => Outcome::Rejected(message(&error)),
        Err(kube::Error::Api(status)) if status.code == 403 => Outcome::Forbidden(status.message.clone()),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 405 | 413 | 415 | 422) => {
            Outcome::Rejected(status.message.clone())
        }
        Err(error) => Outcome::Later(message(&error)),
    }
}

fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

pub(super) fn api(
    client: &Client,
    resource: &ApiResource,
    namespaced: bool,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match namespace.filter(|_| namespaced) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

pub(super) fn gvk(reference: &ObjectReference) -> GroupVersionKind {
    let (group, version) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
    GroupVersionKind::gvk(group, version, &reference.kind)
}

/// Kinds that definitions and Gatekeeper's templates among the objects bring.
fn brought_kinds(rendered: &[Rendered]) -> Brought {
    let definitions = rendered.iter().filter(|one| one.reference.kind == "CustomResourceDefinition");
    let kind = |one: &Rendered| {
        let spec = &one.object["spec"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let key = (text(&spec["group"])?, text(&spec["names"]["kind"])?);
        Some((key, (text(&spec["names"]["plural"])?, spec["scope"] != "Cluster")))
    };
    let templates = rendered.iter().filter_map(|one| policies::made_by_template(&one.object));
    let templates = templates.map(|(group, kind)| ((group, kind.clone()), (kind.to_lowercase(), false)));
    definitions.filter_map(kind).chain(templates).collect()
}

/// How an object is called in messages.
pub(super) fn describe(reference: &ObjectReference) -> String {
    match &reference.namespace {
        Some(namespace) => format!("{} {namespace}/{}", reference.kind, reference.name),
        None => format!("{} {}", reference.kind, reference.name),
    }
}

/// Shared targets by reference.
pub(super) type Targets = std::collections::BTreeMap<Arc<ObjectReference>, Arc<Target>>;

/// Kinds of resources, so that a thousand objects of one share it.
#[derive(Default)]
struct Resources(Vec<Arc<ApiResource>>);

impl Resources {
    fn shared(&mut self, resource: ApiResource) -> Arc<ApiResource> {
        if let Some(known) = self.0.iter().find(|known| ***known == resource) {
            return Arc::clone(known);
        }
        let resource = Arc::new(resource);
        self.0.push(Arc::clone(&resource));
        resource
    }
}
