//! Parts an expression into words and signs.

use super::{ExpressionError, MAX_LENGTH};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Number(f64),
    /// A whole number that fits.
    Integer(i64),
    Text(String),
    Word(String),
    /// An operator, bracket, comma, point …
    Sign(&'static str),
}

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: [&str; 30] = [
    "...", "&&", "||", "==", "!=", "<>", "<=", ">=", "**", "(", ")", "[", "]", "{", "}", ",", ".", "?", ":",
    "!", "<", ">", "+", "-", "*", "/", "%", "=", "&", "|",
];

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExpressionError> {
    if text.len() > MAX_LENGTH {
        let message = format!("an expression of {} bytes; at most {MAX_LENGTH}", text.len());
        return Err(ExpressionError { at: 0, message });
    }
    let mut tokens: Vec<(usize, Token)> = Vec::new();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let rest = &text[at..];
        if character.is_whitespace() {
            at += character.len_utf8();
        } else if character == '"' || character == '\'' {
            let (value, length) = quoted(rest, character)
                .ok_or_else(|| ExpressionError { at, message: "a text that is not closed".to_owned() })?;
            tokens.push((at, Token::Text(value)));
            at += length;
        } else if character.is_ascii_digit() {
            // After a point a number is a place in a list: `services.db.0.ip`.
            let member = matches!(tokens.last(), Some((_, Token::Sign("."))));
            let (token, length) = number(rest, member)
                .ok_or_else(|| ExpressionError { at, message: "a number that cannot be read".to_owned() })?;
            tokens.push((at, token));
            at += length;
        } else if character.is_alphabetic() || character == '_' || character == '$' {
            let end =
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            tokens.push((at, Token::Word(rest[..end].to_owned())));
            at += end;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err(ExpressionError { at, message: format!("{character:?} means nothing here") });
        }
    }
    Ok(tokens)
}

/// A text with its escapes undone, and how many bytes it took.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            c if c == quote => return Some((value, index + c.len_utf8())),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'u' => {
                    let mut code = 0;
                    for _ in 0..4 {
                        code = code * 16 + characters.next()?.1.to_digit(16)?;
                    }
                    value.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str, whole: bool) -> Option<(Token, usize)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut end = digits(text);
    let mut float = false;
    if !whole {
        if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            float = true;
            end += 1 + digits(&text[end + 1..]);
        }
        if let Some(rest) = text[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(rest.starts_with(['+', '-']));
            let exponent = digits(&rest[sign..]);
            if exponent > 0 {
                float = true;
                end += 1 + sign + exponent;
            }
        }
    }
    match text[..end].parse::<i64>() {
        Ok(value) if !float => Some((Token::Integer(value), end)),
        _ => Some((Token::Number(text[..end].parse().ok()?), end)),
    }
}
