//! The parts of a definition's spec.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::structure::{list, text};
use crate::field_path::{FieldError, FieldPath};
use crate::names::{self};

/// More selectable fields than this in a version are refused (upstream `MaxSelectableFields`).
const MAX_SELECTABLE_FIELDS: usize = 8;

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";

/// What is wrong with names, wanted or accepted.
pub(super) fn names(own: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut label = |at: FieldPath, value: &str, mixed: bool| {
        let wrong = names::dns1035_label(&if mixed { value.to_lowercase() } else { value.to_owned() });
        if !value.is_empty() && !wrong.is_empty() {
            let lead = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(FieldError::invalid(&at, value, format!("{lead}{}", wrong.join(","))));
        }
    };
    for (key, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        label(path.child(key), text(own, key), mixed);
    }
    for (index, name) in list(own, "shortNames").iter().enumerate() {
        label(path.child("shortNames").index(index), name.as_str().unwrap_or_default(), false);
    }
    let (kind, list_kind) = (text(own, "kind"), text(own, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list_kind, why));
    }
    for (index, category) in list(own, "categories").iter().enumerate() {
        let category = category.as_str().unwrap_or_default();
        let wrong = names::dns1035_label(category);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("categories").index(index),
                category,
                wrong.join(","),
            ));
        }
    }
}

pub(super) fn deprecation(version: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let mut wrong = Vec::new();
    if version["deprecated"] != true {
        wrong.push("can only be set for deprecated versions".to_owned());
    } else {
        if warning.len() > 256 {
            wrong.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {index}"
            ));
        }
    }
    let path = at.child("deprecationWarning");
    errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, warning, why)));
}

/// A path in the dot notation; more is not checked, as upstream has it.
fn json_path(value: &str, path: &FieldPath) -> Option<FieldError> {
    (!value.starts_with('.'))
        .then(|| FieldError::invalid(path, value, "must be a simple json path starting with ."))
}

pub(super) fn subresources(own: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(scale) = own.get("scale").filter(|scale| !scale.is_null()) else { return };
    for (key, prefix) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let at = path.child(&format!("scale.{key}"));
        let value = text(scale, key);
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if let Some(wrong) = json_path(value, &at) {
            errors.push(wrong);
        } else if !value.starts_with(&format!("{prefix}.")) {
            errors.push(FieldError::invalid(&at, value, format!("should be a json path under {prefix}")));
        }
    }
    let (at, value) = (path.child("scale.labelSelectorPath"), text(scale, "labelSelectorPath"));
    if value.is_empty() {
        return;
    }
    if let Some(wrong) = json_path(value, &at) {
        errors.push(wrong);
    } else if !value.starts_with(".spec.") && !value.starts_with(".status.") {
        errors.push(FieldError::invalid(&at, value, "should be a json path under either .spec or .status"));
    }
}

pub(super) fn columns(version: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        let at = path.index(index);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let kind = text(column, "type");
        let why = format!("must be one of {COLUMN_TYPES}");
        if kind.is_empty() {
            errors.push(FieldError::required(&at.child("type"), why));
        } else if !COLUMN_TYPES.split(',').any(|known| known == kind) {
            errors.push(FieldError::invalid(&at.child("type"), kind, why));
        }
        let format = text(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.split(',').any(|known| known == format) {
            let why = format!("must be one of {COLUMN_FORMATS}");
            errors.push(FieldError::invalid(&at.child("format"), format, why));
        }
        let value = text(column, "jsonPath");
        if value.is_empty() {
            errors.push(FieldError::required(&at.child("JSONPath"), ""));
        } else {
            errors.extend(json_path(value, &at.child("JSONPath")));
        }
    }
}

pub(super) fn selectable_fields(version: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let fields = list(version, "selectableFields");
    let Some(schema) = version["schema"].get("openAPIV3Schema").filter(|_| !fields.is_empty()) else {
        if !fields.is_empty() {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(FieldError::invalid(path, "", why));
        }
        return;
    };
    let mut unique = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index).child("jsonPath");
        let value = text(field, "jsonPath");
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let kind = match field_type(value, schema) {
            Ok(kind) => kind,
            Err(why) => {
                errors.push(FieldError::invalid(&at, value, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if value == ".metadata" || value.starts_with(".metadata.") {
            errors.push(FieldError::invalid(&at, value, "must not point to fields in metadata"));
        }
        if !matches!(kind, "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(FieldError::invalid(&at, value, why));
        }
        if !unique.insert(value) {
            errors.push(FieldError::duplicate(&at, value));
        }
    }
    if unique.len() > MAX_SELECTABLE_FIELDS {
        errors.push(FieldError::too_many(path, unique.len(), MAX_SELECTABLE_FIELDS));
    }
}

/// The type of the field at a path; list items cannot be reached.
fn field_type<'s>(path: &str, schema: &'s Value) -> Result<&'s str, String> {
    let unexpected = || format!("does not refer to a valid field: {path}");
    let names = path.strip_prefix('.').ok_or_else(|| format!("must start with a dot: {path}"))?;
    let mut own = schema;
    for name in names.split('.') {
        if name.is_empty() || name.contains(['[', ']', '\'']) {
            return Err(unexpected());
        }
        own = own["properties"]
            .get(name)
            .or_else(|| own.get("additionalProperties").filter(|values| values.is_object()))
            .ok_or_else(unexpected)?;
    }
    Ok(text(own, "type"))
}
