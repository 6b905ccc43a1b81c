//! The functions of a query, and arithmetic.

use jaq_core::ops::Math;
use regex::Regex;
use serde_json::{Map, Number, Value, json};

use super::super::MAX_ITEMS;
use super::eval::{
    Failure, Outputs, Part, Query, Variables, cost, formatted, list, raised, text, told, truthy,
};
use super::order::{compare, keys};
use super::paths::{self, kind};

/// Calls a function. What takes terms works them out itself; to others each combination of their values is given.
pub(super) fn call(
    query: &Query,
    name: &str,
    arguments: &[Part<'_>],
    input: &Value,
    names: &Variables,
) -> Outputs {
    let of = |term: &Part<'_>, value: &Value| query.outputs(term, value, names);
    match (name, arguments) {
        ("empty", []) => Ok(Vec::new()),
        ("null", []) => Ok(vec![Value::Null]),
        ("true" | "false", []) => Ok(vec![Value::Bool(name == "true")]),
        ("error", []) => Err(Failure::Raised(input.clone())),
        ("error", [message]) => match of(message, input)?.into_iter().next() {
            Some(message) => Err(Failure::Raised(message)),
            None => Ok(Vec::new()),
        },
        ("not", []) => Ok(vec![Value::Bool(!truthy(input))]),
        ("select" | "recurse" | "first" | "last", _) if is_place(name, arguments) => {
            let found = paths::of(query, &owned_call(name, arguments), input, names)?;
            Ok(found.into_iter().map(|(_, value)| value).collect())
        }
        ("recurse", [next]) => recurse(query, next, input, names),
        ("map", [change]) => {
            let mut out = Vec::new();
            for item in items(input)? {
                out.extend(of(change, item)?);
            }
            query.one(list(out)?)
        }
        ("map_values", [change]) => {
            let first = |value: &Value| Ok::<_, Failure>(of(change, value)?.into_iter().next());
            match input {
                Value::Array(items) => {
                    let kept = items.iter().map(first).collect::<Result<Vec<_>, _>>()?;
                    query.one(Value::Array(kept.into_iter().flatten().collect()))
                }
                Value::Object(entries) => {
                    let mut kept = Map::new();
                    for (key, value) in entries {
                        if let Some(value) = first(value)? {
                            kept.insert(key.clone(), value);
                        }
                    }
                    query.one(Value::Object(kept))
                }
                other => Err(raised(format!("cannot go through {}", kind(other)))),
            }
        }
        ("with_entries", [change]) => {
            let mut out = Vec::new();
            for entry in items(&entries(input)?)? {
                out.extend(of(change, entry)?);
            }
            query.one(from_entries(&out)?)
        }
        ("walk", [change]) => query.deeper(|| walk(query, change, input, names)),
        ("sort_by" | "group_by" | "unique_by" | "min_by" | "max_by", [by]) => {
            let mut keyed = Vec::new();
            for item in items(input)? {
                keyed.push((Value::Array(of(by, item)?), item.clone()));
            }
            query.spend(keyed.len().saturating_mul(16))?;
            query.one(by_key(name, keyed))
        }
        ("any" | "all", [condition]) => quantified(name, items(input)?, |item| of(condition, item)),
        ("any" | "all", [generator, condition]) => {
            quantified(name, &of(generator, input)?, |item| of(condition, item))
        }
        ("add", [terms]) => query.one(added(query, &of(terms, input)?)?),
        ("first", [terms]) => Ok(of(terms, input)?.into_iter().take(1).collect()),
        ("last", [terms]) => Ok(of(terms, input)?.pop().into_iter().collect()),
        ("limit", [count, terms]) => {
            let mut out = Vec::new();
            for count in of(count, input)? {
                let count = usize::try_from(integer(&count)?).unwrap_or(0);
                out.extend(of(terms, input)?.into_iter().take(count));
            }
            Ok(out)
        }
        ("isempty", [terms]) => Ok(vec![Value::Bool(of(terms, input)?.is_empty())]),
        ("path", [terms]) => {
            let found = paths::of(query, terms, input, names)?;
            query.each(found.into_iter().map(|(path, _)| Value::Array(path)).collect(), Ok)
        }
        ("paths", []) => {
            let all = paths::of(query, &Part::Recurse, input, names)?;
            let below = all.into_iter().filter(|(path, _)| !path.is_empty());
            query.each(below.map(|(path, _)| Value::Array(path)).collect(), Ok)
        }
        ("del", [terms]) => {
            let gone = paths::of(query, terms, input, names)?.into_iter().map(|(path, _)| path).collect();
            query.one(paths::remove(query, input.clone(), gone)?)
        }
        ("to_entries" | "keys" | "sort", [_, ..]) => unknown(name, arguments.len()),
        _ => {
            let mut rows = vec![Vec::new()];
            for argument in arguments {
                let values = of(argument, input)?;
                query.spend(rows.len().saturating_mul(values.iter().map(cost).sum()))?;
                query.spend(values.len().saturating_mul(rows.iter().flatten().map(cost).sum()))?;
                let with = |value| {
                    let own = |row: &Vec<Value>| row.iter().chain([value]).cloned().collect::<Vec<_>>();
                    rows.iter().map(own).collect::<Vec<_>>()
                };
                rows = values.iter().flat_map(with).collect();
            }
            let mut out = Vec::new();
            for row in rows {
                query.spend(cost(input))?;
                for value in plain(query, name, &row, input)? {
                    out.extend(query.one(value)?);
                }
            }
            Ok(out)
        }
    }
}

fn unknown<T>(name: &str, arguments: usize) -> Result<T, Failure> {
    Err(Failure::Stopped(format!("there is no function {name} with {arguments} arguments")))
}

/// Those that mean places in their input.
fn is_place(name: &str, arguments: &[Part<'_>]) -> bool {
    matches!((name, arguments.len()), ("select", 1) | ("recurse" | "first" | "last", 0))
}

fn owned_call<'q>(name: &str, arguments: &[Part<'q>]) -> Part<'q> {
    let name = ["select", "recurse", "first", "last"].into_iter().find(|own| *own == name).unwrap_or("empty");
    Part::Call(name, arguments.to_vec())
}

