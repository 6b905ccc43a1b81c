//! Objects walked along their schema.
//!
//! Where a schema knows nothing of the inside (preserved unknown fields, arbitrary JSON), objects are merged field by field and
//! lists are one value each, as upstream deduces it.

use serde_json::{Map, Value};

use super::field_set::{FieldSet, field, keyed, valued};
use crate::schema::{Additional, ListType, SchemaRef, ValueType};

/// How two objects differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields only the new one has.
    pub added: FieldSet,
    /// Fields both have with different values.
    pub modified: FieldSet,
    /// Fields only the old one has.
    pub removed: FieldSet,
}

/// What a node is to merging.
pub(super) enum Shape<'a> {
    /// One value.
    Atomic,
    /// Field by field.
    Fields(&'a Map<String, Value>),
    /// Item by item.
    Items(&'a Vec<Value>),
}

pub(super) fn shape<'a>(schema: Option<&SchemaRef>, value: &'a Value) -> Shape<'a> {
    let atomic_map = schema.is_some_and(SchemaRef::is_atomic_map);
    match value {
        Value::Object(map) if !atomic_map => Shape::Fields(map),
        Value::Array(items)
            if schema.is_some_and(|list| {
                list.value_type == ValueType::Array && list.list_type != ListType::Atomic
            }) =>
        {
            Shape::Items(items)
        }
        _ => Shape::Atomic,
    }
}

/// The schema below a key, and whether the key is a named field of a type (not an entry of a map).
pub(super) fn descend<'s>(schema: Option<&'s SchemaRef>, key: &str) -> (Option<&'s SchemaRef>, bool) {
    let Some(schema) = schema else { return (None, false) };
    let schema = schema.schema();
    match schema.properties.get(key) {
        Some(named) => (Some(named), true),
        None => match &schema.additional {
            Additional::Schema(values) => (Some(values), false),
            Additional::None | Additional::Any => (None, false),
        },
    }
}

/// The element that names a list's item; `None` when a key is missing and has no default.
pub(super) fn element_of(list: &SchemaRef, item: &Value) -> Option<String> {
    if list.list_type == ListType::Set {
        return Some(valued(item));
    }
    let mut keys = Map::new();
    for key in &list.list_map_keys {
        let default = || list.items.as_ref()?.schema().properties.get(key)?.default_value();
        keys.insert(key.to_string(), item.get(key.as_ref()).or_else(default)?.clone());
    }
    Some(keyed(&keys))
}

/// Every field an object has.
#[must_use]
pub fn fields(schema: &SchemaRef, object: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(Some(schema), object, &mut set);
    set
}

/// Adds what is below a node; atomic nodes have nothing below.
fn collect(schema: Option<&SchemaRef>, value: &Value, set: &mut FieldSet) {
    match shape(schema, value) {
        Shape::Atomic => {}
        Shape::Fields(map) => {
            for (key, child) in map {
                let (below, named) = descend(schema, key);
                // A map's entries are owned themselves, so that they can be removed; a type's field is there as
                // soon as anything in it is.
                let leaf = matches!(shape(below, child), Shape::Atomic);
                let hollow = child.as_object().is_some_and(Map::is_empty);
                if leaf || hollow || (!named && schema.is_some_and(|schema| !schema.is_opaque())) {
                    set.insert_element(field(key));
                }
                let mut inner = FieldSet::default();
                collect(below, child, &mut inner);
                set.insert_below(field(key), inner);
            }
        }
        Shape::Items(items) => {
            let Some(list) = schema else { return };
            for item in items {
                let Some(element) = element_of(list, item) else { continue };
                let mut inner = FieldSet::default();
                if list.list_type == ListType::Map {
                    collect(list.items.as_ref(), item, &mut inner);
                }
                set.insert_element(element.clone());
                set.insert_below(element, inner);
            }
        }
    }
}

/// How `new` differs from `old` (`None`: from nothing).
#[must_use]
pub fn compare(schema: &SchemaRef, old: Option<&Value>, new: &Value) -> Difference {
    let after = fields(schema, new);
    let Some(old) = old else {
        return Difference { added: after, ..Difference::default() };
    };
    let before = fields(schema, old);
    let mut modified = FieldSet::default();
    collect_modified(Some(schema), old, new, &mut modified);
    Difference { added: after.difference(&before), removed: before.difference(&after), modified }
}

