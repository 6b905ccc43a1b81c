//! The protobuf form of built-in kinds, which typed clients send by default: read into the same JSON that the rest of
//! the server works on, and written from it.
//!
//! A committed table (`tables/protobuf.txt`, see `cargo xtask codegen --protos`) says which number, type and JSON name
//! each field has; nothing here knows a kind. A document is an envelope (`runtime.Unknown` behind four magic bytes)
//! that names its kind and holds its bytes.
//!
//! Must never panic on any bytes, nor build much more than it was given: depth and number of values are bounded.
//! Custom kinds have no such form.

mod decode;
mod encode;
mod special;
mod table;
mod wire;

use serde_json::{Map, Value};

use table::Table;
use wire::Reader;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every document begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deep messages may stand in each other; as deep as `serde_json` goes in JSON.
const MAX_DEPTH: usize = 120;

/// How many values one document may hold: an empty value takes two bytes on the wire and some dozens in memory, so
/// this and not the size of a body (3 MiB) bounds memory.
const MAX_VALUES: usize = 500_000;

/// Why a document can not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtobufError {
    /// It does not begin with the magic bytes.
    #[error("the document does not begin with the prefix of Kubernetes protobuf documents")]
    Magic,
    /// A length or number reaches beyond the end.
    #[error("the protobuf document ends within a value")]
    Truncated,
    /// A number longer than 64 bits, or a tag that no field has.
    #[error("the protobuf document holds an invalid number or tag")]
    Number,
    /// The wire type is not that of the field.
    #[error("field {field} has the wrong wire type")]
    WireType {
        /// The field's number.
        field: u32,
    },
    /// Text that is not UTF-8.
    #[error("field {field:?} holds text that is not UTF-8")]
    Text {
        /// The field's JSON name.
        field: &'static str,
    },
    /// Messages stand too deep in each other.
    #[error("the protobuf document is nested deeper than {MAX_DEPTH} messages")]
    Depth,
    /// Too many values.
    #[error("the protobuf document holds more than {MAX_VALUES} values")]
    Values,
    /// A kind without a protobuf form: custom kinds and unknown ones.
    #[error("no protobuf form is known of kind {kind:?} in version {api_version:?}")]
    Kind {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
    /// The envelope says that its content is encoded otherwise.
    #[error("the content encoding or type {0:?} of a protobuf document is not supported")]
    Content(String),
    /// An embedded JSON document does not parse.
    #[error("a JSON document within a protobuf document")]
    Json(#[from] serde_json::Error),
    /// A time outside the years 0 to 9999.
    #[error("a time out of range: {0} seconds")]
    Time(i64),
    /// A JSON value that the field can not hold.
    #[error("field {field:?} can not hold this value: {expected} expected")]
    Mismatch {
        /// The field's JSON name.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
    },
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Decoded {
    /// As the envelope says.
    pub api_version: String,
    /// As the envelope says.
    pub kind: String,
    /// The object, with `apiVersion` and `kind`.
    pub value: Value,
}

/// Whether a kind has a protobuf form.
#[must_use]
pub fn has_form(api_version: &str, kind: &str) -> bool {
    Table::builtin().for_kind(api_version, kind).is_some()
}

/// Reads a document.
///
/// # Errors
/// Damaged bytes, kinds without a protobuf form, documents too deep or with too many values.
pub fn decode(bytes: &[u8]) -> Result<Decoded, ProtobufError> {
    decode::Decoder::new(Table::builtin()).document(bytes, 0)
}

/// Writes an object, a list or a status, whose `apiVersion` and `kind` say what it is.
///
/// # Errors
/// Kinds without a protobuf form; values of the wrong type; objects nested too deep.
pub fn encode(value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let message = Table::builtin()
        .for_kind(api_version, kind)
        .ok_or_else(|| ProtobufError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    let empty = Map::new();
    let raw = encode::message(message, value.as_object().unwrap_or(&empty), 0)?;
    Ok(enveloped(api_version, kind, &raw))
}

/// Writes a list item by item, so that only one of them is a tree at a time. `kind` is the list's: `PodList`.
///
/// # Errors
/// As [`encode`].
pub fn encode_list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl Iterator<Item = Value>,
) -> Result<Vec<u8>, ProtobufError> {
    let unknown = || ProtobufError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let list = Table::builtin().for_kind(api_version, kind).ok_or_else(unknown)?;
    let field = list.fields.iter().find(|field| field.json == "items").ok_or_else(unknown)?;
    let table::FieldType::Message(item) = field.kind else { return Err(unknown()) };
    let item = Table::builtin().message(item);
    let head = Map::from_iter([("metadata".to_owned(), metadata.clone())]);
    let mut raw = encode::message(list, &head, 0)?;
    let empty = Map::new();
    for value in items {
        let bytes = encode::message(item, value.as_object().unwrap_or(&empty), 1)?;
        wire::bytes(&mut raw, field.number, &bytes);
    }
    Ok(enveloped(api_version, kind, &raw))
}

/// A message behind the magic, in the envelope that says its kind.
fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut kind_bytes = Vec::new();
    wire::bytes(&mut kind_bytes, 1, api_version.as_bytes());
    wire::bytes(&mut kind_bytes, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + kind_bytes.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::bytes(&mut out, 1, &kind_bytes);
    wire::bytes(&mut out, 2, raw);
    wire::bytes(&mut out, 3, b"");
    wire::bytes(&mut out, 4, b"");
    out
}

/// Writes one event of a watch, with the length before it (four bytes, big-endian) as streams have it.
///
/// # Errors
/// As [`encode`].
pub fn encode_watch_event(kind: &str, object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut raw = Vec::new();
    wire::bytes(&mut raw, 1, &encode(object)?);
    let mut event = Vec::with_capacity(raw.len() + 32);
    wire::bytes(&mut event, 1, kind.as_bytes());
    wire::bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len()).map_err(|_| ProtobufError::Values)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.append(&mut event);
    Ok(frame)
}

/// The envelope's parts.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    encoding: String,
    content: String,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ProtobufError::Magic)?;
        let mut envelope = Self::default();
        let mut reader = Reader::new(body);
        while let Some(field) = reader.field()? {
            match field.number {
                1 => {
                    let mut inner = Reader::new(field.bytes()?);
                    while let Some(field) = inner.field()? {
                        match field.number {
                            1 => envelope.api_version = field.text("apiVersion")?.to_owned(),
                            2 => envelope.kind = field.text("kind")?.to_owned(),
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = field.bytes()?,
                3 => envelope.encoding = field.text("contentEncoding")?.to_owned(),
                4 => envelope.content = field.text("contentType")?.to_owned(),
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
