//! DELETE: preconditions, propagation, grace, finalizers.

use std::sync::Arc;

use bytes::BufMut;
use http::Response;
use jiff::SignedDuration;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use super::list::JsonList;
use super::{Call, conversion, create::seconds, list, metadata, view, write_options};
use crate::extension::Body;
use crate::http::negotiation::Format;
use crate::http::response;
use crate::registry::objects::{ObjectAccess, Written, stamp};
use crate::watch_cache::CachedObject;

/// As in [`super::update`].
const ATTEMPTS: usize = 64;

/// What a deletion is asked to observe.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    /// Cascading was asked for by `orphanDependents: false`, which is answered 202 while something is left.
    pub(crate) old_cascade: bool,
    pub(crate) dry_run: bool,
    /// The options as they were sent, for admission.
    pub(crate) document: Value,
    /// Admission has said its word already: an eviction is admitted as what it is.
    pub(crate) admitted: bool,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

fn refused(reason: &str, field: &str, message: String) -> Status {
    write_options::refused("DeleteOptions", vec![write_options::cause(reason, field, message)])
}

/// Reads options from the body, or without one from the query.
pub(crate) fn options(call: &Call, bytes: &[u8]) -> Result<DeleteOptions, Status> {
    let document = if bytes.iter().all(u8::is_ascii_whitespace) { Value::Null } else { call.decode(bytes)? };
    options_of(call, &document)
}

/// Reads options from a document; what it leaves out from the query.
pub(crate) fn options_of(call: &Call, document: &Value) -> Result<DeleteOptions, Status> {
    let kind = document["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "DeleteOptions") {
        let version = document["apiVersion"].as_str().unwrap_or_default();
        let message = format!("no kind {kind:?} is registered for version {version:?}");
        return Err(Status::new(Reason::BadRequest, message));
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let query = &call.query;
    let policy =
        text(&document["propagationPolicy"]).or_else(|| query.text("propagationPolicy").map(str::to_owned));
    let orphan = document["orphanDependents"].as_bool().or_else(|| query.optional_flag("orphanDependents"));
    let propagation = match (policy.as_deref(), orphan) {
        (Some(policy), Some(_)) => {
            let message = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            );
            return Err(refused("Invalid", "propagationPolicy", message));
        }
        (None, None) => None,
        (None, Some(true)) | (Some("Orphan"), None) => Some(Propagation::Orphan),
        (None, Some(false)) | (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some(other), None) => {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            return Err(refused("NotSupported", "propagationPolicy", message));
        }
    };
    let dry_runs = document["dryRun"].as_array().into_iter().flatten();
    let dry_runs: Vec<&str> = dry_runs.map(|value| value.as_str().unwrap_or_default()).collect();
    if let Some(cause) = write_options::dry_run(&dry_runs) {
        return Err(write_options::refused("DeleteOptions", vec![cause]));
    }
    let grace = document["gracePeriodSeconds"].as_i64();
    Ok(DeleteOptions {
        grace: if grace.is_some() { grace } else { query.number("gracePeriodSeconds")? },
        uid: text(&document["preconditions"]["uid"]),
        version: text(&document["preconditions"]["resourceVersion"]),
        propagation,
        old_cascade: orphan == Some(false),
        dry_run: call.dry_run || !dry_runs.is_empty(),
        document: document.clone(),
        admitted: false,
    })
}

/// Serves the deletion of one object.
pub(crate) async fn serve(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let options = options(call, bytes)?;
    let current = call.server.objects.current(&call.resource, call.namespace(), &call.path.name).await?;
    let current = current.ok_or_else(|| call.not_found(&call.path.name))?;
    let uid = current.uid().to_owned();
    match delete(call, current, &options).await? {
        Deleted::Pending(object) => Ok(call.answer(if options.old_cascade { 202 } else { 200 }, object)),
        Deleted::Gone(mut object) if answers_object(call) => {
            if call.resource.gvr.resource == "pods" {
                let fields = metadata::of(&mut object)?;
                fields.insert("deletionTimestamp".to_owned(), json!(seconds(call.now)));
                fields.insert("deletionGracePeriodSeconds".to_owned(), json!(0));
            }
            Ok(call.answer(200, object))
        }
        Deleted::Gone(_) => Ok(response::object(200, &success(call, &uid), call.style)),
    }
}

