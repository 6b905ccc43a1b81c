//! Between the version an object is stored in and the one it is served in. Pure.
//!
//! Two built-in kinds are served in more than one form: Event (`events.k8s.io/v1` renames fields of the stored core `v1`)
//! and HorizontalPodAutoscaler (`autoscaling/v1` says less than the stored `v2`).

use std::borrow::Cow;

use api_machinery::apply::versions::OtherVersion;
use api_machinery::schema::SchemaSet;
use kind_rules::autoscaling::v1;
use kube_objects::GroupVersionKind;
use serde_json::Value;

use crate::catalogue::Resource;

/// Core name, `events.k8s.io` name.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Whether stored and served form are one.
pub(crate) fn is_identity(resource: &Resource) -> bool {
    resource.storage.0 == resource.gvr.group && !is_old_autoscaler(resource)
}

fn is_old_autoscaler(resource: &Resource) -> bool {
    let gvr = &resource.gvr;
    (&*gvr.group, &*gvr.version, &*gvr.resource) == ("autoscaling", "v1", "horizontalpodautoscalers")
}

/// The other version of its group that a built-in kind is served in, where there is one.
pub(crate) fn others(resource: &Resource) -> Vec<OtherVersion> {
    let gvr = &resource.gvr;
    if (&*gvr.group, &*gvr.resource) != ("autoscaling", "horizontalpodautoscalers") {
        return Vec::new();
    }
    let (api_version, version, to): (_, _, fn(Value) -> Value) = match &*gvr.version {
        "v1" => ("autoscaling/v2", "v2", v1::to_v2),
        _ => ("autoscaling/v1", "v1", v1::from_v2),
    };
    let schema = SchemaSet::builtin().for_kind(&GroupVersionKind::new(&*gvr.group, version, &*resource.kind));
    schema.map(|schema| OtherVersion { api_version, schema, to }).into_iter().collect()
}

/// A stored object as `resource` serves it.
pub(crate) fn served(resource: &Resource, object: Value) -> Value {
    if is_identity(resource) {
        object
    } else if is_old_autoscaler(resource) {
        v1::from_v2(object)
    } else {
        rename(object, &resource.api_version(), |(core, new)| (core, new))
    }
}

/// A stored object as `resource` serves it, copied only when that differs.
pub(crate) fn served_ref<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if is_identity(resource) { Cow::Borrowed(object) } else { Cow::Owned(served(resource, object.clone())) }
}

/// A served object as it is stored.
pub(crate) fn stored(resource: &Resource, object: Value) -> Value {
    if is_identity(resource) {
        return object;
    }
    if is_old_autoscaler(resource) {
        return v1::to_v2(object);
    }
    rename(object, "v1", |(core, new)| (new, core))
}

fn rename(
    mut object: Value,
    api_version: &str,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Some(fields) = object.as_object_mut() {
        for (from, to) in EVENT_FIELDS.map(direction) {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
        fields.insert("apiVersion".to_owned(), Value::String(api_version.to_owned()));
    }
    object
}
