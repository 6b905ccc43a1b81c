//! What can go wrong in the hub.

use std::io;
use std::path::PathBuf;

use kube_objects::{Reason, Status};

use crate::issuer::IssueError;

/// An error of the hub.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub's own API did not do what was asked.
    #[error("cannot {operation}")]
    Api {
        /// What.
        operation: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file of the hub.
    #[error("cannot {operation} `{path}`")]
    File {
        /// What.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The inbox.
    #[error("inbox: {0}")]
    Inbox(#[from] durable_log::LogError),
    /// The store that several processes share.
    #[error("cannot {operation}")]
    Store {
        /// What.
        operation: &'static str,
        /// Why.
        #[source]
        source: storage::StoreError,
    },
    /// Certificates.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Test runs.
    #[error(transparent)]
    TestRuns(#[from] crate::test_runs::Error),
    /// A record cannot be understood or a request is out of order; the caller's fault.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn api(operation: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Api { operation, source: Box::new(source) }
    }

    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api { source, .. } => {
                api_client::error::is_retryable(source) || api_client::error::is_conflict(source)
            }
            Self::TestRuns(crate::test_runs::Error::Api { source, .. }) => {
                api_client::error::is_retryable(source) || api_client::error::is_conflict(source)
            }
            Self::File { .. } | Self::Inbox(_) | Self::Store { .. } | Self::TestRuns(_) => true,
            Self::Issue(IssueError::Authority(_)) => true,
            Self::Issue(IssueError::BadRequest(_)) | Self::Invalid(_) => false,
        }
    }
}

/// The answer to a request that failed this way. What went wrong inside is logged, not told.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(message) => Self::new(Reason::BadRequest, message),
            Error::Issue(IssueError::BadRequest(message)) => Self::new(
                Reason::BadRequest,
                format!("the certificate signing request is not usable: {message}"),
            ),
            Error::Inbox(durable_log::LogError::Full { .. } | durable_log::LogError::NoSpace { .. }) => {
                Self::new(
                    Reason::ServiceUnavailable,
                    "the hub's inbox has no room; keep the records and try again",
                )
            }
            Error::Store { .. } => {
                Self::new(Reason::ServiceUnavailable, "the hub's store does not answer; try again")
            }
            other => {
                tracing::warn!(error = &other as &dyn std::error::Error, "a request failed");
                Self::new(Reason::InternalError, "the hub could not carry out the request; its log says why")
            }
        }
    }
}
