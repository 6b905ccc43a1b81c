//! PATCH: JSON, merge, strategic merge and apply.

use http::Response;
use kube_objects::{Reason, Status, StatusCause};
use serde_json::Value;

use super::{Call, conversion, create, metadata, update};
use crate::engine::{self, PatchKind};
use crate::extension::Body;
use crate::http::body;

/// Serves it.
pub(crate) async fn serve(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let kind = PatchKind::of(&call.resource, call.content_type())?;
    if kind == PatchKind::Apply {
        return apply(call, bytes).await;
    }
    let patch = call.decode_json(bytes)?;
    let duplicates = std::mem::take(&mut *call.duplicates.lock());
    let current = call.server.objects.current(&call.resource, call.namespace(), &call.path.name).await?;
    let current = current.ok_or_else(|| call.not_found(&call.path.name))?;
    let outcome = update::change(call, current, |old| {
        let shown = conversion::served_ref(&call.resource, old);
        let version = shown["metadata"]["resourceVersion"].clone();
        let mut wanted = engine::patched(&call.resource.schema, kind, &shown, &patch)?;
        metadata::check_identity(call, &mut wanted)?;
        update::check_name(call, &wanted)?;
        check_uid(call, &wanted, old)?;
        // The patch pins a version only if it says one that differs from what it was applied to.
        if wanted["metadata"]["resourceVersion"] == version && !names_version(&patch) {
            metadata::of(&mut wanted)?.remove("resourceVersion");
        }
        // The document is judged anew when another writer was faster; its warnings are told once.
        call.duplicates.lock().clone_from(&duplicates);
        call.warnings.lock().clear();
        let decoded = engine::decoded(call, wanted).map_err(|status| strict(status, &patch))?;
        Ok(conversion::stored(&call.resource, decoded))
    })
    .await?;
    Ok(call.answer_write(200, outcome))
}

/// What strict validation refuses of a patch is told as an invalid patch, not as a bad request (upstream's
/// `patch.go`, `strictDecodingError`).
fn strict(status: Status, patch: &Value) -> Status {
    let Some((_, why)) = status.message.split_once("strict decoding error: ") else { return status };
    let cause = StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        field: "patch".to_owned(),
        message: format!("Invalid value: {:?}: strict decoding error: {why}", patch.to_string()),
    };
    Status::invalid("", "", "", vec![cause])
}

/// A patch can not be meant for another object of the name, as a PUT can (409): it asks for another uid, which is invalid.
fn check_uid(call: &Call, wanted: &Value, old: &Value) -> Result<(), Status> {
    let uid = metadata::text(wanted, "uid");
    if uid.is_empty() || uid == metadata::text(old, "uid") {
        return Ok(());
    }
    let cause = StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        field: "metadata.uid".to_owned(),
        message: format!("Invalid value: {uid:?}: field is immutable"),
    };
    metadata::refuse(&call.resource, &call.path.name, vec![cause])
}

fn names_version(patch: &Value) -> bool {
    match patch {
        Value::Array(steps) => steps.iter().any(|step| step["path"] == "/metadata/resourceVersion"),
        patch => !patch["metadata"]["resourceVersion"].is_null(),
    }
}

async fn apply(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let (mut wanted, duplicate) = body::decode_yaml(bytes)?;
    if let Some(duplicate) = duplicate {
        match call.query.get("fieldValidation") {
            Some("Strict") => {
                let message = format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {duplicate}"
                );
                return Err(Status::new(Reason::BadRequest, message));
            }
            Some("Ignore") => {}
            _ => call.warn(duplicate),
        }
    }
    if wanted["metadata"]
        .get("managedFields")
        .is_some_and(|fields| fields.as_array().is_none_or(|list| !list.is_empty()))
    {
        return Err(Status::new(Reason::BadRequest, "metadata.managedFields must be nil"));
    }
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    if text("apiVersion") != call.resource.api_version() || text("kind") != call.resource.kind {
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let message = format!("invalid object type: {group}/{version}, Kind={}", text("kind"));
        return Err(Status::new(Reason::BadRequest, message));
    }
    let named = format!("{}/{}", metadata::text(&wanted, "namespace"), metadata::text(&wanted, "name"));
    metadata::check_identity(call, &mut wanted)?;
    if metadata::text(&wanted, "name").is_empty() {
        wanted["metadata"]["name"] = Value::String(call.path.name.clone());
    }
    update::check_name(call, &wanted)?;
    let mut wanted = engine::configuration(call, wanted, &named)?;
    let current = call.server.objects.current(&call.resource, call.namespace(), &call.path.name).await?;
    let Some(current) = current else {
        if !call.path.subresource.is_empty() {
            return Err(call.not_found(&call.path.name));
        }
        if !metadata::text(&wanted, "uid").is_empty() {
            let uid = metadata::text(&wanted, "uid");
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(call.conflict(&call.path.name, &why));
        }
        metadata::of(&mut wanted)?.remove("resourceVersion");
        let merged = engine::applied(call, None, &wanted)?;
        return Ok(call.answer_write(201, create::create(call, merged).await?));
    };
    let outcome = update::change(call, current, |old| {
        let shown = conversion::served_ref(&call.resource, old);
        let mut merged = engine::applied(call, Some(&*shown), &wanted)?;
        if metadata::text(&wanted, "resourceVersion").is_empty() {
            metadata::of(&mut merged)?.remove("resourceVersion");
        }
        Ok(conversion::stored(&call.resource, engine::decoded(call, merged)?))
    })
    .await?;
    Ok(call.answer_write(200, outcome))
}
