//! Places in a value: finding them, reading what is there, changing it.

use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::path::{Opt, Part as Step};
use serde_json::{Map, Value};

use super::super::MAX_ITEMS;
use super::eval::{Failure, MAX_NESTING, Part, Query, Variables, cost, list, raised, truthy};

/// Keys from the root on: texts, numbers, and for a part of a list an object of `start` and `end`.
pub(super) type Path = Vec<Value>;

/// The places that a term means, with what is there.
pub(super) fn of(
    query: &Query,
    term: &Part<'_>,
    input: &Value,
    names: &Variables,
) -> Result<Vec<(Path, Value)>, Failure> {
    query.spend(1)?;
    query.deeper(|| places(query, term, input, names))
}

fn places(
    query: &Query,
    term: &Part<'_>,
    input: &Value,
    names: &Variables,
) -> Result<Vec<(Path, Value)>, Failure> {
    match term {
        Term::Id => {
            query.spend(cost(input))?;
            Ok(vec![(Path::new(), input.clone())])
        }
        Term::Recurse => recursed(query, input),
        Term::Path(base, steps) => {
            let mut found = match base.as_ref() {
                Term::Id | Term::Recurse | Term::Path(..) => of(query, base, input, names)?,
                other => {
                    let values = query.outputs(other, input, names)?;
                    values.into_iter().map(|value| (Path::new(), value)).collect()
                }
            };
            for (step, optional) in &steps.0 {
                let mut next = Vec::new();
                for (path, value) in found {
                    match stepped(query, step, (path, value), input, names) {
                        Ok(more) => next.extend(more),
                        Err(Failure::Raised(_)) if matches!(optional, Opt::Optional) => {}
                        Err(failure) => return Err(failure),
                    }
                }
                found = next;
            }
            Ok(found)
        }
        Term::BinOp(left, BinaryOp::Pipe(None), right) => {
            let mut out = Vec::new();
            for (path, value) in of(query, left, input, names)? {
                out.extend(below(&path, of(query, right, &value, names)?));
            }
            Ok(out)
        }
        Term::BinOp(left, BinaryOp::Comma, right) => {
            let mut out = of(query, left, input, names)?;
            out.extend(of(query, right, input, names)?);
            Ok(out)
        }
        Term::BinOp(left, BinaryOp::Alt, right) => {
            let first = of(query, left, input, names)?;
            let some: Vec<_> = first.into_iter().filter(|(_, value)| truthy(value)).collect();
            if some.is_empty() { of(query, right, input, names) } else { Ok(some) }
        }
        Term::Call(name, arguments) => match (*name, arguments.as_slice()) {
            ("empty", []) => Ok(Vec::new()),
            ("recurse", []) => recursed(query, input),
            ("select", [condition]) => {
                let times =
                    query.outputs(condition, input, names)?.iter().filter(|value| truthy(value)).count();
                query.spend(times.saturating_mul(cost(input)))?;
                Ok(vec![(Path::new(), input.clone()); times])
            }
            ("first" | "last", []) => {
                let index = Value::from(if *name == "first" { 0 } else { -1 });
                let value = member(input, &index)?;
                Ok(vec![(vec![index], value)])
            }
            ("getpath", [path]) => {
                let mut out = Vec::new();
                for path in query.outputs(path, input, names)? {
                    let Value::Array(path) = path else { return Err(raised("a path is a list")) };
                    let value = get(input, &path)?;
                    query.spend(cost(&value))?;
                    out.push((path, value));
                }
                Ok(out)
            }
            _ => Err(raised(format!("{name} means no place in a value"))),
        },
        _ => Err(raised("this part of the query means no place in a value")),
    }
}

fn below(path: &Path, found: Vec<(Path, Value)>) -> impl Iterator<Item = (Path, Value)> {
    found.into_iter().map(move |(more, value)| (path.iter().cloned().chain(more).collect(), value))
}

/// A value and everything in it.
fn recursed(query: &Query, value: &Value) -> Result<Vec<(Path, Value)>, Failure> {
    query.spend(cost(value))?;
    let mut out = vec![(Path::new(), value.clone())];
    for (key, part) in parts(value) {
        let inner = query.deeper(|| recursed(query, part))?;
        query.spend(inner.len())?;
        out.extend(below(&vec![key], inner));
    }
    Ok(out)
}

