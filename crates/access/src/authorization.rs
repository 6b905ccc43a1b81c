//! Role-based access control over the four kinds of `rbac.authorization.k8s.io`.
//!
//! The API server feeds every change of those kinds into an [`Authorizer`] ([`Authorizer::apply`],
//! [`Authorizer::remove`], [`Authorizer::replace`]); a decision then looks only at the bindings of the user and of its
//! groups. Before RBAC come `system:masters`, who may do everything, and, where the caller answers what belongs to which
//! node ([`Authorizer::set_relations`]), the nodes' own authorizer ([`node`]). Nothing is ever allowed by absence: an
//! authorizer that was fed nothing denies everyone but `system:masters`.

mod escalation;
mod guard;
mod index;
pub mod node;
mod objects;
mod rule;
mod scope;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use kube_objects::{Reason, Status, StatusDetails, UserInfo};
use parking_lot::RwLock;
use serde_json::Value;

pub use guard::Guard;
use index::Index;
pub use objects::{RbacError, RbacKind, RoleReference};
pub use rule::PolicyRule;
pub use scope::{Belongings, Scopes};

/// The group that may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What a request wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `bind`, `escalate`,
    /// `impersonate` …; for paths the lower-case HTTP method.
    pub verb: String,
    /// The API group; "" is the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The resource, plural.
    pub resource: String,
    /// The subresource, or "".
    pub subresource: String,
    /// The namespace, or "" at cluster scope.
    pub namespace: String,
    /// The object, or "".
    pub name: String,
    /// For requests outside the API's resources: the path. `None` for resource requests.
    pub path: Option<String>,
    /// What the field selector of a list, watch or deletecollection asks for, every term of it.
    pub field_selector: Vec<FieldRequirement>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// `spec.nodeName`.
    pub field: String,
    /// `false`: it must differ.
    pub equals: bool,
    /// The value.
    pub value: String,
}

impl Attributes {
    /// A resource request.
    #[must_use]
    pub fn resource(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The same on a subresource.
    #[must_use]
    pub fn with_subresource(mut self, subresource: &str) -> Self {
        subresource.clone_into(&mut self.subresource);
        self
    }

    /// A request for a path such as `/healthz`.
    #[must_use]
    pub fn path(verb: &str, path: &str) -> Self {
        Self { verb: verb.to_owned(), path: Some(path.to_owned()), ..Self::default() }
    }

    /// The 403 for this request, worded as upstream's.
    #[must_use]
    pub fn forbidden(&self, user: &UserInfo, reason: &str) -> Status {
        let mut why = match (&self.path, self.namespace.as_str()) {
            (Some(path), _) => format!("User {:?} cannot {} path {path:?}", user.username, self.verb),
            (None, namespace) => {
                let slash = if self.subresource.is_empty() { "" } else { "/" };
                let scope = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {namespace:?}")
                };
                format!(
                    "User {:?} cannot {} resource \"{}{slash}{}\" in API group {:?} {scope}",
                    user.username, self.verb, self.resource, self.subresource, self.group
                )
            }
        };
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

/// `pods "a" is forbidden: WHY`, as upstream's `NewForbidden` words it.
#[must_use]
pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
    let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let message = match (resource, name) {
        ("", _) => format!("forbidden: {why}"),
        (_, "") => format!("{qualified} is forbidden: {why}"),
        _ => format!("{qualified} \"{name}\" is forbidden: {why}"),
    };
    Status::new(Reason::Forbidden, message).with_details(StatusDetails {
        group: group.to_owned(),
        kind: resource.to_owned(),
        name: name.to_owned(),
        ..StatusDetails::default()
    })
}

/// Whether a request may go on, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It may.
    pub allowed: bool,
    /// `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y" to Group "z"`, or what was wrong while looking, or "".
    pub reason: String,
}

/// What a user may do in a namespace: for `SelfSubjectRulesReview`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesListing {
    /// Every rule of every binding, in no particular order, duplicates kept as upstream keeps them.
    pub rules: Vec<PolicyRule>,
    /// Roles that bindings name and that do not exist: the listing may be incomplete.
    pub errors: Vec<String>,
}

