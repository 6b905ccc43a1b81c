//! What functions do. An implementation takes values of any type and says "no such overload" to what it is not for:
//! types are often known only now.

use regex::Regex;

use super::error::EvalError;
use super::value::{Result, Value};

mod authorizer;
mod conversions;
mod formats;
mod lists;
mod network;
mod operators;
mod optionals;
mod patterns;
mod quantities;
mod semver;
mod string_format;
mod strings;
mod times;
mod urls;

pub(crate) use formats::Format;
pub(crate) use semver::Semver;
pub(crate) use urls::Url;

/// Computes a function's value from its arguments, target first.
pub(crate) type Implementation = for<'a> fn(&[Value<'a>]) -> Result<'a>;

/// The implementation of a function.
pub(crate) fn find(function: &str) -> Option<Implementation> {
    operators::find(function)
        .or_else(|| conversions::find(function))
        .or_else(|| strings::find(function))
        .or_else(|| lists::find(function))
        .or_else(|| patterns::find(function))
        .or_else(|| optionals::find(function))
        .or_else(|| times::find(function))
        .or_else(|| quantities::find(function))
        .or_else(|| semver::find(function))
        .or_else(|| network::find(function))
        .or_else(|| urls::find(function))
        .or_else(|| formats::find(function))
        .or_else(|| authorizer::find(function))
}

/// The implementation of an overload that does what its types do not say: an empty sum is a zero of its type.
pub(crate) fn find_overload(overload: &str) -> Option<Implementation> {
    lists::find_overload(overload)
}

/// A function that takes a pattern, with that compiled beforehand.
pub(crate) fn with_pattern<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    patterns::apply(function, pattern, args)
}

fn no_overload<'a>() -> Result<'a> {
    Err(EvalError::no_such_overload())
}

fn fail<'a>(message: impl Into<String>) -> Result<'a> {
    Err(EvalError::new(message))
}
