//! What can go wrong in the agent.

use std::path::PathBuf;

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the agent.
    #[error("cannot {operation} `{path}`")]
    File {
        /// What.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The agent's store.
    #[error("the agent's store: cannot {operation}")]
    Store {
        /// What.
        operation: &'static str,
        /// Why.
        #[source]
        source: storage::StoreError,
    },
    /// What is sealed in the agent's store.
    #[error("the agent's store: cannot use `{place}`")]
    Seal {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: sealing::SealError,
    },
    /// The outbox.
    #[error("outbox: {0}")]
    Outbox(#[from] durable_log::LogError),
    /// The cluster's API.
    #[error("this cluster: cannot {operation}")]
    Cluster {
        /// What.
        operation: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What the cluster serves.
    #[error("this cluster: {0}")]
    Discovery(#[from] api_client::dynamic::DynamicError),
    /// The hub could not be reached.
    #[error("hub: cannot {operation}")]
    Hub {
        /// What.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The hub turned the agent away.
    #[error("hub: {operation} was refused ({code}): {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The HTTP status.
        code: u16,
        /// Why, in the hub's words.
        message: String,
    },
    /// Something read or received is not what it should be.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    pub(crate) fn store(operation: &'static str) -> impl FnOnce(storage::StoreError) -> Self {
        move |source| Self::Store { operation, source }
    }

    pub(crate) fn seal(place: &str) -> impl FnOnce(sealing::SealError) -> Self {
        let place = place.to_owned();
        move |source| Self::Seal { place, source }
    }

    pub(crate) fn cluster(operation: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Cluster { operation, source: Box::new(source) }
    }

    pub(crate) fn hub(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Hub { operation, source: Box::new(source) }
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        foundation::causes::in_line(self)
    }
}
