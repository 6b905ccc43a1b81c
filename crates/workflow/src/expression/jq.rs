//! The function `jq`: a query in the language of jq, over a value. Its grammar is read by a library; what it says is carried
//! out here, in a number of steps that is counted, since a query may stand in a workflow that somebody else wrote and is
//! worked out by the hub as well.
//!
//! The library's own evaluator cannot be bounded from outside: `reduce recurse(.) as $x (0; .)` runs for ever within one
//! call of `next`, through no operation of its value type that may fail, and its recursion is on the machine's stack. Wrapped
//! around every term a counter would do, but would take away the tail calls by which the library's `recurse`, `while` and
//! `until` work; and the work of single functions (repeating and searching texts, `contains`, regular expressions), most of
//! what is here, would have to be bounded and so written here all the same.
//!
//! What a query may not do, and says so: define functions, jump (`label`), read the environment, a clock or further inputs.

mod eval;
mod functions;
mod order;
mod paths;
#[cfg(test)]
mod tests;

use jaq_core::load::{Lexer, Parser};
use serde_json::Value;

use eval::{Failure, Query, Variables};

/// Bytes of a query.
const MAX_QUERY: usize = 4096;
/// Levels of brackets in a query; its reader calls itself for each.
const MAX_BRACKETS: usize = 32;

/// Words after which its reader calls itself without a bracket; a minus is another.
const NESTING: [&str; 7] = ["if", "try", "reduce", "foreach", "def", "as", "label"];
/// How many of those.
const MAX_NESTED: usize = 64;

/// Every output of the query, in order.
///
/// # Errors
/// What is wrong with the query or went wrong in it, for people.
pub(super) fn run(value: &Value, query: &str) -> Result<Value, String> {
    if query.len() > MAX_QUERY {
        return Err(format!("a query of {} bytes; at most {MAX_QUERY}", query.len()));
    }
    let mut depth = 0_usize;
    for byte in query.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(format!("a query with more than {MAX_BRACKETS} brackets in each other"));
        }
    }
    let calls =
        query.split(|own: char| !own.is_ascii_alphanumeric()).filter(|word| NESTING.contains(word)).count();
    if calls + query.matches('-').count() > MAX_NESTED {
        return Err(format!("a query with more than {MAX_NESTED} terms in each other"));
    }
    let tokens = Lexer::new(query).lex().map_err(|errors| match errors.first() {
        Some((_, at)) => format!("the query cannot be read at {:?}", excerpt(at)),
        None => "the query cannot be read".to_owned(),
    })?;
    let term = Parser::new(&tokens).parse(|parser| parser.term());
    let term = term.map_err(|errors| match errors.first() {
        Some((expected, Some(token))) => {
            format!("the query has {:?} where {} was expected", excerpt(token.0), expected.as_str())
        }
        Some((expected, None)) => format!("the query ends where {} was expected", expected.as_str()),
        None => "the query cannot be read".to_owned(),
    })?;
    let query = Query::default();
    match query.outputs(&term, value, &Variables::default()) {
        Ok(outputs) => Ok(Value::Array(outputs)),
        Err(Failure::Raised(Value::String(why)) | Failure::Stopped(why)) => Err(why),
        Err(Failure::Raised(other)) => Err(other.to_string()),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(20).collect()
}
