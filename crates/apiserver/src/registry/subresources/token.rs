//! `serviceaccounts/token`: an `authentication.k8s.io/v1.TokenRequest` answered with a token.

use access::TokenIssuer;
use access::tokens::{
    BoundReference, DEFAULT_SECONDS, MAXIMUM_SECONDS, MINIMUM_SECONDS, TokenRequest as Request,
};
use kube_objects::{Reason, Status, StatusCause};
use serde_json::{Value, json};

use crate::handlers::metadata::OTHER_NAMESPACE;
use crate::registry::strategy::RequestContext;
use kind_rules::json::{list, text};

/// Answers `request` for the ServiceAccount `cx.name`: the request with its status filled in.
///
/// # Errors
/// 404 when the account or the object to bind to is not there; 409 when that is another by uid; 400 for an object that
/// tokens are not bound to; 422 for a bad lifetime or a request that names another account.
pub async fn token_request(
    cx: &RequestContext<'_>,
    issuer: &TokenIssuer,
    request: &Value,
) -> Result<Value, Status> {
    let account = cx
        .objects
        .get("", "serviceaccounts", cx.namespace, cx.name)
        .await?
        .ok_or_else(|| Status::not_found("", "serviceaccounts", cx.name))?;
    let meant = text(&request["metadata"], "name");
    if !meant.is_empty() && meant != cx.name {
        let message = format!("Invalid value: {meant:?}: must match the service account name if specified");
        return Err(invalid(cx.name, "metadata.name", &message));
    }
    let meant = text(&request["metadata"], "namespace");
    if !meant.is_empty() && meant != cx.namespace {
        return Err(Status::new(Reason::BadRequest, OTHER_NAMESPACE));
    }
    let spec = &request["spec"];
    let seconds = lifetime(spec, cx.name)?;
    let mut wanted = Request {
        namespace: cx.namespace.to_owned(),
        name: cx.name.to_owned(),
        uid: text(&account["metadata"], "uid").to_owned(),
        audiences: list(spec, "audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        expiration_seconds: seconds,
        pod: None,
        secret: None,
        node: None,
    };
    bind(cx, &spec["boundObjectRef"], &mut wanted).await?;
    let issued = issuer.issue(&wanted, cx.now).map_err(Status::internal)?;
    let audiences = if wanted.audiences.is_empty() { issuer.audiences().to_vec() } else { wanted.audiences };
    let mut answer = request.clone();
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["kind"] = json!("TokenRequest");
    answer["metadata"] =
        json!({"name": cx.name, "namespace": cx.namespace, "creationTimestamp": format!("{:.0}", cx.now)});
    if !answer["spec"].is_object() {
        answer["spec"] = json!({});
    }
    answer["spec"]["audiences"] = json!(audiences);
    answer["spec"]["expirationSeconds"] = json!(seconds);
    answer["status"] = json!({
        "token": issued.token.reveal(),
        "expirationTimestamp": format!("{:.0}", issued.expires),
    });
    Ok(answer)
}

fn lifetime(spec: &Value, name: &str) -> Result<u64, Status> {
    let Some(seconds) = spec.get("expirationSeconds").filter(|seconds| !seconds.is_null()) else {
        return Ok(DEFAULT_SECONDS);
    };
    let problem = match seconds.as_u64() {
        Some(seconds) if seconds < MINIMUM_SECONDS => "may not specify a duration less than 10 minutes",
        Some(seconds) if seconds > MAXIMUM_SECONDS => "may not specify a duration larger than 2^32 seconds",
        Some(seconds) => return Ok(seconds),
        None => "may not specify a duration less than 10 minutes",
    };
    Err(invalid(name, "spec.expirationSeconds", &format!("Invalid value: {seconds}: {problem}")))
}

fn invalid(name: &str, field: &str, message: &str) -> Status {
    let cause = StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
    };
    Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![cause])
}

async fn bind(cx: &RequestContext<'_>, reference: &Value, wanted: &mut Request) -> Result<(), Status> {
    if !reference.is_object() {
        return Ok(());
    }
    let (kind, name, uid) = (text(reference, "kind"), text(reference, "name"), text(reference, "uid"));
    let (resource, namespace) = match kind {
        "Pod" => ("pods", cx.namespace),
        "Secret" => ("secrets", cx.namespace),
        "Node" => ("nodes", ""),
        other => {
            let version = text(reference, "apiVersion");
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={other}");
            return Err(Status::new(Reason::BadRequest, message));
        }
    };
    let object = cx
        .objects
        .get("", resource, namespace, name)
        .await?
        .ok_or_else(|| Status::not_found("", resource, name))?;
    let actual = text(&object["metadata"], "uid");
    if !uid.is_empty() && uid != actual {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", resource, name, &why));
    }
    let bound = Some(BoundReference { name: name.to_owned(), uid: actual.to_owned() });
    match kind {
        "Pod" => {
            let spec = &object["spec"];
            if text(spec, "serviceAccountName") != cx.name {
                let message = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    cx.name
                );
                return Err(Status::new(Reason::BadRequest, message));
            }
            wanted.pod = bound;
            // Where the pod is, for those who want to know; a node that is not there is left out.
            let node = text(spec, "nodeName");
            if !node.is_empty()
                && let Some(object) = cx.objects.get("", "nodes", "", node).await?
            {
                let uid = text(&object["metadata"], "uid").to_owned();
                wanted.node = Some(BoundReference { name: node.to_owned(), uid });
            }
        }
        "Secret" => wanted.secret = bound,
        _ => wanted.node = bound,
    }
    Ok(())
}
