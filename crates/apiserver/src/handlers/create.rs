//! POST of a new object.

use api_machinery::defaulting::apply_defaults;
use api_machinery::name_generator::generate_name;
use http::Response;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, WriteOutcome, conversion, metadata};
use crate::admission::Operation;
use crate::engine;
use crate::extension::Body;
use crate::registry::objects::{ObjectAccess, Written, stamp};
use crate::watch_cache::EncodedObject;

/// How often a generated name is drawn anew when it is taken (upstream's number).
const NAME_ATTEMPTS: usize = 8;

/// Serves it.
pub(crate) async fn serve(call: &Call, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let object = call.decode(bytes)?;
    let created = create(call, object).await?;
    Ok(call.answer_write(201, created))
}

/// Creates a served object; answers the stored one.
pub(crate) async fn create(call: &Call, object: Value) -> Result<WriteOutcome, Status> {
    let mut object = prepare(call, object)?;
    let name = metadata::text(&object, "name").to_owned();
    // The writer owns what it sent and what stands for what it left out; what admission adds is nobody's.
    engine::track(call, None, &mut object);
    call.mutate(&name, Operation::Create, &mut object, None).await?;
    metadata::check_namespace(call, &object)?;
    let base = metadata::text(&object, "generateName").to_owned();
    let generated = metadata::text(&object, "name").is_empty() && !base.is_empty();
    if !generated {
        return insert(call, object).await;
    }
    let mut attempts = NAME_ATTEMPTS;
    loop {
        attempts -= 1;
        object["metadata"]["name"] = Value::String(generate_name(&base, rand::random()));
        match insert(call, object.clone()).await {
            Err(status) if attempts > 0 && status.reason == Some(Reason::AlreadyExists) => {}
            outcome => return outcome,
        }
    }
}

/// Decodes and defaults.
fn prepare(call: &Call, mut object: Value) -> Result<Value, Status> {
    metadata::check_identity(call, &mut object)?;
    if !metadata::text(&object, "resourceVersion").is_empty() {
        return Err(Status::new(
            Reason::BadRequest,
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let mut object = engine::decoded(call, object)?;
    object = conversion::stored(&call.resource, object);
    call.resource.strategy.default_fields(&mut object);
    let fields = metadata::of(&mut object)?;
    for key in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
        fields.remove(key);
    }
    Ok(object)
}

/// Sets what only the server sets, whatever admission made of the object.
fn complete(call: &Call, object: &mut Value) -> Result<(), Status> {
    // Nodes register with their status; everything else begins without.
    if call.resource.has_status()
        && call.resource.gvr.resource != "nodes"
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
        // Go writes a structure without content too: `{}` with what its schema says of it.
        let empty = call.resource.schema.properties.get("status").filter(|_| !call.resource.custom);
        if let Some(default) = empty.and_then(|status| status.default_value()) {
            let mut status = default.clone();
            if let Some(schema) = empty {
                apply_defaults(&mut status, schema);
            }
            fields.insert("status".to_owned(), status);
        }
    }
    let fields = metadata::of(object)?;
    for key in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        fields.remove(key);
    }
    fields.insert("uid".to_owned(), json!(Uuid::new_v4().to_string()));
    fields.insert("creationTimestamp".to_owned(), json!(seconds(call.now)));
    let counts = call.resource.has_status() || call.resource.custom;
    if counts && call.resource.strategy.counts_generation() {
        fields.insert("generation".to_owned(), json!(1));
    }
    Ok(())
}

/// A time as metadata carries it: whole seconds.
pub(crate) fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn insert(call: &Call, mut object: Value) -> Result<WriteOutcome, Status> {
    let resource = &call.resource;
    let strategy = &resource.strategy;
    let name = metadata::text(&object, "name").to_owned();
    let cx = call.context(&name);
    complete(call, &mut object)?;
    strategy.prepare_for_create(&cx, &mut object).await?;
    let checked = check(call, &object).await;
    let written = match checked {
        Ok(()) => commit(call, &name, &mut object).await,
        Err(status) => Err(status),
    };
    let encoded = match written {
        Ok(encoded) => encoded,
        Err(status) => {
            strategy.abandon_create(&cx, &object).await;
            return Err(status);
        }
    };
    if !call.dry_run {
        strategy.after_create(&cx, &object).await;
    }
    Ok(WriteOutcome { object, encoded })
}

async fn check(call: &Call, object: &Value) -> Result<(), Status> {
    let name = metadata::text(object, "name").to_owned();
    let cx = call.context(&name);
    let strategy = &call.resource.strategy;
    let mut causes = metadata::problems(&call.resource, object, None);
    causes.extend(engine::problems(call, object, None));
    causes.extend(strategy.validate(&cx, object));
    metadata::refuse(&call.resource, &name, causes)?;
    strategy.authorize(&cx, object, None).await?;
    for warning in strategy.warnings(object) {
        call.warn(warning);
    }
    Ok(())
}

/// The last word of admission, then the write.
async fn commit(call: &Call, name: &str, object: &mut Value) -> Result<Option<EncodedObject>, Status> {
    call.admit(name, Operation::Create, object, None).await?;
    if !call.dry_run {
        return write(call, name, object).await;
    }
    exists(call, name).await.map(|()| None)
}

async fn exists(call: &Call, name: &str) -> Result<(), Status> {
    match call.server.objects.current(&call.resource, call.namespace(), name).await? {
        Some(_) => Err(taken(call, name)),
        None => Ok(()),
    }
}

fn taken(call: &Call, name: &str) -> Status {
    Status::already_exists(&call.resource.gvr.group, &call.resource.gvr.resource, name)
}

async fn write(call: &Call, name: &str, object: &mut Value) -> Result<Option<EncodedObject>, Status> {
    let key = ObjectAccess::key(&call.resource, call.namespace(), name);
    let stored = call.server.objects.storable(&call.resource, object).await?;
    match call.server.objects.insert(key, stored.bytes).await? {
        Written::At(revision) => {
            if let Some(read_back) = stored.read_back {
                *object = read_back;
            }
            stamp(object, revision);
            Ok(stored.shown.map(|shown| shown.at(revision)))
        }
        Written::Lost(_) => Err(taken(call, name)),
    }
}
