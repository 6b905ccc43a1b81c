//! CEL as Kubernetes speaks it.
//!
//! The published crates were weighed first. `cel` parses with an ANTLR grammar (a dozen further crates) or with a parser
//! that it keeps out of its documentation; its trees carry no positions, so upstream's error texts (`ERROR:
//! <input>:1:6: …`) cannot be made of them; it has neither a type check nor costs, and its values are its own copies.
//! `kube-cel` builds on an older `cel` and leaves out the authorizer, exact costs and the type check. All of these are
//! what an API server needs, and costs and messages hang on the exact shape of the expanded tree. So this module has its
//! own parser, checker and evaluator; it evaluates over borrowed JSON and its types come from `api_machinery`'s schemas.
//!
//! Order of things: [`parser`] (text to tree, macros expanded) → [`checker`] (types, overloads) → [`cost`] (what it can
//! cost at most) and [`program`] (ready to run) → [`evaluate`]. What an expression may refer to is its [`environment`].
//!
//! Must never: panic, recurse without a bound, or run without one, whatever text or data it gets; copy whole objects.

pub(crate) mod ast;
pub mod authorizer;
pub(crate) mod checker;
pub(crate) mod cost;
pub(crate) mod declared;
pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod evaluate;
mod functions;
mod lexer;
mod library;
pub(crate) mod names;
pub(crate) mod parser;
mod patterns;
pub(crate) mod program;
mod runtime_cost;
pub(crate) mod source;
mod time;
pub(crate) mod types;
pub(crate) mod value;
mod work;

#[cfg(test)]
mod tests;

use checker::Checked;
use environment::Environment;
pub use source::Issues;

/// The most that one expression may cost when it runs (upstream `PerCallLimit`).
pub const CALL_LIMIT: u64 = 1_000_000;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) checked: Checked,
    pub(crate) node: program::Node,
}

/// Why an expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompileError {
    /// Its text or its types are wrong.
    #[error("compilation failed: {0}")]
    Issues(Issues),
    /// A constant in it cannot be evaluated.
    #[error("program instantiation failed: {0}")]
    Constant(String),
}

/// Parses and checks.
pub(crate) fn check(source: &str, environment: &Environment) -> Result<Checked, Issues> {
    checker::check(source, parser::parse(source)?, environment)
}

/// Makes an expression ready to run.
pub(crate) fn compile(source: &str, environment: &Environment) -> Result<Program, CompileError> {
    let checked = check(source, environment).map_err(CompileError::Issues)?;
    let node = program::lower(&checked).map_err(CompileError::Constant)?;
    Ok(Program { checked, node })
}
