//! Which policies want a request, by which bindings and with which parameters (upstream `generic/policy_dispatcher`).

use kind_rules::json::{list, text};
use kube_objects::GroupVersionResource;
use serde_json::Value;

use super::matching::{Constraints, Request};
use super::parameters;
use super::surroundings::Surroundings;

/// The API group of policies.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// Whether a resource is none that policies see: the policies themselves, and reviews of what somebody may do. A policy
/// that refuses everything could not be removed any more.
#[must_use]
pub fn is_exempt(resource: &GroupVersionResource) -> bool {
    match resource.group.as_str() {
        GROUP => resource.resource.contains("admissionpolic"),
        "authentication.k8s.io" | "authorization.k8s.io" => resource.resource.ends_with("reviews"),
        _ => false,
    }
}

/// A policy with what is the same for validating and mutating ones.
#[derive(Debug)]
pub struct Policy<P> {
    /// Its name.
    pub name: String,
    /// What it does.
    pub program: P,
    /// `spec.paramKind`; null for none.
    param_kind: Value,
    constraints: Constraints,
}

impl<P> Policy<P> {
    /// Of a policy object.
    #[must_use]
    pub fn of(object: &Value, compile: impl FnOnce(&Value) -> P) -> Self {
        Self {
            name: text(&object["metadata"], "name").to_owned(),
            program: compile(object),
            param_kind: object["spec"]["paramKind"].clone(),
            constraints: Constraints::of(&object["spec"]["matchConstraints"]),
        }
    }

    /// Whether any object of the resource may be wanted by one of these operations.
    #[must_use]
    pub fn may_want(&self, operations: &[&str], resource: &GroupVersionResource) -> bool {
        !is_exempt(resource) && self.constraints.may_want(operations, resource)
    }

    /// API version and kind of its parameters, if it has any.
    #[must_use]
    pub fn param_kind(&self) -> Option<(&str, &str)> {
        let kind = &self.param_kind;
        kind.is_object().then(|| (text(kind, "apiVersion"), text(kind, "kind")))
    }
}

/// A binding of a policy.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The policy's.
    pub policy: String,
    /// `Deny`, `Warn`, `Audit`; none for bindings of mutating policies.
    pub actions: Vec<String>,
    constraints: Constraints,
    /// `spec.paramRef`; null for none.
    param_ref: Value,
}

impl Binding {
    /// Of a binding object.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let actions = list(spec, "validationActions").iter();
        Self {
            name: text(&object["metadata"], "name").to_owned(),
            policy: text(spec, "policyName").to_owned(),
            actions: actions.filter_map(|action| action.as_str().map(str::to_owned)).collect(),
            constraints: Constraints::of(&spec["matchResources"]),
            param_ref: spec["paramRef"].clone(),
        }
    }
}

/// A policy that wants a request, by one binding with one parameter.
#[derive(Debug)]
pub struct Invocation<'p, P> {
    /// The policy.
    pub policy: &'p Policy<P>,
    /// The binding.
    pub binding: &'p Binding,
    /// As what the policy wants the request: its own resource, or one under which the same objects are served too.
    pub resource: GroupVersionResource,
    /// `None` for a policy without parameters.
    pub parameter: Option<Value>,
}

/// A policy that could not be evaluated.
#[derive(Debug)]
pub struct Misconfigured<'p, P> {
    /// The policy.
    pub policy: &'p Policy<P>,
    /// The binding, if it is the binding that is wrong.
    pub binding: Option<&'p Binding>,
    /// What is wrong.
    pub why: String,
}

/// What wants a request, in order.
#[derive(Debug)]
pub enum Wanted<'p, P> {
    /// To be evaluated.
    Invocation(Invocation<'p, P>),
    /// Cannot be evaluated.
    Misconfigured(Misconfigured<'p, P>),
}

/// All policies that want a request.
///
/// # Errors
/// As the surroundings'.
pub async fn select<'p, P: 'p, S: Surroundings>(
    policies: impl IntoIterator<Item = &'p Policy<P>>,
    bindings: &'p [Binding],
    request: &Request<'_>,
    surroundings: &S,
) -> Result<Vec<Wanted<'p, P>>, S::Error> {
    let mut wanted = Vec::new();
    for policy in policies {
        let own: Vec<&Binding> = bindings.iter().filter(|binding| binding.policy == policy.name).collect();
        if own.is_empty() {
            continue;
        }
        let misconfigured = |binding, why| Wanted::Misconfigured(Misconfigured { policy, binding, why });
        let resource = match policy.constraints.want(request, surroundings).await? {
            Ok(Some(resource)) => resource,
            Ok(None) => continue,
            Err(why) => {
                wanted.push(misconfigured(None, format!("failed to configure policy: {why}")));
                continue;
            }
        };
        let kind = match parameters::resource(&policy.param_kind, surroundings) {
            Ok(kind) => kind,
            Err(why) => {
                wanted.push(misconfigured(None, format!("failed to configure policy: {why}")));
                continue;
            }
        };
        for binding in own {
            let failed = |why| misconfigured(Some(binding), format!("failed to configure binding: {why}"));
            match binding.constraints.want(request, surroundings).await? {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(why) => {
                    wanted.push(failed(why));
                    continue;
                }
            }
            let namespace = request.namespace();
            match parameters::collect(kind.as_ref(), &binding.param_ref, namespace, surroundings).await? {
                Ok(found) => wanted.extend(found.into_iter().map(|parameter| {
                    let resource = resource.clone();
                    Wanted::Invocation(Invocation { policy, binding, resource, parameter })
                })),
                Err(why) => wanted.push(failed(why)),
            }
        }
    }
    Ok(wanted)
}
