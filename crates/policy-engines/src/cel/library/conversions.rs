//! Conversions between types, as strict as cel-go's.

use super::{Implementation, fail, no_overload};
use crate::cel::time;
use crate::cel::value::{Library, Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "bool" => to_bool,
        "bytes" => to_bytes,
        "double" => to_double,
        "duration" => to_duration,
        "dyn" => |args| first(args),
        "int" => to_int,
        "string" => |args| first(args).and_then(|value| to_string(&value)),
        "timestamp" => to_timestamp,
        "type" => |args| first(args).map(|value| Value::Type(value.type_name())),
        "uint" => to_uint,
        _ => return None,
    })
}

fn first<'a>(args: &[Value<'a>]) -> Result<'a> {
    args.first().cloned().map_or_else(no_overload, Ok)
}

fn not_convertible<'a>(value: &Value<'_>, to: &str) -> Result<'a> {
    fail(format!("type conversion error from '{}' to '{to}'", value.type_name()))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Bool(_)] => Ok(value.clone()),
        [value @ Value::String(text)] => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => not_convertible(value, "bool"),
        },
        _ => no_overload(),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => Ok(Value::Bytes(text.as_str().as_bytes().into())),
        _ => no_overload(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "double(int) rounds, as Go does")]
fn to_double<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Double(_)] => Ok(value.clone()),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [value @ Value::String(text)] => match text.as_str().parse::<f64>() {
            Ok(parsed) if parsed.is_finite() || text.as_str().to_ascii_lowercase().contains(['i', 'n']) => {
                Ok(Value::Double(parsed))
            }
            _ => not_convertible(value, "double"),
        },
        _ => no_overload(),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [value @ Value::String(text)] => match time::parse_duration(text.as_str()) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(_) => not_convertible(value, "google.protobuf.Duration"),
        },
        _ => no_overload(),
    }
}

/// The bounds within which a double becomes an integer.
const INT_BOUND: f64 = 9_223_372_036_854_775_807.0;
const UINT_BOUND: f64 = 18_446_744_073_709_551_615.0;

#[expect(clippy::cast_possible_truncation, reason = "within bounds; the fraction is cut off, as Go does")]
fn to_int<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Int(_)] => Ok(value.clone()),
        [Value::Uint(value)] => {
            i64::try_from(*value).map_or_else(|_| fail("integer overflow"), |value| Ok(Value::Int(value)))
        }
        [Value::Double(value)] if value.is_finite() && value.abs() < INT_BOUND => {
            Ok(Value::Int(*value as i64))
        }
        [Value::Double(_)] => fail("integer overflow"),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(at)] => Ok(Value::Int(at.seconds())),
        [value @ Value::String(text)] => match text.as_str().parse() {
            Ok(parsed) => Ok(Value::Int(parsed)),
            Err(_) => not_convertible(value, "int"),
        },
        _ => no_overload(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within bounds; the fraction is cut off, as Go does"
)]
fn to_uint<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Uint(_)] => Ok(value.clone()),
        [Value::Int(value)] => u64::try_from(*value)
            .map_or_else(|_| fail("unsigned integer overflow"), |value| Ok(Value::Uint(value))),
        [Value::Double(value)] if *value >= 0.0 && *value < UINT_BOUND => Ok(Value::Uint(*value as u64)),
        [Value::Double(_)] => fail("unsigned integer overflow"),
        [value @ Value::String(text)] => match text.as_str().parse() {
            Ok(parsed) if !text.as_str().starts_with('+') => Ok(Value::Uint(parsed)),
            _ => not_convertible(value, "uint"),
        },
        _ => no_overload(),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ Value::Timestamp(_)] => Ok(value.clone()),
        [Value::Int(seconds)] => time::Timestamp::from_seconds(*seconds)
            .map_or_else(|| fail("timestamp overflow"), |at| Ok(Value::Timestamp(at))),
        [value @ Value::String(text)] => match time::parse_timestamp(text.as_str()) {
            Ok(at) => Ok(Value::Timestamp(at)),
            Err(_) => not_convertible(value, "google.protobuf.Timestamp"),
        },
        _ => no_overload(),
    }
}

pub(super) fn to_string<'a>(value: &Value<'a>) -> Result<'a> {
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Bool(value) => Value::text(value.to_string()),
        Value::Int(value) => Value::text(value.to_string()),
        Value::Uint(value) => Value::text(value.to_string()),
        Value::Double(value) => Value::text(written_double(*value)),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::text(text),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Duration(nanos) => Value::text(time::written_duration(*nanos)),
        Value::Timestamp(at) => Value::text(at.written()),
        Value::Type(name) => Value::text(name.to_string()),
        Value::Library(library) => match &**library {
            Library::Ip(address) => Value::text(address.to_string()),
            Library::Cidr(address, bits) => Value::text(format!("{address}/{bits}")),
            _ => return no_overload(),
        },
        _ => return no_overload(),
    })
}

/// Go's `%g`: the shortest digits, with an exponent below 10⁻⁴ and from 10⁶ on.
pub(super) fn written_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}
