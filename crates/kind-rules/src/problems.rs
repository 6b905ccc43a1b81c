//! Collecting what is wrong with an object, in upstream's words (apimachinery `pkg/util/validation/field`).

use std::fmt::Display;

use kube_objects::StatusCause;
use serde_json::Value;

/// Validation errors so far, in the order found.
///
/// A field is given as anything that can be shown: a [`crate::path::Path`] (costs nothing until a finding) or a text.
#[derive(Debug, Default)]
pub struct Problems(Vec<StatusCause>);

/// A value as a message repeats it.
pub trait BadValue {
    /// Texts in quotes, numbers and flags bare, everything else as JSON.
    fn shown(&self) -> String;
}

impl BadValue for Value {
    fn shown(&self) -> String {
        match self {
            Self::String(text) => text.as_str().shown(),
            other => other.to_string(),
        }
    }
}

impl BadValue for str {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl BadValue for String {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl BadValue for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl BadValue for usize {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl BadValue for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl<T: BadValue + ?Sized> BadValue for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}

/// Nothing there: `null`.
impl<T: BadValue> BadValue for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), BadValue::shown)
    }
}

/// A text written out exactly as given, for values that upstream shows as one of its own structures.
#[derive(Clone, Copy, Debug)]
pub struct Verbatim<'a>(pub &'a str);

impl BadValue for Verbatim<'_> {
    fn shown(&self) -> String {
        self.0.to_owned()
    }
}

/// A value in the form of one of upstream's internal structures, which have no JSON names: every field in the order of
/// the structure, each as JSON key, Go name and what stands for nothing.
#[must_use]
pub fn go_form(value: &Value, fields: &[(&str, &str, &str)]) -> String {
    let each: Vec<String> = fields
        .iter()
        .map(|(key, name, nothing)| match value.get(key) {
            None | Some(Value::Null) => format!("\"{name}\":{nothing}"),
            Some(own) => format!("\"{name}\":{own}"),
        })
        .collect();
    format!("{{{}}}", each.join(","))
}

impl Problems {
    /// What was found, as causes of a `Status`.
    #[must_use]
    pub fn into_causes(self) -> Vec<StatusCause> {
        self.0
    }

