//! Maps and objects: views of JSON, or made.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_machinery::schema::Additional;
use serde_json::{Map as JsonMap, Value as Json};

use super::{Text, Typing, Value, equality, from_claims, from_json};
use crate::cel::error::EvalError;
use crate::cel::names;

/// A map or object.
#[derive(Clone, Debug)]
pub(crate) enum Map<'a> {
    View(&'a JsonMap<String, Json>, Typing<'a>),
    /// As [`super::from_claims`] says.
    Claims(&'a JsonMap<String, Json>),
    Made(Arc<BTreeMap<Key, (Value<'a>, Value<'a>)>>),
}

/// What a map is looked up by. Numbers that are equal are one key, whatever their types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    Text(Arc<str>),
}

impl Key {
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Int(value) => Some(Self::Number(i128::from(*value))),
            Value::Uint(value) => Some(Self::Number(i128::from(*value))),
            #[expect(clippy::cast_possible_truncation, reason = "checked: a whole number within bounds")]
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1.9e19 => {
                Some(Self::Number(*value as i128))
            }
            Value::String(Text::Shared(text)) => Some(Self::Text(Arc::clone(text))),
            Value::String(Text::Borrowed(text)) => Some(Self::Text((*text).into())),
            _ => None,
        }
    }
}

/// Whether rules see named fields here, not keys of a map.
fn is_object(typing: Typing<'_>) -> bool {
    typing.is_some_and(|schema| !schema.properties.is_empty())
}

impl<'a> Map<'a> {
    pub(crate) fn made(entries: BTreeMap<Key, (Value<'a>, Value<'a>)>) -> Self {
        Self::Made(Arc::new(entries))
    }

    /// With text keys.
    pub(crate) fn of_texts(entries: Vec<(String, Value<'a>)>) -> Self {
        let keyed = |(name, value): (String, Value<'a>)| {
            let name: Arc<str> = name.into();
            (Key::Text(Arc::clone(&name)), (Value::String(Text::Shared(name)), value))
        };
        Self::made(entries.into_iter().map(keyed).collect())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::View(map, _) | Self::Claims(map) => map.len(),
            Self::Made(map) => map.len(),
        }
    }

