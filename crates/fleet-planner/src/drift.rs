//! How far an object is enforced, as its manifest says: always, only made, or only watched; and which of its fields are
//! somebody else's business. Pure.

use fleet_objects::{ANNOTATION_DRIFT as MODE, ANNOTATION_IGNORE_FIELDS as IGNORE};
use serde_json::Value;

/// Fields that one object may ignore.
const MAX_IGNORED: usize = 64;

/// How far an object is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Put back whenever it differs.
    #[default]
    Enforce,
    /// Changed when the profile changes; what others change is told and left.
    Detect,
    /// Made when it is not there, and never changed.
    CreateOnly,
}

/// What a manifest says of drift.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// How far it is enforced.
    pub mode: Mode,
    /// JSON pointers (RFC 6901).
    pub ignored: Vec<String>,
}

impl Drift {
    /// Reads an object's annotations.
    ///
    /// # Errors
    /// What makes no sense; an object whose wish is not understood is not applied.
    pub fn of(object: &Value) -> Result<Self, String> {
        let text = |name: &str| object["metadata"]["annotations"][name].as_str();
        let mode = match text(MODE) {
            None | Some("enforce") => Mode::Enforce,
            Some("detect") => Mode::Detect,
            Some("create-only") => Mode::CreateOnly,
            Some(other) => return Err(format!("{MODE}: {other:?} is none of enforce, detect, create-only")),
        };
        let listed = text(IGNORE).unwrap_or_default();
        let ignored: Vec<String> =
            listed.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if ignored.len() > MAX_IGNORED {
            return Err(format!("{IGNORE}: more than {MAX_IGNORED} fields"));
        }
        let reserved = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/labels"];
        for pointer in &ignored {
            let names_object = reserved.iter().any(|one| pointer == one || pointer == "/metadata");
            if !pointer.starts_with('/') || pointer.len() < 2 || names_object {
                return Err(format!("{IGNORE}: {pointer:?} is no field that can be left to others"));
            }
        }
        Ok(Self { mode, ignored })
    }

    /// The object without the fields that are left to others: what drift is judged by.
    #[must_use]
    pub fn without_ignored(&self, object: &Value) -> Value {
        let mut object = object.clone();
        for pointer in &self.ignored {
            remove(&mut object, pointer);
        }
        object
    }

    /// What to apply over an object that is there: the fields that are left to others as they are, under its version, so
    /// that what they write meanwhile is not undone.
    #[must_use]
    pub fn over(&self, wanted: &Value, live: &Value) -> Value {
        let mut object = wanted.clone();
        if self.ignored.is_empty() {
            return object;
        }
        for pointer in &self.ignored {
            match live.pointer(pointer) {
                Some(value) => set(&mut object, pointer, value),
                None => remove(&mut object, pointer),
            }
        }
        object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        object
    }
}

/// Parent of a pointer, and its last token in plain.
fn split(pointer: &str) -> Option<(&str, String)> {
    let (parent, last) = pointer.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, last)) = split(pointer) else { return };
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&last)),
        // An item of a list leaves a gap, so that the others keep their places.
        Some(Value::Array(items)) => {
            if let Some(item) = last.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

/// Sets what is there in the live object; makes maps on the way, and no items of lists.
fn set(object: &mut Value, pointer: &str, value: &Value) {
    let Some((parent, last)) = split(pointer) else { return };
    let mut at = object;
    for token in parent.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Object(map) => map.entry(token).or_insert_with(|| Value::Object(serde_json::Map::new())),
            Value::Array(items) => {
                let Some(item) = token.parse().ok().and_then(|index: usize| items.get_mut(index)) else {
                    return;
                };
                item
            }
            _ => return,
        };
    }
    match at {
        Value::Object(map) => drop(map.insert(last, value.clone())),
        Value::Array(items) => {
            if let Some(item) = last.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                *item = value.clone();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(mode: &str, ignored: &str) -> Value {
        json!({"metadata": {"name": "x", "annotations": {MODE: mode, IGNORE: ignored}}, "spec": {"replicas": 1, "x": 2}})
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (mode, ignored) in
            [("sometimes", ""), ("enforce", "spec.replicas"), ("enforce", "/"), ("enforce", "/metadata/name")]
        {
            assert!(Drift::of(&object(mode, ignored)).is_err(), "{mode} {ignored}");
        }
        assert_eq!(Drift::of(&json!({"metadata": {"name": "x"}})), Ok(Drift::default()));
        let read = Drift::of(&object("detect", "/spec/replicas, /metadata/annotations/a~1b")).unwrap();
        assert_eq!((read.mode, read.ignored.len()), (Mode::Detect, 2));
    }

    #[test]
    fn ignored_fields_stay_as_they_are_found() {
        let wanted = object("enforce", "/spec/replicas,/spec/deep/er,/data/a~1b");
        let drift = Drift::of(&wanted).unwrap();
        let live = json!({"metadata": {"name": "x", "resourceVersion": "7"}, "spec": {"replicas": 5, "x": 3, "deep": {"er": 1}}});
        let applied = drift.over(&wanted, &live);
        assert_eq!(applied["spec"], json!({"replicas": 5, "x": 2, "deep": {"er": 1}}));
        assert_eq!(applied["metadata"]["resourceVersion"], "7");
        let gone = drift.over(&wanted, &json!({"metadata": {"resourceVersion": "8"}}));
        assert_eq!(gone["spec"], json!({"x": 2}), "who removed it wanted it gone");
        assert_eq!(drift.without_ignored(&live)["spec"], json!({"x": 3, "deep": {}}));
        let plain = Drift::default();
        assert_eq!(plain.over(&wanted, &live), wanted);
    }
}