/// Functions of values alone: all their outputs.
fn plain(query: &Query, name: &str, arguments: &[Value], input: &Value) -> Outputs {
    let one = |value: Value| Ok(vec![value]);
    match (name, arguments) {
        ("length", []) => one(length(input)?),
        ("utf8bytelength", []) => one(string(input)?.len().into()),
        ("keys" | "keys_unsorted", []) => one(match input {
            Value::Object(entries) => {
                keys(entries).into_iter().map(|key| Value::from(key.as_str())).collect()
            }
            other => (0..items(other)?.len()).map(Value::from).collect(),
        }),
        (
            "values" | "nulls" | "booleans" | "numbers" | "strings" | "arrays" | "objects" | "iterables"
            | "scalars",
            [],
        ) => {
            let kept = match name {
                "values" => !input.is_null(),
                "iterables" => input.is_array() || input.is_object(),
                "scalars" => !(input.is_array() || input.is_object()),
                _ => name.strip_suffix('s') == Some(kind(input)),
            };
            Ok(if kept { vec![input.clone()] } else { Vec::new() })
        }
        ("has", [key]) => one(match (input, key) {
            (Value::Object(entries), Value::String(key)) => entries.contains_key(key),
            (Value::Array(items), Value::Number(_)) => {
                usize::try_from(integer(key)?).is_ok_and(|at| at < items.len())
            }
            _ => return Err(raised(format!("{} has no {key}", kind(input)))),
        }
        .into()),
        ("in", [object]) => plain(query, "has", std::slice::from_ref(input), object),
        ("contains", [part]) => one(contains(query, input, part)?.into()),
        ("inside", [whole]) => one(contains(query, whole, input)?.into()),
        ("to_entries", []) => one(entries(input)?),
        ("from_entries", []) => one(from_entries(items(input)?)?),
        ("add", []) => one(added(query, items(input)?)?),
        ("any", []) => one(items(input)?.iter().any(truthy).into()),
        ("all", []) => one(items(input)?.iter().all(truthy).into()),
        ("flatten", []) => one(list(flat(items(input)?, usize::MAX))?),
        ("flatten", [depth]) => {
            one(list(flat(items(input)?, usize::try_from(integer(depth)?).unwrap_or(0)))?)
        }
        ("range", [until]) => range(0, integer(until)?, 1),
        ("range", [from, until]) => range(integer(from)?, integer(until)?, 1),
        ("range", [from, until, by]) => range(integer(from)?, integer(until)?, integer(by)?),
        ("floor" | "ceil" | "round" | "sqrt" | "fabs", []) => {
            let value = float(input)?;
            one(number(match name {
                "floor" => value.floor(),
                "ceil" => value.ceil(),
                "round" => value.round(),
                "sqrt" => value.sqrt(),
                _ => value.abs(),
            }))
        }
        ("abs", []) => match float(input)? < 0.0 {
            true => one(arithmetic(query, Math::Sub, &Value::from(0), input)?),
            false => one(input.clone()),
        },
        ("pow", [base, power]) => one(number(float(base)?.powf(float(power)?))),
        ("tostring", []) => one(text(told(input))?),
        ("tojson", []) => one(text(input.to_string())?),
        ("fromjson", []) => {
            let value = serde_json::from_str(string(input)?);
            one(value.map_err(|error| raised(format!("fromjson: {error}")))?)
        }
        ("tonumber", []) => match input {
            Value::Number(_) => one(input.clone()),
            other => {
                let number: Option<Number> = string(other)?.trim().parse().ok();
                one(Value::Number(number.ok_or_else(|| raised(format!("{other} is no number")))?))
            }
        },
        ("toarray", []) => one(if input.is_array() { input.clone() } else { json!([input]) }),
        ("type", []) => one(kind(input).into()),
        ("sort" | "unique", []) => {
            let mut all = items(input)?.to_vec();
            all.sort_by(compare);
            if name == "unique" {
                all.dedup_by(|left, right| compare(left, right).is_eq());
            }
            one(Value::Array(all))
        }
        ("min", []) => one(items(input)?.iter().min_by(|l, r| compare(l, r)).cloned().unwrap_or_default()),
        ("max", []) => one(items(input)?.iter().max_by(|l, r| compare(l, r)).cloned().unwrap_or_default()),
        ("reverse", []) => one(match input {
            Value::String(text) => Value::String(text.chars().rev().collect()),
            Value::Null => json!([]),
            other => items(other)?.iter().rev().cloned().collect(),
        }),
        ("transpose", []) => {
            let rows = items(input)?.iter().map(items).collect::<Result<Vec<_>, _>>()?;
            let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
            query.spend(width.saturating_mul(rows.len()))?;
            let column =
                |at: usize| rows.iter().map(|row| row.get(at).cloned().unwrap_or_default()).collect();
            one(Value::Array((0..width).map(column).collect()))
        }
        ("nth", [at]) => one(paths::member(input, at)?),
        ("getpath", [Value::Array(path)]) => one(paths::get(input, path)?),
        ("setpath", [Value::Array(path), value]) => one(paths::set(input, path, value.clone())?),
        ("delpaths", [Value::Array(gone)]) => {
            let gone =
                gone.iter().map(|path| items(path).map(<[Value]>::to_vec)).collect::<Result<_, _>>()?;
            one(paths::remove(query, input.clone(), gone)?)
        }
        ("index" | "rindex" | "indices", [wanted]) => one(places(query, name, input, wanted)?),
        _ => texts(query, name, arguments, input),
    }
}

