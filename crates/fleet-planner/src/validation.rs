//! What is wrong with a document of the fleet, whatever the fleet: told to whoever writes it, before it counts.
//!
//! One place judges for the hub, as it takes a document, and for the command line, before it sends one; both say the same.
//! What depends on clusters, on other objects or on content that is not at hand is nobody's mistake yet, and is not judged.

pub mod alert;
mod nearest;
#[cfg(test)]
pub(crate) mod odd;
pub mod placement;
pub mod profile;
pub mod rollout;

use api_machinery::field_path::FieldErrorKind;
pub use api_machinery::field_path::{FieldError, FieldPath};

use crate::expressions::Expressions;
use crate::health::ObjectExpressions;

/// The languages in which documents hold expressions.
#[derive(Clone, Copy)]
pub struct Languages<'a> {
    /// Over `cluster`.
    pub clusters: &'a dyn Expressions,
    /// Over `object`.
    pub objects: &'a dyn ObjectExpressions,
}

/// `Invalid value: …` without the value: it is long, or stands in the words already, or is a secret.
pub(crate) fn wrong(path: &FieldPath, detail: impl Into<String>) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), bad_value: None, detail: detail.into() }
}

/// An expression that does not compile.
pub(crate) fn compiled(
    path: &FieldPath,
    expression: &str,
    outcome: Result<(), String>,
) -> Option<FieldError> {
    let problem = outcome.err()?;
    Some(FieldError::invalid(path, expression, problem))
}

/// The field of a `spec` that a path like `layers[0].health` names.
fn at(path: &str) -> FieldPath {
    FieldPath::new("spec").child(path)
}
