//! Operators: arithmetic with checks for overflow, comparisons, membership, size.

use std::cmp::Ordering;

use super::{Implementation, fail, no_overload};
use crate::cel::error::EvalError;
use crate::cel::value::{Result, Value, equal};
use crate::cel::work;

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "!_" => not,
        // A step of its own; see `evaluate`. Here for what asks whether there is such a function.
        "@not_strictly_false" => not_strictly_false,
        "-_" => negate,
        "_+_" => add,
        "_-_" => subtract,
        "_*_" => multiply,
        "_/_" => divide,
        "_%_" => modulo,
        "_==_" => |args| Ok(Value::Bool(both(args)?)),
        "_!=_" => |args| Ok(Value::Bool(!both(args)?)),
        "_<_" => |args| compare(args, |order| order == Ordering::Less),
        "_<=_" => |args| compare(args, |order| order != Ordering::Greater),
        "_>_" => |args| compare(args, |order| order == Ordering::Greater),
        "_>=_" => |args| compare(args, |order| order != Ordering::Less),
        "@in" => contained,
        "size" => size,
        "cel.@mapInsert" => map_insert,
        _ => return None,
    })
}

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const DURATION_OVERFLOW: &str = "duration overflow";
const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

fn int<'a>(value: Option<i64>) -> Result<'a> {
    value.map(Value::Int).ok_or_else(|| EvalError::new(INT_OVERFLOW))
}

fn uint<'a>(value: Option<u64>) -> Result<'a> {
    value.map(Value::Uint).ok_or_else(|| EvalError::new(UINT_OVERFLOW))
}

fn duration<'a>(value: Option<i64>) -> Result<'a> {
    value.map(Value::Duration).ok_or_else(|| EvalError::new(DURATION_OVERFLOW))
}

fn both(args: &[Value<'_>]) -> std::result::Result<bool, EvalError> {
    match args {
        [a, b] => equal(a, b),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn not<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        [Value::Duration(value)] => duration(value.checked_neg()),
        _ => no_overload(),
    }
}

pub(super) fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            work::spend(a.as_str().len() + b.as_str().len())?;
            Ok(Value::text([a.as_str(), b.as_str()].concat()))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            work::spend(a.len() + b.len())?;
            Ok(Value::Bytes([&a[..], &b[..]].concat().into()))
        }
        [Value::List(a), Value::List(b)] => {
            work::spend(a.len() + b.len())?;
            Ok(Value::List(a.plus(b)?))
        }
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_add(*b)),
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            at.plus(*by).map(Value::Timestamp).ok_or_else(|| EvalError::new(TIMESTAMP_OVERFLOW))
        }
        _ => no_overload(),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(a), Value::Timestamp(b)] => duration(a.since(b)),
        [Value::Timestamp(at), Value::Duration(by)] => {
            let earlier = by.checked_neg().and_then(|by| at.plus(by));
            earlier.map(Value::Timestamp).ok_or_else(|| EvalError::new(TIMESTAMP_OVERFLOW))
        }
        _ => no_overload(),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("division by zero"),
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("modulus by zero"),
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn compare<'a>(args: &[Value<'a>], holds: impl Fn(Ordering) -> bool) -> Result<'a> {
    let [a, b] = args else { return no_overload() };
    if matches!((a, b), (Value::Double(x), _) | (_, Value::Double(x)) if x.is_nan()) {
        return fail("NaN values cannot be ordered");
    }
    match a.compare(b) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None => no_overload(),
    }
}

fn contained<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value, Value::List(list)] => {
            work::spend(list.len())?;
            Ok(Value::Bool(list.contains(value)?))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(map.find(key)?.is_some())),
        _ => no_overload(),
    }
}

fn size<'a>(args: &[Value<'a>]) -> Result<'a> {
    let size = match args {
        [Value::String(text)] => text.as_str().chars().count(),
        [Value::Bytes(bytes)] => bytes.len(),
        [Value::List(list)] => list.len(),
        [Value::Map(map)] => map.len(),
        _ => return no_overload(),
    };
    int(i64::try_from(size).ok())
}

fn map_insert<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Map(map), key, value] => {
            work::spend(map.len() + 1)?;
            let mut map = map.clone();
            map.insert(key.clone(), value.clone())?;
            Ok(Value::Map(map))
        }
        [Value::Map(map), Value::Map(more)] => {
            work::spend(map.len() + more.len())?;
            let mut map = map.clone();
            for (key, value) in more.entries()? {
                map.insert(key, value)?;
            }
            Ok(Value::Map(map))
        }
        _ => no_overload(),
    }
}

fn not_strictly_false<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Bool(!matches!(args, [Value::Bool(false)])))
}