    /// Adds what was found elsewhere.
    pub fn add_causes(&mut self, causes: Vec<StatusCause>) {
        self.0.extend(causes);
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much was found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes over what was found elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes over what was found in a part of the object that itself is at `prefix`.
    pub fn extend_under(&mut self, prefix: &str, inner: Self) {
        self.0.extend(inner.0.into_iter().map(|mut cause| {
            cause.field = format!("{prefix}.{}", cause.field);
            cause
        }));
    }

    fn add(&mut self, reason: &str, field: &dyn Display, message: String) {
        self.0.push(StatusCause { reason: reason.to_owned(), field: shown_field(field), message });
    }

    /// `Required value: detail`.
    pub fn required(&mut self, field: impl Display, detail: &str) {
        self.add("FieldValueRequired", &field, with_detail("Required value", detail));
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(&mut self, field: impl Display, value: impl BadValue, detail: &str) {
        let head = format!("Invalid value: {}", value.shown());
        self.add("FieldValueInvalid", &field, with_detail(&head, detail));
    }

    /// `Invalid value: detail`, where the value itself is not shown.
    pub fn invalid_omitted(&mut self, field: impl Display, detail: &str) {
        self.add("FieldValueInvalid", &field, with_detail("Invalid value", detail));
    }

    /// The same where the type is wrong.
    pub fn type_invalid(&mut self, field: impl Display, value: impl BadValue, detail: &str) {
        let head = format!("Invalid value: {}", value.shown());
        self.add("FieldValueTypeInvalid", &field, with_detail(&head, detail));
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(&mut self, field: impl Display, value: impl BadValue) {
        self.add("FieldValueDuplicate", &field, format!("Duplicate value: {}", value.shown()));
    }

    /// `Duplicate value: "x": detail`.
    pub fn duplicate_because(&mut self, field: impl Display, value: impl BadValue, detail: impl Display) {
        self.add("FieldValueDuplicate", &field, format!("Duplicate value: {}: {detail}", value.shown()));
    }

    /// `Unsupported value: "x": supported values: "a", "b"`, the supported ones sorted (as upstream shows its sets).
    pub fn unsupported(&mut self, field: impl Display, value: impl BadValue, supported: &[&str]) {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        self.unsupported_of(field, value, &sorted);
    }

    /// The same with the supported ones in the order given.
    pub fn unsupported_of(&mut self, field: impl Display, value: impl BadValue, supported: &[&str]) {
        let head = format!("Unsupported value: {}", value.shown());
        let each: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        let detail =
            if each.is_empty() { String::new() } else { format!("supported values: {}", each.join(", ")) };
        self.add("FieldValueNotSupported", &field, with_detail(&head, &detail));
    }

    /// `Forbidden: detail`.
    pub fn forbidden(&mut self, field: impl Display, detail: &str) {
        self.add("FieldValueForbidden", &field, with_detail("Forbidden", detail));
    }

    /// `Not found: "x"`.
    pub fn not_found(&mut self, field: impl Display, value: impl BadValue) {
        self.add("FieldValueNotFound", &field, format!("Not found: {}", value.shown()));
    }

    /// The same with a reason.
    pub fn not_found_because(&mut self, field: impl Display, value: impl BadValue, detail: &str) {
        let head = format!("Not found: {}", value.shown());
        self.add("FieldValueNotFound", &field, with_detail(&head, detail));
    }

    /// `Too long: detail`; see [`Self::too_many_bytes`] for the usual detail.
    pub fn too_long(&mut self, field: impl Display, detail: &str) {
        self.add("FieldValueTooLong", &field, with_detail("Too long", detail));
    }

    /// `Too long: may not be more than 63 bytes`.
    pub fn too_many_bytes(&mut self, field: impl Display, limit: usize) {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        self.too_long(field, &format!("may not be more than {limit} {unit}"));
    }

    /// `Too many: 5: must have at most 3 items`.
    pub fn too_many(&mut self, field: impl Display, count: usize, limit: usize) {
        let unit = if limit == 1 { "item" } else { "items" };
        let message = format!("Too many: {count}: must have at most {limit} {unit}");
        self.add("FieldValueTooMany", &field, message);
    }

    /// `Internal error: detail`.
    pub fn internal(&mut self, field: impl Display, detail: &str) {
        self.add("InternalError", &field, with_detail("Internal error", detail));
    }

    /// A field that must be one of `supported`; required unless `optional`.
    pub fn choice(&mut self, field: impl Display, value: Option<&Value>, supported: &[&str], optional: bool) {
        match value {
            None | Some(Value::Null) if optional => {}
            None | Some(Value::Null) => self.required(field, ""),
            Some(Value::String(text)) if supported.contains(&text.as_str()) => {}
            Some(Value::String(text)) if text.is_empty() && !optional => self.required(field, ""),
            Some(other) => self.unsupported(field, other, supported),
        }
    }

    /// An integer that must not be negative.
    pub fn not_negative(&mut self, field: impl Display, value: Option<&Value>) {
        if let Some(value) = value
            && value.as_i64().is_some_and(|number| number < 0)
        {
            self.invalid(field, value, NOT_NEGATIVE);
        }
    }

    /// A field that an update may not change; nothing, `null` and (with [`Self::immutable_or_empty`]) empty are alike.
    pub fn immutable(&mut self, field: impl Display, new: Option<&Value>, old: Option<&Value>) {
        let nothing = &Value::Null;
        let (new, old) = (new.unwrap_or(nothing), old.unwrap_or(nothing));
        if new != old {
            self.invalid(field, new, IMMUTABLE);
        }
    }

    /// The same where an empty text, list or map is the same as none (upstream's semantic equality).
    pub fn immutable_or_empty(&mut self, field: impl Display, new: Option<&Value>, old: Option<&Value>) {
        if !crate::json::alike(new, old) {
            self.invalid(field, new.unwrap_or(&Value::Null), IMMUTABLE);
        }
    }
}

/// Upstream's `isNegativeErrorMsg`.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// Upstream's `FieldImmutableErrorMsg`.
pub const IMMUTABLE: &str = "field is immutable";

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// The object itself is `<nil>` upstream.
fn shown_field(field: &dyn Display) -> String {
    let text = field.to_string();
    if text.is_empty() { "<nil>".to_owned() } else { text }
}

/// A text as Go's `%q` writes it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_read_as_upstream_writes_them() {
        let mut problems = Problems::default();
        problems.required("spec.a", "");
        problems.invalid("spec.b", "x\"\n", "no");
        problems.invalid("spec.c", json!({"a": 1}), "no");
        problems.invalid("spec.d", 7_i64, "");
        problems.unsupported("spec.e", "q", &["b", "a"]);
        problems.too_many("spec.f", 3, 1);
        problems.forbidden("", "never");
        let found: Vec<String> = problems
            .into_causes()
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        assert_eq!(
            found,
            [
                "spec.a: Required value",
                "spec.b: Invalid value: \"x\\\"\\n\": no",
                "spec.c: Invalid value: {\"a\":1}: no",
                "spec.d: Invalid value: 7",
                "spec.e: Unsupported value: \"q\": supported values: \"a\", \"b\"",
                "spec.f: Too many: 3: must have at most 1 item",
                "<nil>: Forbidden: never",
            ]
        );
    }
}
