//! Paths to fields and what is wrong with a field, in the words of upstream's `field.Error`.

use std::fmt;

use kube_objects::StatusCause;
use serde_json::Value;

/// A field's path: `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    /// Of a top-level field.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The whole object; shown as `<nil>` when it is at fault itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A field in this object.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A value of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field: upstream's `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is upstream's error type of that name")]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
    TooShort,
}

impl FieldErrorKind {
    /// The cause's reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooShort => "FieldValueTooShort",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
            Self::TooShort => "Too short",
        }
    }

    /// Some kinds never repeat the value: it is absent, too long, or not for everybody's eyes.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal)
    }
}

/// One finding about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where.
    pub path: FieldPath,
    /// The value as it was given; `None` leaves it out of the message.
    pub bad_value: Option<Value>,
    /// More words; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, path: path.clone(), bad_value: value, detail: detail.into() }
    }

    /// `Invalid value: "x": detail`.
    #[must_use]
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// `Invalid value: "x": detail`, because the type is wrong.
    #[must_use]
    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// `Required value: detail`.
    #[must_use]
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, None, detail)
    }

    /// `Duplicate value: "x"`.
    #[must_use]
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// `Not found: "x"`.
    #[must_use]
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    #[must_use]
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// `Forbidden: detail`.
    #[must_use]
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    /// `Too long: may not be more than 63 bytes`.
    #[must_use]
    pub fn too_long(path: &FieldPath, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max_bytes} {unit}");
        Self::new(FieldErrorKind::TooLong, path, None, detail)
    }

    /// `Too many: 5: must have at most 3 items`.
    #[must_use]
    pub fn too_many(path: &FieldPath, count: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooMany,
            path,
            Some(count.into()),
            format!("must have at most {max} {unit}"),
        )
    }

    /// The message without the path, as a `StatusCause` carries it.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = self.kind.words().to_owned();
        if let Some(value) = self.bad_value.as_ref().filter(|_| self.kind.shows_value()) {
            message.push_str(": ");
            match value {
                Value::String(text) => message.push_str(&quote(text)),
                other => message.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            message.push_str(": ");
            message.push_str(&self.detail);
        }
        message
    }

    /// As a cause of a `Status`.
    #[must_use]
    pub fn cause(&self) -> StatusCause {
        StatusCause {
            reason: self.kind.reason().to_owned(),
            message: self.message(),
            field: self.path.to_string(),
        }
    }
}

/// `spec.x: Invalid value: …`.
impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// Several findings as causes.
#[must_use]
pub fn causes(errors: &[FieldError]) -> Vec<StatusCause> {
    errors.iter().map(FieldError::cause).collect()
}

/// Quotes as Go's `%q` does, near enough: JSON's escapes are the same for everything that comes in names.
#[must_use]
pub fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream_writes_them() {
        let path = FieldPath::new("spec").child("containers").index(0).child("name");
        let shown = |error: FieldError| error.to_string();
        assert_eq!(
            shown(FieldError::invalid(&path, "X", "must be lower case")),
            r#"spec.containers[0].name: Invalid value: "X": must be lower case"#
        );
        assert_eq!(shown(FieldError::required(&path, "")), "spec.containers[0].name: Required value");
        assert_eq!(
            shown(FieldError::duplicate(&path, "a")),
            r#"spec.containers[0].name: Duplicate value: "a""#
        );
        assert_eq!(
            shown(FieldError::not_supported(&FieldPath::new("type"), "x", &["a", "b"])),
            r#"type: Unsupported value: "x": supported values: "a", "b""#
        );
        assert_eq!(FieldError::invalid(&path, -1, "no").message(), "Invalid value: -1: no");
        assert_eq!(FieldPath::new("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
        assert_eq!(FieldError::forbidden(&path, "no").cause().reason, "FieldValueForbidden");
    }
}
