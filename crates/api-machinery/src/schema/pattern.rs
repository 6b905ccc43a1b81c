//! Regular expressions of schemas. They are Go's (RE2): the syntax of the `regex` crate, but for classes that mean ASCII
//! there, and for characters that mean nothing special within a class there.

use std::sync::{Arc, OnceLock};

/// A compiled pattern's bound: expressions come from users. 1 MiB holds a class of all letters repeated 253 times.
const PATTERN_BYTES: usize = 1 << 20;

/// A regular expression, compiled when first used.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    source: Box<str>,
    compiled: Arc<OnceLock<Option<regex::Regex>>>,
}

impl Pattern {
    /// Takes the expression as it stands; whether it compiles shows when it is used.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self { source: source.into(), compiled: Arc::default() }
    }

    /// The expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// What keeps it from compiling.
    ///
    /// # Errors
    /// The parser's words.
    pub fn check(&self) -> Result<(), String> {
        compile(&self.source).map(drop).map_err(|error| error.to_string())
    }

    /// Whether `text` holds a match. An expression that does not compile matches nothing.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(text))
    }

    fn regex(&self) -> Option<&regex::Regex> {
        self.compiled.get_or_init(|| compile(&self.source).ok()).as_ref()
    }
}

fn compile(source: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&translated(source)).size_limit(PATTERN_BYTES).build()
}

/// The same expression in the syntax of the `regex` crate.
fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut letters = source.chars().peekable();
    // Just behind `[` or `[^`, where `]` stands for itself.
    let (mut in_class, mut class_begins) = (false, false);
    while let Some(letter) = letters.next() {
        let begins = std::mem::take(&mut class_begins);
        match letter {
            '\\' => escape(letters.next(), in_class, &mut out),
            '[' if !in_class => {
                (in_class, class_begins) = (true, true);
                out.push('[');
                if letters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if in_class && begins => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' if letters.peek() == Some(&':') => {
                // `[:alpha:]` is the same in both.
                out.push('[');
                for letter in letters.by_ref() {
                    out.push(letter);
                    if letter == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str("\\["),
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(letter);
            }
            '-' if in_class && letters.peek() == Some(&'-') => out.push_str("\\-"),
            other => out.push(other),
        }
    }
    out
}

fn escape(letter: Option<char>, in_class: bool, out: &mut String) {
    let class = match letter {
        Some('d') => "0-9",
        Some('w') => "0-9A-Za-z_",
        Some('s') => "\\t\\n\\x0C\\r ",
        Some('b') if !in_class => return out.push_str("(?-u:\\b)"),
        Some('B') if !in_class => return out.push_str("(?-u:\\B)"),
        Some(upper @ ('D' | 'W' | 'S')) => {
            let inner = match upper {
                'D' => "0-9",
                'W' => "0-9A-Za-z_",
                _ => "\\t\\n\\x0C\\r ",
            };
            out.push_str("[^");
            out.push_str(inner);
            return out.push(']');
        }
        // Escaping what needs none is allowed there, and only for punctuation here.
        Some(other) => {
            if !(other.is_ascii_punctuation() || other.is_ascii_alphanumeric()) {
                return out.push(other);
            }
            if matches!(other, '_' | '<' | '>') {
                return out.push(other);
            }
            out.push('\\');
            return out.push(other);
        }
        None => return out.push('\\'),
    };
    if in_class {
        out.push_str(class);
    } else {
        out.push('[');
        out.push_str(class);
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, text, wanted) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w.-]+$", "a_b.c-d", true),
            (r"^\w$", "é", false),
            (r"^[^[]+$", "a]b", true),
            (r"^[^[]+$", "a[b", false),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[]a]+$", "]a", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[\s]\S$", " x", true),
            (r"^(?i)ABC\z", "abc", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\/a\-b$", "/a-b", true),
        ] {
            let compiled = Pattern::new(pattern);
            assert_eq!(compiled.check(), Ok(()), "{pattern}");
            assert_eq!(compiled.is_match(text), wanted, "{pattern} {text}");
        }
        assert!(Pattern::new("(").check().is_err() && !Pattern::new("(").is_match("("));
    }
}
