//! What runs containers, seen from the pod workers.
//!
//! Level-based: a runtime is asked what there is ([`PodRuntime::observe`]) and told single steps. It remembers
//! containers by pod uid, container name and attempt, also over a restart of the agent where it can.

pub mod containerd;
pub mod cri;
pub mod simulated;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use streams::{Duplex, RemoteCommand, Streams};

/// Told the uid of a pod about which something changed. Must be cheap and must not block.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// What the agent needs of a runtime.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Its name and version, for `nodeInfo`.
    async fn version(&self) -> Result<Version, RuntimeError>;
    /// Why pods have no network of their own; `None` when they do.
    async fn network_problem(&self) -> Option<String>;
    /// Whether volumes must be laid out as directories and mounted; a simulation only checks that sources exist.
    fn mounts_volumes(&self) -> bool;
    /// Whether [`ContainerObservation::modelled_ready`] tells readiness, so that no probe need run.
    fn models_probes(&self) -> bool;
    /// Names who is to be told of changes; replaces the former one.
    fn listen(&self, listener: Listener);
    /// Every pod this runtime holds for this node.
    async fn list(&self) -> Result<Vec<PodObservation>, RuntimeError>;
    /// What there is of one pod.
    async fn observe(&self, uid: &str) -> Result<PodObservation, RuntimeError>;
    /// Makes sure a container's image is there. Pulls under `policy`.
    async fn ensure_image(&self, pod: &Pod, image: &str, policy: PullPolicy) -> Result<Image, ImageError>;
    /// Starts the pod's sandbox: its shared namespaces and network.
    async fn start_sandbox(&self, pod: &Pod, attempt: u32) -> Result<(), RuntimeError>;
    /// Creates and starts one attempt of a container.
    async fn start_container(&self, launch: &Launch) -> Result<(), RuntimeError>;
    /// Sends TERM, waits `grace`, sends KILL; returns once it has ended.
    async fn stop_container(&self, uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Forgets an ended container and its log.
    async fn remove_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError>;
    /// Gives the network back; ended containers and their logs stay.
    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError>;
    /// Stops what runs, at once, and forgets the pod and its logs.
    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError>;
    /// Carries out one probe.
    async fn probe(&self, target: &ProbeTarget, probe: &Probe) -> ProbeOutcome;
    /// Runs a command in a running container. That it cannot be run may be told by its ending.
    async fn exec(
        &self,
        uid: &str,
        id: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, RuntimeError>;
    /// Joins a running container's own streams.
    async fn attach(&self, uid: &str, id: &str, streams: Streams) -> Result<RemoteCommand, RuntimeError>;
    /// Connects to a port inside of the pod's network, its loopback too. That nothing listens may be told by the first
    /// read.
    async fn port_forward(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError>;
    /// Connects to a port of the pod's address.
    async fn connect(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError>;
    /// A container's log.
    async fn logs(&self, uid: &str, id: &str, query: LogQuery) -> Result<LogStream, RuntimeError>;
}

/// Bytes of a log, whole lines at a time.
pub type LogStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// A runtime's name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `containerd`, `simulated`.
    pub name: String,
    /// As it calls itself.
    pub version: String,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No such pod or container.
    #[error("{0} is not there")]
    NotFound(String),
    /// The runtime refused.
    #[error("{operation}: {message}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        message: String,
    },
    /// Files of the pod.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The runtime does not answer.
    #[error("cannot reach the container runtime at {address}: {message}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        message: String,
    },
}

/// An image that isn't there; the names are upstream's waiting reasons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The policy is `Never` and the image isn't here.
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    /// The name is no image reference.
    #[error("Failed to apply default image tag \"{image}\": {why}")]
    InvalidName {
        /// As written.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// Pulling failed.
    #[error("failed to pull image \"{image}\": {why}")]
    Pull {
        /// As written.
        image: String,
        /// What the runtime said.
        why: String,
    },
}

impl ImageError {
    /// The waiting reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::InvalidName { .. } => "InvalidImageName",
            Self::Pull { .. } => "ErrImagePull",
        }
    }
}

/// When to pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// When it isn't there.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// A container's policy. Without one, upstream pulls `:latest` and untagged images always.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        let image = container.image.as_deref().unwrap_or_default();
        match container.image_pull_policy.as_deref() {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some(_) => Self::IfNotPresent,
            None => {
                let name = image.rsplit('/').next().unwrap_or(image);
                let moving = !name.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
                if moving { Self::Always } else { Self::IfNotPresent }
            }
        }
    }
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the runtime calls it: an image id or digest.
    pub reference: String,
    /// Whether it was pulled just now.
    pub pulled: bool,
}

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container, of any kind.
    pub container: Container,
    /// 0 the first time; the restart count.
    pub attempt: u32,
    /// What the runtime calls the image.
    pub image: String,
    /// The whole environment, references resolved and expanded.
    pub environment: Vec<(String, String)>,
    /// What to mount.
    pub mounts: Vec<Mount>,
    /// Files of volumes that a runtime which mounts none is given instead: volume, path in it, content.
    pub files: Vec<(String, String, Vec<u8>)>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub container_path: String,
    /// What of the machine.
    pub host_path: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// `None`, `HostToContainer`, `Bidirectional`.
    pub propagation: Option<String>,
}

/// What there is of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodObservation {
    /// The pod's uid.
    pub uid: String,
    /// Its namespace and name, when anything is there.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The newest sandbox.
    pub sandbox: Option<SandboxObservation>,
    /// Every container, of every attempt that is remembered.
    pub containers: Vec<ContainerObservation>,
}

impl PodObservation {
    /// The newest attempt of a container.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&ContainerObservation> {
        self.containers.iter().filter(|container| container.name == name).max_by_key(|c| c.attempt)
    }

    /// The attempt before the newest.
    #[must_use]
    pub fn previous(&self, name: &str) -> Option<&ContainerObservation> {
        let latest = self.latest(name)?.attempt;
        self.containers.iter().filter(|c| c.name == name && c.attempt < latest).max_by_key(|c| c.attempt)
    }
}

/// A pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxObservation {
    /// The runtime's id.
    pub id: String,
    /// Whether it holds namespaces and network.
    pub ready: bool,
    /// The pod's addresses; empty on the host's network.
    pub ips: Vec<String>,
    /// 0 the first time.
    pub attempt: u32,
}

/// One attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerObservation {
    /// The runtime's id, without `containerd://`.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// 0 the first time.
    pub attempt: u32,
    /// The image as the pod names it.
    pub image: String,
    /// The image's digest reference.
    pub image_id: String,
    /// Where it stands.
    pub state: ContainerState,
    /// Readiness, where the runtime models it.
    pub modelled_ready: Option<bool>,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Since.
        started_at: Timestamp,
    },
    /// Ended.
    Exited {
        /// When it had started.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
        /// 128 plus the signal when one ended it.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled` …
        reason: String,
        /// What the container wrote about it.
        message: String,
    },
}

impl ContainerState {
    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// What is probed.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// The pod's uid.
    pub uid: String,
    /// The container's id.
    pub container_id: String,
    /// Where the pod answers.
    pub ip: String,
    /// The container's ports by name.
    pub ports: Vec<(String, u16)>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// All is well.
    Success,
    /// It isn't; why, for people.
    Failure(String),
}

/// Which part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Stay until the container has ended.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Each line led by its time.
    pub timestamps: bool,
    /// Only this many bytes.
    pub limit_bytes: Option<u64>,
}
