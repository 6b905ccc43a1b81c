//! Objects walked along their schema.
//!
//! Where a schema knows nothing of the inside (preserved unknown fields, arbitrary JSON), objects are merged field by field and
//! lists are one value each, as upstream deduces it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::{FieldSet, field, keyed, valued};
use crate::schema::{Additional, Dialect, ListType, SchemaRef, ValueType};

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
    let mut keys = Vec::with_capacity(list.list_map_keys.len());
    for key in &list.list_map_keys {
        let default = || list.items.as_ref()?.schema().properties.get(key)?.default_value();
        keys.push((key.as_ref(), item.get(key.as_ref()).or_else(default)?));
    }
    Some(keyed(keys))
}

/// Every field an object has.
#[must_use]
pub fn fields(schema: &SchemaRef, object: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(Some(schema), object, Members::Stated, &mut set);
    set
}

/// The empty object of a native type, with what Go's type has no way to leave out: what a new object is compared with, so that
/// such fields are nobody's until they are something. Empty for custom kinds.
#[must_use]
pub fn empty(schema: &SchemaRef) -> Value {
    let mut object = Map::new();
    if schema.dialect != Dialect::Native {
        return Value::Object(object);
    }
    for (key, child) in &schema.properties {
        let value = match child.default_value() {
            Some(Value::Object(fields)) if fields.is_empty() => empty(child),
            Some(zero) if is_zero(zero) => zero.clone(),
            None if schema.required.contains(key) => Value::Null,
            _ => continue,
        };
        object.insert(key.to_string(), value);
    }
    Value::Object(object)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Which fields are members of a set of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    /// Of what somebody states: leaves, and what can be removed alone.
    Stated,
    /// Of what came or went: whatever was not there before, maps, lists and structures too.
    Changed,
}

/// Adds what is below a node; atomic nodes have nothing below.
fn collect(schema: Option<&SchemaRef>, value: &Value, members: Members, set: &mut FieldSet) {
    match shape(schema, value) {
        Shape::Atomic => {}
        Shape::Fields(map) => {
            map.iter().for_each(|(key, child)| collect_field(schema, key, child, members, set));
        }
        Shape::Items(items) => {
            let Some(list) = schema else { return };
            for item in items {
                if let Some(element) = element_of(list, item) {
                    collect_item(list, element, item, members, set);
                }
            }
        }
    }
}

/// Adds a field and what is below it.
fn collect_field(schema: Option<&SchemaRef>, key: &str, child: &Value, members: Members, set: &mut FieldSet) {
    let (below, named) = descend(schema, key);
    if members == Members::Changed && !is_there(schema, key, child) {
        return;
    }
    if members == Members::Changed || is_member(schema, below, named, child) {
        set.insert_element(field(key));
    }
    let mut inner = FieldSet::default();
    collect(below, child, members, &mut inner);
    if !inner.is_empty() {
        set.insert_below(field(key), inner);
    }
}

/// Whether a field is there. Null of a native type stands for what Go left out, unless Go has no way to leave it out.
fn is_there(schema: Option<&SchemaRef>, key: &str, value: &Value) -> bool {
    let native = |schema: &SchemaRef| schema.dialect == Dialect::Native;
    !value.is_null()
        || !schema.is_some_and(|schema| native(schema) && !schema.required.iter().any(|own| &**own == key))
}

/// Whether a field is owned itself. A map's entries are, so that they can be removed; a type's field is there as soon as
/// anything in it is.
fn is_member(schema: Option<&SchemaRef>, below: Option<&SchemaRef>, named: bool, child: &Value) -> bool {
    let leaf = matches!(shape(below, child), Shape::Atomic);
    let hollow = child.as_object().is_some_and(Map::is_empty);
    leaf || hollow || (!named && schema.is_some_and(|schema| !schema.is_opaque()))
}

/// Adds a list's item and what is below it.
fn collect_item(list: &SchemaRef, element: String, item: &Value, members: Members, set: &mut FieldSet) {
    let mut inner = FieldSet::default();
    if list.list_type == ListType::Map {
        collect(list.items.as_ref(), item, members, &mut inner);
    }
    if !inner.is_empty() {
        set.insert_below(element.clone(), inner);
    }
    set.insert_element(element);
}

/// How `new` differs from `old` (`None`: from the [`empty`] object). What is the same in both is passed over as a whole.
#[must_use]
pub fn compare(schema: &SchemaRef, old: Option<&Value>, new: &Value) -> Difference {
    match old {
        Some(old) => compare_at(Some(schema), old, new),
        None => compare_at(Some(schema), &empty(schema), new),
    }
}

impl Difference {
    fn put_below(&mut self, element: impl Fn() -> String, below: Self) {
        for (set, below) in [
            (&mut self.added, below.added),
            (&mut self.modified, below.modified),
            (&mut self.removed, below.removed),
        ] {
            if !below.is_empty() {
                set.insert_below(element(), below);
            }
        }
    }
}

fn compare_at(schema: Option<&SchemaRef>, old: &Value, new: &Value) -> Difference {
    match (shape(schema, old), shape(schema, new)) {
        (Shape::Fields(old), Shape::Fields(new)) => compare_fields(schema, old, new),
        (Shape::Items(old), Shape::Items(new)) => {
            schema.map(|list| compare_items(list, old, new)).unwrap_or_default()
        }
        _ => compare_whole(schema, old, new),
    }
}

