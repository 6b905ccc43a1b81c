//! The parameters that a binding hands to its policy (upstream `CollectParams`).

use api_machinery::selector::LabelSelector;
use kind_rules::json::text;
use serde_json::Value;

use super::surroundings::{ParamKind, Surroundings};

/// The resource of a policy's `paramKind`; `None` for a policy without parameters.
///
/// # Errors
/// When there is no such kind.
pub(super) fn resource<S: Surroundings>(
    param_kind: &Value,
    surroundings: &S,
) -> Result<Option<ParamKind>, String> {
    if !param_kind.is_object() {
        return Ok(None);
    }
    let (api_version, kind) = (text(param_kind, "apiVersion"), text(param_kind, "kind"));
    match surroundings.param_kind(api_version, kind) {
        Some(found) => Ok(Some(found)),
        None => Err(format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'")),
    }
}

/// The parameters: one `None` for a policy or binding without any; nothing at all where missing ones are allowed. The
/// inner error is one of configuration. `of` is the namespace of the request, or "".
///
/// # Errors
/// When the parameters cannot be read.
pub(super) async fn collect<S: Surroundings>(
    kind: Option<&ParamKind>,
    reference: &Value,
    of: &str,
    surroundings: &S,
) -> Result<Result<Vec<Option<Value>>, String>, S::Error> {
    let (Some(kind), true) = (kind, reference.is_object()) else { return Ok(Ok(vec![None])) };
    let (name, given) = (text(reference, "name"), text(reference, "namespace"));
    let namespace = if !kind.namespaced {
        if !given.is_empty() {
            let why = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
            return Ok(Err(why.to_owned()));
        }
        ""
    } else if !given.is_empty() {
        given
    } else if of.is_empty() {
        let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
        return Ok(Err(why.to_owned()));
    } else {
        of
    };
    let found: Vec<Value> = if !name.is_empty() {
        surroundings.param(kind, namespace, name).await?.into_iter().collect()
    } else if reference["selector"].is_object() {
        let selector = match LabelSelector::from_object(&reference["selector"]) {
            Ok(selector) => selector,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let all = surroundings.params(kind, namespace).await?;
        all.into_iter().filter(|object| selector.matches_object(object)).collect()
    } else {
        return Ok(Err("one of name or selector must be provided".to_owned()));
    };
    if found.is_empty() && text(reference, "parameterNotFoundAction") == "Deny" {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Ok(Err(why.to_owned()));
    }
    Ok(Ok(found.into_iter().map(Some).collect()))
}