/// Functions of texts.
fn texts(query: &Query, name: &str, arguments: &[Value], input: &Value) -> Outputs {
    let one = |value: Value| Ok(vec![value]);
    match (name, arguments) {
        ("startswith", [part]) => one(string(input)?.starts_with(string(part)?).into()),
        ("endswith", [part]) => one(string(input)?.ends_with(string(part)?).into()),
        ("ltrimstr", [part]) => {
            let rest = input.as_str().zip(part.as_str()).and_then(|(text, part)| text.strip_prefix(part));
            one(rest.map_or_else(|| input.clone(), Value::from))
        }
        ("rtrimstr", [part]) => {
            let rest = input.as_str().zip(part.as_str()).and_then(|(text, part)| text.strip_suffix(part));
            one(rest.map_or_else(|| input.clone(), Value::from))
        }
        ("trim", []) => one(string(input)?.trim().into()),
        ("ltrim", []) => one(string(input)?.trim_start().into()),
        ("rtrim", []) => one(string(input)?.trim_end().into()),
        ("split", [by]) => {
            let (text, by) = (string(input)?, string(by)?);
            let parts: Vec<Value> = match (text, by) {
                ("", _) => Vec::new(),
                (text, "") => {
                    text.chars().take(MAX_ITEMS + 1).map(|own| Value::from(own.to_string())).collect()
                }
                (text, by) => text.split(by).take(MAX_ITEMS + 1).map(Value::from).collect(),
            };
            one(list(parts)?)
        }
        ("join", [by]) => {
            let word = |value: &Value| match value {
                Value::Null => Ok(String::new()),
                Value::Array(_) | Value::Object(_) => Err(raised(format!("cannot join {}", kind(value)))),
                other => Ok(told(other)),
            };
            let words = items(input)?.iter().map(word).collect::<Result<Vec<_>, _>>()?;
            query.spend(words.len().saturating_mul(1 + told(by).len() / 16))?;
            one(text(words.join(string(by)?))?)
        }
        ("ascii_downcase", []) => one(string(input)?.to_ascii_lowercase().into()),
        ("ascii_upcase", []) => one(string(input)?.to_ascii_uppercase().into()),
        ("explode", []) => {
            let all = string(input)?.chars().take(MAX_ITEMS + 1);
            one(list(all.map(|own| Value::from(u32::from(own))).collect())?)
        }
        ("implode", []) => {
            let one_of = |value: &Value| {
                let code = u32::try_from(integer(value)?).ok().and_then(char::from_u32);
                code.ok_or_else(|| raised(format!("{value} is no character")))
            };
            one(items(input)?.iter().map(one_of).collect::<Result<String, _>>().map(Value::String)?)
        }
        ("test", [pattern]) => one(regex(query, pattern, "", input)?.is_match(string(input)?).into()),
        ("test", [pattern, flags]) => {
            one(regex(query, pattern, &flags_of(flags), input)?.is_match(string(input)?).into())
        }
        ("capture", [pattern]) => {
            let regex = regex(query, pattern, "", input)?;
            query.spend(regex.captures_len().saturating_mul(cost(input)))?;
            let Some(found) = regex.captures(string(input)?) else { return Ok(Vec::new()) };
            let named = regex.capture_names().flatten().map(|name| {
                (name.to_owned(), found.name(name).map_or(Value::Null, |own| own.as_str().into()))
            });
            one(Value::Object(named.collect()))
        }
        ("scan", [pattern]) => {
            let regex = regex(query, pattern, "", input)?;
            let groups = regex.captures_len() > 1;
            let part = |own: Option<regex::Match<'_>>| own.map_or(Value::Null, |own| own.as_str().into());
            let mut out = Vec::new();
            for found in regex.captures_iter(string(input)?).take(MAX_ITEMS) {
                let length = found.get(0).map_or(0, |own| own.as_str().len());
                query.spend(regex.captures_len().saturating_mul(1 + length / 16))?;
                out.push(if groups { found.iter().skip(1).map(part).collect() } else { part(found.get(0)) });
            }
            Ok(out)
        }
        ("sub" | "gsub", [pattern, to]) => {
            let (regex, source, to) = (regex(query, pattern, "", input)?, string(input)?, string(to)?);
            let times = if name == "sub" { 1 } else { regex.find_iter(source).count() };
            query.spend(times.saturating_mul(1 + to.len() / 16))?;
            one(text(regex.replacen(source, times.max(1), regex::NoExpand(to)).into_owned())?)
        }
        (format, []) if format.starts_with('@') => one(text(formatted(format, input)?)?),
        _ => unknown(name, arguments.len()),
    }
}

