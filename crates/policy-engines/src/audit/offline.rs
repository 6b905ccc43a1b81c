//! Policies tried on manifests, without any server.
//!
//! The documents are all there is: a parameter that is not among them is not there, a namespace that is not among them
//! has no labels but its name. A policy without any binding is taken as bound to everything with `Deny`. To constraints all
//! documents are their inventory, whatever kinds they ask for.

use std::collections::BTreeMap;
use std::convert::Infallible;

use kind_rules::json::{child, list, set, text};
use kube_objects::{GroupVersion, GroupVersionKind, GroupVersionResource, StatusCause};
use serde_json::{Value, json};

use super::{Judgement, PolicySet, Standards, Subject};
use crate::admission_policy::{GROUP, ParamKind, Surroundings, check_validating};
use crate::gatekeeper::{Gatekeeper, TRIAL_POINTS, is_policy as is_constraint};
use crate::pod_security;

/// What a server would know of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where its objects are.
    pub resource: GroupVersionResource,
    /// Whether they are in namespaces.
    pub namespaced: bool,
}

/// The kinds there are.
pub trait Kinds: Sync {
    /// A kind; `None`: unknown, its plural is then guessed.
    fn served(&self, kind: &GroupVersionKind) -> Option<Served>;

    /// The object with what a server fills in when it is created.
    fn defaulted(&self, kind: &GroupVersionKind, object: Value) -> Value;

    /// The other groups and versions that the objects of a resource are served under.
    fn equivalents(&self, resource: &GroupVersionResource) -> Vec<GroupVersionResource>;
}

/// Policies and what stands around the manifests they are tried on.
pub struct Trial<'k> {
    kinds: &'k dyn Kinds,
    set: PolicySet,
    names: Vec<String>,
    namespaces: BTreeMap<String, Value>,
    others: Vec<Value>,
    default_namespace: String,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("policies", &self.names).finish_non_exhaustive()
    }
}

/// A manifest and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its place among the manifests.
    pub index: usize,
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// "" for what is in no namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the policies said.
    pub judgement: Judgement,
}

/// A policy that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The policy.
    pub policy: String,
    /// What is wrong, and where.
    pub cause: StatusCause,
}

fn kind_of(object: &Value) -> GroupVersionKind {
    let api_version = text(object, "apiVersion");
    let group_version =
        GroupVersion::parse(api_version).unwrap_or_else(|| GroupVersion::new("", api_version));
    group_version.kind(text(object, "kind"))
}

fn is_policy(kind: &GroupVersionKind, name: &str) -> bool {
    kind.group == GROUP && kind.kind == name
}

/// The items of lists, and everything else as it is.
#[must_use]
pub fn flattened(documents: Vec<Value>) -> Vec<Value> {
    let one = |document: Value| {
        let is_list = text(&document, "kind").ends_with("List") && document["items"].is_array();
        if is_list { list(&document, "items").to_vec() } else { vec![document] }
    };
    documents.into_iter().flat_map(one).collect()
}

/// The plural that `kubectl` guesses.
fn guessed(kind: &GroupVersionKind) -> GroupVersionResource {
    let lower = kind.kind.to_lowercase();
    let plural = match lower.as_bytes().last() {
        Some(b's') => format!("{lower}es"),
        Some(b'y') => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    };
    GroupVersionResource::new(kind.group.clone(), kind.version.clone(), plural)
}

impl<'k> Trial<'k> {
    /// Of policies, bindings, parameters and namespaces in `policies`, and of parameters and namespaces in `manifests`.
    /// `standards`: what the Pod Security Standards ask of namespaces whose labels say nothing.
    ///
    /// # Errors
    /// What is wrong with the policies.
    pub fn new(
        kinds: &'k dyn Kinds,
        policies: &[Value],
        manifests: &[Value],
        default_namespace: &str,
        standards: pod_security::Policy,
    ) -> Result<Self, Vec<Problem>> {
        let of =
            |name: &'static str| policies.iter().filter(move |document| is_policy(&kind_of(document), name));
        let programs: Vec<&Value> = of("ValidatingAdmissionPolicy").collect();
        let mut problems: Vec<Problem> = programs
            .iter()
            .flat_map(|policy| {
                let name = text(&policy["metadata"], "name").to_owned();
                check_validating(policy).into_iter().map(move |cause| Problem { policy: name.clone(), cause })
            })
            .collect();
        let constraints = || policies.iter().filter(|document| is_constraint(document));
        problems.extend(Gatekeeper::check(constraints(), &TRIAL_POINTS).into_iter().map(|problem| {
            let reason = "FieldValueInvalid".to_owned();
            let cause = StatusCause { reason, message: problem.message, field: problem.field };
            Problem { policy: problem.policy, cause }
        }));
        if !problems.is_empty() {
            return Err(problems);
        }
        let gatekeeper = Gatekeeper::compile(constraints(), &TRIAL_POINTS);
        let mut bindings: Vec<Value> = of("ValidatingAdmissionPolicyBinding").cloned().collect();
        let mut names: Vec<String> =
            programs.iter().map(|policy| text(&policy["metadata"], "name").to_owned()).collect();
        for name in &names {
            if !bindings.iter().any(|binding| binding["spec"]["policyName"] == json!(name)) {
                bindings.push(json!({"metadata": {"name": ""}, "spec": {"policyName": name, "validationActions": ["Deny"]}}));
            }
        }
        names.extend(gatekeeper.constraints().iter().map(|constraint| constraint.policy()));
        let everything = || policies.iter().chain(manifests);
        let others = everything().filter(|document| !is_constraint(document));
        let others: Vec<Value> = others
            .map(|document| placed(kinds, default_namespace, &kind_of(document), document.clone()).1)
            .collect();
        gatekeeper.set_inventory(&others).map_err(|message| {
            let cause = StatusCause { reason: "InternalError".to_owned(), message, field: String::new() };
            vec![Problem { policy: "data.inventory".to_owned(), cause }]
        })?;
        let namespaces = everything()
            .filter(|document| kind_of(document) == GroupVersionKind::new("", "v1", "Namespace"))
            .map(|document| (text(&document["metadata"], "name").to_owned(), named(document.clone())))
            .collect();
        Ok(Self {
            kinds,
            set: PolicySet::compile(
                programs,
                &bindings,
                Some(Standards { defaults: standards, among: None }),
            )
            .with_constraints(gatekeeper),
            names,
            namespaces,
            others: everything().cloned().collect(),
            default_namespace: default_namespace.to_owned(),
        })
    }

