//! Regular expressions as Go's `regexp` reads them, run by the `regex` crate (both in linear time).

use regex::{Regex, RegexBuilder};

/// A compiled pattern's bound: patterns come from users. 1 MiB holds a class of all letters repeated 253 times.
const MAX_BYTES: usize = 1 << 20;

/// Compiles; the error is Go's text as far as it is known.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if let Some(why) = refused(pattern) {
        return Err(format!("error parsing regexp: {why}"));
    }
    let translated = translate(pattern);
    RegexBuilder::new(&translated)
        .size_limit(MAX_BYTES)
        .dfa_size_limit(MAX_BYTES)
        .build()
        .map_err(|_| format!("error parsing regexp: invalid pattern: `{pattern}`"))
}

/// What Go refuses and the crate would take, or says in words of its own.
fn refused(pattern: &str) -> Option<String> {
    let (mut depth, mut in_class, mut repeated) = (0_usize, false, None);
    let mut letters = pattern.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if in_class {
            in_class = letter != ']';
            if letter == '\\' {
                letters.next();
            }
            continue;
        }
        let before = repeated.take();
        match letter {
            '\\' => {
                letters.next();
            }
            '[' => {
                in_class = true;
                if letters.peek().is_some_and(|(_, next)| *next == '^') {
                    letters.next();
                }
                if letters.peek().is_some_and(|(_, next)| *next == ']') {
                    letters.next();
                }
            }
            '(' => depth += 1,
            ')' if depth == 0 => return Some(format!("unexpected ): `{pattern}`")),
            ')' => depth -= 1,
            '*' | '+' | '?' => {
                if let Some(start) = before {
                    return Some(format!("invalid nested repetition operator: `{}`", &pattern[start..=at]));
                }
                if letters.peek().is_some_and(|(_, next)| *next == '?') && !pattern[..at].ends_with('(') {
                    letters.next();
                }
                if !pattern[..at].ends_with('(') {
                    repeated = Some(at);
                }
            }
            _ => {}
        }
    }
    (depth > 0).then(|| format!("missing closing ): `{pattern}`"))
}

/// What Go means by the pattern, in the crate's words: `\d`, `\w`, `\s` and `\b` are ASCII, and inside a class `[`,
/// `&&`, `--` and `~~` stand for themselves.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut letters = pattern.chars().peekable();
    let (mut in_class, mut class_start) = (false, false);
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let starts = std::mem::take(&mut class_start);
        match letter {
            '\\' => {
                let Some(escaped) = letters.next() else {
                    out.push('\\');
                    break;
                };
                escape(escaped, in_class, &mut letters, &mut out);
                before = ' ';
                continue;
            }
            '[' if !in_class => {
                (in_class, class_start) = (true, true);
                out.push('[');
                if letters.peek() == Some(&'^') {
                    letters.next();
                    out.push('^');
                }
            }
            '[' if letters.peek() == Some(&':') => {
                out.push('[');
                for inner in letters.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str("\\["),
            ']' if in_class && starts => out.push_str("\\]"),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' | '-' if in_class && before == letter => {
                out.push('\\');
                out.push(letter);
            }
            other => out.push(other),
        }
        before = letter;
    }
    out
}

fn escape(
    escaped: char,
    in_class: bool,
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    out: &mut String,
) {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'Q' => {
            let rest: String = letters.by_ref().collect();
            let (quoted, after) = rest.split_once("\\E").unwrap_or((&rest, ""));
            out.push_str(&regex::escape(quoted));
            out.push_str(&translate(after));
        }
        '<' | '>' | '"' | '\'' | '`' | ',' | ';' | ':' | '=' | '!' | '@' | '%' | '_' => {
            if escaped == '_' {
                out.push_str("\\_");
            } else {
                out.push(escaped);
            }
        }
        other => {
            out.push('\\');
            out.push(other);
        }
    }
}
