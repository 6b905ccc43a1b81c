//! `fieldPath` of a rule: a JSON path of names alone, checked against the schema (upstream `ValidFieldPath`).

use api_machinery::schema::{Additional, Schema};

/// The path as field errors write it (`spec.ports[a/b]`), without a leading dot.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn normalize(path: &str, schema: &Schema) -> Result<String, String> {
    const END: &str = "unexpected end of JSON path";
    let mut out = String::new();
    let mut here = Some(schema);
    let mut tokens = tokens(path).into_iter();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "[" => {
                let quoted = tokens.next().ok_or(END)?;
                let name = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = name.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(name)?;
                here = step(&name, here, &mut out)?;
                let close = tokens.next().ok_or(END)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
            }
            "." => {
                let name = tokens.next().ok_or(END)?;
                here = step(&name, here, &mut out)?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(out)
}

fn step<'s>(name: &str, here: Option<&'s Schema>, out: &mut String) -> Result<Option<&'s Schema>, String> {
    const WRONG: &str = "does not refer to a valid field";
    let here = here.ok_or(WRONG)?;
    if !here.properties.is_empty() {
        let child = here.properties.get(name).ok_or(WRONG)?;
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
        return Ok(Some(child.schema()));
    }
    match &here.additional {
        Additional::Schema(values) => {
            out.push_str(&format!("[{name}]"));
            Ok(Some(values.schema()))
        }
        Additional::None | Additional::Any => Err(WRONG.to_owned()),
    }
}

/// Dots, brackets, and what stands between them; a quoted text is one token.
fn tokens(path: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let length = if rest.starts_with('\'') {
            quoted_length(rest)
        } else if rest.starts_with(['.', '[', ']']) {
            1
        } else {
            rest.find(['.', '[', ']']).unwrap_or(rest.len())
        };
        out.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    out
}

fn quoted_length(text: &str) -> usize {
    let mut before = '\'';
    for (at, letter) in text.char_indices().skip(1) {
        if letter == '\'' && before != '\\' {
            return at + 1;
        }
        before = letter;
    }
    text.len()
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let Some(escaped) = letters.next() else {
            out.push('\\');
            break;
        };
        out.push(match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\'' | '\\' => escaped,
            other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
        });
    }
    Ok(out)
}
