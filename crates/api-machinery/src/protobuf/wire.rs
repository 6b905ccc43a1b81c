//! The wire format, and the few messages whose JSON is no object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::ProtobufError;

const ENDS_EARLY: ProtobufError = ProtobufError::Damaged("it ends in the middle of a field");

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(ProtobufError::Damaged("a number stands where bytes are due")),
        }
    }

    pub(super) fn text(&self) -> Result<String, ProtobufError> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| ProtobufError::Damaged("a string is not UTF-8"))
    }

    /// Signed, as all integers of the API are.
    pub(super) fn integer(&self) -> Result<i64, ProtobufError> {
        match self {
            Self::Varint(value) | Self::Fixed64(value) => Ok(value.cast_signed()),
            _ => Err(ProtobufError::Damaged("bytes stand where a number is due")),
        }
    }

    pub(super) fn double(&self) -> Result<f64, ProtobufError> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(*bits)),
            _ => Err(ProtobufError::Damaged("no floating-point number stands where one is due")),
        }
    }
}

/// Walks the fields of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number =
            u32::try_from(key >> 3).map_err(|_| ProtobufError::Damaged("a field number is too large"))?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ENDS_EARLY)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(ProtobufError::Damaged("a field has a wire type that is not used")),
        };
        Ok(Some((number, wire)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.take(1)? else { return Err(ENDS_EARLY) };
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Damaged("a number is too long"))
    }
}

/// Bytes as JSON carries them.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The string in field `wanted`; "" without one.
pub(super) fn text_at(bytes: &[u8], wanted: u32) -> Result<String, ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            return wire.text();
        }
    }
    Ok(String::new())
}

/// A message that is only a list of strings.
pub(super) fn texts(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut list = Vec::new();
    while let Some((_, wire)) = reader.next()? {
        list.push(Value::String(wire.text()?));
    }
    Ok(Value::Array(list))
}

/// `type=1` tells whether `intVal=2` or `strVal=3` counts.
pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number_value, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => is_text = wire.integer()? == 1,
            2 => number_value = wire.integer()?,
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(number_value) })
}

/// `seconds=1, nanos=2`; nothing at all is no time.
pub(super) fn time(bytes: &[u8], micros: bool) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (None, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => seconds = Some(wire.integer()?),
            2 => nanos = wire.integer()?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let nanos = i32::try_from(nanos).unwrap_or(0);
    let time =
        jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Damaged("a time out of range"))?;
    let format = if micros { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Value::String(time.strftime(format).to_string()))
}

/// Field 1 holds a JSON document.
pub(super) fn raw_json(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            let raw = wire.bytes()?;
            return serde_json::from_slice(raw)
                .map_err(|_| ProtobufError::Damaged("an embedded document is no JSON"));
        }
    }
    Ok(Value::Null)
}
