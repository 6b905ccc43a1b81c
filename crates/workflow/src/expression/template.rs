//! Texts with expressions in double braces.

use super::{Expression, ExpressionError, Scope, render};

/// A text, parted at its expressions.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// With its place in the text.
    Expression(usize, Expression),
}

impl Template {
    /// Reads a text. `{{` begins an expression, `}}` outside of quotes ends it.
    ///
    /// # Errors
    /// For the first expression that cannot be read or is not closed.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("{{") {
            if found > 0 {
                parts.push(Part::Text(text[at..at + found].to_owned()));
            }
            let begin = at + found + 2;
            let length = end_of(&text[begin..]).ok_or_else(|| ExpressionError {
                at: begin - 2,
                message: "\"{{\" without its \"}}\"".to_owned(),
            })?;
            let moved = |error: ExpressionError| ExpressionError { at: error.at + begin, ..error };
            let expression = Expression::parse(&text[begin..begin + length]).map_err(moved)?;
            parts.push(Part::Expression(begin, expression));
            at = begin + length + 2;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].to_owned()));
        }
        Ok(Self { parts })
    }

    /// Puts in what `scope` knows.
    ///
    /// # Errors
    /// As [`Expression::resolve`].
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Self, ExpressionError> {
        let mut parts: Vec<Part> = Vec::new();
        for part in &self.parts {
            let next = match part {
                Part::Text(text) => Part::Text(text.clone()),
                Part::Expression(at, expression) => {
                    let moved = |error: ExpressionError| ExpressionError { at: error.at + at, ..error };
                    let resolved = expression.resolve(scope).map_err(moved)?;
                    match resolved.value() {
                        Some(value) => Part::Text(render(value)),
                        None => Part::Expression(*at, resolved),
                    }
                }
            };
            match (parts.last_mut(), next) {
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, next) => parts.push(next),
            }
        }
        Ok(Self { parts })
    }

    /// The text, when nothing is left to resolve.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self.parts.as_slice() {
            [] => Some(String::new()),
            [Part::Text(text)] => Some(text.clone()),
            _ => None,
        }
    }

    /// The one expression that is the whole text; its value then keeps its type.
    #[must_use]
    pub fn only(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(_, expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text in a scope that knows everything.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<String, ExpressionError> {
        let resolved = self.resolve(scope)?;
        resolved.text().ok_or_else(|| {
            let open = resolved.parts.iter().find_map(|part| match part {
                Part::Expression(at, expression) => Some((*at, expression.to_string())),
                Part::Text(_) => None,
            });
            let (at, open) = open.unwrap_or_default();
            ExpressionError { at, message: format!("{open} is not known here") }
        })
    }

    /// The names its expressions ask for, with their places in the text.
    #[must_use]
    pub fn names(&self) -> Vec<(usize, String)> {
        let parts = self.parts.iter().filter_map(|part| match part {
            Part::Expression(at, expression) => Some((*at, expression)),
            Part::Text(_) => None,
        });
        parts
            .flat_map(|(at, expression)| {
                expression.names().into_iter().map(move |(inner, name)| (at + inner, name))
            })
            .collect()
    }
}

/// As a text that [`Template::parse`] reads as the same template: braces that came in with a value are not taken for an
/// expression.
impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace("{{", "{{\"{{\"}}"))?,
                Part::Expression(_, expression) => write!(f, "{{{{{expression}}}}}")?,
            }
        }
        Ok(())
    }
}

/// Where the closing braces stand: not within a text, and not those of an object.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut skip = false;
    for (index, character) in text.char_indices() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match (quote, character) {
            (Some(_), '\\') => skip = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if text[index..].starts_with("}}") => return Some(index),
            _ => {}
        }
    }
    None
}
