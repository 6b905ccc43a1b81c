//! Between JSON and values.

use std::sync::Arc;

use api_machinery::schema::{Schema, ValueType};
use base64::Engine as _;
use serde_json::{Map as JsonMap, Number, Value as Json};

use super::map::{Map, shown};
use super::{List, Result, Text, Typing, Value};
use crate::cel::error::EvalError;
use crate::cel::time;

/// How deep a made value may nest when it becomes JSON; request bodies nest no deeper.
const MAX_DEPTH: usize = 128;

/// A view of data under a schema, as upstream's `UnstructuredToVal`; without one, what JSON says.
pub(crate) fn from_json<'a>(json: &'a Json, typing: Typing<'a>) -> Result<'a> {
    match typing {
        None => Ok(untyped(json)),
        Some(schema) => typed(json, schema, typing),
    }
}

fn untyped(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => untyped_number(number),
        Json::String(text) => Value::String(Text::Borrowed(text)),
        Json::Array(items) => Value::List(List::view(items, None)),
        Json::Object(map) => Value::Map(Map::View(map, None)),
    }
}

/// A view of a token's claims, as upstream's authenticator shows them: every number is a double (Go reads JSON so), and a
/// name may be written escaped wherever it stands (`unescapeWrapper`): `claims.kubernetes__dot__io`.
pub(crate) fn from_claims(json: &Json) -> Value<'_> {
    match json {
        Json::Number(number) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        Json::Array(items) => Value::List(List::claims(items)),
        Json::Object(map) => Value::Map(Map::Claims(map)),
        other => untyped(other),
    }
}

fn untyped_number<'a>(number: &Number) -> Value<'a> {
    match number.as_i64() {
        Some(value) => Value::Int(value),
        None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
    }
}

fn invalid(expected: &str) -> EvalError {
    EvalError::new(format!("invalid data, expected {expected}"))
}

fn typed<'a>(json: &'a Json, schema: &'a Schema, typing: Typing<'a>) -> Result<'a> {
    if json.is_null() {
        if schema.nullable {
            return Ok(Value::Null);
        }
        return Err(EvalError::new("invalid data, got null for schema with nullable=false"));
    }
    match schema.value_type {
        ValueType::IntOrString => match json {
            Json::String(text) => Ok(Value::String(Text::Borrowed(text))),
            Json::Number(number) if number.is_i64() => Ok(untyped_number(number)),
            _ => Err(invalid("XIntOrString value to be either a string or integer")),
        },
        ValueType::Object => match json {
            Json::Object(map) => Ok(Value::Map(Map::View(map, typing))),
            _ => Err(invalid("a map for the provided schema with type=object")),
        },
        ValueType::Array => match json {
            Json::Array(_) if schema.items.is_none() => {
                Err(EvalError::new("invalid array type, expected Items with a non-empty Schema"))
            }
            Json::Array(items) => Ok(Value::List(List::view(items, typing))),
            _ => Err(invalid("an array for the provided schema with type=array")),
        },
        ValueType::String | ValueType::Quantity => match json {
            Json::String(text) => string(text, schema),
            _ => Err(invalid(&format!("string, got {}", go_type(json)))),
        },
        ValueType::Number => match json {
            Json::Number(number) => Ok(Value::Double(number.as_f64().unwrap_or(f64::NAN))),
            _ => Err(invalid(&format!("float, got {}", go_type(json)))),
        },
        ValueType::Integer => match json {
            Json::Number(number) if number.is_i64() => Ok(untyped_number(number)),
            _ => Err(invalid(&format!("int, got {}", go_type(json)))),
        },
        ValueType::Boolean => match json {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            _ => Err(invalid(&format!("bool, got {}", go_type(json)))),
        },
        ValueType::Any if schema.preserve_unknown_fields => Ok(Value::Opaque(json)),
        ValueType::Any => Err(EvalError::new(
            "invalid type, expected object, array, number, integer, boolean or string, or no type with \
             x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
        )),
    }
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

fn string<'a>(text: &'a str, schema: &Schema) -> Result<'a> {
    match schema.format.as_deref() {
        Some("duration") => time::parse_duration_format(text)
            .map(Value::Duration)
            .map_err(|why| EvalError::new(format!("Invalid duration {text}: {why}"))),
        Some("date") => time::parse_date(text)
            .map(Value::Timestamp)
            .map_err(|why| EvalError::new(format!("Invalid date formatted string {text}: {why}"))),
        Some("date-time") => time::parse_date_time_format(text)
            .map(Value::Timestamp)
            .map_err(|why| EvalError::new(format!("Invalid date-time formatted string {text}: {why}"))),
        Some("byte") => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|why| EvalError::new(format!("Invalid byte formatted string {text}: {why}"))),
        _ => Ok(Value::String(Text::Borrowed(text))),
    }
}

/// What a value is in JSON, for patches.
pub(crate) fn to_json(value: &Value<'_>) -> std::result::Result<Json, EvalError> {
    bounded(value, 0)
}

fn bounded(value: &Value<'_>, depth: usize) -> std::result::Result<Json, EvalError> {
    if depth > MAX_DEPTH {
        return Err(EvalError::new("value is nested too deeply"));
    }
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::Timestamp(at) => Json::from(at.written()),
        Value::Duration(nanos) => Json::from(time::written_duration(*nanos)),
        Value::List(list) => {
            let items = list.iter().map(|item| bounded(&item?, depth + 1));
            Json::Array(items.collect::<std::result::Result<_, _>>()?)
        }
        Value::Map(map) => {
            let mut out = JsonMap::new();
            for (key, value) in map.entries()? {
                out.insert(shown(&key), bounded(&value, depth + 1)?);
            }
            Json::Object(out)
        }
        Value::Object(object) => {
            let mut out = JsonMap::new();
            for (name, value) in &object.fields {
                out.insert(name.clone(), bounded(value, depth + 1)?);
            }
            Json::Object(out)
        }
        Value::Opaque(json) => (*json).clone(),
        Value::Optional(Some(inner)) => bounded(inner, depth + 1)?,
        Value::Optional(None) => Json::Null,
        Value::Library(library) => match &**library {
            super::Library::Quantity(quantity) => Json::from(quantity.to_string()),
            _ => return Err(unsupported(value)),
        },
        Value::Type(_) | Value::Authorizer(_) => return Err(unsupported(value)),
    })
}

fn unsupported(value: &Value<'_>) -> EvalError {
    EvalError::new(format!("unsupported type: {}", value.type_name()))
}

/// A list of texts that was made.
pub(crate) fn texts<'a>(items: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Value<'a> {
    Value::list(items.into_iter().map(Value::text).collect())
}
