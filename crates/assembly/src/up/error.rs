//! Why a fleet could not be brought up or down.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Cause;

/// Why `up` or `down` failed.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another `up` holds the directory.
    #[error("`{}` is already up{}", directory.display(), pid.map(|pid| format!(", under process {pid}")).unwrap_or_default())]
    AlreadyUp {
        /// Which directory.
        directory: PathBuf,
        /// Who holds it, if that is known.
        pid: Option<u32>,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A file or a process of the directory.
    #[error("failed to {operation} `{}`", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A process ended while it was waited for.
    #[error("{name} does not start; its log `{}` ends:\n{tail}", log.display())]
    Child {
        /// Which one.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Something did not come true in time.
    #[error("{what} took longer than {}s; the logs are in `{}`", limit.as_secs(), logs.display())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// Where to look.
        logs: PathBuf,
    },
    /// Real containers cannot be run.
    #[error("real containers cannot be run here")]
    Containers(#[source] Cause),
    /// A request failed.
    #[error("failed to {what}")]
    Request {
        /// What was asked.
        what: String,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// It was told to stop before it was up.
    #[error("interrupted")]
    Interrupted,
}

impl UpError {
    pub(crate) fn request(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Request { what, source: source.into() }
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
