//! What can go wrong.

use std::time::Duration;

/// A request that a controller needed failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{operation} {subject}: {source}")]
    Request {
        /// `creating a pod of`.
        operation: &'static str,
        /// `namespace/name`.
        subject: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// What the server serves could not be found out.
    #[error("finding out what the server serves: {0}")]
    Discovery(#[from] api_client::dynamic::DynamicError),
    /// An object makes no sense to the controller.
    #[error("{subject}: {problem}")]
    Object {
        /// `namespace/name`.
        subject: String,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// What the server said, without what it was said to: as upstream shows it in conditions and events.
    pub(crate) fn answer(&self) -> String {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// How long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Request { source, .. } => api_client::error::retry_after(source),
            _ => None,
        }
    }
}

/// Says what a request was for.
pub(crate) trait Doing<T> {
    fn doing(self, operation: &'static str, subject: impl ToString) -> Result<T, Error>;
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing(self, operation: &'static str, subject: impl ToString) -> Result<T, Error> {
        self.map_err(|source| Error::Request {
            operation,
            subject: subject.to_string(),
            source: Box::new(source),
        })
    }
}

/// Passes over "not found": what should go is gone.
pub(crate) trait Gone<T> {
    fn unless_gone(self) -> kube::Result<Option<T>>;
}

impl<T> Gone<T> for kube::Result<T> {
    fn unless_gone(self) -> kube::Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if api_client::error::is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