fn flags_of(flags: &Value) -> String {
    flags.as_str().unwrap_or_default().chars().filter(|own| matches!(own, 'i' | 'x' | 's')).collect()
}

fn regex(query: &Query, pattern: &Value, flags: &str, input: &Value) -> Result<Regex, Failure> {
    query.regex(string(pattern)?, flags, string(input)?)
}

pub(super) fn arithmetic(
    query: &Query,
    operator: Math,
    left: &Value,
    right: &Value,
) -> Result<Value, Failure> {
    let wrong =
        || raised(format!("{} and {} cannot be combined by {}", kind(left), kind(right), operator.as_str()));
    match (operator, left, right) {
        (Math::Add, Value::Null, other) | (Math::Add, other, Value::Null) => Ok(other.clone()),
        (Math::Add, Value::String(left), Value::String(right)) => text(format!("{left}{right}")),
        (Math::Add, Value::Array(left), Value::Array(right)) => list([left.as_slice(), right].concat()),
        (Math::Add, Value::Object(left), Value::Object(right)) => {
            Ok(Value::Object(left.clone().into_iter().chain(right.clone()).collect()))
        }
        (Math::Sub, Value::Array(items), Value::Array(right)) => {
            // Each is looked for among all of them.
            query.spend(cost(left).saturating_mul(right.len()) / 8)?;
            let kept = items.iter().filter(|item| right.iter().all(|other| compare(item, other).is_ne()));
            Ok(kept.cloned().collect())
        }
        (Math::Mul, Value::String(own), Value::Number(_))
        | (Math::Mul, Value::Number(_), Value::String(own)) => {
            let times = if left.is_number() { float(left)? } else { float(right)? };
            if times <= 0.0 {
                return Ok(Value::Null);
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "larger ones are refused by their length"
            )]
            let times = times.ceil() as usize;
            if own.len().saturating_mul(times) > super::MAX_QUERY.saturating_mul(256) {
                return Err(Failure::Stopped("a text that is repeated too often".to_owned()));
            }
            text(own.repeat(times))
        }
        (Math::Mul, Value::Object(left), Value::Object(right)) => Ok(Value::Object(merged(left, right))),
        (Math::Div, Value::String(own), Value::String(by)) => {
            let parts = if own.is_empty() { None } else { Some(own.split(by.as_str())) };
            list(parts.into_iter().flatten().take(MAX_ITEMS + 1).map(Value::from).collect())
        }
        (_, Value::Number(_), Value::Number(_)) => numbers(operator, left, right),
        _ => Err(wrong()),
    }
}

