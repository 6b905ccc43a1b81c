//! Decodes JSON and notices keys that stand twice in an object, which `serde_json` alone would silently drop.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A document and what was said twice in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The document; of a key that stands twice the last value.
    pub value: Value,
    /// The paths of keys that stand more than once, `spec.containers[0].name`; at most [`MAX_DUPLICATES`].
    pub duplicates: Vec<String>,
}

/// More duplicates than this are not listed: upstream's bound on strictness errors.
pub const MAX_DUPLICATES: usize = 100;

/// Decodes one JSON document. Documents nested deeper than 127 levels are refused.
///
/// # Errors
/// When the bytes are not one JSON document.
pub fn decode(bytes: &[u8]) -> Result<Decoded, serde_json::Error> {
    let state = State::default();
    let value = read(bytes, &state)?;
    if !state.twice.get() {
        return Ok(Decoded { value, duplicates: Vec::new() });
    }
    // Rare: only now it is worth knowing where.
    let state = State { named: true, ..State::default() };
    let value = read(bytes, &state)?;
    Ok(Decoded { value, duplicates: state.duplicates.into_inner() })
}

fn read(bytes: &[u8], state: &State) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node { state }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Default)]
struct State {
    /// Whether the way to each node is kept, so that duplicates can be named.
    named: bool,
    /// Some key stands twice.
    twice: Cell<bool>,
    path: RefCell<Vec<Segment>>,
    duplicates: RefCell<Vec<String>>,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl State {
    fn push(&self, segment: Segment) {
        self.path.borrow_mut().push(segment);
    }

    fn pop(&self) {
        self.path.borrow_mut().pop();
    }

    /// The innermost segment is the key that stands twice.
    fn note_duplicate(&self) {
        let mut duplicates = self.duplicates.borrow_mut();
        if duplicates.len() >= MAX_DUPLICATES {
            return;
        }
        let mut shown = String::new();
        for segment in self.path.borrow().iter() {
            match segment {
                Segment::Index(index) => shown.push_str(&format!("[{index}]")),
                Segment::Key(key) => {
                    if !shown.is_empty() {
                        shown.push('.');
                    }
                    shown.push_str(key);
                }
            }
        }
        if !duplicates.contains(&shown) {
            duplicates.push(shown);
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'s> {
    state: &'s State,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        if !self.state.named {
            while let Some(item) = items.next_element_seed(self)? {
                list.push(item);
            }
            return Ok(Value::Array(list));
        }
        loop {
            self.state.push(Segment::Index(list.len()));
            let item = items.next_element_seed(self)?;
            self.state.pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !self.state.named {
                let twice = map.insert(key, entries.next_value_seed(self)?).is_some();
                self.state.twice.set(self.state.twice.get() || twice);
                continue;
            }
            self.state.push(Segment::Key(key.clone()));
            if map.contains_key(&key) {
                self.state.note_duplicate();
            }
            let value = entries.next_value_seed(self)?;
            self.state.pop();
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_named_and_the_last_value_stands() {
        let decoded = decode(br#"{"a": {"b": 1, "b": 2}, "l": [{}, {"c": 1, "c": 2}], "n": -1.5}"#).unwrap();
        assert_eq!(decoded.value, json!({"a": {"b": 2}, "l": [{}, {"c": 2}], "n": -1.5}));
        assert_eq!(decoded.duplicates, ["a.b", "l[1].c"]);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [&b"{"[..], b"{} {}", b"", b"{\"a\":}", "[".repeat(10_000).as_bytes()] {
            assert!(decode(bad).is_err());
        }
    }
}
