//! Who is bound to what: a decision touches the bindings of one user and its groups, however many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube_objects::UserInfo;

use super::objects::{Content, Object, RbacKind, RoleReference, Selector, Subject};
use super::rule::PolicyRule;
use super::{Attributes, Decision, GROUP, RulesListing};

/// A namespace ("" for cluster-wide) and a name.
type Key = (String, String);

/// Whom a subject stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Principal {
    User(String),
    Group(String),
}

#[derive(Debug)]
struct Role {
    /// What was written.
    own: Vec<PolicyRule>,
    /// What counts: `own`, or what the aggregation selects.
    effective: Vec<PolicyRule>,
    labels: BTreeMap<String, String>,
    aggregates: Option<Vec<Selector>>,
}

#[derive(Debug)]
struct Binding {
    role: RoleReference,
    subjects: Vec<(Principal, String)>,
}

/// Everything that was fed.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Roles and ClusterRoles (the latter under the namespace "").
    roles: HashMap<Key, Role>,
    bindings: HashMap<Key, Binding>,
    /// Namespace and principal to binding names, in order of name so that reasons are the same each time.
    by_principal: HashMap<String, HashMap<Principal, BTreeSet<String>>>,
}

impl Index {
    pub(super) fn apply(&mut self, object: Object) {
        let cluster_role = object.kind == RbacKind::ClusterRole;
        self.insert(object);
        if cluster_role {
            self.aggregate();
        }
    }

    pub(super) fn apply_all(&mut self, objects: Vec<Object>) {
        for object in objects {
            self.insert(object);
        }
        self.aggregate();
    }

    pub(super) fn remove(&mut self, kind: RbacKind, namespace: &str, name: &str) {
        match kind {
            RbacKind::Role => {
                self.roles.remove(&(namespace.to_owned(), name.to_owned()));
            }
            RbacKind::ClusterRole => {
                self.roles.remove(&(String::new(), name.to_owned()));
                self.aggregate();
            }
            RbacKind::RoleBinding => self.unbind(namespace, name),
            RbacKind::ClusterRoleBinding => self.unbind("", name),
        }
    }

    fn insert(&mut self, object: Object) {
        let Object { namespace, name, content, .. } = object;
        match content {
            Content::Role { rules, labels, aggregates } => {
                let effective = rules.clone();
                self.roles.insert((namespace, name), Role { own: rules, effective, labels, aggregates });
            }
            Content::Binding { subjects, role } => {
                self.unbind(&namespace, &name);
                let subjects: Vec<_> =
                    subjects.iter().filter_map(|subject| principal(subject, &namespace)).collect();
                let here = self.by_principal.entry(namespace.clone()).or_default();
                for (principal, _) in &subjects {
                    here.entry(principal.clone()).or_default().insert(name.clone());
                }
                self.bindings.insert((namespace, name), Binding { role, subjects });
            }
        }
    }

    fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        let Some(here) = self.by_principal.get_mut(namespace) else { return };
        for (principal, _) in &binding.subjects {
            if let Some(names) = here.get_mut(principal) {
                names.remove(name);
                if names.is_empty() {
                    here.remove(principal);
                }
            }
        }
        if here.is_empty() {
            self.by_principal.remove(namespace);
        }
    }

    /// Computes what aggregating ClusterRoles hold. Aggregation may go through other aggregating roles (`admin` selects
    /// `edit`), so it is followed to the leaves. A controller writes the same rules into the objects in time; deciding
    /// does not wait for it.
    fn aggregate(&mut self) {
        let aggregating: Vec<String> = self
            .roles
            .iter()
            .filter(|((namespace, _), role)| namespace.is_empty() && role.aggregates.is_some())
            .map(|((_, name), _)| name.clone())
            .collect();
        for name in aggregating {
            let mut rules = Vec::new();
            self.collect(&name, &mut BTreeSet::new(), &mut rules);
            if let Some(role) = self.roles.get_mut(&(String::new(), name)) {
                role.effective = rules;
            }
        }
    }

    fn collect(&self, name: &str, seen: &mut BTreeSet<String>, rules: &mut Vec<PolicyRule>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let Some(role) = self.roles.get(&(String::new(), name.to_owned())) else { return };
        let Some(selectors) = &role.aggregates else {
            for rule in &role.own {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            return;
        };
        let mut selected: Vec<&str> = self
            .roles
            .iter()
            .filter(|((namespace, other), role)| {
                namespace.is_empty()
                    && other != name
                    && selectors.iter().any(|selector| selector.matches(&role.labels))
            })
            .map(|((_, other), _)| other.as_str())
            .collect();
        selected.sort_unstable();
        for other in selected {
            self.collect(other, seen, rules);
        }
    }

    /// The rules of the role a binding in `namespace` names; `None` when it does not exist.
    pub(super) fn role_rules(&self, role: &RoleReference, namespace: &str) -> Option<&[PolicyRule]> {
        let namespace = if role.kind == "ClusterRole" { "" } else { namespace };
        if role.kind == "Role" && namespace.is_empty() {
            return None;
        }
        self.roles.get(&(namespace.to_owned(), role.name.clone())).map(|role| role.effective.as_slice())
    }

    pub(super) fn decide(&self, user: &UserInfo, request: &Attributes) -> Decision {
        let mut errors = Vec::new();
        let mut reason = None;
        self.visit(user, &request.namespace, |source| match source {
            Ok((binding, rules)) => {
                let allowed = rules.iter().any(|rule| rule.allows(request));
                if allowed {
                    reason = Some(format!("RBAC: allowed by {}", binding.describe()));
                }
                !allowed
            }
            Err(error) => {
                errors.push(error);
                true
            }
        });
        match (reason, errors.is_empty()) {
            (Some(reason), _) => Decision { allowed: true, reason },
            (None, true) => Decision { allowed: false, reason: String::new() },
            (None, false) => {
                Decision { allowed: false, reason: format!("RBAC: {}", aggregate_text(&errors)) }
            }
        }
    }

    pub(super) fn rules_for(&self, user: &UserInfo, namespace: &str) -> RulesListing {
        let mut listing = RulesListing::default();
        self.visit(user, namespace, |source| {
            match source {
                Ok((_, rules)) => listing.rules.extend_from_slice(rules),
                Err(error) => listing.errors.push(error),
            }
            true
        });
        listing
    }

    /// The rules of the bindings that lie in a namespace alone.
    pub(super) fn rules_in(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, |source| {
            if let Ok((source, own)) = source
                && source.scope == namespace
            {
                rules.extend_from_slice(own);
            }
            true
        });
        rules
    }

    /// Shows `visitor` every binding that applies, cluster-wide ones first, until it answers `false`.
    fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &'a str,
        mut visitor: impl FnMut(Result<(Source<'a>, &'a [PolicyRule]), String>) -> bool,
    ) {
        let mut principals = vec![Principal::User(user.username.clone())];
        principals.extend(user.groups.iter().cloned().map(Principal::Group));
        let scopes = if namespace.is_empty() { vec![""] } else { vec!["", namespace] };
        for scope in scopes {
            let Some(here) = self.by_principal.get(scope) else { continue };
            let names: BTreeSet<&String> =
                principals.iter().filter_map(|principal| here.get(principal)).flatten().collect();
            for name in names {
                let Some(binding) = self.bindings.get(&(scope.to_owned(), name.clone())) else { continue };
                let subject = binding
                    .subjects
                    .iter()
                    .find(|(principal, _)| principals.contains(principal))
                    .map_or("", |(_, text)| text.as_str());
                let source = match self.role_rules(&binding.role, scope) {
                    Some(rules) => Ok((Source { scope, name, role: &binding.role, subject }, rules)),
                    None => {
                        let role = &binding.role;
                        Err(format!("{}.{GROUP} \"{}\" not found", role.kind.to_lowercase(), role.name))
                    }
                };
                if !visitor(source) {
                    return;
                }
            }
        }
    }
}

/// Where a rule comes from.
struct Source<'a> {
    scope: &'a str,
    name: &'a str,
    role: &'a RoleReference,
    subject: &'a str,
}

impl Source<'_> {
    fn describe(&self) -> String {
        let Self { scope, name, role, subject } = self;
        if scope.is_empty() {
            format!("ClusterRoleBinding {name:?} of {} {:?} to {subject}", role.kind, role.name)
        } else {
            // Name before namespace: upstream's order.
            format!("RoleBinding \"{name}/{scope}\" of {} {:?} to {subject}", role.kind, role.name)
        }
    }
}

fn aggregate_text(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn principal(subject: &Subject, binding_namespace: &str) -> Option<(Principal, String)> {
    let name = subject.name.clone();
    match subject.kind.as_str() {
        "User" => Some((Principal::User(name), format!("User {:?}", subject.name))),
        "Group" => Some((Principal::Group(name), format!("Group {:?}", subject.name))),
        "ServiceAccount" => {
            let namespace =
                if subject.namespace.is_empty() { binding_namespace } else { subject.namespace.as_str() };
            if namespace.is_empty() {
                return None;
            }
            let user = crate::tokens::service_account_user(namespace, &name);
            Some((Principal::User(user), format!("ServiceAccount \"{name}/{namespace}\"")))
        }
        _ => None,
    }
}
