//! Unknown and duplicate fields: dropping them, and saying so as the request's `fieldValidation` asks.

use std::fmt::Write as _;

use kube_objects::{GroupVersionKind, Reason, Status};
use serde_json::{Value, json};

use crate::field_path::quote;
use crate::schema::{Dialect, Schema, SchemaRef, ValueType};

/// More findings than this are not listed, as upstream bounds them.
const MAX_FINDINGS: usize = 100;

/// Fields of the type `MicroTime`: of leases, lease candidates and events.
const MICRO_TIMES: [&str; 5] = ["acquireTime", "eventTime", "lastObservedTime", "pingTime", "renewTime"];

/// What a request wants done about unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Nothing.
    Ignore,
    /// Warnings; the default.
    #[default]
    Warn,
    /// An error.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; "" is the default. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// Drops unknown fields and returns their paths, `spec.containers[0].foo`. In native types null means absent, so
/// fields that are null go too, without a word.
pub fn prune(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(value, schema, &mut String::new(), &mut unknown);
    unknown
}

/// Judges what [`prune`] and [`crate::json::decode`] found: the warnings to answer with.
///
/// # Errors
/// 400 under strict validation when there is anything.
pub fn check(
    mode: FieldValidation,
    unknown: &[String],
    duplicates: &[String],
    kind: &GroupVersionKind,
) -> Result<Vec<String>, Status> {
    let unknown = unknown.iter().map(|path| format!("unknown field {}", quote(path)));
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {}", quote(path)));
    let found: Vec<String> = unknown.chain(duplicates).take(MAX_FINDINGS).collect();
    match mode {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !found.is_empty() => {
            Err(undecodable(kind, &format!("strict decoding error: {}", found.join(", "))))
        }
        FieldValidation::Warn | FieldValidation::Strict => Ok(found),
    }
}

/// The 400 for a body that is no object of the kind.
#[must_use]
pub fn undecodable(kind: &GroupVersionKind, why: &str) -> Status {
    let GroupVersionKind { version, kind, .. } = kind;
    Status::new(
        Reason::BadRequest,
        format!("{kind} in version {} cannot be handled as a {kind}: {why}", quote(version)),
    )
}

fn walk(value: &mut Value, schema: &Schema, path: &mut String, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.dialect == Dialect::Native {
                map.retain(|key, value| !value.is_null() || !schema.properties.contains_key(key.as_str()));
            }
            let structured = schema.value_type == ValueType::Object;
            map.retain(|key, value| {
                let length = path.len();
                extend(path, key);
                let keep = match schema.child(key) {
                    Some(child) => {
                        walk_child(value, child, path, unknown);
                        true
                    }
                    None => !structured || schema.allows(key),
                };
                if !keep && unknown.len() < MAX_FINDINGS {
                    unknown.push(path.clone());
                }
                path.truncate(length);
                keep
            });
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for (index, item) in list.iter_mut().enumerate() {
                let length = path.len();
                // Writing to a String cannot fail.
                let _ = write!(path, "[{index}]");
                walk_child(item, items, path, unknown);
                path.truncate(length);
            }
        }
        Value::String(text)
            if schema.dialect == Dialect::Native && schema.format.as_deref() == Some("date-time") =>
        {
            if let Some(canonical) = canonical_time(text, path) {
                *text = canonical;
            }
        }
        _ => {}
    }
}

/// A time as Go's types write it, when it is written otherwise: UTC, whole seconds, or microseconds for the few fields that
/// have them (`MicroTime`). Clients of other languages send back `+00:00` and fractions: such an object is still the same.
fn canonical_time(text: &str, path: &str) -> Option<String> {
    let micro = MICRO_TIMES.contains(&path.rsplit('.').next().unwrap_or_default());
    let canonical_length = if micro { 27 } else { 20 };
    if text.len() == canonical_length && text.ends_with('Z') {
        return None;
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    // Cut like Go's, not rounded.
    let digits = if micro { 6 } else { 0 };
    let unit = if micro { jiff::Unit::Microsecond } else { jiff::Unit::Second };
    let cut = jiff::TimestampRound::new().smallest(unit).mode(jiff::RoundMode::Floor);
    Some(format!("{:.digits$}", time.round(cut).ok()?))
}

fn walk_child(value: &mut Value, schema: &SchemaRef, path: &mut String, unknown: &mut Vec<String>) {
    if value.is_null() && schema.dialect == Dialect::Native && schema.value_type == ValueType::String {
        // A null in a Go map or list of strings is the empty string.
        *value = json!("");
        return;
    }
    walk(value, schema, path, unknown);
}

fn extend(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SchemaSet;

    fn pod() -> (SchemaRef, GroupVersionKind) {
        let kind = GroupVersionKind::new("", "v1", "Pod");
        (SchemaSet::builtin().for_kind(&kind).unwrap(), kind)
    }

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let (schema, kind) = pod();
        let mut value = json!({"kind": "Pod", "metadata": {"labels": {"a": "b", "c": null}, "bar": 1, "name": null},
            "spec": {"foo": 1, "containers": [{"name": "a", "imaage": "x", "resources": {"limits": {"cpu": 1}}}]}});
        let unknown = prune(&mut value, &schema);
        assert_eq!(unknown, ["metadata.bar", "spec.containers[0].imaage", "spec.foo"]);
        assert_eq!(
            value,
            json!({"kind": "Pod", "metadata": {"labels": {"a": "b", "c": ""}},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}}}]}})
        );
        assert_eq!(
            check(FieldValidation::Warn, &unknown[2..], &[], &kind).unwrap(),
            [r#"unknown field "spec.foo""#]
        );
        let error = check(FieldValidation::Strict, &unknown[2..], &["spec.x".into()], &kind).unwrap_err();
        assert_eq!(error.code, 400);
        assert_eq!(
            error.message,
            r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo", duplicate field "spec.x""#
        );
        assert!(check(FieldValidation::Ignore, &unknown, &[], &kind).unwrap().is_empty());
        assert_eq!(FieldValidation::parse("warn"), None);
    }

    #[test]
    fn times_are_kept_as_go_writes_them() {
        let (schema, _) = pod();
        let mut value = json!({"metadata": {"creationTimestamp": "2026-01-02T05:04:05.678+02:00", "managedFields": [
            {"time": "2026-01-02T03:04:05+00:00"}, {"time": "2026-01-02T03:04:05Z"}, {"time": "soon"}]}});
        prune(&mut value, &schema);
        assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        let times: Vec<_> = value["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|own| own["time"].clone())
            .collect();
        assert_eq!(times, ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "soon"]);
        let lease = GroupVersionKind::new("coordination.k8s.io", "v1", "Lease");
        let mut value = json!({"spec": {"renewTime": "2026-01-02T03:04:05.123456+00:00"}});
        prune(&mut value, &SchemaSet::builtin().for_kind(&lease).unwrap());
        assert_eq!(value["spec"]["renewTime"], "2026-01-02T03:04:05.123456Z");
    }

    #[test]
    fn custom_schemas_prune_what_they_do_not_preserve() {
        let schema = Schema::for_custom_resource(
            Some(&json!({"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"a": {"type": "string"}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"b": {"type": "object", "properties": {}}}},
            }})),
            GroupVersionKind::new("example.com", "v1", "Thing"),
        )
        .unwrap();
        let mut value = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "y": 1},
            "spec": {"a": "1", "b": 2}, "free": {"z": 1, "b": {"gone": 1}}});
        assert_eq!(prune(&mut value, &schema), ["free.b.gone", "metadata.y", "spec.b"]);
        assert_eq!(value["free"], json!({"z": 1, "b": {}}));
    }
}