fn numbers(operator: Math, left: &Value, right: &Value) -> Result<Value, Failure> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        let whole = match operator {
            Math::Add => left.checked_add(right),
            Math::Sub => left.checked_sub(right),
            Math::Mul => left.checked_mul(right),
            Math::Div if right != 0 && left.checked_rem(right) == Some(0) => left.checked_div(right),
            Math::Div => None,
            Math::Rem => left.checked_rem(right),
        };
        if let Some(whole) = whole {
            return Ok(whole.into());
        }
    }
    let (left, right) = (float(left)?, float(right)?);
    if matches!(operator, Math::Div | Math::Rem) && right == 0.0 {
        return Err(raised("division by zero"));
    }
    Ok(number(operator.run(left, right)))
}

/// Members of both that are objects become one.
fn merged(left: &Map<String, Value>, right: &Map<String, Value>) -> Map<String, Value> {
    let mut out = left.clone();
    for (key, value) in right {
        let value = match (out.get(key), value) {
            (Some(Value::Object(own)), Value::Object(other)) => Value::Object(merged(own, other)),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    out
}

#[expect(clippy::cast_possible_truncation, reason = "only what is exact becomes a whole number")]
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    // JSON has no infinity: the largest number stands for it.
    let bounded = if value.is_nan() { return Value::Null } else { value.clamp(f64::MIN, f64::MAX) };
    Number::from_f64(bounded).map_or(Value::Null, Value::Number)
}

fn float(value: &Value) -> Result<f64, Failure> {
    value.as_f64().ok_or_else(|| raised(format!("{} is no number", kind(value))))
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond it becomes the largest")]
fn integer(value: &Value) -> Result<i64, Failure> {
    value.as_i64().map_or_else(|| float(value).map(|number| number as i64), Ok)
}

fn string(value: &Value) -> Result<&str, Failure> {
    value.as_str().ok_or_else(|| raised(format!("{} is no string", kind(value))))
}

fn items(value: &Value) -> Result<&[Value], Failure> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| raised(format!("{} is no array", kind(value))))
}

