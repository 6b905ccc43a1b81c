//! Why there are no manifests.

use std::path::{Path, PathBuf};

/// Why there are no manifests.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that is needed is not there.
    #[error("{needs}; see {hint}")]
    MissingTool {
        /// What is missing, and what for.
        needs: String,
        /// Where it comes from.
        hint: &'static str,
    },
    /// A program could not be run.
    #[error("cannot run {tool}")]
    Run {
        /// Which.
        tool: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{tool} ended with {status}: {said}")]
    Failed {
        /// Which.
        tool: &'static str,
        /// Its exit status.
        status: String,
        /// The beginning of what it said.
        said: String,
    },
    /// A program ran for too long.
    #[error("{tool} did not end within {seconds} s")]
    Timeout {
        /// Which.
        tool: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What was asked for cannot be: a name, a path, a reference.
    #[error("{0}")]
    Invalid(String),
    /// A signature is missing, or of nobody who is allowed.
    #[error("{what} has no signature of an allowed signer: {said}")]
    NotSigned {
        /// The commit, tag or artifact.
        what: String,
        /// What is said about it.
        said: String,
    },
    /// A submodule of a repository.
    #[error("cannot fetch the submodule {path}")]
    Submodule {
        /// Where in the repository.
        path: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A file or directory.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was to be done.
        operation: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A registry could not be talked to.
    #[error("cannot {operation} at registry {registry}")]
    Registry {
        /// What was to be done.
        operation: String,
        /// Which.
        registry: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry refused.
    #[error("registry {registry} answered {status} to {operation}")]
    Refused {
        /// What was to be done.
        operation: String,
        /// Which.
        registry: String,
        /// The HTTP status.
        status: http::StatusCode,
    },
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// Whether a registry answered that it has no such thing.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: http::StatusCode::NOT_FOUND, .. })
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        foundation::causes::in_line(self)
    }
}

/// Does what waits for the disk aside.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Error::Invalid("the program is ending".to_owned())))
}
