//! What every object's metadata has to satisfy, and what a client may not change. Pure.

use kind_rules::meta;
use kind_rules::path::Path;
use kind_rules::problems::Problems;
use kube_objects::{Reason, Status, StatusCause};
use serde_json::{Map, Value};

use super::Call;
use crate::catalogue::Resource;

/// A document of another namespace than its path.
pub(crate) const OTHER_NAMESPACE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// The metadata object, made if it is missing. 400 when the document or its metadata is no object.
pub(crate) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    let shape =
        || Status::new(Reason::BadRequest, "the object provided is unrecognized: metadata is no object");
    let fields = object.as_object_mut().ok_or_else(shape)?;
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().ok_or_else(shape)
}

/// A string of the metadata; "" for none.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

/// The object's finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    list.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
}

/// Checks a document's kind and namespace against the request, and fills them in.
pub(crate) fn check_identity(call: &Call, object: &mut Value) -> Result<(), Status> {
    let resource = &call.resource;
    of(object)?;
    for (key, want) in [("apiVersion", resource.api_version()), ("kind", resource.kind.clone())] {
        match object[key].as_str() {
            None | Some("") => object[key] = Value::String(want),
            Some(own) if own == want => {}
            Some(own) => {
                let what = if key == "kind" { "kind" } else { "API version" };
                let message =
                    format!("the {what} in the data ({own}) does not match the expected {what} ({want})");
                return Err(Status::new(Reason::BadRequest, message));
            }
        }
    }
    let own = text(object, "namespace").to_owned();
    if resource.namespaced {
        if own.is_empty() {
            object["metadata"]["namespace"] = Value::String(call.path.namespace.clone());
        } else if own != call.path.namespace {
            return Err(Status::new(Reason::BadRequest, OTHER_NAMESPACE));
        }
    } else {
        of(object)?.remove("namespace");
    }
    for key in ["labels", "annotations", "finalizers", "ownerReferences", "generateName"] {
        let metadata = of(object)?;
        if metadata.get(key).is_some_and(|value| {
            value.is_null()
                || value.as_object().is_some_and(Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
                || value == ""
        }) {
            metadata.remove(key);
        }
    }
    of(object)?.remove("selfLink");
    Ok(())
}

/// Admission may not move an object to another namespace.
pub(crate) fn check_namespace(call: &Call, object: &Value) -> Result<(), Status> {
    let own = text(object, "namespace");
    if own == call.namespace() {
        return Ok(());
    }
    Err(Status::new(Reason::BadRequest, OTHER_NAMESPACE))
}

/// What is wrong with an object's metadata; `old`: of an update.
pub(crate) fn problems(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
    let mut found = Problems::default();
    let at = Path::new("metadata");
    let metadata = &object["metadata"];
    match old {
        None => meta::validate(&mut found, &at, metadata, resource.namespaced, resource.strategy.name_rule()),
        Some(old) => meta::validate_update(&mut found, &at, metadata, &old["metadata"]),
    }
    if resource.custom {
        // The metadata of built-in kinds has been decoded by their schema.
        for key in ["labels", "annotations"] {
            let strings = metadata[key].as_object().is_some_and(|map| map.values().all(Value::is_string));
            if !metadata[key].is_null() && !strings {
                found.type_invalid(at.field(key), &metadata[key], "must be a map of strings");
            }
        }
    } else if resource.strategy.checks_finalizers() {
        meta::standard_finalizers(&mut found, &at.field("finalizers"), metadata);
    }
    found.into_causes()
}

/// One 422 of all problems; `None` when there are none.
pub(crate) fn refuse(resource: &Resource, name: &str, causes: Vec<StatusCause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&resource.gvr.group, &resource.kind, name, causes))
}
