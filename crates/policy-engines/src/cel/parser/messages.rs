//! What is said about text that does not parse: the words of the parser that Kubernetes uses.

use crate::cel::lexer::{Kind, Token};

/// What may stand where a value is expected.
pub(super) const PRIMARY: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

fn shown(token: Token<'_>) -> String {
    if token.kind == Kind::End {
        return "<EOF>".to_owned();
    }
    token.text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// Something else was expected.
pub(super) fn mismatched(token: Token<'_>, expected: &str) -> String {
    format!("mismatched input '{}' expecting {expected}", shown(token))
}

/// A name was expected after a dot.
pub(super) fn no_identifier(token: Token<'_>) -> String {
    match token.text {
        "true" | "false" | "null" => mismatched(token, "IDENTIFIER"),
        _ => format!("no viable alternative at input '.{}'", shown(token)),
    }
}

/// The expression was complete, yet something follows.
pub(super) fn at_end(token: Token<'_>) -> String {
    match token.kind {
        Kind::Symbol if [")", "]", "}", ",", ":"].contains(&token.text) => {
            format!("extraneous input '{}' expecting <EOF>", shown(token))
        }
        _ => mismatched(token, "<EOF>"),
    }
}
