//! Field errors as upstream's `field.Error` writes them into a `Status`.

use kube_objects::StatusCause;
use serde_json::Value as Json;

fn cause(reason: &str, field: &str, message: String) -> StatusCause {
    StatusCause { reason: reason.to_owned(), message, field: field.to_owned() }
}

fn with_detail(start: String, detail: &str) -> String {
    if detail.is_empty() { start } else { format!("{start}: {detail}") }
}

/// `Required value`.
pub(crate) fn required(field: &str, detail: &str) -> StatusCause {
    cause("FieldValueRequired", field, with_detail("Required value".to_owned(), detail))
}

/// `Invalid value`, with the value as JSON, or none.
pub(crate) fn invalid(field: &str, value: Option<&Json>, detail: &str) -> StatusCause {
    let start = match value {
        None => "Invalid value".to_owned(),
        Some(value) => format!("Invalid value: {}", shown(value)),
    };
    cause("FieldValueInvalid", field, with_detail(start, detail))
}

/// `Invalid value`, with the value as JSON text.
pub(crate) fn invalid_json(field: &str, json: &str, detail: &str) -> StatusCause {
    let start = format!("Invalid value: {}", escaped(json));
    cause("FieldValueInvalid", field, with_detail(start, detail))
}

/// `Invalid value` of a text.
pub(crate) fn invalid_text(field: &str, value: &str, detail: &str) -> StatusCause {
    invalid(field, Some(&Json::from(value)), detail)
}

/// `Forbidden`.
pub(crate) fn forbidden(field: &str, detail: &str) -> StatusCause {
    cause("FieldValueForbidden", field, with_detail("Forbidden".to_owned(), detail))
}

/// `Duplicate value`.
pub(crate) fn duplicate(field: &str, value: Option<&Json>) -> StatusCause {
    let start = value
        .map_or_else(|| "Duplicate value".to_owned(), |value| format!("Duplicate value: {}", shown(value)));
    cause("FieldValueDuplicate", field, start)
}

/// `Unsupported value`, with those that are.
pub(crate) fn not_supported(field: &str, value: &str, supported: &[&str]) -> StatusCause {
    let list: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {value:?}: supported values: {}", list.join(", "));
    cause("FieldValueNotSupported", field, message)
}

/// `Internal error`.
pub(crate) fn internal(field: &str, detail: &str) -> StatusCause {
    cause("InternalError", field, with_detail("Internal error".to_owned(), detail))
}

/// A value as messages show it.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => format!("{text:?}"),
        other => escaped(&other.to_string()),
    }
}

/// JSON as Go's `encoding/json` writes it: with `<`, `>` and `&` escaped.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// `path.name`, or `name` at the root.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
