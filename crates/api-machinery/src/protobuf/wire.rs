//! Protobuf's wire format: tags, variable-length numbers, lengths.

use super::ProtobufError;

/// One field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireField<'a> {
    pub(super) number: u32,
    payload: Payload<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> WireField<'a> {
    fn mismatch(&self) -> ProtobufError {
        ProtobufError::WireType { field: self.number }
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(self.mismatch()),
        }
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Text { field: name })
    }

    pub(super) fn varint(&self) -> Result<u64, ProtobufError> {
        match self.payload {
            Payload::Varint(number) => Ok(number),
            _ => Err(self.mismatch()),
        }
    }

    pub(super) fn double(&self) -> Result<f64, ProtobufError> {
        match self.payload {
            Payload::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.mismatch()),
        }
    }

    /// The numbers of a packed list; `None` when it is a single number.
    pub(super) fn packed(&self) -> Option<Reader<'a>> {
        match self.payload {
            Payload::Bytes(bytes) => Some(Reader::new(bytes)),
            _ => None,
        }
    }
}

/// Walks over the fields of a message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<WireField<'a>>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Number)?;
        if number == 0 {
            return Err(ProtobufError::Number);
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => {
                self.array::<4>()?;
                Payload::Fixed32
            }
            // Groups (3, 4) were never used here.
            _ => return Err(ProtobufError::WireType { field: number }),
        };
        Ok(Some(WireField { number, payload }))
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has one bit left.
                return if shift == 63 && byte > 1 { Err(ProtobufError::Number) } else { Ok(number) };
            }
        }
        Err(ProtobufError::Number)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Writes a number.
pub(super) fn varint(out: &mut Vec<u8>, field: u32, number: u64) {
    put(out, u64::from(field) << 3);
    put(out, number);
}

/// Writes a signed number: negative ones take ten bytes.
pub(super) fn signed(out: &mut Vec<u8>, field: u32, number: i64) {
    varint(out, field, u64::from_ne_bytes(number.to_ne_bytes()));
}

/// Writes a double.
pub(super) fn double(out: &mut Vec<u8>, field: u32, number: f64) {
    put(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&number.to_bits().to_le_bytes());
}

/// Writes text, bytes or a message.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put(out, u64::from(field) << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
