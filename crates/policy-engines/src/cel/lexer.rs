//! Words of an expression. Never fails on a text: what is no word is reported and skipped, as cel-go's lexer does.

use super::source::Issue;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ident,
    Quoted,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    /// An operator, a bracket, or one of `true`, `false`, `null`, `in`.
    Symbol,
    End,
}

/// One word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'s> {
    pub(super) kind: Kind,
    pub(super) text: &'s str,
    /// In code points.
    pub(super) at: u32,
}

struct Lexer<'s> {
    source: &'s str,
    /// In bytes.
    next: usize,
    /// In code points.
    at: u32,
    tokens: Vec<Token<'s>>,
    issues: Vec<Issue>,
}

/// Splits `source`; the last word is always [`Kind::End`].
pub(super) fn split(source: &str) -> (Vec<Token<'_>>, Vec<Issue>) {
    let mut lexer = Lexer { source, next: 0, at: 0, tokens: Vec::new(), issues: Vec::new() };
    while lexer.next < source.len() {
        lexer.word();
    }
    lexer.tokens.push(Token { kind: Kind::End, text: "", at: lexer.at });
    (lexer.tokens, lexer.issues)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.next..]
    }

    fn advance(&mut self, bytes: usize) -> &'s str {
        let text = &self.rest()[..bytes];
        self.next += bytes;
        self.at += u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        text
    }

    fn push(&mut self, kind: Kind, bytes: usize) {
        let at = self.at;
        let text = self.advance(bytes);
        self.tokens.push(Token { kind, text, at });
    }

    fn word(&mut self) {
        let rest = self.rest();
        let first = rest.as_bytes()[0];
        match first {
            b'\t' | b' ' | b'\r' | b'\n' | 0x0c => {
                self.advance(1);
            }
            b'/' if rest.starts_with("//") => {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            }
            b'0'..=b'9' => self.number(),
            b'.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            b'"' | b'\'' => self.string(0, Kind::String),
            b'`' => self.quoted(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.name(),
            _ => self.symbol(),
        }
    }

    fn name(&mut self) {
        let rest = self.rest();
        if let Some((prefix, kind)) = string_prefix(rest) {
            return self.string(prefix, kind);
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let kind = match &rest[..length] {
            "true" | "false" | "null" | "in" => Kind::Symbol,
            _ => Kind::Ident,
        };
        self.push(kind, length);
    }

    fn quoted(&mut self) {
        let rest = self.rest();
        let is_part =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-' | '/' | ' ');
        let length = rest[1..].find(|letter| !is_part(letter)).unwrap_or(rest.len() - 1);
        if length > 0 && rest[1 + length..].starts_with('`') {
            return self.push(Kind::Quoted, length + 2);
        }
        self.unknown(rest.char_indices().nth(1).map_or(rest.len(), |(end, _)| end));
    }

    fn number(&mut self) {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let Some(hex) = rest.strip_prefix("0x") {
            let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
            if length > 0 {
                return self.whole_number(2 + length);
            }
        }
        let mut end = digits(0);
        let mut float = false;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end += 1 + digits(end + 1);
            float = true;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end += 1 + sign;
                end += digits(end);
                float = true;
            }
        }
        if float { self.push(Kind::Float, end) } else { self.whole_number(end) }
    }

    fn whole_number(&mut self, length: usize) {
        if matches!(self.rest().as_bytes().get(length), Some(b'u' | b'U')) {
            self.push(Kind::Uint, length + 1);
        } else {
            self.push(Kind::Int, length);
        }
    }

    /// A string whose opening quote stands `prefix` bytes on.
    fn string(&mut self, prefix: usize, kind: Kind) {
        let rest = self.rest();
        let raw = rest[..prefix].contains(['r', 'R']);
        match string_end(&rest[prefix..], raw) {
            Ok(length) => self.push(kind, prefix + length),
            Err(length) => self.unknown(prefix + length),
        }
    }

    fn symbol(&mut self) {
        const LONG: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];
        const SHORT: &str = "<>[]{}().,-!?:+*/%";
        let rest = self.rest();
        if LONG.iter().any(|symbol| rest.starts_with(symbol)) {
            return self.push(Kind::Symbol, 2);
        }
        let first = rest.chars().next().unwrap_or_default();
        if SHORT.contains(first) {
            return self.push(Kind::Symbol, 1);
        }
        self.unknown(first.len_utf8());
    }

    fn unknown(&mut self, bytes: usize) {
        let at = self.at;
        let text = self.advance(bytes);
        let text = text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        let message = format!("Syntax error: token recognition error at: '{text}'");
        self.issues.push(Issue { at: Some(at), message });
    }
}

/// Whether a string starts here with a prefix (`r`, `b`, `br` …): the prefix's length and what the string is.
fn string_prefix(rest: &str) -> Option<(usize, Kind)> {
    let bytes = rest.as_bytes();
    let is_quote = |index: usize| matches!(bytes.get(index), Some(b'"' | b'\''));
    let is_raw = |index: usize| matches!(bytes.get(index), Some(b'r' | b'R'));
    match bytes[0] {
        b'r' | b'R' if is_quote(1) => Some((1, Kind::String)),
        b'b' | b'B' if is_quote(1) => Some((1, Kind::Bytes)),
        b'b' | b'B' if is_raw(1) && is_quote(2) => Some((2, Kind::Bytes)),
        _ => None,
    }
}

/// How long the string at the start of `text` is, quotes included; or how much of it is broken.
fn string_end(text: &str, raw: bool) -> Result<usize, usize> {
    let quote = &text[..1];
    let triple = text.starts_with(&quote.repeat(3));
    let close = if triple { quote.repeat(3) } else { quote.to_owned() };
    let mut at = close.len();
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(&close) {
            return Ok(at + close.len());
        }
        let letter = rest.chars().next().unwrap_or_default();
        if !triple && matches!(letter, '\n' | '\r') {
            return Err(at + 1);
        }
        if letter == '\\' && !raw {
            let escaped = rest[1..].chars().next();
            at += 1 + escape_length(&rest[1..]).ok_or(at + 1 + escaped.map_or(0, char::len_utf8))?;
        } else {
            at += letter.len_utf8();
        }
    }
    Err(text.len())
}

/// How long the escape sequence after a backslash is.
fn escape_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let hex = |count: usize| {
        let digits = bytes.get(1..=count)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(1 + count)
    };
    match bytes.first()? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => Some(1),
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let digits = bytes.get(1..3)?;
            digits.iter().all(|digit| (b'0'..=b'7').contains(digit)).then_some(3)
        }
        _ => None,
    }
}