/// Kinds whose deletion answers the object as it was, not a Status (upstream's stores with `ReturnDeletedObject`).
fn answers_object(call: &Call) -> bool {
    let resource = call.resource.gvr.resource.as_str();
    match call.resource.gvr.group.as_str() {
        _ if call.resource.custom => false,
        "" => matches!(
            resource,
            "namespaces"
                | "persistentvolumeclaims"
                | "persistentvolumes"
                | "pods"
                | "podtemplates"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ),
        "storage.k8s.io" => resource != "csistoragecapacities",
        "resource.k8s.io" => true,
        _ => false,
    }
}

fn success(call: &Call, uid: &str) -> Value {
    let mut details = json!({"name": call.path.name, "kind": call.resource.gvr.resource, "uid": uid});
    if !call.resource.gvr.group.is_empty() {
        details["group"] = json!(call.resource.gvr.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// The object has gone.
    Gone(Value),
    /// It waits for finalizers or its grace.
    Pending(Value),
}

/// Deletes an object, as far as it can go at once.
pub(crate) async fn delete(
    call: &Call,
    mut current: Arc<CachedObject>,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    let name = current.name().to_owned();
    let objects = &call.server.objects;
    let cx = call.context(&name);
    for _ in 0..ATTEMPTS {
        let old = current.encoded.to_value();
        check_preconditions(call, &old, &name, options)?;
        call.resource.strategy.check_delete(&cx, &old).await?;
        if !options.admitted {
            call.admit_deletion(&name, &old, &options.document, options.dry_run).await?;
        }
        let revision = current.encoded.revision();
        let key = ObjectAccess::key(&call.resource, current.namespace(), &name);
        let written = match marked(call, &old, options) {
            Some(object) if object == old || options.dry_run => return Ok(Deleted::Pending(object)),
            Some(mut object) => {
                let stored = objects.storable(&call.resource, &object).await?;
                match objects.replace(key, revision, stored.bytes).await? {
                    Written::At(revision) => {
                        stamp(&mut object, revision);
                        call.resource.strategy.after_update(&cx, &object, &old).await;
                        return Ok(Deleted::Pending(object));
                    }
                    lost @ Written::Lost(_) => lost,
                }
            }
            None if options.dry_run => return Ok(Deleted::Gone(old)),
            None => objects.remove(key, revision).await?,
        };
        match written {
            Written::At(revision) => {
                let mut gone = old;
                stamp(&mut gone, revision);
                call.resource.strategy.after_delete(&cx, &gone).await;
                return Ok(Deleted::Gone(gone));
            }
            Written::Lost(found) => {
                let found = objects.version(&call.resource, found.as_ref()).await?;
                current = found.ok_or_else(|| call.not_found(&name))?;
            }
        }
    }
    Err(call.conflict(&name, "the object is changed too often to be deleted; try again"))
}

fn check_preconditions(call: &Call, old: &Value, name: &str, options: &DeleteOptions) -> Result<(), Status> {
    let differs = |wanted: &Option<String>, key: &str| {
        let own = metadata::text(old, key);
        wanted.as_deref().filter(|wanted| *wanted != own).map(|wanted| (wanted.to_owned(), own.to_owned()))
    };
    let why = if let Some((wanted, own)) = differs(&options.uid, "uid") {
        format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({own}). The object might have been \
             deleted and then recreated"
        )
    } else if let Some((wanted, own)) = differs(&options.version, "resourceVersion") {
        format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({own}). The \
             object might have been modified"
        )
    } else {
        return Ok(());
    };
    // Upstream's `BeforeDelete` names the kind where other conflicts name the resource.
    Err(Status::conflict(&call.resource.gvr.group, &call.resource.kind, name, &why))
}

