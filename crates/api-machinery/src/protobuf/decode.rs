//! Reads messages into the JSON that a Kubernetes server would show of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::special;
use super::table::{Field, FieldType, Message, Special, Table};
use super::wire::{Reader, WireField};
use super::{Decoded, Envelope, MAGIC, MAX_DEPTH, MAX_VALUES, ProtobufError};

/// Reads one document.
#[derive(Debug)]
pub(super) struct Decoder {
    table: &'static Table,
    values: usize,
}

impl Decoder {
    pub(super) fn new(table: &'static Table) -> Self {
        Self { table, values: 0 }
    }

    /// Counts a value that stands `depth` messages deep.
    fn spend(&mut self, depth: usize) -> Result<(), ProtobufError> {
        self.values += 1;
        match () {
            () if self.values > MAX_VALUES => Err(ProtobufError::Values),
            () if depth > MAX_DEPTH => Err(ProtobufError::Depth),
            () => Ok(()),
        }
    }

    /// An envelope and what is in it.
    pub(super) fn document(&mut self, bytes: &[u8], depth: usize) -> Result<Decoded, ProtobufError> {
        self.spend(depth)?;
        let envelope = Envelope::read(bytes)?;
        if !envelope.encoding.is_empty() {
            return Err(ProtobufError::Content(envelope.encoding));
        }
        let mut value = match envelope.content.as_str() {
            "" | super::MEDIA_TYPE => {
                let message = self.table.for_kind(&envelope.api_version, &envelope.kind);
                let message = message.ok_or_else(|| ProtobufError::Kind {
                    api_version: envelope.api_version.clone(),
                    kind: envelope.kind.clone(),
                })?;
                let mut fields = Map::new();
                self.message(message, envelope.raw, &mut fields, depth + 1)?;
                Value::Object(fields)
            }
            "application/json" => serde_json::from_slice(envelope.raw)?,
            _ => return Err(ProtobufError::Content(envelope.content)),
        };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!(envelope.api_version));
            fields.insert("kind".to_owned(), json!(envelope.kind));
        }
        Ok(Decoded { api_version: envelope.api_version, kind: envelope.kind, value })
    }

    /// Reads a message's fields into `out`; a message that stands twice is merged, as the format has it.
    fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        self.spend(depth)?;
        let mut reader = Reader::new(bytes);
        while let Some(wire) = reader.field()? {
            // Fields of newer versions are passed over, as in JSON that is not checked strictly.
            let Ok(at) = message.fields.binary_search_by_key(&wire.number, |field| field.number) else {
                continue;
            };
            self.field(&message.fields[at], wire, out, depth)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire: WireField<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match field.kind {
            FieldType::Message(at) if field.inline => {
                return self.message(self.table.message(at), wire.bytes()?, out, depth + 1);
            }
            _ if field.repeated => {
                let slot = out.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = slot else { return Ok(()) };
                return self.items(field, wire, items, depth);
            }
            _ if field.map => {
                let slot = out.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(entries) = slot else { return Ok(()) };
                return self.entry(field, wire, entries, depth);
            }
            _ => {}
        }
        let earlier = match field.kind {
            FieldType::Message(_) => out.remove(field.json),
            _ => None,
        };
        let value = self.value(field, wire, earlier, depth)?;
        if left_out(field, &value) {
            out.remove(field.json);
        } else {
            out.insert(field.json.to_owned(), value);
        }
        Ok(())
    }

    fn items(
        &mut self,
        field: &Field,
        wire: WireField<'_>,
        items: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let numbers = matches!(field.kind, FieldType::Bool | FieldType::Int32 | FieldType::Int64);
        let Some(mut packed) = wire.packed().filter(|_| numbers) else {
            items.push(self.value(field, wire, None, depth)?);
            return Ok(());
        };
        while !packed.is_empty() {
            self.spend(depth)?;
            items.push(number(field.kind, packed.varint()?));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        field: &Field,
        wire: WireField<'_>,
        entries: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(wire.bytes()?);
        let (mut key, mut value) = (String::new(), None);
        while let Some(wire) = reader.field()? {
            match wire.number {
                1 => key = wire.text(field.json)?.to_owned(),
                2 => value = Some(self.value(field, wire, None, depth)?),
                _ => {}
            }
        }
        let value = value.unwrap_or_else(|| match field.kind {
            FieldType::Text | FieldType::Bytes => json!(""),
            FieldType::Message(at) if self.table.message(at).list => json!([]),
            FieldType::Message(_) => json!({}),
            FieldType::Special(Special::Quantity) => json!("0"),
            _ => Value::Null,
        });
        entries.insert(key, value);
        Ok(())
    }

    /// One value; a message is merged into `earlier`.
    fn value(
        &mut self,
        field: &Field,
        wire: WireField<'_>,
        earlier: Option<Value>,
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        self.spend(depth)?;
        Ok(match field.kind {
            FieldType::Text => json!(wire.text(field.json)?),
            FieldType::Bytes => json!(STANDARD.encode(wire.bytes()?)),
            FieldType::Bool | FieldType::Int32 | FieldType::Int64 => number(field.kind, wire.varint()?),
            FieldType::Double => special::double(wire.double()?),
            FieldType::Special(kind) => self.special(kind, wire.bytes()?, depth)?,
            FieldType::Message(at) => {
                let message = self.table.message(at);
                let list = message.list;
                let mut fields = match earlier {
                    Some(Value::Object(fields)) => fields,
                    _ => Map::new(),
                };
                self.message(message, wire.bytes()?, &mut fields, depth + 1)?;
                if list { fields.remove("items").unwrap_or_else(|| json!([])) } else { Value::Object(fields) }
            }
        })
    }

    fn special(&mut self, kind: Special, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        match kind {
            Special::Time | Special::MicroTime => special::time(kind == Special::MicroTime, bytes),
            Special::Quantity => special::quantity(bytes),
            Special::IntOrString => special::int_or_string(bytes),
            Special::Raw => {
                let raw = special::raw(bytes)?;
                if raw.starts_with(MAGIC) {
                    return self.document(raw, depth + 1).map(|decoded| decoded.value);
                }
                if raw.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(raw)?) }
            }
            Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStrings => {
                self.schema_or(kind, bytes, depth)
            }
        }
    }

    /// A schema in field one or two, or the other thing in the other field.
    fn schema_or(&mut self, kind: Special, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let schema_field = if kind == Special::SchemaOrBool { 2 } else { 1 };
        let (mut schema, mut items, mut allowed) = (None, Vec::new(), false);
        let mut reader = Reader::new(bytes);
        while let Some(wire) = reader.field()? {
            self.spend(depth)?;
            match (wire.number, kind) {
                (number, _) if number == schema_field => {
                    schema = Some(self.schema(wire.bytes()?, depth)?);
                }
                (1, Special::SchemaOrBool) => allowed = wire.varint()? != 0,
                (2, Special::SchemaOrArray) => items.push(self.schema(wire.bytes()?, depth)?),
                (2, Special::SchemaOrStrings) => items.push(json!(wire.text("dependencies")?)),
                _ => {}
            }
        }
        Ok(match (schema, kind) {
            (Some(schema), _) if items.is_empty() => schema,
            (None, Special::SchemaOrBool) => json!(allowed),
            (None, _) if items.is_empty() => Value::Null,
            _ => Value::Array(items),
        })
    }

    fn schema(&mut self, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let mut fields = Map::new();
        self.message(self.table.schema(), bytes, &mut fields, depth + 1)?;
        Ok(Value::Object(fields))
    }
}

fn number(kind: FieldType, number: u64) -> Value {
    let signed = i64::from_ne_bytes(number.to_ne_bytes());
    match kind {
        FieldType::Bool => json!(number != 0),
        // Go keeps the lower half.
        FieldType::Int32 => {
            let [a, b, c, d, ..] = signed.to_le_bytes();
            json!(i32::from_le_bytes([a, b, c, d]))
        }
        _ => json!(signed),
    }
}

/// Whether the JSON form does without a field of this value.
fn left_out(field: &Field, value: &Value) -> bool {
    let empty = match value {
        Value::Null => return true,
        Value::String(text) => text.is_empty(),
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => return field.omit_zero && !field.optional && fields.is_empty(),
    };
    let nilable = field.kind == FieldType::Bytes || value.is_array();
    let special = matches!(field.kind, FieldType::Special(_));
    empty && field.omit_empty && !special && (!field.optional || nilable)
}