fn parts(value: &Value) -> Vec<(Value, &Value)> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (Value::from(index), item)).collect()
        }
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (Value::from(key.as_str()), value)).collect()
        }
        _ => Vec::new(),
    }
}

/// One step further from a place. Keys are worked out on the query's own input.
fn stepped(
    query: &Query,
    step: &Step<Part<'_>>,
    (path, value): (Path, Value),
    input: &Value,
    names: &Variables,
) -> Result<Vec<(Path, Value)>, Failure> {
    query.spend(cost(&value))?;
    let to = |key: Value, value: Value| {
        let path = path.iter().cloned().chain([key]).collect();
        (path, value)
    };
    match step {
        Step::Index(key) => {
            let mut out = Vec::new();
            for key in query.outputs(key, input, names)? {
                let found = member(&value, &key)?;
                query.spend(cost(&found))?;
                out.push(to(key, found));
            }
            Ok(out)
        }
        Step::Range(None, None) => match &value {
            Value::Array(_) | Value::Object(_) => {
                Ok(parts(&value).into_iter().map(|(key, found)| to(key, found.clone())).collect())
            }
            other => Err(raised(format!("cannot go through {}", kind(other)))),
        },
        Step::Range(from, until) => {
            let bounds = |bound: &Option<Part<'_>>| match bound {
                Some(bound) => query.outputs(bound, input, names),
                None => Ok(vec![Value::Null]),
            };
            let (from, until) = (bounds(from)?, bounds(until)?);
            let mut out = Vec::new();
            for until in &until {
                for from in &from {
                    let key = serde_json::json!({ "start": from, "end": until });
                    let found = member(&value, &key)?;
                    query.spend(cost(&found))?;
                    out.push(to(key, found));
                }
            }
            Ok(out)
        }
    }
}

/// What is at a key of a value; null where nothing is.
pub(super) fn member(value: &Value, key: &Value) -> Result<Value, Failure> {
    match (value, key) {
        (Value::Null, Value::String(_) | Value::Number(_) | Value::Object(_) | Value::Null) => {
            Ok(Value::Null)
        }
        (Value::Object(entries), Value::String(key)) => Ok(entries.get(key).cloned().unwrap_or_default()),
        (Value::Array(items), Value::Number(_)) => {
            Ok(index(items.len(), key).and_then(|at| items.get(at)).cloned().unwrap_or_default())
        }
        (Value::Array(items), Value::Object(bounds)) => {
            let (from, until) = range(items.len(), bounds);
            Ok(Value::Array(items[from..until].to_vec()))
        }
        (Value::String(text), Value::Object(bounds)) => {
            let all: Vec<char> = text.chars().collect();
            let (from, until) = range(all.len(), bounds);
            Ok(Value::String(all[from..until].iter().collect()))
        }
        _ => Err(raised(format!("cannot look up {} in {}", key_told(key), kind(value)))),
    }
}

