//! List functions: Kubernetes' own, cel-go's `ext/lists.go` (version 3), and sets.

use std::cmp::Ordering;

use super::{Implementation, fail, no_overload, strings};
use crate::cel::error::EvalError;
use crate::cel::value::{List, Result, Value, equal};
use crate::cel::work;

use super::operators;

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "isSorted" => is_sorted,
        "sum" => sum,
        "max" => |args| extreme(args, "max", Ordering::Less),
        "min" => |args| extreme(args, "min", Ordering::Greater),
        "indexOf" => index_of,
        "lastIndexOf" => last_index_of,
        "slice" => slice,
        "flatten" => flatten,
        "sort" => |args| sort(args, 0),
        "@sortByAssociatedKeys" => |args| sort(args, 1),
        "lists.range" => range,
        "reverse" => reverse,
        "distinct" => distinct,
        "sets.contains" => |args| sets(args, contains_all),
        "sets.equivalent" => |args| sets(args, |a, b| Ok(contains_all(a, b)? && contains_all(b, a)?)),
        "sets.intersects" => |args| sets(args, intersects),
        _ => return None,
    })
}

pub(super) fn find_overload(overload: &str) -> Option<Implementation> {
    Some(match overload {
        "list_uint_sum_uint" => |args| sum_from(args, Value::Uint(0)),
        "list_double_sum_double" => |args| sum_from(args, Value::Double(0.0)),
        "list_duration_sum_duration" => |args| sum_from(args, Value::Duration(0)),
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut before: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if let Some(before) = &before {
            match before.compare(&item) {
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return no_overload(),
            }
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>]) -> Result<'a> {
    sum_from(args, Value::Int(0))
}

fn sum_from<'a>(args: &[Value<'a>], zero: Value<'a>) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if !matches!(item, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)) {
            return no_overload();
        }
        total = Some(match total {
            None => item,
            Some(total) => operators::add(&[total, item])?,
        });
    }
    Ok(total.unwrap_or(zero))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, prefer: Ordering) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut found: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        found = Some(match found {
            None => item,
            Some(found) => match found.compare(&item) {
                Some(order) if order == prefer => item,
                Some(_) => found,
                None => return no_overload(),
            },
        });
    }
    found.map_or_else(|| fail(format!("{name} called on empty list")), Ok)
}

fn position<'a>(index: Option<usize>) -> Value<'a> {
    Value::Int(index.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1))
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), value] = args else { return strings::index_of(args) };
    for (index, item) in list.iter().enumerate() {
        if equal(&item?, value)? {
            return Ok(position(Some(index)));
        }
    }
    Ok(position(None))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), value] = args else { return strings::last_index_of(args) };
    for index in (0..list.len()).rev() {
        if equal(&list.item(index)?, value)? {
            return Ok(position(Some(index)));
        }
    }
    Ok(position(None))
}

fn slice<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return no_overload() };
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return fail(format!("cannot slice({start}, {end}), negative indexes not supported"));
    };
    if from > to {
        return fail(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        ));
    }
    if to > list.len() {
        return fail(format!("cannot slice({start}, {end}), list is length {}", list.len()));
    }
    work::spend(to - from)?;
    Ok(Value::list((from..to).map(|index| list.item(index)).collect::<Out<_>>()?))
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut out = Vec::new();
    flatten_into(list, depth, 0, &mut out)?;
    Ok(Value::list(out))
}

/// Data nests no deeper than request bodies may.
const MAX_NESTING: usize = 512;

fn flatten_into<'a>(list: &List<'a>, depth: i64, nesting: usize, out: &mut Vec<Value<'a>>) -> Out<()> {
    work::spend(list.len())?;
    if nesting > MAX_NESTING {
        return Err(EvalError::new("list is nested too deeply"));
    }
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, nesting + 1, out)?,
            other => out.push(other),
        }
    }
    Ok(())
}

fn sort<'a>(args: &[Value<'a>], keys: usize) -> Result<'a> {
    let (Some(Value::List(list)), Some(Value::List(keys))) = (args.first(), args.get(keys)) else {
        return no_overload();
    };
    if list.len() != keys.len() {
        return fail(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        ));
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.values()?.into_iter().zip(list.values()?).collect();
    if let Some((first, _)) = pairs.first() {
        let kind = first.type_name();
        if first.compare(first).is_none() {
            return fail("list elements must be comparable");
        }
        if pairs.iter().any(|(key, _)| key.type_name() != kind) {
            return fail("list elements must have the same type");
        }
    }
    work::spend(pairs.len())?;
    pairs.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

fn range<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Int(count)] = args else { return no_overload() };
    work::spend(usize::try_from(*count).unwrap_or(0))?;
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    work::spend(list.len())?;
    let mut items = list.values()?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut out: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        work::spend(out.len())?;
        let mut seen = false;
        for other in &out {
            if equal(&item, other)? {
                seen = true;
                break;
            }
        }
        if !seen {
            out.push(item);
        }
    }
    Ok(Value::list(out))
}

fn sets<'a>(args: &[Value<'a>], holds: impl Fn(&List<'a>, &List<'a>) -> Out<bool>) -> Result<'a> {
    match args {
        [Value::List(a), Value::List(b)] => {
            work::spend(a.len().saturating_mul(b.len()))?;
            Ok(Value::Bool(holds(a, b)?))
        }
        _ => no_overload(),
    }
}

fn contains_all<'a>(a: &List<'a>, b: &List<'a>) -> Out<bool> {
    for item in b.iter() {
        if !a.contains(&item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(a: &List<'a>, b: &List<'a>) -> Out<bool> {
    for item in a.iter() {
        if b.contains(&item?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
