//! What others in the process ask of a node: logs, commands in containers, ports of pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube_objects::{Reason, Status};

use streams::{Duplex, RemoteCommand, Streams};

use crate::runtime::{LogQuery, LogStream, PodRuntime, RuntimeError};

/// Which part of a container's log, as `pods/log` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Stay until the container has ended.
    pub follow: bool,
    /// Of the attempt before.
    pub previous: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what is at most this old.
    pub since_seconds: Option<u64>,
    /// Only what was written since.
    pub since_time: Option<Timestamp>,
    /// Each line led by its time.
    pub timestamps: bool,
    /// Only this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Asks a running node agent; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) node_name: Arc<str>,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) running: Arc<AtomicBool>,
}

impl Handle {
    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Whether the agent is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// A container's log. `uid` is of the pod as the API knows it.
    ///
    /// # Errors
    /// `BadRequest` while the container has not started, `NotFound` when there is no such attempt, in upstream's words.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<LogStream, Status> {
        let observed = self.runtime.observe(uid).await.map_err(Status::internal)?;
        let found = if options.previous { observed.previous(container) } else { observed.latest(container) };
        let Some(found) = found else {
            let message = if options.previous {
                format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
            } else {
                format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating")
            };
            return Err(Status::new(Reason::BadRequest, message));
        };
        let age = options.since_seconds.and_then(|seconds| i64::try_from(seconds).ok());
        let since = age.map(|seconds| {
            Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
        });
        let query = LogQuery {
            follow: options.follow,
            tail_lines: options.tail_lines,
            since: since.or(options.since_time),
            timestamps: options.timestamps,
            limit_bytes: options.limit_bytes,
        };
        let stream = self.runtime.logs(uid, &found.id, query).await.map_err(|error| match error {
            RuntimeError::NotFound(what) => {
                Status::new(Reason::NotFound, format!("the log of {what} is gone"))
            }
            error => Status::internal(format!("log of {namespace}/{pod}: {error}")),
        })?;
        Ok(stream.boxed())
    }

    /// Runs a command in a container. `uid` is of the pod as the API knows it.
    ///
    /// # Errors
    /// `InternalError` when the container does not run or the runtime refuses, in upstream's words.
    pub async fn exec(
        &self,
        uid: &str,
        container: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, Status> {
        let id = self.running_container(uid, container).await?;
        self.runtime.exec(uid, &id, command, streams).await.map_err(refused)
    }

    /// Joins a container's own streams.
    ///
    /// # Errors
    /// As [`Handle::exec`].
    pub async fn attach(
        &self,
        uid: &str,
        container: &str,
        streams: Streams,
    ) -> Result<RemoteCommand, Status> {
        let id = self.running_container(uid, container).await?;
        self.runtime.attach(uid, &id, streams).await.map_err(refused)
    }

    /// Connects to a port inside of a pod's network.
    ///
    /// # Errors
    /// When the pod does not run or nothing listens; the latter may be told by the first read.
    pub async fn port_forward(&self, uid: &str, port: u16) -> Result<Duplex, Status> {
        self.runtime.port_forward(uid, port).await.map_err(refused)
    }

    /// Connects to a port of a pod's address.
    ///
    /// # Errors
    /// When the pod does not run or nothing listens.
    pub async fn connect(&self, uid: &str, port: u16) -> Result<Duplex, Status> {
        self.runtime.connect(uid, port).await.map_err(refused)
    }

    async fn running_container(&self, uid: &str, container: &str) -> Result<String, Status> {
        let observed = self.runtime.observe(uid).await.map_err(refused)?;
        let found = observed.latest(container).filter(|found| found.state.is_running());
        found
            .map(|found| found.id.clone())
            .ok_or_else(|| failure(format!("container not found ({container:?})")))
    }
}

fn refused(error: RuntimeError) -> Status {
    failure(error.to_string())
}

fn failure(message: String) -> Status {
    Status::new(Reason::InternalError, message)
}
