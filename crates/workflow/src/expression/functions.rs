//! The built-in functions: pure ones. `file`, `glob` and `date` need a machine and come from a scope.

use serde_json::{Value, json};

use super::{MAX_ITEMS, render, truthy};

/// Names of the functions that need nothing but their arguments.
const NAMES: [&str; 33] = [
    "string",
    "list",
    "join",
    "split",
    "int",
    "float",
    "bool",
    "tojson",
    "json",
    "toyaml",
    "yaml",
    "shellquote",
    "shellparse",
    "trim",
    "len",
    "floor",
    "ceil",
    "round",
    "chunk",
    "at",
    "map",
    "filter",
    "entries",
    "eval",
    "jq",
    "relpath",
    "abspath",
    "range",
    "any",
    "makepath",
    "upper",
    "lower",
    "contains",
];
/// Functions that only a container has.
const DEFERRED: [&str; 3] = ["file", "glob", "date"];

/// Whether there is a built-in function of this name.
#[must_use]
pub fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn is_deferred(name: &str) -> bool {
    DEFERRED.contains(&name)
}

/// A number, also when a text says it.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// A whole number, also when a text says it.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("{name} wants {wanted}"));
    Ok(match (name, arguments) {
        ("string", values) => Value::String(values.iter().map(render).collect()),
        ("list", values) => Value::Array(values.to_vec()),
        ("join", [Value::Null, ..]) => Value::Null,
        ("join", [Value::Array(items)]) => joined(items, ",").into(),
        ("join", [Value::Array(items), by]) => joined(items, &render(by)).into(),
        ("join", _) => return wrong("a list and, if not a comma, what stands between"),
        ("split", [text]) => parted(&render(text), ","),
        ("split", [text, by]) => parted(&render(text), &render(by)),
        ("split", _) => return wrong("a text and, if not a comma, where to part it"),
        ("int", [value]) => to_integer(value)?.into(),
        ("floor", [value]) => rounded(name, value, f64::floor)?,
        ("ceil", [value]) => rounded(name, value, f64::ceil)?,
        ("round", [value]) => rounded(name, value, f64::round)?,
        ("float", [value]) => {
            let found = number(value).and_then(serde_json::Number::from_f64);
            Value::Number(found.ok_or_else(|| format!("float: {value} is no number"))?)
        }
        ("bool", [value]) => truthy(value).into(),
        ("tojson", [value]) => value.to_string().into(),
        ("json", [Value::String(text)]) => {
            serde_json::from_str(text).map_err(|error| format!("json: {error}"))?
        }
        ("toyaml", [value]) => {
            serde_saphyr::to_string(value).map_err(|error| format!("toyaml: {error}"))?.into()
        }
        ("yaml", [Value::String(text)]) => {
            serde_saphyr::from_str(text).map_err(|error| format!("yaml: {error}"))?
        }
        ("shellquote", values) => {
            values.iter().map(|value| quote(&render(value))).collect::<Vec<_>>().join(" ").into()
        }
        ("shellparse", [text]) => json!(crate::words::words(&render(text))?),
        ("trim", [Value::String(text)]) => text.trim().into(),
        ("upper", [text]) => render(text).to_uppercase().into(),
        ("lower", [text]) => render(text).to_lowercase().into(),
        ("contains", [Value::Array(items), item]) => items.contains(item).into(),
        ("contains", [text, part]) => render(text).contains(&render(part)).into(),
        ("len", [Value::Array(items)]) => items.len().into(),
        ("len", [Value::Object(entries)]) => entries.len().into(),
        ("len", [Value::String(text)]) => text.len().into(),
        ("chunk", [Value::Array(items), size]) => {
            let size = integer(size).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
            let size = size.ok_or("chunk wants a size of at least 1")?;
            items.chunks(size).map(|chunk| Value::Array(chunk.to_vec())).collect()
        }
        ("at", [of, key]) => at(of, key)?,
        ("entries", [Value::Object(entries)]) => {
            entries.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
        }
        ("relpath", [to]) => relative(&render(to), "/").into(),
        ("relpath", [to, from]) => relative(&render(to), &render(from)).into(),
        ("abspath", [path]) => absolute(&render(path), "/").into(),
        ("abspath", [path, base]) => absolute(&render(path), &render(base)).into(),
        ("makepath", [base, parts @ ..]) => {
            let parts = parts.iter().map(render);
            absolute(&parts.fold(render(base), |path, part| format!("{path}/{part}")), "/").into()
        }
        ("range", [end]) => range(0, to_integer(end)?)?,
        ("range", [begin, end]) => range(to_integer(begin)?, to_integer(end)?)?,
        ("any", values) => {
            values.iter().find(|value| truthy(value)).or(values.last()).cloned().unwrap_or_default()
        }
        ("jq", [value, Value::String(query)]) => {
            super::jq::run(value, query).map_err(|why| format!("jq: {why}"))?
        }
        ("jq", _) => return wrong("a value and a query as text"),
        ("map" | "filter", _) => return wrong("a list and an expression as text"),
        ("eval", _) => return wrong("an expression as text"),
        _ => return Err(format!("{name} does not take {}", told(arguments))),
    })
}