/// Decides by RBAC. Shared behind an `Arc`; feeding and deciding may go on at once.
#[derive(Default)]
pub struct Authorizer {
    index: RwLock<Index>,
    guard: OnceLock<Arc<dyn Guard>>,
    scopes: OnceLock<Arc<dyn Scopes>>,
    nodes: OnceLock<node::NodeAuthorizer>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("guarded", &self.guard.get().is_some()).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// One that has been fed nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a role or binding that was created or changed. Decisions made after this returns see it.
    ///
    /// # Errors
    /// [`RbacError`] when the document is no role or binding; what was known under its name stays.
    pub fn apply(&self, object: &Value) -> Result<(), RbacError> {
        let object = objects::parse(object)?;
        self.index.write().apply(object);
        Ok(())
    }

    /// Takes in many at once, beside what is known already.
    ///
    /// # Errors
    /// The first [`RbacError`]; nothing is then taken in.
    pub fn apply_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<(), RbacError> {
        let parsed = objects.into_iter().map(objects::parse).collect::<Result<Vec<_>, _>>()?;
        self.index.write().apply_all(parsed);
        Ok(())
    }

    /// Forgets everything and takes in `objects`: after a watch had to begin anew.
    ///
    /// # Errors
    /// The first [`RbacError`]; what was known then stays.
    pub fn replace<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<(), RbacError> {
        let parsed = objects.into_iter().map(objects::parse).collect::<Result<Vec<_>, _>>()?;
        let mut index = Index::default();
        index.apply_all(parsed);
        *self.index.write() = index;
        Ok(())
    }

    /// Forgets a role or binding that was deleted; `namespace` is "" for the cluster-wide kinds.
    pub fn remove(&self, kind: RbacKind, namespace: &str, name: &str) {
        self.index.write().remove(kind, namespace, name);
    }

    /// Asks `guard` before any role from now on. The first guard stays.
    pub fn restrict(&self, guard: Arc<dyn Guard>) {
        let _ = self.guard.set(guard);
    }

    /// Lets roles count where `scopes` says, from now on. Those that are first stay.
    pub fn widen(&self, scopes: Arc<dyn Scopes>) {
        let _ = self.scopes.set(scopes);
    }

