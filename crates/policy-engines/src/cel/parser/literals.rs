//! Numbers and strings written out in the source.

use super::Parser;
use crate::cel::ast::{Expr, Kind, Literal};
use crate::cel::lexer::{Kind as Word, Token};

impl<'s> Parser<'s> {
    /// A number, perhaps with its sign before it.
    pub(super) fn number(&mut self, sign: Option<Token<'s>>) -> Expr {
        let token = self.take();
        let at = sign.map_or(token.at, |sign| sign.at);
        let minus = if sign.is_some() { "-" } else { "" };
        let literal = if token.kind == Word::Float {
            let value: Option<f64> = format!("{minus}{}", token.text).parse().ok();
            value.filter(|value| value.is_finite()).map(Literal::Double).ok_or("invalid double literal")
        } else {
            let value = match token.text.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(&format!("{minus}{hex}"), 16),
                None => format!("{minus}{}", token.text).parse(),
            };
            value.map(Literal::Int).map_err(|_| "invalid int literal")
        };
        self.literal(at, literal)
    }

    pub(super) fn unsigned(&mut self) -> Expr {
        let token = self.take();
        let digits = &token.text[..token.text.len() - 1];
        let value = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        self.literal(token.at, value.map(Literal::Uint).map_err(|_| "invalid uint literal"))
    }

    pub(super) fn string(&mut self) -> Expr {
        let token = self.take();
        let text = unescape(token.text, false)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "invalid unicode code point"));
        self.literal(token.at, text.map(|text| Literal::String(text.into())))
    }

    pub(super) fn bytes(&mut self) -> Expr {
        let token = self.take();
        let bytes = unescape(&token.text[1..], true);
        self.literal(token.at, bytes.map(|bytes| Literal::Bytes(bytes.into())))
    }

    fn literal(&mut self, at: u32, literal: Result<Literal, &str>) -> Expr {
        match literal {
            Ok(literal) => self.node(at, Kind::Literal(literal)),
            Err(message) => {
                self.report(at, message);
                self.node(at, Kind::Broken)
            }
        }
    }
}

/// What a quoted text stands for. The lexer has let only complete escapes through.
fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let raw = text.starts_with(['r', 'R']);
    let text = if raw { &text[1..] } else { text };
    let quotes =
        if text.len() >= 6 && (text.starts_with("\"\"\"") || text.starts_with("'''")) { 3 } else { 1 };
    let text = &text[quotes..text.len() - quotes];
    if raw || !text.contains('\\') {
        return Ok(text.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        if letter != '\\' {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        rest = escape(rest, bytes, &mut out)?;
    }
    Ok(out)
}

fn escape<'t>(rest: &'t str, bytes: bool, out: &mut Vec<u8>) -> Result<&'t str, &'static str> {
    const BROKEN: &str = "unable to unescape string";
    let first = *rest.as_bytes().first().ok_or(BROKEN)?;
    let (digits, radix, from) = match first {
        b'x' | b'X' => (2, 16, 1),
        b'u' if !bytes => (4, 16, 1),
        b'U' if !bytes => (8, 16, 1),
        b'0'..=b'3' => (3, 8, 0),
        _ => {
            out.push(simple_escape(first).ok_or(BROKEN)?);
            return Ok(&rest[1..]);
        }
    };
    let code = rest.get(from..from + digits).ok_or(BROKEN)?;
    let code = u32::from_str_radix(code, radix).map_err(|_| BROKEN)?;
    if bytes {
        out.push(u8::try_from(code).map_err(|_| BROKEN)?);
    } else {
        let letter = char::from_u32(code).ok_or("invalid unicode code point")?;
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(&rest[from + digits..])
}

fn simple_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'\'' | b'"' | b'`' | b'?' => letter,
        _ => return None,
    })
}
