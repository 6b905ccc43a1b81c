//! Writes JSON objects as messages, byte for byte as Kubernetes' own encoder does: fields by number, maps by key, and
//! every field that is no pointer, list or map even when it is empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::table::{Field, FieldType, Message, Special, Table};
use super::{MAX_DEPTH, ProtobufError, special, wire};

/// A message's bytes.
pub(super) fn message(
    message: &Message,
    object: &Map<String, Value>,
    depth: usize,
) -> Result<Vec<u8>, ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Depth);
    }
    let mut out = Vec::new();
    for field in &message.fields {
        if let (true, FieldType::Message(at)) = (field.inline, field.kind) {
            let inner = self::message(Table::builtin().message(at), object, depth + 1)?;
            wire::bytes(&mut out, field.number, &inner);
            continue;
        }
        let found = object.get(field.json).filter(|value| !value.is_null());
        match found {
            None if field.optional || field.repeated || field.map => {}
            None => value(&mut out, field, field.number, &Value::Null, depth)?,
            Some(found) if field.repeated => {
                for item in found.as_array().ok_or_else(|| mismatch(field, "a list"))? {
                    value(&mut out, field, field.number, item, depth)?;
                }
            }
            Some(found) if field.map => entries(&mut out, field, found, depth)?,
            Some(found) => value(&mut out, field, field.number, found, depth)?,
        }
    }
    Ok(out)
}

fn mismatch(field: &Field, expected: &'static str) -> ProtobufError {
    ProtobufError::Mismatch { field: field.json, expected }
}

fn entries(out: &mut Vec<u8>, field: &Field, map: &Value, depth: usize) -> Result<(), ProtobufError> {
    let map = map.as_object().ok_or_else(|| mismatch(field, "an object"))?;
    let mut keys: Vec<_> = map.iter().collect();
    keys.sort_by_key(|(key, _)| *key);
    for (key, item) in keys {
        let mut entry = Vec::new();
        wire::bytes(&mut entry, 1, key.as_bytes());
        value(&mut entry, field, 2, item, depth)?;
        wire::bytes(out, field.number, &entry);
    }
    Ok(())
}

/// One value under a number; null is the type's empty value.
fn value(
    out: &mut Vec<u8>,
    field: &Field,
    number: u32,
    value: &Value,
    depth: usize,
) -> Result<(), ProtobufError> {
    let null = value.is_null();
    match field.kind {
        FieldType::Text => {
            let text = if null { "" } else { value.as_str().ok_or_else(|| mismatch(field, "text"))? };
            wire::bytes(out, number, text.as_bytes());
        }
        FieldType::Bytes => {
            let text = if null { "" } else { value.as_str().ok_or_else(|| mismatch(field, "base64"))? };
            let bytes = STANDARD.decode(text).map_err(|_| mismatch(field, "base64"))?;
            wire::bytes(out, number, &bytes);
        }
        FieldType::Bool => {
            let on = !null && value.as_bool().ok_or_else(|| mismatch(field, "true or false"))?;
            wire::varint(out, number, u64::from(on));
        }
        FieldType::Int32 | FieldType::Int64 => {
            let integer = if null { Some(0) } else { integer(value) };
            wire::signed(out, number, integer.ok_or_else(|| mismatch(field, "a whole number"))?);
        }
        FieldType::Double => {
            let double = if null { Some(0.0) } else { value.as_f64() };
            wire::double(out, number, double.ok_or_else(|| mismatch(field, "a number"))?);
        }
        FieldType::Special(kind) => wire::bytes(out, number, &special(kind, field, value, depth)?),
        FieldType::Message(at) => {
            let inner = Table::builtin().message(at);
            wire::bytes(out, number, &nested(inner, field, value, depth)?);
        }
    }
    Ok(())
}

/// Whole numbers may be written with a fraction of nought.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below 2^53 are cast")]
fn integer(value: &Value) -> Option<i64> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
}

fn nested(inner: &Message, field: &Field, value: &Value, depth: usize) -> Result<Vec<u8>, ProtobufError> {
    let empty = Map::new();
    match value {
        Value::Null => message(inner, &empty, depth + 1),
        Value::Object(fields) if !inner.list => message(inner, fields, depth + 1),
        Value::Array(_) if inner.list => {
            let items = Map::from_iter([("items".to_owned(), value.clone())]);
            message(inner, &items, depth + 1)
        }
        _ => Err(mismatch(field, if inner.list { "a list" } else { "an object" })),
    }
}

fn special(kind: Special, field: &Field, value: &Value, depth: usize) -> Result<Vec<u8>, ProtobufError> {
    match kind {
        Special::Time | Special::MicroTime => special::encode_time(kind, value, field.json),
        Special::Quantity => special::encode_quantity(value, field.json),
        Special::IntOrString => special::encode_int_or_string(value, field.json),
        Special::Raw => Ok(special::encode_raw(value)),
        Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStrings => {
            schema_or(kind, field, value, depth)
        }
    }
}

fn schema_or(kind: Special, field: &Field, value: &Value, depth: usize) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::new();
    let boolean = kind == Special::SchemaOrBool;
    match value {
        Value::Null => {}
        Value::Bool(allowed) if boolean => wire::varint(&mut out, 1, u64::from(*allowed)),
        Value::Object(_) => {
            if boolean {
                wire::varint(&mut out, 1, 1);
            }
            let schema = nested(Table::builtin().schema(), field, value, depth)?;
            wire::bytes(&mut out, if boolean { 2 } else { 1 }, &schema);
        }
        Value::Array(items) if !boolean => {
            for item in items {
                if kind == Special::SchemaOrStrings {
                    let text = item.as_str().ok_or_else(|| mismatch(field, "text"))?;
                    wire::bytes(&mut out, 2, text.as_bytes());
                } else {
                    let schema = nested(Table::builtin().schema(), field, item, depth)?;
                    wire::bytes(&mut out, 2, &schema);
                }
            }
        }
        _ => return Err(mismatch(field, "a schema, or what may stand for it")),
    }
    Ok(out)
}
