//! PUT, and what every change of an object goes through.

use std::sync::Arc;

use http::Response;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use super::{Call, WriteOutcome, conversion, create, metadata};
use crate::admission::Operation;
use crate::engine;
use crate::extension::Body;
use crate::registry::objects::{ObjectAccess, Written, stamp};
use crate::watch_cache::CachedObject;

/// How often a change without a resourceVersion is tried again when another writer was faster. Each failure means that
/// somebody else succeeded.
const ATTEMPTS: usize = 64;

/// Serves PUT.
pub(crate) async fn serve(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut object = call.decode(bytes)?;
    metadata::check_identity(call, &mut object)?;
    check_name(call, &object)?;
    let object = conversion::stored(&call.resource, engine::decoded(call, object)?);
    let resource = &call.resource;
    let current = call.server.objects.current(resource, call.namespace(), &call.path.name).await?;
    let Some(current) = current else {
        let may_create = resource.strategy.allows_create_on_update() && call.path.subresource.is_empty();
        if !may_create {
            return Err(call.not_found(&call.path.name));
        }
        if !metadata::text(&object, "uid").is_empty() {
            return Err(call.conflict(
                &call.path.name,
                "Precondition failed: UID in precondition names an object that is not there",
            ));
        }
        let mut object = object;
        metadata::of(&mut object)?.remove("resourceVersion");
        let created = create::create(call, conversion::served(resource, object)).await?;
        return Ok(call.answer_write(201, created));
    };
    if metadata::text(&object, "resourceVersion").is_empty()
        && !resource.strategy.allows_unconditional_update()
    {
        let cause = kube_objects::StatusCause {
            reason: "FieldValueInvalid".to_owned(),
            field: "metadata.resourceVersion".to_owned(),
            message: "Invalid value: 0: must be specified for an update".to_owned(),
        };
        return metadata::refuse(resource, &call.path.name, vec![cause])
            .map(|()| call.answer(200, Value::Null));
    }
    // Who names a version does not get a second try.
    let once = !metadata::text(&object, "resourceVersion").is_empty();
    let mut held = Some(object);
    let outcome = change(call, current, |_| {
        let object = if once { held.take() } else { held.clone() };
        object.ok_or_else(|| call.conflict(&call.path.name, MODIFIED))
    })
    .await?;
    Ok(call.answer_write(200, outcome))
}

/// The document's name has to be the path's.
pub(crate) fn check_name(call: &Call, object: &Value) -> Result<(), Status> {
    let name = metadata::text(object, "name");
    if name.is_empty() {
        let path = &call.path.name;
        let message =
            format!("the name of the object ({path} based on URL) was undeterminable: name must be provided");
        return Err(Status::new(Reason::BadRequest, message));
    }
    if name != call.path.name {
        let message = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.path.name
        );
        return Err(Status::new(Reason::BadRequest, message));
    }
    Ok(())
}

