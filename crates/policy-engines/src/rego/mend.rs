//! What the Open Policy Agent reads and the engine does not, written so that both do.
//!
//! * A parenthesis that begins a line begins a term: the engine takes it for the arguments of what ends the line before.
//! * A rule that makes a set may have several bodies: the engine asks for a rule of its own for each.

use super::names::{KEYWORDS, Token, chunks, tokens};

/// The text as the engine reads it.
pub(super) fn mended(text: &str) -> String {
    let mut inserted: Vec<(usize, String)> = Vec::new();
    for chunk in chunks(tokens(text)) {
        inserted.extend(separated(&chunk));
        inserted.extend(repeated(&chunk, text));
    }
    inserted.sort_by_key(|(at, _)| *at);
    let (mut mended, mut from) = (String::with_capacity(text.len()), 0);
    for (at, insert) in inserted {
        mended.push_str(text.get(from..at).unwrap_or_default());
        mended.push_str(&insert);
        from = at;
    }
    mended.push_str(text.get(from..).unwrap_or_default());
    mended
}

fn pairs(chunk: &[Token]) -> impl Iterator<Item = (&Token, &Token)> {
    chunk.iter().zip(chunk.iter().skip(1))
}

/// A sign between what ends a line and a parenthesis that begins the next.
fn separated(chunk: &[Token]) -> impl Iterator<Item = (usize, String)> {
    let ends_term = |token: &Token| match token.is_word {
        true => !KEYWORDS.contains(&token.text.as_str()),
        false => token.text == "]",
    };
    pairs(chunk)
        .filter(move |(before, token)| token.text == "(" && token.begins_line && ends_term(before))
        .map(|(_, token)| (token.at, "; ".to_owned()))
}

/// The head of a rule that makes a set before each further body.
fn repeated(chunk: &[Token], text: &str) -> Vec<(usize, String)> {
    let makes_set =
        chunk.first().is_some_and(|first| first.is_word) && chunk.get(1).is_some_and(|next| next.text == "[");
    let begins_body = |token: &&Token| token.text == "{" && token.depth == 0;
    let (Some(first), Some(body)) = (chunk.first(), chunk.iter().find(begins_body)) else {
        return Vec::new();
    };
    let Some(head) = text.get(first.at..body.at).filter(|_| makes_set) else { return Vec::new() };
    let bodies =
        pairs(chunk).filter(|(before, token)| before.text == "}" && before.depth == 0 && begins_body(token));
    bodies.map(|(_, token)| (token.at, format!("\n{head}"))).collect()
}