fn key_told(key: &Value) -> String {
    if key.is_string() || key.is_number() { key.to_string() } else { kind(key).to_owned() }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a list is far shorter than what a number holds exactly")]
fn whole(key: &Value) -> Option<i64> {
    key.as_i64().or_else(|| key.as_f64().map(|number| number.floor() as i64))
}

fn index(length: usize, key: &Value) -> Option<usize> {
    let at = whole(key)?;
    let length = i64::try_from(length).ok()?;
    usize::try_from(if at < 0 { at.checked_add(length)? } else { at }).ok()
}

fn range(length: usize, bounds: &Map<String, Value>) -> (usize, usize) {
    let bound = |name: &str, unset: usize| match bounds.get(name).and_then(whole) {
        None => unset,
        Some(at) if at < 0 => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
        Some(at) => usize::try_from(at).unwrap_or(usize::MAX).min(length),
    };
    let from = bound("start", 0);
    (from, bound("end", length).max(from))
}

pub(super) fn get(value: &Value, path: &[Value]) -> Result<Value, Failure> {
    check_length(path)?;
    let Some((key, rest)) = path.split_first() else { return Ok(value.clone()) };
    get(&member(value, key)?, rest)
}

/// Whatever follows a path calls itself for each of its keys.
fn check_length(path: &[Value]) -> Result<(), Failure> {
    if path.len() > MAX_NESTING {
        return Err(Failure::Stopped(format!("a path of {} keys; at most {MAX_NESTING}", path.len())));
    }
    Ok(())
}

/// The input with what `change` makes of every place that a term means; where it gives nothing, the place goes.
pub(super) fn update(
    query: &Query,
    term: &Part<'_>,
    input: &Value,
    names: &Variables,
    change: impl Fn(&Value) -> Result<Option<Value>, Failure>,
) -> Result<Value, Failure> {
    let found = of(query, term, input, names)?;
    let mut out = input.clone();
    let mut gone = Vec::new();
    for (path, _) in found {
        query.spend(cost(&out))?;
        match change(&get(&out, &path)?)? {
            Some(value) => out = set(&out, &path, value)?,
            None => gone.push(path),
        }
    }
    remove(query, out, gone)
}

/// A value with another one at a place.
pub(super) fn set(value: &Value, path: &[Value], new: Value) -> Result<Value, Failure> {
    check_length(path)?;
    let Some((key, rest)) = path.split_first() else { return Ok(new) };
    let inner = set(&member(value, key)?, rest, new)?;
    match (value, key) {
        (Value::Object(_) | Value::Null, Value::String(key)) => {
            let mut entries = value.as_object().cloned().unwrap_or_default();
            entries.insert(key.clone(), inner);
            Ok(Value::Object(entries))
        }
        (Value::Array(_) | Value::Null, Value::Number(_)) => {
            let mut items = value.as_array().cloned().unwrap_or_default();
            let at = index(items.len(), key).ok_or_else(|| raised(format!("{key} lies before the list")))?;
            if at >= MAX_ITEMS {
                return Err(Failure::Stopped(format!("a list of {at} items; at most {MAX_ITEMS}")));
            }
            if at >= items.len() {
                items.resize(at + 1, Value::Null);
            }
            items[at] = inner;
            list(items)
        }
        (Value::Array(items), Value::Object(bounds)) => {
            let (from, until) = range(items.len(), bounds);
            let Value::Array(inner) = inner else {
                return Err(raised("a part of a list must become a list"));
            };
            let mut items = items.clone();
            items.splice(from..until, inner);
            list(items)
        }
        _ => Err(raised(format!("cannot set {} of {}", key_told(key), kind(value)))),
    }
}

/// A value without some places: the last ones first, so that the others stay where they are.
pub(super) fn remove(query: &Query, value: Value, mut gone: Vec<Path>) -> Result<Value, Failure> {
    gone.sort_by(|left, right| {
        super::order::compare(&Value::Array(right.clone()), &Value::Array(left.clone()))
    });
    gone.dedup();
    let mut out = value;
    for path in gone {
        check_length(&path)?;
        query.spend(cost(&out))?;
        out = without(&out, &path)?;
    }
    Ok(out)
}

fn without(value: &Value, path: &[Value]) -> Result<Value, Failure> {
    let Some((key, rest)) = path.split_first() else { return Ok(Value::Null) };
    if !rest.is_empty() {
        let inner = member(value, key)?;
        if inner.is_null() {
            return Ok(value.clone());
        }
        let inner = without(&inner, rest)?;
        return set(value, std::slice::from_ref(key), inner);
    }
    match (value, key) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Object(entries), Value::String(key)) => Ok(Value::Object(
            entries
                .iter()
                .filter(|(own, _)| *own != key)
                .map(|(own, value)| (own.clone(), value.clone()))
                .collect(),
        )),
        (Value::Array(items), Value::Number(_)) => {
            let gone = index(items.len(), key);
            let kept =
                items.iter().enumerate().filter(|(at, _)| Some(*at) != gone).map(|(_, item)| item.clone());
            Ok(Value::Array(kept.collect()))
        }
        (Value::Array(_), Value::Object(_)) => {
            set(value, std::slice::from_ref(key), Value::Array(Vec::new()))
        }
        _ => Err(raised(format!("cannot remove {} of {}", key_told(key), kind(value)))),
    }
}