/// Changes a stored object: `make` gets the current version and answers the wanted one (both as stored); it runs again
/// when another writer was faster and the wanted version names no resourceVersion.
pub(crate) async fn change(
    call: &Call,
    mut current: Arc<CachedObject>,
    mut make: impl FnMut(&Value) -> Result<Value, Status>,
) -> Result<WriteOutcome, Status> {
    let name = call.path.name.clone();
    for _ in 0..ATTEMPTS {
        let old = current.encoded.to_value();
        let wanted = make(&old)?;
        let pinned = metadata::text(&wanted, "resourceVersion");
        if !pinned.is_empty() && pinned != metadata::text(&old, "resourceVersion") {
            return Err(call.conflict(&name, MODIFIED));
        }
        let mut object = prepare(call, wanted, &old).await?;
        let outdated = ObjectAccess::is_outdated(&call.resource, &current);
        if call.dry_run || object == old && !outdated {
            let encoded = (object == old).then(|| current.encoded.clone());
            return Ok(WriteOutcome { object, encoded });
        }
        let objects = &call.server.objects;
        let key = ObjectAccess::key(&call.resource, call.namespace(), &name);
        let revision = current.encoded.revision();
        let ends = is_over(call, &object);
        let mut shown = None;
        let written = if ends {
            objects.remove(key, revision).await?
        } else {
            let stored = objects.storable(&call.resource, &object).await?;
            shown = stored.shown;
            if let Some(read_back) = stored.read_back {
                object = read_back;
            }
            objects.replace(key, revision, stored.bytes).await?
        };
        match written {
            Written::At(revision) => {
                let object = finish(call, object, &old, revision, ends).await;
                return Ok(WriteOutcome { object, encoded: shown.map(|shown| shown.at(revision)) });
            }
            Written::Lost(found) => {
                let found = objects.version(&call.resource, found.as_ref()).await?;
                current = found.ok_or_else(|| call.not_found(&name))?;
            }
        }
    }
    Err(call.conflict(&name, MODIFIED))
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

async fn finish(
    call: &Call,
    mut object: Value,
    old: &Value,
    revision: storage::Revision,
    ends: bool,
) -> Value {
    stamp(&mut object, revision);
    let cx = call.context(&call.path.name);
    if ends {
        call.resource.strategy.after_delete(&cx, &object).await;
        return object;
    }
    call.resource.strategy.after_update(&cx, &object, old).await;
    object
}

/// Whether an object that is being deleted waits for nothing any more.
fn is_over(call: &Call, object: &Value) -> bool {
    let deleting = !object["metadata"]["deletionTimestamp"].is_null();
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    deleting
        && grace == 0
        && metadata::finalizers(object).is_empty()
        && !super::delete::holds_namespace(call, object)
}

/// What the server keeps, resets and checks whoever writes.
async fn prepare(call: &Call, mut object: Value, old: &Value) -> Result<Value, Status> {
    let resource = &call.resource;
    let name = call.path.name.as_str();
    let cx = call.context(name);
    keep_metadata(call, &mut object, old)?;
    resource.strategy.default_fields(&mut object);
    call.mutate(name, Operation::Update, &mut object, Some(old)).await?;
    keep_metadata(call, &mut object, old)?;
    let mut object = super::subresource::isolated(call, object, old);
    resource.strategy.default_fields(&mut object);
    if call.path.subresource.is_empty() {
        resource.strategy.prepare_for_update(&cx, &mut object, old).await?;
    } else {
        resource.strategy.prepare_for_status_update(&cx, &mut object, old).await?;
    }
    count_generation(call, &mut object, old);
    // The stored version is what counts; a client's resourceVersion only pinned it.
    object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    let mut causes = metadata::problems(resource, &object, Some(old));
    causes.extend(engine::problems(call, &object, Some(old)));
    causes.extend(resource.strategy.validate_update(&cx, &object, old));
    metadata::refuse(resource, name, causes)?;
    resource.strategy.authorize(&cx, &object, Some(old)).await?;
    call.admit(name, Operation::Update, &object, Some(old)).await?;
    if call.path.subresource.is_empty() {
        for warning in resource.strategy.update_warnings(&object, old) {
            call.warn(warning);
        }
    }
    engine::track(call, Some(old), &mut object);
    Ok(object)
}

fn keep_metadata(call: &Call, object: &mut Value, old: &Value) -> Result<(), Status> {
    let own = metadata::text(object, "uid");
    let uid = metadata::text(old, "uid");
    if !own.is_empty() && own != uid {
        let why = format!("Precondition failed: UID in precondition: {own}, UID in object meta: {uid}");
        return Err(call.conflict(&call.path.name, &why));
    }
    let fields = metadata::of(object)?;
    for key in [
        "uid",
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        match &old["metadata"][key] {
            Value::Null => drop(fields.remove(key)),
            kept => drop(fields.insert(key.to_owned(), kept.clone())),
        }
    }
    if !fields.contains_key("managedFields") && !old["metadata"]["managedFields"].is_null() {
        fields.insert("managedFields".to_owned(), old["metadata"]["managedFields"].clone());
    }
    Ok(())
}

/// Counts a change outside metadata and status.
fn count_generation(call: &Call, object: &mut Value, old: &Value) {
    let resource = &call.resource;
    if !(resource.has_status() || resource.custom) || !resource.strategy.counts_generation() {
        return;
    }
    let differs = |a: &Value, b: &Value| {
        a.as_object().into_iter().flatten().any(|(key, value)| {
            let counted = key != "metadata" && !(key == "status" && resource.has_status());
            counted && b.get(key) != Some(value)
        })
    };
    let annotated = resource.strategy.counts_annotations()
        && object["metadata"]["annotations"] != old["metadata"]["annotations"]
        && call.path.subresource != "status";
    if annotated || differs(object, old) || differs(old, object) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
    }
}
