//! Why a program could not be put together or had to stop.

/// What went wrong below.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A program could not be put together, or one of its parts stopped.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct AssemblyError {
    what: String,
    source: Cause,
}

impl AssemblyError {
    /// `what` names the failed operation and its subject; `source` is its cause.
    pub fn new(what: impl Into<String>, source: Cause) -> Self {
        Self { what: what.into(), source }
    }
}
