//! The way from the API server to the nodes: logs, commands in containers, ports of pods.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use kube_objects::Status;
use streams::{Duplex, RemoteCommand, Streams};

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

/// A pod as its node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodReference {
    /// The node it is bound to.
    pub node: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another pod of the same name is another pod.
    pub uid: String,
}

/// Reaches the agents of nodes. Every error is what the client is answered: 404 for a node that is not known.
#[async_trait]
pub trait NodeConnection: Send + Sync + 'static {
    /// Opens a container's log: 400 for a container that has not started. Safe to retry.
    async fn logs(
        &self,
        pod: &PodReference,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status>;

    /// Runs a command in a running container. What goes wrong once it was begun is its ending. Not safe to retry.
    async fn exec(
        &self,
        pod: &PodReference,
        container: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, Status>;

    /// Joins a running container's own streams. Letting go of them leaves it running.
    async fn attach(
        &self,
        pod: &PodReference,
        container: &str,
        streams: Streams,
    ) -> Result<RemoteCommand, Status>;

    /// Connects to a port inside of the pod's network, also to what listens on its loopback alone. That nothing
    /// listens may be told by the first read.
    async fn port_forward(&self, pod: &PodReference, port: u16) -> Result<Duplex, Status>;

    /// Connects to a port of the pod's address, as another pod would.
    async fn connect(&self, pod: &PodReference, port: u16) -> Result<Duplex, Status>;

    /// Whether the node's agent runs; 404 for a node that is not known.
    async fn is_healthy(&self, node: &str) -> Result<bool, Status>;
}