    /// What is asked, without a namespace where the thing lies in none: roles of the namespace that a question names do not
    /// count for it.
    fn placed<'a>(&self, attributes: &'a Attributes) -> Cow<'a, Attributes> {
        let misplaced = !attributes.namespace.is_empty()
            && self.scopes.get().is_some_and(|scopes| scopes.lies_in_none(attributes));
        if misplaced {
            Cow::Owned(Attributes { namespace: String::new(), ..attributes.clone() })
        } else {
            Cow::Borrowed(attributes)
        }
    }

    /// By the roles of the request's own namespace, else by those of other namespaces that the thing belongs to.
    fn by_roles(&self, user: &UserInfo, attributes: &Attributes) -> Decision {
        let attributes = &*self.placed(attributes);
        let own = self.index.read().decide(user, attributes);
        let Some(scopes) = self.scopes.get().filter(|_| !own.allowed) else { return own };
        let elsewhere = scopes.namespaces_of(attributes).into_iter().map(|namespace| {
            let attributes = Attributes { namespace, ..attributes.clone() };
            self.index.read().decide(user, &attributes)
        });
        elsewhere.into_iter().find(|decision| decision.allowed).unwrap_or(own)
    }

    /// Whether a guard watches over this user: what it may do can end at any moment, so that long answers to it are
    /// looked at again while they go on.
    #[must_use]
    pub fn watches_over(&self, user: &UserInfo) -> bool {
        self.guard.get().is_some_and(|guard| guard.restricts(user))
    }

    /// From now on nodes are authorized by what `relations` says belongs to them. Later calls change nothing.
    pub fn set_relations(&self, relations: Arc<dyn node::Relations>) {
        // Set once, by the server that this authorizer belongs to.
        let _ = self.nodes.set(node::NodeAuthorizer::new(relations));
    }

    /// Whether `user` may do what `attributes` say. The authorizers are asked in upstream's order (`Node,RBAC`); when
    /// none of them allows it, all say why.
    #[must_use]
    pub fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Decision {
        if let Some(reason) = self.guard.get().and_then(|guard| guard.forbids(user, attributes)) {
            return Decision { allowed: false, reason };
        }
        if user.in_group(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let own = self.nodes.get().map(|nodes| nodes.authorize(user, attributes));
        let Some(own) = own.filter(|own| own.allowed || !own.reason.is_empty()) else {
            return self.by_roles(user, attributes);
        };
        if own.allowed {
            return own;
        }
        let mut decision = self.by_roles(user, attributes);
        if !decision.allowed {
            decision.reason = if decision.reason.is_empty() {
                own.reason
            } else {
                format!("{}\n{}", own.reason, decision.reason)
            };
        }
        decision
    }

    /// What `user` may do in `namespace` ("" lists only what holds cluster-wide), and with what belongs to namespaces and
    /// lies in none.
    #[must_use]
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> RulesListing {
        let mut listing = self.index.read().rules_for(user, namespace);
        if user.in_group(MASTERS) {
            listing.rules.extend(PolicyRule::everything());
        }
        for belongings in self.scopes.get().map(|scopes| scopes.belongings()).unwrap_or_default() {
            let own = self.index.read().rules_in(user, &belongings.namespace);
            let (rules, cut) = belongings.rules(&own);
            listing.rules.extend(rules);
            if cut {
                let Belongings { namespace, resource, .. } = belongings;
                listing.errors.push(format!("not all {resource} of namespace {namespace} are listed"));
            }
        }
        if self.nodes.get().is_some() && node::name_of(user).is_some() {
            listing.errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        listing
    }

    /// Whether `user` may write a role with `rules`: it holds them all itself, or may `escalate` this role.
    /// `aggregates`: the role has an aggregation rule, which only who may do everything can set (its rules come later).
    ///
    /// # Errors
    /// The 403 to answer with.
    pub fn check_escalation(
        &self,
        user: &UserInfo,
        role: &RoleReference,
        namespace: &str,
        rules: &[PolicyRule],
        aggregates: bool,
    ) -> Result<(), Status> {
        let resource = role.resource();
        let attributes = Attributes::resource("escalate", GROUP, resource, namespace, &role.name);
        if self.authorize(user, &attributes).allowed {
            return Ok(());
        }
        let refuse = |why: String| forbidden(GROUP, resource, &role.name, &why);
        let listing = self.index.read().rules_for(user, namespace);
        if aggregates && escalation::missing(&listing.rules, &PolicyRule::everything()).is_some() {
            return Err(refuse("must have cluster-admin privileges to use an aggregationRule".to_owned()));
        }
        match escalation::missing(&listing.rules, rules) {
            None => Ok(()),
            Some(missing) => Err(refuse(escalation::message(user, &missing, &listing.errors))),
        }
    }

    /// Whether `user` may bind `role` in `namespace` ("" for a ClusterRoleBinding) through the binding named
    /// `binding`: it holds all the role's rules itself, or may `bind` it.
    ///
    /// # Errors
    /// The 403 to answer with; a role that does not exist is a 404 in it, as upstream.
    pub fn check_bind(
        &self,
        user: &UserInfo,
        role: &RoleReference,
        namespace: &str,
        binding: &str,
    ) -> Result<(), Status> {
        let attributes = Attributes::resource("bind", GROUP, role.resource(), namespace, &role.name);
        if self.authorize(user, &attributes).allowed {
            return Ok(());
        }
        let index = self.index.read();
        let Some(rules) = index.role_rules(role, namespace) else {
            return Err(Status::not_found(GROUP, role.resource(), &role.name));
        };
        let listing = index.rules_for(user, namespace);
        let resource = if namespace.is_empty() { "clusterrolebindings" } else { "rolebindings" };
        match escalation::missing(&listing.rules, rules) {
            None => Ok(()),
            Some(missing) => {
                let why = escalation::message(user, &missing, &listing.errors);
                Err(forbidden(GROUP, resource, binding, &why))
            }
        }
    }
}

#[cfg(test)]
mod tests;