fn told(arguments: &[Value]) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    if arguments.is_empty() {
        return "no arguments".to_owned();
    }
    arguments.iter().map(kind).collect::<Vec<_>>().join(", ")
}

fn joined(items: &[Value], by: &str) -> String {
    items.iter().map(render).collect::<Vec<_>>().join(by)
}

fn parted(text: &str, by: &str) -> Value {
    if by.is_empty() {
        return text.chars().take(MAX_ITEMS).map(|c| Value::String(c.to_string())).collect();
    }
    text.split(by).take(MAX_ITEMS).map(Value::from).collect()
}

fn to_integer(value: &Value) -> Result<i64, String> {
    let told = || format!("{value} is no whole number");
    match (integer(value), value) {
        (Some(whole), _) => Ok(whole),
        (None, Value::Bool(value)) => Ok(i64::from(*value)),
        _ => rounded("int", value, f64::trunc)?.as_i64().ok_or_else(told),
    }
}

fn rounded(name: &str, value: &Value, how: fn(f64) -> f64) -> Result<Value, String> {
    let found = number(value).map(how).ok_or_else(|| format!("{name}: {value} is no number"))?;
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit was refused one line before")]
    if found.abs() < 9e15 { Ok((found as i64).into()) } else { Err(format!("{name}: {value} is too large")) }
}

fn at(of: &Value, key: &Value) -> Result<Value, String> {
    let index = || integer(key).and_then(|index| usize::try_from(index).ok());
    let outside = |length: usize| format!("at: there is no {key} among {length}");
    match of {
        Value::Array(items) => {
            index().and_then(|i| items.get(i)).cloned().ok_or_else(|| outside(items.len()))
        }
        Value::Object(entries) => Ok(entries.get(&render(key)).cloned().unwrap_or_default()),
        Value::String(text) => {
            let found = index().and_then(|index| text.chars().nth(index));
            found.map(|c| Value::String(c.to_string())).ok_or_else(|| outside(text.chars().count()))
        }
        _ => Err("at wants a list, an object or a text, and a place in it".to_owned()),
    }
}

fn range(begin: i64, end: i64) -> Result<Value, String> {
    let length = end.saturating_sub(begin);
    if usize::try_from(length.max(0)).map_or(true, |length| length > MAX_ITEMS) {
        return Err(format!("range: more than {MAX_ITEMS} numbers"));
    }
    Ok((begin..end).map(Value::from).collect())
}

/// In single quotes unless nothing in it means anything to a shell.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Cleaned of `.`, `..` and double slashes; from `base` when it does not begin with a slash.
#[must_use]
pub fn absolute(path: &str, base: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn relative(to: &str, from: &str) -> String {
    let (to, from) = (absolute(to, "/"), absolute(from, "/"));
    let parts =
        |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (to, from) = (parts(&to), parts(&from));
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let path = up.chain(to[common..].iter().cloned()).collect::<Vec<_>>().join("/");
    if path.is_empty() { ".".to_owned() } else { path }
}
