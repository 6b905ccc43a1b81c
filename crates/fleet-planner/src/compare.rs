//! What differs between two lists of objects, and between two objects, field by field. Values of Secrets are never shown.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::ObjectReference;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::render::Rendered;

/// Fields named of one object; beyond that only their number is told.
pub const MAX_FIELDS: usize = 100;
/// What stands for a value that must not be shown.
const HIDDEN: &str = "***";

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was not there.
    Add,
    /// It is there and will be otherwise.
    Change,
    /// It will not be there.
    Remove,
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// What.
    pub action: Action,
    /// Which; the namespace is as the manifest gave it.
    pub object: ObjectReference,
    /// For a change: the fields, in order; at most [`MAX_FIELDS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// Fields beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_fields: usize,
}

/// What becomes of one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FieldChange {
    /// Where: `spec.template.spec.containers[name=web].image`.
    pub path: String,
    /// What it was; none when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it will be; none when it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What differs, in the order of references.
#[must_use]
pub fn objects(before: &[Rendered], after: &[Rendered]) -> Vec<ObjectChange> {
    let by_reference = |all: &[Rendered]| -> BTreeMap<ObjectReference, Value> {
        all.iter().map(|one| (one.reference.clone(), one.object.clone())).collect()
    };
    let (before, after) = (by_reference(before), by_reference(after));
    let references: BTreeSet<&ObjectReference> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for reference in references {
        let change = |action, fields: Vec<FieldChange>| ObjectChange {
            action,
            object: reference.clone(),
            more_fields: fields.len().saturating_sub(MAX_FIELDS),
            fields: fields.into_iter().take(MAX_FIELDS).collect(),
        };
        match (before.get(reference), after.get(reference)) {
            (None, Some(_)) => changes.push(change(Action::Add, Vec::new())),
            (Some(_), None) => changes.push(change(Action::Remove, Vec::new())),
            (Some(before), Some(after)) if before != after => {
                changes.push(change(Action::Change, hide(reference, fields(before, after))));
            }
            _ => {}
        }
    }
    changes
}

/// What differs between two values.
#[must_use]
pub fn fields(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => maps(path, before, after, found),
        (Some(Value::Array(before)), Some(Value::Array(after))) => lists(path, before, after, found),
        (before, after) => {
            found.push(FieldChange { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

fn maps(path: &str, before: &Map<String, Value>, after: &Map<String, Value>, found: &mut Vec<FieldChange>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        // Keys of labels and the like hold dots: quoted, a path stays unambiguous.
        let key_text = if key.contains(['.', '[', ' ']) { format!("[{key:?}]") } else { key.clone() };
        let path = match (path, key_text.starts_with('[')) {
            ("", _) => key_text,
            (path, true) => format!("{path}{key_text}"),
            (path, false) => format!("{path}.{key_text}"),
        };
        compare(&path, before.get(key), after.get(key), found);
    }
}

/// Items that all have names of their own are compared by name, others by place.
fn lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<FieldChange>) {
    let Some((named_before, named_after)) = named(before).zip(named(after)) else {
        for index in 0..before.len().max(after.len()) {
            compare(&format!("{path}[{index}]"), before.get(index), after.get(index), found);
        }
        return;
    };
    let names: BTreeSet<&&str> = named_before.keys().chain(named_after.keys()).collect();
    let start = found.len();
    for name in names {
        let path = format!("{path}[name={name}]");
        compare(&path, named_before.get(*name).copied(), named_after.get(*name).copied(), found);
    }
    // Only the order differs, which may matter.
    if found.len() == start {
        found.push(FieldChange {
            path: path.to_owned(),
            before: Some(before.to_vec().into()),
            after: Some(after.to_vec().into()),
        });
    }
}

fn named(items: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let names: Option<BTreeMap<&str, &Value>> =
        items.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect();
    names.filter(|names| names.len() == items.len())
}

fn hide(reference: &ObjectReference, fields: Vec<FieldChange>) -> Vec<FieldChange> {
    if reference.kind != "Secret" || reference.api_version != "v1" {
        return fields;
    }
    let hidden = |field: FieldChange| {
        let top = field.path.split(['.', '[']).next().unwrap_or_default();
        if top != "data" && top != "stringData" {
            return field;
        }
        let hide = |value: Option<Value>| value.map(|_| Value::from(HIDDEN));
        FieldChange { path: field.path, before: hide(field.before), after: hide(field.after) }
    };
    fields.into_iter().map(hidden).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(before: &Value, after: &Value) -> Vec<String> {
        fields(before, after).into_iter().map(|field| field.path).collect()
    }

    #[test]
    fn fields_are_named_where_they_are() {
        let before = json!({"spec": {"replicas": 1, "containers": [{"name": "web", "image": "a"}, {"name": "old"}], "args": ["x", "y"]}, "labels": {"a.b/c": "1"}});
        let after = json!({"spec": {"replicas": 2, "containers": [{"name": "new"}, {"name": "web", "image": "b"}], "args": ["x", "z", "w"]}, "labels": {"a.b/c": "2"}});
        assert_eq!(
            paths(&before, &after),
            [
                "labels[\"a.b/c\"]",
                "spec.args[1]",
                "spec.args[2]",
                "spec.containers[name=new]",
                "spec.containers[name=old]",
                "spec.containers[name=web].image",
                "spec.replicas",
            ]
        );
        assert_eq!(
            paths(&json!([{"name": "a"}, {"name": "b"}]), &json!([{"name": "b"}, {"name": "a"}])),
            [""]
        );
        assert!(paths(&before, &before).is_empty());
    }

    #[test]
    fn secrets_stay_secret() {
        let secret = |value: &str| Rendered {
            reference: ObjectReference {
                api_version: "v1".into(),
                kind: "Secret".into(),
                namespace: None,
                name: "s".into(),
            },
            phase: 2,
            object: json!({"kind": "Secret", "type": value, "stringData": {"password": value}, "data": {"k": value}}),
            health: None,
        };
        let changes = objects(&[secret("one")], &[secret("two")]);
        let text = serde_json::to_string(&changes).unwrap();
        assert_eq!(changes[0].fields.len(), 3, "{text}");
        assert!(text.contains("stringData.password") && text.contains("***"), "{text}");
        assert_eq!(text.matches("two").count(), 1, "only the type: {text}");
    }
}
