//! Collecting what is wrong with an object, in upstream's words (apimachinery `pkg/util/validation/field`).

use kube_objects::StatusCause;
use serde_json::Value;

/// Validation errors so far, in the order found.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<StatusCause>);

impl Problems {
    pub(crate) fn into_causes(self) -> Vec<StatusCause> {
        self.0
    }

    /// Takes over what was found in a part of the object that itself is at `prefix`.
    pub(crate) fn extend_under(&mut self, prefix: &str, inner: Self) {
        self.0.extend(inner.0.into_iter().map(|mut cause| {
            cause.field = format!("{prefix}.{}", cause.field);
            cause
        }));
    }

    fn add(&mut self, reason: &str, field: &str, message: String) {
        self.0.push(StatusCause { reason: reason.to_owned(), field: field.to_owned(), message });
    }

    pub(crate) fn required(&mut self, field: &str, detail: &str) {
        self.add("FieldValueRequired", field, with_detail("Required value", detail));
    }

    pub(crate) fn invalid(&mut self, field: &str, value: &Value, detail: &str) {
        let head = format!("Invalid value: {}", shown(value));
        self.add("FieldValueInvalid", field, with_detail(&head, detail));
    }

    pub(crate) fn duplicate(&mut self, field: &str, value: &Value) {
        self.add("FieldValueDuplicate", field, format!("Duplicate value: {}", shown(value)));
    }

    pub(crate) fn unsupported(&mut self, field: &str, value: &Value, supported: &[&str]) {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        let each: Vec<String> = sorted.iter().map(|value| format!("{value:?}")).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), each.join(", "));
        self.add("FieldValueNotSupported", field, message);
    }

    pub(crate) fn forbidden(&mut self, field: &str, detail: &str) {
        self.add("FieldValueForbidden", field, with_detail("Forbidden", detail));
    }

    pub(crate) fn not_found(&mut self, field: &str, value: &Value) {
        self.add("FieldValueNotFound", field, format!("Not found: {}", shown(value)));
    }

    pub(crate) fn too_long(&mut self, field: &str, detail: &str) {
        self.add("FieldValueTooLong", field, with_detail("Too long", detail));
    }

    /// A field that must be one of `supported`; required unless `optional`.
    pub(crate) fn choice(&mut self, field: &str, value: Option<&Value>, supported: &[&str], optional: bool) {
        match value {
            None | Some(Value::Null) if optional => {}
            None | Some(Value::Null) => self.required(field, ""),
            Some(Value::String(text)) if supported.contains(&text.as_str()) => {}
            Some(Value::String(text)) if text.is_empty() && !optional => self.required(field, ""),
            Some(other) => self.unsupported(field, other, supported),
        }
    }

    /// An integer that must not be negative.
    pub(crate) fn not_negative(&mut self, field: &str, value: Option<&Value>) {
        if let Some(value) = value
            && value.as_i64().is_some_and(|number| number < 0)
        {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// A field that an update may not change.
    pub(crate) fn immutable(&mut self, field: &str, new: Option<&Value>, old: Option<&Value>) {
        let nothing = &Value::Null;
        let (new, old) = (new.unwrap_or(nothing), old.unwrap_or(nothing));
        if new != old {
            self.invalid(field, new, "field is immutable");
        }
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// Texts in quotes, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
