//! What every object's metadata has to satisfy, and what a client may not change. Pure.

use kube_objects::{Reason, Status, StatusCause};
use serde_json::{Map, Value};

use super::Call;
use crate::catalogue::Resource;
use kind_rules::names::NameRule;

/// Bound of all annotations of an object together (upstream `TotalAnnotationSizeLimitB`).
const ANNOTATIONS_LIMIT_BYTES: usize = 256 << 10;

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
            return Err(Status::new(
                Reason::BadRequest,
                format!(
                    "the namespace of the provided object does not match the namespace sent on the request: {own} {}",
                    call.path.namespace
                ),
            ));
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
    Err(Status::new(
        Reason::BadRequest,
        format!(
            "the namespace of the provided object does not match the namespace sent on the request: {own} {}",
            call.namespace()
        ),
    ))
}

fn cause(reason: &str, field: &str, message: impl Into<String>) -> StatusCause {
    StatusCause { reason: reason.to_owned(), message: message.into(), field: field.to_owned() }
}

fn invalid(field: &str, value: &str, why: impl std::fmt::Display) -> StatusCause {
    cause("FieldValueInvalid", field, format!("Invalid value: {value:?}: {why}"))
}

/// What is wrong with an object's metadata.
pub(crate) fn problems(resource: &Resource, object: &Value) -> Vec<StatusCause> {
    let mut found = Vec::new();
    let name = text(object, "name");
    if name.is_empty() {
        found.push(cause(
            "FieldValueRequired",
            "metadata.name",
            "Required value: name or generateName is required",
        ));
    } else if let Some(why) = name_problem(resource.strategy.name_rule(), name) {
        found.push(invalid("metadata.name", name, why));
    }
    let metadata = &object["metadata"];
    for key in ["labels", "annotations"] {
        match &metadata[key] {
            Value::Null => {}
            Value::Object(map) => entries(key, map, &mut found),
            _ => found.push(invalid(&format!("metadata.{key}"), "", "must be a map of strings")),
        }
    }
    for finalizer in finalizers(object) {
        let standard = matches!(finalizer.as_str(), "orphan" | "foregroundDeletion" | "kubernetes");
        if !standard && !finalizer.contains('/') {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            found.push(invalid("metadata.finalizers", &finalizer, why));
        }
    }
    found
}

fn entries(key: &str, map: &Map<String, Value>, found: &mut Vec<StatusCause>) {
    let field = format!("metadata.{key}");
    let mut bytes = 0;
    for (name, value) in map {
        if !qualified(name) {
            let why = "a valid label key must be an optional DNS subdomain prefix and '/', and a name of up to 63 \
                       alphanumeric characters, '-', '_' or '.', starting and ending with an alphanumeric character";
            found.push(invalid(&field, name, why));
        }
        let Some(value) = value.as_str() else {
            found.push(invalid(&field, name, "must be a string"));
            continue;
        };
        bytes += name.len() + value.len();
        if key == "labels" && !label_value(value) {
            let why = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character";
            found.push(invalid(&field, value, why));
        }
    }
    if key == "annotations" && bytes > ANNOTATIONS_LIMIT_BYTES {
        let message = format!("Too long: may not be more than {ANNOTATIONS_LIMIT_BYTES} bytes");
        found.push(cause("FieldValueTooLong", &field, message));
    }
}

fn word(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn label_value(text: &str) -> bool {
    text.is_empty() || word(text)
}

fn qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => subdomain(&prefix.to_ascii_lowercase()) && word(name),
        None => word(text),
    }
}

fn label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(fits)
        && text.ends_with(fits)
        && text.chars().all(|c| fits(c) || c == '-')
}

fn subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| !part.is_empty() && label_of_any_length(part))
}

fn label_of_any_length(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(fits) && text.ends_with(fits) && text.chars().all(|c| fits(c) || c == '-')
}

/// What is wrong with a name under a rule.
pub(crate) fn name_problem(rule: NameRule, name: &str) -> Option<&'static str> {
    let (fits, why) = match rule {
        NameRule::DnsSubdomain => (
            subdomain(name),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        NameRule::DnsLabel => (
            label(name),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        NameRule::Dns1035Label => (
            label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()),
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ),
        NameRule::PathSegment => (
            !matches!(name, "." | "..") && !name.contains(['/', '%']),
            "may not be '.' or '..' or contain '/' or '%'",
        ),
    };
    (!fits).then_some(why)
}

/// One 422 of all problems; `None` when there are none.
pub(crate) fn refuse(resource: &Resource, name: &str, causes: Vec<StatusCause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&resource.gvr.group, &resource.kind, name, causes))
}