fn length(value: &Value) -> Result<Value, Failure> {
    Ok(match value {
        Value::Null => 0.into(),
        Value::String(text) => text.chars().count().into(),
        Value::Array(items) => items.len().into(),
        Value::Object(entries) => entries.len().into(),
        Value::Number(_) => number(float(value)?.abs()),
        Value::Bool(_) => return Err(raised("boolean has no length")),
    })
}

fn entries(value: &Value) -> Result<Value, Failure> {
    let entries = value.as_object().ok_or_else(|| raised(format!("{} has no entries", kind(value))))?;
    Ok(entries.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect())
}

fn from_entries(entries: &[Value]) -> Result<Value, Failure> {
    let mut out = Map::new();
    for entry in entries {
        let find = |names: [&str; 5]| names.into_iter().find_map(|name| entry.get(name));
        let key = match find(["key", "k", "name", "Name", "Key"]) {
            Some(key @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => told(key),
            Some(Value::Null) | None => "null".to_owned(),
            Some(other) => return Err(raised(format!("{} is no name of a member", kind(other)))),
        };
        let value = find(["value", "v", "Value", "V", "value"]).cloned().unwrap_or_default();
        out.insert(key, value);
    }
    Ok(Value::Object(out))
}

fn added(query: &Query, all: &[Value]) -> Result<Value, Failure> {
    let mut sum = Value::Null;
    for value in all {
        query.spend(cost(&sum) / 8 + cost(value))?;
        sum = arithmetic(query, Math::Add, &sum, value)?;
    }
    Ok(sum)
}

fn contains(query: &Query, whole: &Value, part: &Value) -> Result<bool, Failure> {
    query.spend(1)?;
    // What cannot be compared is not the same.
    let within = |own: &Value, part: &Value| match contains(query, own, part) {
        Err(Failure::Raised(_)) => Ok(false),
        other => other,
    };
    Ok(match (whole, part) {
        (Value::String(whole), Value::String(part)) => {
            query.spend(whole.len() / 16)?;
            whole.contains(part.as_str())
        }
        (Value::Array(whole), Value::Array(parts)) => {
            for part in parts {
                let mut found = false;
                for own in whole {
                    found = found || within(own, part)?;
                }
                if !found {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(whole), Value::Object(parts)) => {
            for (key, part) in parts {
                let Some(own) = whole.get(key) else { return Ok(false) };
                if !within(own, part)? {
                    return Ok(false);
                }
            }
            true
        }
        (left, right) if kind(left) == kind(right) => compare(left, right).is_eq(),
        (left, right) => return Err(raised(format!("{} cannot hold {}", kind(left), kind(right)))),
    })
}

fn flat(items: &[Value], depth: usize) -> Vec<Value> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Value::Array(inner) if depth > 0 => out.extend(flat(inner, depth - 1)),
            other => out.push(other.clone()),
        }
    }
    out
}

fn range(from: i64, until: i64, by: i64) -> Outputs {
    let mut out = Vec::new();
    let mut at = from;
    while by != 0 && if by > 0 { at < until } else { at > until } {
        if out.len() >= MAX_ITEMS {
            return Err(Failure::Stopped(format!("range: more than {MAX_ITEMS} numbers")));
        }
        out.push(at.into());
        at = at.saturating_add(by);
    }
    Ok(out)
}