    /// The value at a key; an error for keys that this map cannot have.
    pub(crate) fn find(&self, key: &Value<'_>) -> std::result::Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Made(map) => Ok(Key::of(key).and_then(|key| map.get(&key)).map(|(_, value)| value.clone())),
            Self::View(_, typing) => match key.as_str() {
                Some(name) => self.find_name(name),
                None if typing.is_some() => Err(EvalError::no_such_overload()),
                None => Ok(None),
            },
            Self::Claims(_) => key.as_str().map_or(Ok(None), |name| self.find_name(name)),
        }
    }

    /// The value of a field or text key.
    pub(crate) fn find_name(&self, name: &str) -> std::result::Result<Option<Value<'a>>, EvalError> {
        let (map, typing) = match self {
            Self::Made(map) => {
                return Ok(map.get(&Key::Text(name.into())).map(|(_, value)| value.clone()));
            }
            Self::Claims(map) => {
                let plain = names::unescape(name).and_then(|plain| map.get(&plain));
                return Ok(plain.or_else(|| map.get(name)).map(from_claims));
            }
            Self::View(map, typing) => (map, *typing),
        };
        let Some(schema) = typing else {
            return map.get(name).map(|value| from_json(value, None)).transpose();
        };
        if is_object(typing) {
            let Some(property) = names::unescape(name) else { return Ok(None) };
            let found = map.get(&property).filter(|value| !value.is_null());
            let (Some(value), Some(child)) = (found, schema.properties.get(property.as_str())) else {
                return Ok(None);
            };
            return from_json(value, Some(child)).map(Some);
        }
        match (&schema.additional, map.get(name)) {
            (Additional::Schema(values), Some(value)) => from_json(value, Some(values)).map(Some),
            _ => Ok(None),
        }
    }

    /// The value of a property by its own name.
    pub(super) fn find_raw(&self, property: &str) -> Option<Value<'a>> {
        match self {
            Self::View(map, _) => map.get(property).and_then(|value| from_json(value, None).ok()),
            Self::Claims(map) => map.get(property).map(from_claims),
            Self::Made(map) => map.get(&Key::Text(property.into())).map(|(_, value)| value.clone()),
        }
    }

    /// The keys that an expression sees.
    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Made(map) => map.values().map(|(key, _)| key.clone()).collect(),
            Self::View(map, None) | Self::Claims(map) => {
                map.keys().map(|key| Value::String(Text::Borrowed(key))).collect()
            }
            Self::View(map, typing @ Some(schema)) => {
                if !is_object(*typing) {
                    let known = matches!(schema.additional, Additional::Schema(_));
                    let keys = map.keys().filter(|_| known);
                    return keys.map(|key| Value::String(Text::Borrowed(key))).collect();
                }
                let known = map.keys().filter(|key| schema.properties.contains_key(key.as_str()));
                let escaped = |key: &'a String| match names::escape(key) {
                    Some(escaped) if escaped != *key => Value::text(escaped),
                    _ => Value::String(Text::Borrowed(key)),
                };
                known.map(escaped).collect()
            }
        }
    }

    /// Keys with their values.
    pub(crate) fn entries(&self) -> std::result::Result<Vec<(Value<'a>, Value<'a>)>, EvalError> {
        if let Self::Made(map) = self {
            return Ok(map.values().cloned().collect());
        }
        let pair = |key: Value<'a>| {
            let value = self.find(&key)?.unwrap_or(Value::Null);
            Ok((key, value))
        };
        self.keys().into_iter().map(pair).collect()
    }

    /// Adds an entry; without a copy when nobody else holds the map.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> std::result::Result<(), EvalError> {
        if !matches!(self, Self::Made(_)) {
            let entries = self.entries()?;
            let keyed = entries.into_iter().filter_map(|entry| Some((Key::of(&entry.0)?, entry)));
            *self = Self::made(keyed.collect());
        }
        let lookup = Key::of(&key)
            .ok_or_else(|| EvalError::new(format!("unsupported key type: {}", key.type_name())))?;
        if let Self::Made(map) = self {
            if map.contains_key(&lookup) {
                return Err(EvalError::new(format!("insert failed: key {} already exists", shown(&key))));
            }
            Arc::make_mut(map).insert(lookup, (key, value));
        }
        Ok(())
    }

    pub(super) fn equals(&self, other: &Self) -> std::result::Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let (Self::View(a, Some(schema)), Self::View(b, _)) = (self, other)
            && !matches!(schema.additional, Additional::Schema(_))
        {
            return self.object_equals(a, other, b);
        }
        for (key, value) in self.entries()? {
            match other.find(&key)? {
                Some(found) if equality::equal(&value, &found)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Known fields by their types, unknown ones as plain data (upstream `unstructuredMap.Equal`).
    fn object_equals(
        &self,
        mine: &JsonMap<String, Json>,
        other: &Self,
        theirs: &JsonMap<String, Json>,
    ) -> std::result::Result<bool, EvalError> {
        let Self::View(_, Some(schema)) = self else { return Ok(false) };
        for (name, value) in mine {
            let known = schema.properties.contains_key(name.as_str());
            if !known {
                if theirs.get(name).is_some_and(|found| found != value) {
                    return Ok(false);
                }
                continue;
            }
            let escaped = names::escape(name).unwrap_or_else(|| name.clone());
            let same = match (self.find_name(&escaped)?, other.find_name(&escaped)?) {
                (None, None) => true,
                (Some(a), Some(b)) => equality::equal(&a, &b)?,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A key as messages show it.
pub(crate) fn shown(key: &Value<'_>) -> String {
    match key {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(text) => text.as_str().to_owned(),
        other => other.type_name().to_string(),
    }
}
