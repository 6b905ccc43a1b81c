//! Subresources: parts of an object with a path of their own, and what is not an object at all.

use api_machinery::custom_resource::scale::ScalePaths;
use http::Response;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use super::{Call, conversion, delete, get, log, metadata, patch, update};
use crate::engine::{self, PatchKind};
use crate::extension::Body;
use crate::http::body::{self, Encoding};
use crate::http::response;
use crate::registry::objects::not_served;
use crate::registry::subresources;

/// What a request to a subresource may write of `object`: the rest stays as in `old`.
pub(crate) fn isolated(call: &Call, mut object: Value, old: &Value) -> Value {
    let keep_version = object["metadata"]["resourceVersion"].clone();
    let mut result = match call.path.subresource.as_str() {
        "" => {
            if call.resource.has_status() {
                copy(&mut object, old, "status");
            }
            return object;
        }
        "status" => {
            let mut kept = old.clone();
            copy(&mut kept, &object, "status");
            let shared: &[&str] = if call.resource.custom {
                &["managedFields"]
            } else {
                &["managedFields", "labels", "annotations"]
            };
            for key in shared {
                copy(&mut kept["metadata"], &object["metadata"], key);
            }
            kept
        }
        "finalize" => {
            let mut kept = old.clone();
            if !kept["spec"].is_object() {
                kept["spec"] = json!({});
            }
            copy(&mut kept["spec"], &object["spec"], "finalizers");
            kept
        }
        "approval" => {
            let mut kept = old.clone();
            if !kept["status"].is_object() {
                kept["status"] = json!({});
            }
            copy(&mut kept["status"], &object["status"], "conditions");
            for key in ["managedFields", "labels", "annotations"] {
                copy(&mut kept["metadata"], &object["metadata"], key);
            }
            kept
        }
        _ => return object,
    };
    if let Some(fields) = result["metadata"].as_object_mut() {
        fields.insert("resourceVersion".to_owned(), keep_version);
    }
    result
}

/// Makes `to`'s field what `from`'s is.
fn copy(to: &mut Value, from: &Value, key: &str) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(key) {
        Some(value) if !value.is_null() => drop(fields.insert(key.to_owned(), value.clone())),
        _ => drop(fields.remove(key)),
    }
}

/// Serves one.
pub(crate) async fn serve(call: &Call, verb: &str, bytes: &[u8]) -> Result<Response<Body>, Status> {
    match (call.path.subresource.as_str(), verb) {
        ("log", "get") => log::serve(call).await,
        ("scale", "get") => {
            let object = get::find(call).await?;
            scale_answer(call, &object.encoded.to_value())
        }
        ("scale", "update") => put_scale(call, bytes).await,
        ("scale", "patch") => patch_scale(call, bytes).await,
        ("binding", "create") => bind(call, &call.path.name, bytes).await,
        ("eviction", "create") => evict(call, bytes).await,
        ("token", "create") => token(call, bytes).await,
        (_, "get") => get::serve(call).await,
        (_, "update") => update::serve(call, bytes).await,
        (_, "patch") => patch::serve(call, bytes).await,
        _ => Err(not_served()),
    }
}

fn scale_answer(call: &Call, object: &Value) -> Result<Response<Body>, Status> {
    Ok(response::object(200, &scale_of(call, object)?, call.style))
}

/// Where a custom kind has its replicas.
fn scale_paths(call: &Call) -> Option<&ScalePaths> {
    call.resource.defined_version()?.scale.as_ref()
}

fn scale_of(call: &Call, object: &Value) -> Result<Value, Status> {
    match scale_paths(call) {
        Some(paths) => paths.scale_of(object).map_err(Status::internal),
        None => Ok(subresources::scale_of(object)),
    }
}

fn apply_scale(call: &Call, object: &mut Value, scale: &Value) -> Result<(), Status> {
    let Some(paths) = scale_paths(call) else { return subresources::apply_scale(object, scale) };
    // The same checks and preconditions; only the place is another.
    let mut checked = json!({"metadata": object["metadata"].take()});
    subresources::apply_scale(&mut checked, scale)?;
    object["metadata"] = checked["metadata"].take();
    paths.set_replicas(object, scale["spec"]["replicas"].as_i64().unwrap_or_default());
    Ok(())
}

async fn put_scale(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let scale = call.decode(bytes)?;
    update::check_name(call, &scale)?;
    change_scale(call, |_| Ok(scale.clone())).await
}