fn quantified(name: &str, all: &[Value], condition: impl Fn(&Value) -> Outputs) -> Outputs {
    let decides = name == "any";
    for item in all {
        if condition(item)?.iter().any(|value| truthy(value) == decides) {
            return Ok(vec![decides.into()]);
        }
    }
    Ok(vec![(!decides).into()])
}

fn by_key(name: &str, mut keyed: Vec<(Value, Value)>) -> Value {
    match name {
        "min_by" => {
            let least = keyed.into_iter().min_by(|left, right| compare(&left.0, &right.0));
            return least.map_or(Value::Null, |(_, item)| item);
        }
        "max_by" => {
            let most = keyed.into_iter().max_by(|left, right| compare(&left.0, &right.0));
            return most.map_or(Value::Null, |(_, item)| item);
        }
        _ => keyed.sort_by(|left, right| compare(&left.0, &right.0)),
    }
    let groups = keyed.chunk_by(|left, right| compare(&left.0, &right.0).is_eq());
    match name {
        "group_by" => {
            groups.map(|group| group.iter().map(|(_, item)| item.clone()).collect::<Value>()).collect()
        }
        "unique_by" => groups.filter_map(|group| group.first()).map(|(_, item)| item.clone()).collect(),
        _ => keyed.into_iter().map(|(_, item)| item).collect(),
    }
}

fn recurse(query: &Query, next: &Part<'_>, value: &Value, names: &Variables) -> Outputs {
    let mut out = query.one(value.clone())?;
    for value in query.outputs(next, value, names)? {
        out.extend(query.deeper(|| recurse(query, next, &value, names))?);
    }
    Ok(out)
}

/// Every part of a value first, then the value of its changed parts.
fn walk(query: &Query, change: &Part<'_>, value: &Value, names: &Variables) -> Outputs {
    let first = |part: &Value| query.deeper(|| walk(query, change, part, names));
    let inner = match value {
        Value::Array(items) => {
            let mut out = Vec::new();
            for item in items {
                out.extend(first(item)?);
            }
            list(out)?
        }
        Value::Object(entries) => {
            let mut out = Map::new();
            for (key, part) in entries {
                if let Some(part) = first(part)?.into_iter().next() {
                    out.insert(key.clone(), part);
                }
            }
            Value::Object(out)
        }
        other => other.clone(),
    };
    query.outputs(change, &inner, names)
}

/// Where something is in a text or a list.
fn places(query: &Query, name: &str, input: &Value, wanted: &Value) -> Result<Value, Failure> {
    let found: Vec<Value> = match (input, wanted) {
        (Value::Null, _) => return Ok(Value::Null),
        (Value::String(text), Value::String(part)) if !part.is_empty() => {
            query.spend(text.len().saturating_mul(part.len()) / 256)?;
            let starts =
                text.char_indices().enumerate().filter(|(_, (at, _))| text[*at..].starts_with(part.as_str()));
            starts.map(|(number, _)| number.into()).take(MAX_ITEMS + 1).collect()
        }
        (Value::Array(all), Value::Array(part)) if !part.is_empty() => {
            query.spend(all.len().saturating_mul(part.len()))?;
            let same =
                |window: &[Value]| window.iter().zip(part).all(|(left, right)| compare(left, right).is_eq());
            all.windows(part.len())
                .enumerate()
                .filter(|(_, own)| same(own))
                .map(|(at, _)| at.into())
                .collect()
        }
        (Value::Array(all), wanted) => {
            let same = all.iter().enumerate().filter(|(_, own)| compare(own, wanted).is_eq());
            same.map(|(at, _)| at.into()).collect()
        }
        _ => return Err(raised(format!("{} is not looked for in {}", kind(wanted), kind(input)))),
    };
    Ok(match name {
        "index" => found.into_iter().next().unwrap_or_default(),
        "rindex" => found.into_iter().last().unwrap_or_default(),
        _ => list(found)?,
    })
}
