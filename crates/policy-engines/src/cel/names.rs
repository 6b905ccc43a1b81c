//! How property names are written in expressions: what is no identifier, or a reserved word, is escaped.

use api_machinery::names::is_cel_word;

const ESCAPES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name of a property in expressions; `None` when it cannot be named (upstream `cel.Escape`).
pub(crate) fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if is_cel_word(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        if let Some((plain, escaped)) = ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            out.push_str(escaped);
            rest = &rest[plain.len()..];
        } else if letter.is_ascii_alphanumeric() || letter == '_' {
            out.push(letter);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(out)
}

/// The property that a name in an expression stands for; `None` when it stands for none (upstream `cel.Unescape`).
pub(crate) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return Some(name.to_owned());
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = rest.find("__") {
        let inner = &rest[start + 2..];
        let length = inner.find('_').unwrap_or(inner.len());
        if length == 0 || !inner[length..].starts_with("__") {
            // No escape starts here.
            out.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
            continue;
        }
        out.push_str(&rest[..start]);
        let word = &inner[..length];
        match ESCAPES.iter().find(|(_, escaped)| escaped[2..escaped.len() - 2] == *word) {
            Some((plain, _)) => out.push_str(plain),
            None if is_cel_word(word) && name.len() == word.len() + 4 => out.push_str(word),
            None => return None,
        }
        rest = &inner[length + 2..];
    }
    out.push_str(rest);
    Some(out)
}