    /// The policies' names.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.names
    }

    fn served(&self, kind: &GroupVersionKind, object: &Value) -> Served {
        served(self.kinds, kind, object)
    }

    /// Tries the policies on manifests, in their order.
    pub async fn run(&self, manifests: Vec<Value>) -> Vec<Tried> {
        let mut all = Vec::with_capacity(manifests.len());
        for (index, object) in manifests.into_iter().enumerate() {
            let kind = kind_of(&object);
            let (served, object) = placed(self.kinds, &self.default_namespace, &kind, object);
            let subject = Subject { kind: &kind, resource: &served.resource, object: &object };
            let Ok(judgement) = self.set.judge(&subject, self).await;
            let namespace = if served.namespaced { text(&object["metadata"], "namespace") } else { "" };
            all.push(Tried {
                index,
                api_version: kind.api_version(),
                namespace: namespace.to_owned(),
                name: text(&object["metadata"], "name").to_owned(),
                kind: kind.kind,
                judgement,
            });
        }
        all
    }

    fn is_in(&self, object: &Value, namespace: &str) -> bool {
        let own = text(&object["metadata"], "namespace");
        let anywhere =
            || self.kinds.served(&kind_of(object)).is_none() || namespace == self.default_namespace;
        namespace.is_empty() || own == namespace || (own.is_empty() && anywhere())
    }
}

fn served(kinds: &dyn Kinds, kind: &GroupVersionKind, object: &Value) -> Served {
    kinds.served(kind).unwrap_or_else(|| Served {
        resource: guessed(kind),
        namespaced: !text(&object["metadata"], "namespace").is_empty(),
    })
}

/// A manifest as a server would hold it: in a namespace, if its kind has any, and with its defaults.
fn placed(
    kinds: &dyn Kinds,
    default_namespace: &str,
    kind: &GroupVersionKind,
    mut object: Value,
) -> (Served, Value) {
    let served = served(kinds, kind, &object);
    if served.namespaced
        && text(&object["metadata"], "namespace").is_empty()
        && let Some(metadata) = child(&mut object, "metadata")
    {
        set(metadata, "namespace", default_namespace);
    }
    (served, kinds.defaulted(kind, object))
}

/// With the label that every namespace gets.
fn named(mut namespace: Value) -> Value {
    let name = text(&namespace["metadata"], "name").to_owned();
    if let Some(labels) = child(&mut namespace, "metadata").and_then(|metadata| child(metadata, "labels")) {
        set(labels, "kubernetes.io/metadata.name", name);
    }
    namespace
}

impl Surroundings for Trial<'_> {
    type Error = Infallible;

    async fn namespace(&self, name: &str) -> Result<Value, Infallible> {
        let given = self.namespaces.get(name).cloned();
        Ok(given.unwrap_or_else(|| named(json!({"metadata": {"name": name, "labels": {}}}))))
    }

    fn equivalents(&self, resource: &GroupVersionResource) -> Vec<GroupVersionResource> {
        self.kinds.equivalents(resource)
    }

    fn param_kind(&self, api_version: &str, kind: &str) -> Option<ParamKind> {
        let wanted = kind_of(&json!({"apiVersion": api_version, "kind": kind}));
        let known = self.kinds.served(&wanted);
        // Without its definition: one may be named with a namespace and without.
        let guess = || Served { resource: guessed(&wanted), namespaced: true };
        let there = || self.others.iter().any(|object| kind_of(object) == wanted);
        let Served { resource, namespaced } = known.or_else(|| there().then(guess))?;
        Some(ParamKind { resource, namespaced })
    }

    async fn param(
        &self,
        kind: &ParamKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Infallible> {
        let all = self.params(kind, namespace).await?;
        Ok(all.into_iter().find(|object| text(&object["metadata"], "name") == name))
    }

    async fn params(&self, kind: &ParamKind, namespace: &str) -> Result<Vec<Value>, Infallible> {
        let is_one = |object: &&Value| {
            self.served(&kind_of(object), object).resource == kind.resource && self.is_in(object, namespace)
        };
        Ok(self.others.iter().filter(is_one).cloned().collect())
    }
}
