//! Equality and order of values. Numbers of different types are compared by amount; values of other types that differ
//! are unequal, not an error.

use std::cmp::Ordering;

use super::{Library, Value};
use crate::cel::error::EvalError;

/// Whether two values are equal; an error where data does not fit its schema.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a.at == b.at,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => a.equals(b)?,
        (Value::Map(a), Value::Map(b)) => a.equals(b)?,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(a, b)?,
        (Value::Opaque(a), Value::Opaque(b)) => a == b,
        (Value::Library(a), Value::Library(b)) => library(a, b),
        (Value::Authorizer(a), Value::Authorizer(b)) => a.is(b),
        (Value::Object(a), Value::Object(b)) => {
            if a.type_name != b.type_name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for (name, value) in &a.fields {
                match b.fields.get(name) {
                    Some(found) if equal(value, found)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    })
}

fn library(a: &Library, b: &Library) -> bool {
    match (a, b) {
        (Library::Quantity(a), Library::Quantity(b)) => a == b,
        (Library::Ip(a), Library::Ip(b)) => a == b,
        (Library::Cidr(a, p), Library::Cidr(b, q)) => a == b && p == q,
        (Library::Url(a), Library::Url(b)) => a.text() == b.text(),
        (Library::Semver(a), Library::Semver(b)) => a.compare(b) == Ordering::Equal,
        (Library::Format(a), Library::Format(b)) => a.name == b.name,
        _ => false,
    }
}

pub(super) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    #[expect(clippy::cast_precision_loss, reason = "cel-go compares an integer with a double as doubles")]
    let double = |value: &Value<'_>| match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        _ => None,
    };
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => double(a)?.partial_cmp(&double(b)?),
    }
}
