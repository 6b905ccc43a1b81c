//! MutatingAdmissionPolicy and ValidatingAdmissionPolicy: policies written in CEL, kept as objects.
//!
//! * [`matching`]: whether a policy or binding wants a request.
//! * [`parameters`]: the objects that a binding hands to its policy.
//! * [`view`]: what expressions see of a request.
//! * [`validating`], [`mutating`]: the plug-ins.
//!
//! The policies themselves, and reviews of what somebody may do, are not subject to policies: one that refuses
//! everything could not be removed any more.

mod matching;
mod mutating;
mod parameters;
mod validating;
mod view;

use kind_rules::json::{list, text};
use kube_objects::Status;
use serde_json::Value;

pub(super) use mutating::MutatingPolicies;
pub(super) use validating::ValidatingPolicies;

use super::Attributes;
use matching::Constraints;

const GROUP: &str = "admissionregistration.k8s.io";

/// Whether a request is none that policies see.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let own = &attributes.cx.resource.gvr;
    match own.group.as_str() {
        GROUP => own.resource.contains("admissionpolic"),
        "authentication.k8s.io" | "authorization.k8s.io" => own.resource.ends_with("reviews"),
        _ => false,
    }
}

/// A policy with what is the same for both kinds.
struct Policy<P> {
    name: String,
    /// `spec.paramKind`; null for none.
    param_kind: Value,
    constraints: Constraints,
    program: P,
}

/// A binding of a policy.
struct Binding {
    name: String,
    policy: String,
    constraints: Constraints,
    /// `spec.paramRef`; null for none.
    param_ref: Value,
    actions: Vec<String>,
}

fn policies<P>(objects: &[Value], compile: impl Fn(&Value) -> P) -> Vec<Policy<P>> {
    let one = |object: &Value| Policy {
        name: text(&object["metadata"], "name").to_owned(),
        param_kind: object["spec"]["paramKind"].clone(),
        constraints: Constraints::of(&object["spec"]["matchConstraints"]),
        program: compile(object),
    };
    objects.iter().map(one).collect()
}

fn bindings(objects: &[Value]) -> Vec<Binding> {
    let one = |object: &Value| {
        let spec = &object["spec"];
        let actions = list(spec, "validationActions").iter();
        Binding {
            name: text(&object["metadata"], "name").to_owned(),
            policy: text(spec, "policyName").to_owned(),
            constraints: Constraints::of(&spec["matchResources"]),
            param_ref: spec["paramRef"].clone(),
            actions: actions.filter_map(|action| action.as_str().map(str::to_owned)).collect(),
        }
    };
    objects.iter().map(one).collect()
}

/// A policy that wants a request, by one binding with one parameter.
struct Invocation<'p, P> {
    policy: &'p Policy<P>,
    binding: &'p Binding,
    /// `None` for a policy without parameters.
    parameter: Option<Value>,
}

/// A policy that could not be evaluated.
struct Misconfigured<'p, P> {
    policy: &'p Policy<P>,
    binding: Option<&'p Binding>,
    why: String,
}

/// What wants a request, in order.
enum Wanted<'p, P> {
    Invocation(Invocation<'p, P>),
    Misconfigured(Misconfigured<'p, P>),
}

/// All policies that want a request.
async fn select<'p, P>(
    policies: &'p [Policy<P>],
    bindings: &'p [Binding],
    catalogue: &crate::catalogue::Catalogue,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<Vec<Wanted<'p, P>>, Status> {
    let mut wanted = Vec::new();
    for policy in policies {
        let own: Vec<&Binding> = bindings.iter().filter(|binding| binding.policy == policy.name).collect();
        if own.is_empty() {
            continue;
        }
        let misconfigured = |binding, why| Wanted::Misconfigured(Misconfigured { policy, binding, why });
        match policy.constraints.want(catalogue, attributes, object).await? {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                wanted.push(misconfigured(None, format!("failed to configure policy: {why}")));
                continue;
            }
        }
        let kind = match parameters::resource(catalogue, &policy.param_kind) {
            Ok(kind) => kind,
            Err(why) => {
                wanted.push(misconfigured(None, format!("failed to configure policy: {why}")));
                continue;
            }
        };
        for binding in own {
            let failed = |why| misconfigured(Some(binding), format!("failed to configure binding: {why}"));
            match binding.constraints.want(catalogue, attributes, object).await? {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    wanted.push(failed(why));
                    continue;
                }
            }
            match parameters::collect(kind.as_deref(), &binding.param_ref, attributes).await? {
                Ok(found) => wanted.extend(
                    found
                        .into_iter()
                        .map(|parameter| Wanted::Invocation(Invocation { policy, binding, parameter })),
                ),
                Err(why) => wanted.push(failed(why)),
            }
        }
    }
    Ok(wanted)
}
