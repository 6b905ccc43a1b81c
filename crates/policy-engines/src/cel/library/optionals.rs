//! Optional values. `or` and `orValue` are steps of their own; see `evaluate`.

use super::{Implementation, fail, no_overload};
use crate::cel::value::{Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "optional.of" => |args| match args {
            [value] => Ok(Value::some(value.clone())),
            _ => no_overload(),
        },
        "optional.ofNonZeroValue" => |args| match args {
            [value] if is_zero(value) => Ok(Value::Optional(None)),
            [value] => Ok(Value::some(value.clone())),
            _ => no_overload(),
        },
        "optional.none" => |_| Ok(Value::Optional(None)),
        "hasValue" => |args| match args {
            [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
            _ => no_overload(),
        },
        "value" => |args| match args {
            [Value::Optional(Some(inner))] => Ok((**inner).clone()),
            [Value::Optional(None)] => fail("optional.none() dereference"),
            _ => no_overload(),
        },
        "first" => |args| match args {
            [Value::List(list)] if list.len() == 0 => Ok(Value::Optional(None)),
            [Value::List(list)] => list.item(0).map(Value::some),
            _ => no_overload(),
        },
        "last" => |args| match args {
            [Value::List(list)] if list.len() == 0 => Ok(Value::Optional(None)),
            [Value::List(list)] => list.item(list.len() - 1).map(Value::some),
            _ => no_overload(),
        },
        "optional.unwrap" | "unwrapOpt" => unwrap,
        _ => return None,
    })
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut out = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(inner) => out.extend(inner.map(|inner| (*inner).clone())),
            other => return fail(format!("value {} is not optional", crate::cel::value::shown(&other))),
        }
    }
    Ok(Value::list(out))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Duration(nanos) => *nanos == 0,
        Value::Timestamp(at) => at.is_zero(),
        Value::List(list) => list.len() == 0,
        Value::Map(map) => map.len() == 0,
        Value::Optional(inner) => inner.is_none(),
        Value::Object(object) => object.fields.is_empty(),
        _ => false,
    }
}
