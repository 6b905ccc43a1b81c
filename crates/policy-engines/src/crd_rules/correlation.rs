//! Which old data belongs to which new data, and whether it changed (upstream `common.CorrelatedObject`).

use api_machinery::schema::{ListType, Schema, SchemaRef};
use serde_json::Value as Json;

/// New data and what it was.
#[derive(Clone, Copy)]
struct Pair<'a> {
    new: &'a Json,
    old: &'a Json,
    schema: &'a Schema,
}

/// Where a walk over new data stands in old data.
#[derive(Clone, Copy)]
pub(super) struct Correlation<'a> {
    here: Option<Pair<'a>>,
    /// The nearest place above that is known in the old data.
    above: Option<Pair<'a>>,
}

impl<'a> Correlation<'a> {
    /// At the root.
    pub(super) fn new(new: &'a Json, old: Option<&'a Json>, schema: &'a SchemaRef) -> Self {
        let here = old.map(|old| Pair { new, old, schema: schema.schema() });
        Self { here, above: None }
    }

    /// Problems here are not new: this, or all around it, is what it was.
    pub(super) fn unchanged(&self) -> bool {
        self.here.or(self.above).is_some_and(|pair| same(pair.new, pair.old, pair.schema))
    }

    /// In rules below `allOf`, which are not ratcheted by themselves.
    pub(super) fn without_here(&self) -> Self {
        Self { here: None, above: self.above }
    }

    pub(super) fn key(&self, name: &str) -> Self {
        let Some(pair) = self.here else { return *self };
        if self.above.is_none() && (name == "apiVersion" || name == "kind") {
            return Self { here: None, above: None };
        }
        Self { here: key(pair, name), above: self.here }
    }

    pub(super) fn index(&self, index: usize) -> Self {
        let Some(pair) = self.here else { return *self };
        Self { here: item(pair, index), above: self.here }
    }
}

fn key<'a>(pair: Pair<'a>, name: &str) -> Option<Pair<'a>> {
    let (new, old) = (pair.new.as_object()?.get(name)?, pair.old.as_object()?.get(name)?);
    Some(Pair { new, old, schema: pair.schema.child(name)?.schema() })
}

fn item(pair: Pair<'_>, index: usize) -> Option<Pair<'_>> {
    let new = pair.new.as_array()?.get(index)?;
    let old = old_item(pair.schema, pair.old.as_array()?, new)?;
    Some(Pair { new, old, schema: pair.schema.items.as_ref()?.schema() })
}

/// The old item with the keys of a new one, in a list that is merged by keys.
pub(super) fn old_item<'a>(schema: &Schema, old: &'a [Json], new: &Json) -> Option<&'a Json> {
    if schema.list_type != ListType::Map || schema.list_map_keys.is_empty() {
        return None;
    }
    let new = new.as_object()?;
    let matches = |item: &&Json| {
        let keys = &schema.list_map_keys;
        item.as_object().is_some_and(|item| keys.iter().all(|key| item.get(&**key) == new.get(&**key)))
    };
    old.iter().find(matches)
}

fn same(new: &Json, old: &Json, schema: &Schema) -> bool {
    let pair = Pair { new, old, schema };
    match (new, old) {
        (Json::Array(a), Json::Array(b)) => {
            if a.len() != b.len() {
                return false;
            }
            if schema.list_type != ListType::Map {
                return a == b;
            }
            let same_item =
                |index| item(pair, index).is_some_and(|pair| same(pair.new, pair.old, pair.schema));
            (0..a.len()).all(same_item)
        }
        (Json::Object(a), Json::Object(b)) => {
            let same_key = |(name, value): (&String, &Json)| match (b.get(name), schema.child(name)) {
                (Some(old), Some(child)) => same(value, old, child.schema()),
                _ => false,
            };
            a.len() == b.len() && a.iter().all(same_key)
        }
        _ => new == old,
    }
}