fn collect_modified(schema: Option<&SchemaRef>, old: &Value, new: &Value, set: &mut FieldSet) {
    match (shape(schema, old), shape(schema, new)) {
        (Shape::Fields(old), Shape::Fields(new)) => {
            for (key, after) in new {
                let Some(before) = old.get(key) else { continue };
                let (below, _) = descend(schema, key);
                if is_changed_leaf(below, before, after) {
                    set.insert_element(field(key));
                }
                let mut inner = FieldSet::default();
                collect_modified(below, before, after, &mut inner);
                set.insert_below(field(key), inner);
            }
        }
        (Shape::Items(old), Shape::Items(new)) => {
            let Some(list) = schema.filter(|list| list.list_type == ListType::Map) else { return };
            for after in new {
                let Some(element) = element_of(list, after) else { continue };
                let same = old.iter().find(|item| element_of(list, item).as_ref() == Some(&element));
                let Some(before) = same else { continue };
                let mut inner = FieldSet::default();
                collect_modified(list.items.as_ref(), before, after, &mut inner);
                set.insert_below(element, inner);
            }
        }
        _ => {}
    }
}

fn is_changed_leaf(schema: Option<&SchemaRef>, old: &Value, new: &Value) -> bool {
    let inner = |value| !matches!(shape(schema, value), Shape::Atomic);
    old != new && !(inner(old) && inner(new))
}

/// `live` with everything that `config` states. A null in `config` removes the field.
#[must_use]
pub fn merge(schema: &SchemaRef, live: &Value, config: &Value) -> Value {
    merge_at(Some(schema), live, config)
}

fn merge_at(schema: Option<&SchemaRef>, live: &Value, config: &Value) -> Value {
    match (shape(schema, live), shape(schema, config)) {
        (Shape::Fields(live), Shape::Fields(config)) => {
            let mut merged = live.clone();
            for (key, stated) in config {
                let (below, _) = descend(schema, key);
                if stated.is_null() {
                    merged.remove(key);
                } else {
                    let before = live.get(key).unwrap_or(&Value::Null);
                    merged.insert(key.clone(), merge_at(below, before, stated));
                }
            }
            Value::Object(merged)
        }
        (Shape::Items(live), Shape::Items(config)) => match schema {
            Some(list) => Value::Array(merge_items(list, live, config)),
            None => Value::Array(config.clone()),
        },
        _ => config.clone(),
    }
}

/// Items in the order of `config`; items that only `live` has stay before the one they stood before.
fn merge_items(list: &SchemaRef, live: &[Value], config: &[Value]) -> Vec<Value> {
    let live: Vec<(Option<String>, &Value)> =
        live.iter().map(|item| (element_of(list, item), item)).collect();
    let stated: Vec<(Option<String>, &Value)> =
        config.iter().map(|item| (element_of(list, item), item)).collect();
    let is_stated = |element: &Option<String>| stated.iter().any(|(own, _)| own == element);
    let mut merged = Vec::with_capacity(live.len() + stated.len());
    let mut next = 0;
    for (element, item) in &stated {
        let Some(at) = live.iter().position(|(own, _)| own == element) else {
            merged.push((*item).clone());
            continue;
        };
        for (own, only_live) in live.iter().take(at).skip(next) {
            if !is_stated(own) {
                merged.push((*only_live).clone());
            }
        }
        next = next.max(at + 1);
        merged.push(merge_at(list.items.as_ref(), live[at].1, item));
    }
    let rest = live.iter().skip(next).filter(|(own, _)| !is_stated(own));
    merged.extend(rest.map(|(_, item)| (*item).clone()));
    merged
}

/// Removes the members of `set`, and objects and lists that become empty by it.
pub fn remove(schema: &SchemaRef, object: &mut Value, set: &FieldSet) {
    if !set.is_empty() {
        remove_at(Some(schema), object, set);
    }
}

fn remove_at(schema: Option<&SchemaRef>, value: &mut Value, set: &FieldSet) {
    let items_by_name = matches!(shape(schema, value), Shape::Items(_));
    match value {
        Value::Object(map) => map.retain(|key, child| {
            let element = field(key);
            keep(descend(schema, key).0, child, set, &element)
        }),
        Value::Array(items) if items_by_name => {
            let Some(list) = schema else { return };
            items.retain_mut(|item| match element_of(list, item) {
                Some(element) => keep(list.items.as_ref(), item, set, &element),
                None => true,
            });
        }
        _ => {}
    }
}

/// Whether a node stays; what goes below it is removed.
fn keep(schema: Option<&SchemaRef>, value: &mut Value, set: &FieldSet, element: &str) -> bool {
    if set.has(element) {
        return false;
    }
    let Some(below) = set.below(element) else { return true };
    remove_at(schema, value, below);
    !(value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty))
}
