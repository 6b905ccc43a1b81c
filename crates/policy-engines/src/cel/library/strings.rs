//! Text functions (cel-go `ext/strings.go`, version 2). Positions count characters.

use super::{Implementation, fail, no_overload, string_format};
use crate::cel::error::EvalError;
use crate::cel::value::{Result, Value, texts};
use crate::cel::work;

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "charAt" => char_at,
        "contains" => |args| two(args).map(|(text, part)| Value::Bool(text.contains(part))),
        "startsWith" => |args| two(args).map(|(text, part)| Value::Bool(text.starts_with(part))),
        "endsWith" => |args| two(args).map(|(text, part)| Value::Bool(text.ends_with(part))),
        "lowerAscii" => |args| one(args).map(|text| Value::text(text.to_ascii_lowercase())),
        "upperAscii" => |args| one(args).map(|text| Value::text(text.to_ascii_uppercase())),
        "trim" => |args| one(args).map(|text| Value::text(text.trim())),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "format" => format,
        "strings.quote" => |args| one(args).map(|text| Value::text(quote(text))),
        "jsonpatch.escapeKey" => {
            |args| one(args).map(|text| Value::text(text.replace('~', "~0").replace('/', "~1")))
        }
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn one<'v>(args: &'v [Value<'_>]) -> Out<&'v str> {
    match args {
        [text] => text.as_str().ok_or_else(EvalError::no_such_overload),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn two<'v>(args: &'v [Value<'_>]) -> Out<(&'v str, &'v str)> {
    match args {
        [text, other] => Ok((one(std::slice::from_ref(text))?, one(std::slice::from_ref(other))?)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn out_of_range<'a>(index: i64) -> Result<'a> {
    fail(format!("index out of range: {index}"))
}

/// The byte at which the character of that number starts; the end for the number after the last.
fn byte_at(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().nth(index)
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::Int(index)] = args else { return no_overload() };
    let text = text.as_str();
    match byte_at(text, *index) {
        Some(at) => Ok(Value::text(text[at..].chars().take(1).collect::<String>())),
        None => out_of_range(*index),
    }
}

fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

/// `text.indexOf(part)` and with an offset.
pub(super) fn index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text.as_str(), part.as_str(), 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => {
            (text.as_str(), part.as_str(), *offset)
        }
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return out_of_range(offset);
    }
    let found = byte_at(text, offset).and_then(|from| {
        let at = text[from..].find(part)?;
        Some(offset + count(&text[from..from + at]))
    });
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// `text.lastIndexOf(part)` and with an offset.
pub(super) fn last_index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text.as_str(), part.as_str(), None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => {
            (text.as_str(), part.as_str(), Some(*offset))
        }
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or_else(|| count(text))));
    }
    let end = match offset {
        None => text.len(),
        Some(offset) if offset < 0 => return out_of_range(offset),
        Some(offset) => match byte_at(text, offset).filter(|at| *at < text.len()) {
            Some(at) => (at + part.len()).min(text.len()),
            None => return Ok(Value::Int(-1)),
        },
    };
    let end = text.ceil_char_boundary(end);
    Ok(Value::Int(text[..end].rfind(part).map_or(-1, |at| count(&text[..at]))))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, old, new, limit) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => {
            (text.as_str(), old.as_str(), new.as_str(), -1)
        }
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(limit)] => {
            (text.as_str(), old.as_str(), new.as_str(), *limit)
        }
        _ => return no_overload(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let matches = text.matches(old).count().min(limit);
    work::spend(text.len().saturating_add(matches.saturating_mul(new.len())))?;
    Ok(Value::text(text.replacen(old, new, matches)))
}

fn split<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text.as_str(), separator.as_str(), -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => {
            (text.as_str(), separator.as_str(), *limit)
        }
        _ => return no_overload(),
    };
    work::spend(text.len())?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    if !separator.is_empty() {
        return Ok(texts(text.splitn(limit, separator)));
    }
    // Every character for itself, the rest as one.
    let mut parts = Vec::new();
    let mut rest = text;
    while parts.len() + 1 < limit {
        let Some(letter) = rest.chars().next() else { break };
        parts.push(rest[..letter.len_utf8()].to_owned());
        rest = &rest[letter.len_utf8()..];
    }
    if !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    Ok(texts(parts))
}

fn substring<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text.as_str(), *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text.as_str(), *start, Some(*end)),
        _ => return no_overload(),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    let Some(from) = byte_at(text, start) else { return out_of_range(start) };
    let to = match end {
        None => text.len(),
        Some(end) => match byte_at(text, end) {
            Some(to) => to,
            None => return out_of_range(end),
        },
    };
    Ok(Value::text(&text[from..to]))
}

fn join<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        _ => return no_overload(),
    };
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        let item = item?;
        let Some(text) = item.as_str() else {
            return fail(format!("join: invalid input: {}", crate::cel::value::shown(&item)));
        };
        work::spend(text.len() + separator.len())?;
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
    }
    Ok(Value::text(out))
}

fn format<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(text), Value::List(list)] => {
            string_format::format(text.as_str(), list).map(Value::text)
        }
        _ => no_overload(),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
