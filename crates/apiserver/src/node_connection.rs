//! The way from the API server to a node: what `pods/log` needs.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use kube_objects::Status;

/// A container's log as it is read; ends when the log does, or, followed, when the container does.
pub type LogStream = BoxStream<'static, Result<Bytes, io::Error>>;

/// Which part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Goes on with what is written later.
    pub follow: bool,
    /// Of the container's previous life.
    pub previous: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only lines at or after this.
    pub since_time: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// At most so many bytes in all.
    pub limit_bytes: Option<u64>,
}

/// Reaches the agents of nodes.
#[async_trait]
pub trait NodeConnection: Send + Sync + 'static {
    /// Opens a container's log. Errors are what the client is answered: 404 for an unknown node or container, 400 for
    /// a container that has not started. Safe to retry.
    async fn logs(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status>;
}
