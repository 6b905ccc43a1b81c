//! Kubernetes' protobuf encoding of objects, read into JSON: the magic `k8s\0`, an envelope that names the kind, and the
//! message, whose field numbers come from a committed table (`cargo xtask protobuf`).
//!
//! Protobuf writes every field that is no pointer in Go, also when it holds nothing; JSON leaves those out. So an empty
//! value of such a field is dropped here, and what is left is what the JSON encoding of the same object says, but for
//! required fields that are zero.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

mod wire;

use wire::{Reader, Wire};

static TABLE: &str = include_str!("../tables/protobuf.txt");

/// What a body in this encoding begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// Messages nested deeper than this are refused: decoding recurses.
const MAX_DEPTH: usize = 100;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not begin with the magic.
    #[error("the body does not begin with the protobuf magic")]
    Magic,
    /// It ends in the middle or holds what no encoder writes.
    #[error("the protobuf body is damaged: {0}")]
    Damaged(&'static str),
    /// No field numbers are known for the kind.
    #[error("no protobuf encoding is known for kind {kind:?} of {api_version:?}")]
    Unknown {
        /// `apps/v1`.
        api_version: String,
        /// `Deployment`.
        kind: String,
    },
}

struct Field {
    number: u32,
    json: &'static str,
    pointer: bool,
    list: bool,
    map: bool,
    kind: &'static str,
}

type Table = HashMap<&'static str, Vec<Field>>;

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| TABLE.lines().filter_map(message).collect())
}

fn message(line: &'static str) -> Option<(&'static str, Vec<Field>)> {
    let (name, rest) = line.split_once(' ')?;
    Some((name, rest.split(' ').filter_map(field).collect()))
}

fn field(text: &'static str) -> Option<Field> {
    let (json, rest) = text.split_once('=')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = rest.split_at(digits);
    let kind = rest.trim_start_matches(['*', '[', '{']);
    let flags = &rest[..rest.len() - kind.len()];
    Some(Field {
        number: number.parse().ok()?,
        json,
        pointer: flags.starts_with('*'),
        list: flags.contains('['),
        map: flags.contains('{'),
        kind,
    })
}

/// The object in a body, with `apiVersion` and `kind`.
///
/// # Errors
/// [`ProtobufError`].
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((number, wire)) = meta.next()? {
                    match number {
                        1 => api_version = wire.text()?,
                        2 => kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    let known = table().get_key_value(name.as_str());
    let Some((name, _)) = known else { return Err(ProtobufError::Unknown { api_version, kind }) };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(api_version));
    object.insert("kind".to_owned(), Value::String(kind));
    read(name, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// `apps/v1`, `Deployment` → `apps/v1.Deployment`; a group's package is its first label.
fn message_name(api_version: &str, kind: &str) -> String {
    // Options travel under the group of what they are about.
    if kind.ends_with("Options") && table().contains_key(format!("meta/v1.{kind}").as_str()) {
        return format!("meta/v1.{kind}");
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    // Only Kubernetes' own groups: `apps.example.com` is somebody else's.
    let package = group.strip_suffix(".k8s.io").unwrap_or(group).split('.').next().unwrap_or(group);
    let own = !group.contains('.') || group.ends_with(".k8s.io");
    format!("{}/{version}.{kind}", if own { package } else { group })
}

fn read(
    name: &str,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Damaged("it is nested too deeply"));
    }
    let Some(fields) = table().get(name) else { return Ok(()) };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        // Numbers that are not known are newer than this server: dropped, as unknown fields are.
        let Some(field) = fields.iter().find(|field| field.number == number) else { continue };
        if field.json.is_empty() {
            let inner = field.kind.strip_prefix("m:").ok_or(ProtobufError::Damaged("an inlined scalar"))?;
            read(inner, wire.bytes()?, object, depth + 1)?;
        } else if field.map {
            let (key, value) = entry(field, wire.bytes()?, depth)?;
            let map = object.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        } else if field.list {
            let list = object.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(value(field, &wire, depth)?);
            }
        } else {
            let value = value(field, &wire, depth)?;
            if field.pointer && !value.is_null() || !is_empty(&value) {
                object.insert(field.json.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) => false,
    }
}

fn entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = wire.text()?,
            2 => found = Some(value(field, &wire, depth)?),
            _ => {}
        }
    }
    Ok((key, found.unwrap_or_else(|| Value::String(String::new()))))
}

fn value(field: &Field, wire: &Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match field.kind {
        "s" => Value::String(wire.text()?),
        "y" => Value::String(wire::base64(wire.bytes()?)),
        "i" => Value::from(wire.integer()?),
        "b" => Value::Bool(wire.integer()? != 0),
        "d" => Value::from(wire.double()?),
        "q" => Value::String(wire::text_at(wire.bytes()?, 1)?),
        "l" => wire::texts(wire.bytes()?)?,
        "o" => wire::int_or_string(wire.bytes()?)?,
        "t" => wire::time(wire.bytes()?, false)?,
        "u" => wire::time(wire.bytes()?, true)?,
        "r" | "f" => wire::raw_json(wire.bytes()?)?,
        kind => {
            let inner = kind.strip_prefix("m:").ok_or(ProtobufError::Damaged("a table entry"))?;
            let mut object = Map::new();
            read(inner, wire.bytes()?, &mut object, depth + 1)?;
            Value::Object(object)
        }
    })
}

#[cfg(test)]
mod tests;
