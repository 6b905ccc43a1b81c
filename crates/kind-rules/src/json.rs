//! Reading and completing objects as JSON. Nothing here panics on a wrong shape: strategies run before the schema has
//! been checked.

use serde_json::{Map, Value};

/// The elements of a list field; empty when it is not there or no list.
pub fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The elements of a list field, to change.
pub fn list_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut [Value] {
    object.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// A text field; "" when it is not there or no text.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// An integer field; 0 when it is not there.
pub fn integer(object: &Value, key: &str) -> i64 {
    object.get(key).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether a field is `true`.
pub fn truth(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The entries of a map field.
pub fn entries<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Whether a field is there and not null.
pub fn present(object: &Value, key: &str) -> bool {
    object.get(key).is_some_and(|value| !value.is_null())
}

/// Whether two fields say the same, where nothing, `null` and an empty text, list or map are one (upstream's semantic
/// equality of what Go decodes to its zero value). Looks one level deep: nested values compare exactly.
#[must_use]
pub fn alike(one: Option<&Value>, other: Option<&Value>) -> bool {
    let given = |value: Option<&Value>| {
        value.is_some_and(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        })
    };
    match (given(one), given(other)) {
        (true, true) => one == other,
        (left, right) => left == right,
    }
}

/// Sets a field unless it is there; does nothing to what is no object.
pub fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// The same for texts, where "" counts as not there.
pub fn default_text(object: &mut Value, key: &str, value: &str) {
    if let Some(map) = object.as_object_mut()
        && map.get(key).is_none_or(|old| old.is_null() || old == "")
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a field of an object; does nothing to what is no object.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Takes a field out.
pub fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut().and_then(|map| map.remove(key))
}

/// The object in a field, made if it is not there; `None` when something else is.
pub fn child<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let slot = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.is_object().then_some(slot)
}

/// The object in a field if it is there.
pub fn existing<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    object.get_mut(key).filter(|value| value.is_object())
}

/// A field that is there and not null.
#[must_use]
pub fn given<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// An integer field, if it is there.
#[must_use]
pub fn number(object: &Value, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// The texts of a list field.
pub fn texts<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    list(object, key).iter().filter_map(Value::as_str)
}

/// Whether two values are the same to Go after decoding (upstream's `Semantic.DeepEqual`): nothing, `null`, and empty
/// lists and maps are one; texts that are quantities are compared as texts. Bounded by the depth of what was decoded.
#[must_use]
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(key, value)| same(value, right.get(key).unwrap_or(&Value::Null)))
                && right.iter().all(|(key, value)| left.contains_key(key) || is_nothing(value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (left, right) => left == right || (is_nothing(left) && is_nothing(right)),
    }
}

/// What Go cannot tell from a field left out of the document.
#[must_use]
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The same of a whole tree: nothing in it says anything.
#[must_use]
pub fn is_nothing_within(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_nothing_within),
        other => is_nothing(other),
    }
}

/// [`same`] for fields that may be missing.
#[must_use]
pub fn same_field(one: &Value, other: &Value, key: &str) -> bool {
    same(one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null))
}
