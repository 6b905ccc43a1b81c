//! Messages whose JSON form is no object: times, quantities, ports, embedded JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{self, Reader};
use super::{ProtobufError, table::Special};

/// The JSON form of a double: whole numbers without a fraction, as Go writes them.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below 2^53 are cast")]
pub(super) fn double(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return json!(number as i64);
    }
    json!(number)
}

/// RFC 3339; no bytes are no time.
pub(super) fn time(micro: bool, bytes: &[u8]) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        let number = |value: u64| i64::from_ne_bytes(value.to_ne_bytes());
        match field.number {
            1 => seconds = number(field.varint()?),
            2 => nanos = i32::try_from(number(field.varint()?)).map_err(|_| ProtobufError::Number)?,
            _ => {}
        }
    }
    let out_of_range = || ProtobufError::Time(seconds);
    let time = Timestamp::new(seconds, nanos).map_err(|_| out_of_range())?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    // Before the year nought RFC 3339 has no form.
    if seconds < -62_167_219_200 {
        return Err(out_of_range());
    }
    Ok(json!(time.strftime(format).to_string()))
}

/// The text in field one.
pub(super) fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        if field.number == 1 {
            text = field.text("quantity")?;
        }
    }
    // The zero quantity has no text.
    Ok(json!(if text.is_empty() { "0" } else { text }))
}

/// A number or text, as field one says.
pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut kind, mut number, mut text) = (0, 0_i64, "");
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => kind = field.varint()?,
            2 => number = i64::from_ne_bytes(field.varint()?.to_ne_bytes()),
            3 => text = field.text("strVal")?,
            _ => {}
        }
    }
    Ok(if kind == 0 { json!(number) } else { json!(text) })
}

/// The bytes in field one.
pub(super) fn raw(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    let mut raw: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        if field.number == 1 {
            raw = field.bytes()?;
        }
    }
    Ok(raw)
}

/// Writes a time; null is no bytes.
pub(super) fn encode_time(
    kind: Special,
    value: &Value,
    name: &'static str,
) -> Result<Vec<u8>, ProtobufError> {
    let mismatch = || ProtobufError::Mismatch { field: name, expected: "a time" };
    let mut out = Vec::new();
    if value.is_null() {
        return Ok(out);
    }
    let time: Timestamp = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(mismatch)?;
    let floor = time.as_nanosecond().div_euclid(1_000_000_000);
    let nanos = i64::try_from(time.as_nanosecond().rem_euclid(1_000_000_000)).map_err(|_| mismatch())?;
    wire::signed(&mut out, 1, i64::try_from(floor).map_err(|_| mismatch())?);
    // Times of whole seconds lose what is behind, as in JSON; the others keep microseconds.
    wire::signed(&mut out, 2, if kind == Special::MicroTime { nanos / 1000 * 1000 } else { 0 });
    Ok(out)
}

/// Writes a quantity.
pub(super) fn encode_quantity(value: &Value, name: &'static str) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::new();
    match value {
        Value::String(text) => wire::bytes(&mut out, 1, text.as_bytes()),
        Value::Number(number) => wire::bytes(&mut out, 1, number.to_string().as_bytes()),
        Value::Null => wire::bytes(&mut out, 1, b"0"),
        _ => return Err(ProtobufError::Mismatch { field: name, expected: "a quantity" }),
    }
    Ok(out)
}

/// Writes a number or text.
pub(super) fn encode_int_or_string(value: &Value, name: &'static str) -> Result<Vec<u8>, ProtobufError> {
    let mismatch = || ProtobufError::Mismatch { field: name, expected: "a whole number or text" };
    let (kind, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        Value::Number(number) => (0, number.as_i64().ok_or_else(mismatch)?, ""),
        Value::Null => (0, 0, ""),
        _ => return Err(mismatch()),
    };
    let mut out = Vec::new();
    wire::varint(&mut out, 1, kind);
    wire::signed(&mut out, 2, number);
    wire::bytes(&mut out, 3, text.as_bytes());
    Ok(out)
}

/// Writes embedded JSON; null is no bytes.
pub(super) fn encode_raw(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    if !value.is_null() {
        wire::bytes(&mut out, 1, value.to_string().as_bytes());
    }
    out
}
