//! Who writes a policy or a binding has it read its parameters, so they must be allowed to read those themselves (upstream
//! `pkg/registry/admissionregistration/*/authz.go`).

use access::Attributes;
use access::authorization::MASTERS;
use kind_rules::json::{present, text};
use kube_objects::{Status, StatusCause, UserInfo};
use serde_json::Value;

use crate::registry::strategy::RequestContext;

const GROUP: &str = "admissionregistration.k8s.io";

/// Refuses a policy whose `paramKind`, or a binding whose `paramRef`, its author may not read. What is not changed is not
/// asked about again.
///
/// # Errors
/// 422 that names the field.
pub(in crate::registry) async fn authorize_parameters(
    cx: &RequestContext<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if cx.resource.gvr.group != GROUP || cx.user.in_group(MASTERS) || cx.authorizer.is_none() {
        return Ok(());
    }
    let (field, why) = match cx.resource.gvr.resource.as_str() {
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" => {
            ("paramKind", refused_kind(cx, object, old))
        }
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
            ("paramRef", refused_reference(cx, object, old).await?)
        }
        _ => return Ok(()),
    };
    let Some(why) = why else { return Ok(()) };
    let cause = StatusCause {
        reason: "FieldValueForbidden".to_owned(),
        message: format!("Forbidden: {why}"),
        field: format!("spec.{field}"),
    };
    Err(Status::invalid(GROUP, &cx.resource.kind, cx.name, vec![cause]))
}

fn may(cx: &RequestContext<'_>, asked: &Attributes) -> bool {
    cx.authorizer.is_none_or(|authorizer| authorizer.authorize(cx.user, asked).allowed)
}

/// What a kind is served as: group, version and resource. What cannot be told is everything.
fn resolved(cx: &RequestContext<'_>, kind: &Value) -> ([String; 3], Option<Unresolved>) {
    let any = || "*".to_owned();
    let version = text(kind, "apiVersion");
    let (group, version) = match version.split('/').collect::<Vec<_>>().as_slice() {
        [version] => (String::new(), (*version).to_owned()),
        [group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return ([any(), any(), any()], Some(Unresolved::Version)),
    };
    match cx.objects.resource_of(&group, &version, text(kind, "kind")) {
        Some(resource) => ([group, version, resource], None),
        None => ([group, version, any()], Some(Unresolved::Kind)),
    }
}

#[derive(Clone, Copy)]
enum Unresolved {
    Version,
    Kind,
}

fn asked(verb: &str, [group, version, resource]: &[String; 3], namespace: &str, name: &str) -> Attributes {
    Attributes { version: version.clone(), ..Attributes::resource(verb, group, resource, namespace, name) }
}

fn refused_kind(cx: &RequestContext<'_>, policy: &Value, old: Option<&Value>) -> Option<String> {
    let kind = &policy["spec"]["paramKind"];
    if !present(&policy["spec"], "paramKind") || old.is_some_and(|old| old["spec"]["paramKind"] == *kind) {
        return None;
    }
    let (resource, _) = resolved(cx, kind);
    (!may(cx, &asked("get", &resource, "*", "*"))).then(|| {
        format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            shown(cx.user),
            text(kind, "kind"),
            text(kind, "apiVersion")
        )
    })
}

async fn refused_reference(
    cx: &RequestContext<'_>,
    binding: &Value,
    old: Option<&Value>,
) -> Result<Option<String>, Status> {
    let spec = &binding["spec"];
    let same = |key: &str| old.is_some_and(|old| old["spec"][key] == spec[key]);
    if !present(spec, "paramRef") || same("paramRef") && same("policyName") {
        return Ok(None);
    }
    let policies = if cx.resource.gvr.resource.starts_with("validating") {
        "validatingadmissionpolicies"
    } else {
        "mutatingadmissionpolicies"
    };
    let name = text(spec, "policyName");
    let policy = cx.objects.get(GROUP, policies, "", name).await?;
    let kind = policy.as_ref().map(|policy| &policy["spec"]["paramKind"]).filter(|kind| !kind.is_null());
    let (resource, problem) = match kind {
        Some(kind) => resolved(cx, kind),
        None => (["*", "*", "*"].map(str::to_owned), None),
    };
    let reference = &spec["paramRef"];
    let verb = if text(reference, "name").is_empty() { "list" } else { "get" };
    if may(cx, &asked(verb, &resource, text(reference, "namespace"), text(reference, "name"))) {
        return Ok(None);
    }
    let user = shown(cx.user);
    let everything =
        format!("user {user} does not have {verb:?} permission for all groups, versions and resources");
    let kind = || {
        kind.map_or_else(String::new, |kind| {
            format!("&{{{} {}}}", text(kind, "apiVersion"), text(kind, "kind"))
        })
    };
    Ok(Some(match (&policy, problem) {
        (None, _) => {
            format!("unable to get policy {name} to determine minimum required permissions and {everything}")
        }
        (_, Some(Unresolved::Version)) => {
            format!(
                "unable to parse paramKind {} to determine minimum required permissions and {everything}",
                kind()
            )
        }
        (_, Some(Unresolved::Kind)) => {
            format!(
                "unable to resolve paramKind {} to determine minimum required permissions and {everything}",
                kind()
            )
        }
        (_, None) => {
            format!("user {user} does not have {verb:?} permission on the object referenced by paramRef")
        }
    }))
}

/// A user as Go prints upstream's structure of one.
fn shown(user: &UserInfo) -> String {
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.username, user.uid, user.groups.join(" "), extra.join(" "))
}
