//! Objects as clients ask to see them: themselves, rows of a Table, or their metadata alone. Pure.

use jiff::Timestamp;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};

use super::Call;
use crate::catalogue::Resource;
use crate::http::negotiation::View;

/// How much of an object a Table's row carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Of the `includeObject` parameter.
    pub(crate) fn of(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => {
                Err(Status::new(Reason::BadRequest, format!("unrecognized includeObject value: {other:?}")))
            }
        }
    }
}

/// Only an object's metadata.
pub(crate) fn metadata(object: &Value) -> Value {
    document("PartialObjectMetadata", "meta.k8s.io/v1", [("metadata", object["metadata"].clone())])
}

/// A document put together from trees, which move into it: `json!` would copy each of them.
pub(crate) fn document<const N: usize>(kind: &str, api_version: &str, fields: [(&str, Value); N]) -> Value {
    let head = [("kind", Value::from(kind)), ("apiVersion", Value::from(api_version))];
    Value::Object(head.into_iter().chain(fields).map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A served object as an item of a list: those of built-in kinds do not say what they are, for the list does.
pub(crate) fn item(resource: &Resource, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut().filter(|_| !resource.custom) {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}

/// A list of served objects.
pub(crate) fn list(resource: &Resource, metadata: Value, items: impl Iterator<Item = Value>) -> Value {
    let items = items.map(|object| item(resource, object)).collect();
    let fields = [("metadata", metadata), ("items", Value::Array(items))];
    document(&format!("{}List", resource.kind), &resource.api_version(), fields)
}

/// One row.
fn row(resource: &Resource, stored: &Value, include: Include, now: Timestamp) -> Value {
    let cells = ("cells".to_owned(), Value::Array(resource.strategy.cells(stored, now)));
    let object = match include {
        Include::None => None,
        Include::Metadata => Some(metadata(stored)),
        Include::Object => Some(super::conversion::served(resource, stored.clone())),
    };
    Value::Object(
        [Some(cells), object.map(|object| ("object".to_owned(), object))].into_iter().flatten().collect(),
    )
}

/// A Table of stored objects; `list_metadata` is the list's.
pub(crate) fn table(
    resource: &Resource,
    objects: impl Iterator<Item = Value>,
    list_metadata: Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let columns: Vec<Value> = resource
        .strategy
        .columns()
        .into_iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects.map(|object| row(resource, &object, include, now)).collect();
    let fields = [
        ("metadata", list_metadata),
        ("columnDefinitions", Value::Array(columns)),
        ("rows", Value::Array(rows)),
    ];
    document("Table", "meta.k8s.io/v1", fields)
}

/// One served object in the view of a request.
pub(crate) fn object(call: &Call, served: Value) -> Value {
    match call.accepted.view {
        View::Object => served,
        View::Metadata => metadata(&served),
        View::Table => {
            let include = Include::of(call.query.get("includeObject")).unwrap_or_default();
            let list = json!({"resourceVersion": served["metadata"]["resourceVersion"]});
            let stored = super::conversion::stored(&call.resource, served);
            table(&call.resource, std::iter::once(stored), list, include, call.now)
        }
    }
}
