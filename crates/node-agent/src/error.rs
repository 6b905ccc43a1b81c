//! Why the agent as a whole cannot go on.

/// A failure of the agent; failures of single pods become their status and events instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's name is empty: no pod could ever be bound to it.
    #[error("the node has no name")]
    NoName,
    /// The runtime does not answer.
    #[error("the container runtime does not answer")]
    Runtime(#[source] crate::runtime::RuntimeError),
}
