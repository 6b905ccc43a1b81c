//! Lists: views of JSON, or made.

use std::sync::Arc;

use api_machinery::schema::ListType;
use serde_json::Value as Json;

use super::{Key, Result, Typing, Value, equality, from_claims, from_json};
use crate::cel::error::EvalError;

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct List<'a> {
    items: Items<'a>,
    /// The schema of the list itself.
    schema: Typing<'a>,
}

#[derive(Clone, Debug)]
enum Items<'a> {
    Json(&'a [Json]),
    /// As [`super::from_claims`] says.
    Claims(&'a [Json]),
    Made(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    pub(crate) fn made(items: Vec<Value<'a>>) -> Self {
        Self { items: Items::Made(Arc::new(items)), schema: None }
    }

    pub(crate) fn view(items: &'a [Json], schema: Typing<'a>) -> Self {
        Self { items: Items::Json(items), schema }
    }

    pub(super) fn claims(items: &'a [Json]) -> Self {
        Self { items: Items::Claims(items), schema: None }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.items {
            Items::Json(items) | Items::Claims(items) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    /// The item at `index`, which must be below the length.
    pub(crate) fn item(&self, index: usize) -> Result<'a> {
        let missing = || EvalError::new(format!("index out of bounds: {index}"));
        match &self.items {
            Items::Json(items) => {
                let typing = self.schema.and_then(|schema| schema.items.as_ref());
                from_json(items.get(index).ok_or_else(missing)?, typing)
            }
            Items::Claims(items) => items.get(index).map(from_claims).ok_or_else(missing),
            Items::Made(items) => items.get(index).cloned().ok_or_else(missing),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<'a>> + '_ {
        (0..self.len()).map(|index| self.item(index))
    }

    pub(crate) fn values(&self) -> std::result::Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }

    /// Adds at the end; without a copy when nobody else holds the list.
    pub(crate) fn push(&mut self, value: Value<'a>) -> std::result::Result<(), EvalError> {
        if let Items::Made(items) = &mut self.items {
            Arc::make_mut(items).push(value);
            return Ok(());
        }
        let mut items = self.values()?;
        items.push(value);
        self.items = Items::Made(Arc::new(items));
        Ok(())
    }

    pub(crate) fn contains(&self, value: &Value<'a>) -> std::result::Result<bool, EvalError> {
        for item in self.iter() {
            if equality::equal(&item?, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn list_type(&self) -> ListType {
        self.schema.map_or(ListType::Atomic, |schema| schema.list_type)
    }

    /// The key of an item of a list that is merged by keys.
    fn key_of(&self, item: &Value<'a>) -> Vec<Option<Key>> {
        let names = self.schema.map_or(&[][..], |schema| &schema.list_map_keys);
        let part = |name: &str| match item {
            Value::Map(map) => map.find_raw(name).and_then(|value| Key::of(&value)),
            _ => None,
        };
        names.iter().map(|name| part(name)).collect()
    }

    /// `self + other`: appended; merged by key or as sets where the schema says so.
    pub(crate) fn plus(&self, other: &Self) -> std::result::Result<Self, EvalError> {
        let mut items = self.values()?;
        match self.list_type() {
            ListType::Atomic => items.extend(other.values()?),
            ListType::Set => {
                for item in other.iter() {
                    let item = item?;
                    if !self.contains(&item)? {
                        items.push(item);
                    }
                }
            }
            ListType::Map => {
                let keys: Vec<_> = items.iter().map(|item| self.key_of(item)).collect();
                for item in other.iter() {
                    let item = item?;
                    let key = self.key_of(&item);
                    match keys.iter().position(|known| *known == key) {
                        Some(at) => items[at] = item,
                        None => items.push(item),
                    }
                }
            }
        }
        Ok(Self { items: Items::Made(Arc::new(items)), schema: self.schema })
    }

    pub(super) fn equals(&self, other: &Self) -> std::result::Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self.list_type() {
            ListType::Atomic => {
                for (a, b) in self.iter().zip(other.iter()) {
                    if !equality::equal(&a?, &b?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            ListType::Set => {
                for item in other.iter() {
                    if !self.contains(&item?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            ListType::Map => {
                let mine = self.values()?;
                let keys: Vec<_> = mine.iter().map(|item| self.key_of(item)).collect();
                for item in other.iter() {
                    let item = item?;
                    let key = self.key_of(&item);
                    let Some(at) = keys.iter().position(|known| *known == key) else { return Ok(false) };
                    if !equality::equal(&mine[at], &item)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}