/// Whether a namespace still has finalizers of its own kind, in its spec.
pub(crate) fn holds_namespace(call: &Call, object: &Value) -> bool {
    call.resource.gvr.resource == "namespaces"
        && call.resource.gvr.group.is_empty()
        && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// The object as it waits for its end; `None`: it can go now.
fn marked(call: &Call, old: &Value, options: &DeleteOptions) -> Option<Value> {
    let mut object = old.clone();
    if old["metadata"]["deletionTimestamp"].is_null() {
        call.resource.strategy.mark_deleted(&mut object, call.now);
    }
    let finalizers = finalizers(call, &object, options.propagation);
    let grace = call.resource.strategy.graceful_deletion(old, options.grace).filter(|grace| *grace > 0);
    let holds = holds_namespace(call, old);
    if finalizers.is_empty() && grace.is_none() && !holds {
        return None;
    }
    let fields = object["metadata"].as_object_mut()?;
    if finalizers.is_empty() {
        fields.remove("finalizers");
    } else {
        fields.insert("finalizers".to_owned(), json!(finalizers));
    }
    let running = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let deleting = !old["metadata"]["deletionTimestamp"].is_null();
    let grace = grace.unwrap_or(0);
    // A second deletion may only shorten the grace.
    if !deleting || running.is_some_and(|running| grace < running) {
        let begun = metadata::text(old, "deletionTimestamp").parse::<jiff::Timestamp>().ok();
        let begun = match (begun, running) {
            (Some(end), Some(running)) => end - SignedDuration::from_secs(running),
            _ => call.now,
        };
        let end = begun.checked_add(SignedDuration::from_secs(grace)).unwrap_or(call.now);
        fields.insert("deletionTimestamp".to_owned(), json!(seconds(end)));
        fields.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
        if let Some(generation) = old["metadata"]["generation"].as_i64() {
            fields.insert("generation".to_owned(), json!(generation + 1));
        }
    }
    if holds {
        object["status"]["phase"] = json!("Terminating");
    }
    Some(object)
}

/// The object's finalizers under a propagation policy: the garbage collector acts on `orphan` and
/// `foregroundDeletion`.
fn finalizers(call: &Call, old: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let own = metadata::finalizers(old);
    let wanted = match propagation {
        Some(Propagation::Orphan) => Some("orphan"),
        Some(Propagation::Foreground) => Some("foregroundDeletion"),
        Some(Propagation::Background) => None,
        None if own.iter().any(|name| name == "orphan" || name == "foregroundDeletion") => return own,
        None if call.resource.strategy.orphans_by_default() => Some("orphan"),
        None => None,
    };
    let others = own.into_iter().filter(|name| name != "orphan" && name != "foregroundDeletion");
    others.chain(wanted.map(str::to_owned)).collect()
}

/// Serves the deletion of everything a selector selects.
pub(crate) async fn collection(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let options = options(call, bytes)?;
    let page = match list::page(call).await {
        Ok(page) => page,
        Err(list::ListError::Status(status) | list::ListError::Expired { status, .. }) => return Err(status),
    };
    let metadata = json!({"resourceVersion": page.revision.to_string()});
    let plain = call.style.format == Format::Json && !call.style.pretty;
    let mut written = JsonList::begin(&call.resource, &metadata, 0);
    let mut items = Vec::new();
    for object in page.objects {
        let deleted = match delete(call, object, &options).await {
            Ok(Deleted::Gone(object) | Deleted::Pending(object)) => {
                conversion::served(&call.resource, object)
            }
            Err(status) if status.reason == Some(Reason::NotFound) => continue,
            Err(status) => return Err(status),
        };
        if plain {
            // A tree takes ten times the memory of its text, and a collection may be large.
            let deleted = view::item(&call.resource, deleted);
            let text = serde_json::to_vec(&deleted).map_err(Status::internal)?;
            written.item(|out| out.put_slice(&text));
        } else {
            items.push(deleted);
        }
    }
    if plain {
        return Ok(response::encoded(200, written.end().freeze(), call.style));
    }
    Ok(response::object(200, &view::list(&call.resource, metadata, items.into_iter()), call.style))
}