/// The same by whole sets: of two nodes that have nothing in common, or whose items cannot be told apart.
pub(super) fn compare_whole(schema: Option<&SchemaRef>, old: &Value, new: &Value) -> Difference {
    let (mut before, mut after) = (FieldSet::default(), FieldSet::default());
    collect(schema, old, Members::Changed, &mut before);
    collect(schema, new, Members::Changed, &mut after);
    let mut modified = FieldSet::default();
    collect_modified(schema, old, new, &mut modified);
    let removed = before.difference(&after);
    after.subtract(&before);
    Difference { added: after, removed, modified }
}

fn compare_fields(
    schema: Option<&SchemaRef>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Difference {
    let mut found = Difference::default();
    let there =
        |of: &'_ Map<String, Value>, key: &str| of.get(key).is_some_and(|value| is_there(schema, key, value));
    for (key, before) in old.iter().filter(|(key, _)| !there(new, key)) {
        collect_field(schema, key, before, Members::Changed, &mut found.removed);
    }
    for (key, after) in new {
        let Some(before) = old.get(key).filter(|before| is_there(schema, key, before)) else {
            collect_field(schema, key, after, Members::Changed, &mut found.added);
            continue;
        };
        if before == after || !is_there(schema, key, after) {
            continue;
        }
        let (below, _) = descend(schema, key);
        if is_changed_leaf(below, before, after) {
            found.modified.insert_element(field(key));
        }
        found.put_below(|| field(key), compare_at(below, before, after));
    }
    found
}

/// A list's items by their elements; `None` when some have none, or the same.
fn named<'v>(list: &SchemaRef, items: &'v [Value]) -> Option<BTreeMap<String, &'v Value>> {
    let mut named = BTreeMap::new();
    for item in items {
        if named.insert(element_of(list, item)?, item).is_some() {
            return None;
        }
    }
    Some(named)
}

fn compare_items(list: &SchemaRef, old: &[Value], new: &[Value]) -> Difference {
    let (Some(before), Some(after)) = (named(list, old), named(list, new)) else {
        return compare_whole(Some(list), &Value::Array(old.to_vec()), &Value::Array(new.to_vec()));
    };
    let mut found = Difference::default();
    for (element, item) in &after {
        match before.get(element) {
            None => collect_item(list, element.clone(), item, Members::Changed, &mut found.added),
            Some(same) if *same == *item || list.list_type != ListType::Map => {}
            Some(other) => found.put_below(|| element.clone(), compare_at(list.items.as_ref(), other, item)),
        }
    }
    for (element, item) in before.iter().filter(|(element, _)| !after.contains_key(*element)) {
        collect_item(list, element.clone(), item, Members::Changed, &mut found.removed);
    }
    found
}

fn collect_modified(schema: Option<&SchemaRef>, old: &Value, new: &Value, set: &mut FieldSet) {
    match (shape(schema, old), shape(schema, new)) {
        (Shape::Fields(old), Shape::Fields(new)) => {
            for (key, after) in new {
                let Some(before) = old.get(key) else { continue };
                if !is_there(schema, key, before) || !is_there(schema, key, after) {
                    continue;
                }
                let (below, _) = descend(schema, key);
                if is_changed_leaf(below, before, after) {
                    set.insert_element(field(key));
                }
                let mut inner = FieldSet::default();
                collect_modified(below, before, after, &mut inner);
                if !inner.is_empty() {
                    set.insert_below(field(key), inner);
                }
            }
        }
        (Shape::Items(old), Shape::Items(new)) => {
            let Some(list) = schema.filter(|list| list.list_type == ListType::Map) else { return };
            let before: Vec<_> = old.iter().map(|item| (element_of(list, item), item)).collect();
            for after in new {
                let element = element_of(list, after);
                let same = before.iter().find(|(own, _)| own.is_some() && *own == element);
                let (Some((_, before)), Some(element)) = (same, element) else { continue };
                let mut inner = FieldSet::default();
                collect_modified(list.items.as_ref(), before, after, &mut inner);
                set.insert_below(element, inner);
            }
        }
        _ => {}
    }
}

fn is_changed_leaf(schema: Option<&SchemaRef>, old: &Value, new: &Value) -> bool {
    // Null is to maps and lists what the empty one is.
    let inner = |value: &Value| value.is_null() || !matches!(shape(schema, value), Shape::Atomic);
    old != new && !(inner(old) && inner(new))
}

/// `live` with everything that `config` states. A null in `config` removes the field.
#[must_use]
pub fn merge(schema: &SchemaRef, live: &Value, config: &Value) -> Value {
    let mut merged = live.clone();
    merge_into(Some(schema), &mut merged, config);
    merged
}

fn merge_into(schema: Option<&SchemaRef>, live: &mut Value, config: &Value) {
    match (shape(schema, live), shape(schema, config)) {
        (Shape::Fields(_), Shape::Fields(config)) => {
            let Some(merged) = live.as_object_mut() else { return };
            for (key, stated) in config {
                if stated.is_null() {
                    merged.remove(key);
                } else {
                    let place = merged.entry(key.as_str()).or_insert(Value::Null);
                    merge_into(descend(schema, key).0, place, stated);
                }
            }
        }
        (Shape::Items(items), Shape::Items(config)) => {
            *live = match schema {
                Some(list) => Value::Array(merge_items(list, items, config)),
                None => Value::Array(config.clone()),
            };
        }
        _ => *live = config.clone(),
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
        let mut both = live[at].1.clone();
        merge_into(list.items.as_ref(), &mut both, item);
        merged.push(both);
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