async fn patch_scale(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let kind = PatchKind::of(&call.resource, call.content_type())?;
    if kind == PatchKind::Apply {
        return applied_scale(call, bytes).await;
    }
    let patch = body::decode(Encoding::Json, bytes)?;
    let scale = call.resource.subresource("scale").ok_or_else(not_served)?;
    let schema = api_machinery::schema::SchemaSet::builtin().for_kind(&scale.kind).ok_or_else(not_served)?;
    let named = !patch["metadata"]["resourceVersion"].is_null();
    change_scale(call, |shown| {
        let mut wanted = engine::patched(&schema, kind, shown, &patch)?;
        if !named {
            metadata::of(&mut wanted)?.remove("resourceVersion");
        }
        Ok(wanted)
    })
    .await
}

/// An apply of a Scale is one of its parent's replicas, by a manager of the subresource (upstream's `ScaleHandler`).
async fn applied_scale(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let scale = body::decode(Encoding::Yaml, bytes)?;
    update::check_name(call, &scale)?;
    let current = call.server.objects.current(&call.resource, call.namespace(), &call.path.name).await?;
    let current = current.ok_or_else(|| call.not_found(&call.path.name))?;
    let mut config = json!({
        "apiVersion": call.resource.api_version(), "kind": call.resource.kind,
        "metadata": {"name": call.path.name},
    });
    apply_scale(call, &mut config, &scale)?;
    metadata::of(&mut config)?.remove("resourceVersion");
    let outcome = update::change(call, current, |old| {
        let shown = conversion::served(&call.resource, old.clone());
        let mut merged = engine::applied(call, Some(&shown), &config)?;
        match &scale["metadata"]["resourceVersion"] {
            Value::String(version) => merged["metadata"]["resourceVersion"] = json!(version),
            _ => drop(metadata::of(&mut merged)?.remove("resourceVersion")),
        }
        Ok(conversion::stored(&call.resource, merged))
    })
    .await?;
    scale_answer(call, &outcome.object)
}

async fn change_scale(
    call: &Call,
    make: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Response<Body>, Status> {
    let current = call.server.objects.current(&call.resource, call.namespace(), &call.path.name).await?;
    let current = current.ok_or_else(|| call.not_found(&call.path.name))?;
    let outcome = update::change(call, current, |old| {
        let scale = make(&scale_of(call, old)?)?;
        let mut object = old.clone();
        metadata::of(&mut object)?.remove("resourceVersion");
        apply_scale(call, &mut object, &scale)?;
        Ok(object)
    })
    .await?;
    scale_answer(call, &outcome.object)
}

fn success(call: &Call) -> Response<Body> {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    response::object(201, &status, call.style)
}

/// What is posted to a pod names that pod.
fn check_meant(name: &str, document: &Value, kind: &str) -> Result<(), Status> {
    if metadata::text(document, "name") == name {
        return Ok(());
    }
    let message = format!("name in URL does not match name in {kind} object");
    Err(Status::new(Reason::BadRequest, message))
}

async fn bind(call: &Call, name: &str, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut binding = call.decode(bytes)?;
    check_meant(name, &binding, "Binding")?;
    call.admit_unstored(name, &mut binding).await?;
    if !call.dry_run {
        subresources::bind_pod(&call.context(name), &binding).await?;
    }
    Ok(success(call))
}

async fn evict(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut eviction = call.decode(bytes)?;
    check_meant(&call.path.name, &eviction, "Eviction")?;
    call.admit_unstored(&call.path.name, &mut eviction).await?;
    let mut options = delete::options_of(call, &eviction["deleteOptions"])?;
    options.dry_run |= call.dry_run;
    options.admitted = true;
    let name = &call.path.name;
    let pod = call.server.objects.current(&call.resource, call.namespace(), name).await?;
    let pod = pod.ok_or_else(|| call.not_found(name))?;
    subresources::check_eviction(&call.context(name), &pod.encoded.to_value()).await?;
    delete::delete(call, pod, &options).await?;
    Ok(success(call))
}

async fn token(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let issuer = call.server.tokens.as_ref().ok_or_else(not_served)?;
    let mut request = if bytes.is_empty() { json!({}) } else { call.decode(bytes)? };
    call.admit_unstored(&call.path.name, &mut request).await?;
    let answer = subresources::token_request(&call.context(&call.path.name), issuer, &request).await?;
    Ok(response::object(201, &answer, call.style))
}

/// Serves a create-only resource: `bindings` and the reviews.
pub(crate) async fn review(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut document = call.decode(bytes)?;
    metadata::check_identity(call, &mut document)?;
    if call.resource.gvr.resource == "bindings" {
        let name = metadata::text(&document, "name").to_owned();
        if name.is_empty() {
            return Err(Status::new(Reason::BadRequest, "a binding has to name its pod"));
        }
        return bind(call, &name, bytes).await;
    }
    call.admit_unstored("", &mut document).await?;
    let cx = call.context("");
    let answer = crate::registry::reviews::answer(&cx, call.server.authenticator.as_ref(), document).await?;
    Ok(response::object(201, &answer, call.style))
}
