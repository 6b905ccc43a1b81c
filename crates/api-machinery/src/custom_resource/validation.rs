//! Whether a definition is one that can be served.

use serde_json::Value;

use super::status::approval;
use crate::field_path::{FieldError, FieldPath, quote};

/// What is wrong with a definition; `old` is the version before, for an update.
#[must_use]
pub fn definition(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, plural, group) =
        (text(&definition["metadata"]["name"]), text(&spec["names"]["plural"]), text(&spec["group"]));
    if name != format!("{plural}.{group}") {
        let path = FieldPath::new("metadata").child("name");
        errors.push(FieldError::invalid(&path, name, "must be spec.names.plural+\".\"+spec.group"));
    }
    if old.is_none()
        && approval(definition).is_some_and(|(approval, _)| approval == super::status::Approval::Missing)
    {
        let path = FieldPath::new("metadata").child("annotations").key(super::status::APPROVED_ANNOTATION);
        errors.push(FieldError::required(&path, quote("")));
    }
    errors
}

/// What is wrong with a definition's status.
#[must_use]
pub fn status(_definition: &Value) -> Vec<FieldError> {
    Vec::new()
}
