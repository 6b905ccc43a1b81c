//! Containers over the container runtime interface (CRI v1), as containerd and CRI-O speak it.
//!
//! Every sandbox and container carries the node's owner label, so that several agents share one runtime and an agent
//! that was restarted finds its own again. The runtime is looked at twice a second while pods run: one list for all
//! pods tells which changed. Single pods are asked about when their worker asks.
//!
//! Logs are files of the runtime in the CRI format, below the agent's own directory.

mod convert;
mod follow;
mod logs;
mod probe;
mod rotation;
mod sandbox;
mod streaming;
mod termination;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Probe};
use parking_lot::{Mutex, RwLock};
use streams::{Duplex, RemoteCommand, Streams};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::pod::facts;
use crate::runtime::{
    ContainerObservation, ContainerState, Image, ImageError, Launch, Listener, LogQuery, LogStream,
    PodObservation, PodRuntime, ProbeOutcome, ProbeTarget, PullPolicy, RuntimeError, Version,
};

/// What protox and prost make of `proto/cri.proto`.
#[expect(unreachable_pub, reason = "generated")]
pub(crate) mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// Whose a sandbox or container is.
pub(super) const OWNER: &str = "fairlead.dev/node";
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(super) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(super) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The image as the pod names it; the runtime may only know its digest.
pub(super) const IMAGE: &str = "fairlead.dev/image";

/// How often the runtime is looked at while there are pods.
const RELIST: Duration = Duration::from_millis(250);
/// A call that takes longer has failed; pulls have their own.
const CALL: Duration = Duration::from_secs(120);
/// The longest pull.
const PULL: Duration = Duration::from_secs(15 * 60);
/// Largest message: lists of some thousand containers.
const MESSAGE: usize = 16 << 20;

/// How a runtime is reached and used.
#[derive(Clone, Debug)]
pub struct CriOptions {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Tells this node's pods from others' in the same runtime: the node's uid, or its name with the cluster's.
    pub owner: String,
    /// Where logs of pods lie.
    pub logs_dir: PathBuf,
    /// Why pods have no network of their own; they then use the machine's.
    pub network_problem: Option<String>,
    /// The parent of the pods' control groups, below which each pod has its own; `/fairlead` unless told.
    pub cgroup_parent: String,
    /// Name servers of pods with `ClusterFirst`; empty gives them the machine's.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain.
    pub cluster_domain: String,
}

impl CriOptions {
    /// Usual values.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>, owner: impl Into<String>, logs_dir: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            owner: owner.into(),
            logs_dir: logs_dir.into(),
            network_problem: None,
            cgroup_parent: "/fairlead".to_owned(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

/// A runtime behind CRI, as one node uses it.
pub struct Cri {
    inner: Arc<Inner>,
    relisting: tokio::task::JoinHandle<()>,
    rotating: tokio::task::JoinHandle<()>,
}

pub(super) struct Inner {
    pub(super) options: CriOptions,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    listener: RwLock<Option<Listener>>,
    /// What the last look found of each pod: states of sandboxes and containers by id.
    seen: Mutex<HashMap<String, BTreeMap<String, i32>>>,
}

impl Cri {
    /// Connects to a runtime that answers.
    ///
    /// # Errors
    /// When nothing answers at the socket.
    pub async fn connect(options: CriOptions) -> Result<Self, RuntimeError> {
        let channel = channel(&options.socket);
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE);
        let inner =
            Arc::new(Inner { options, runtime, images, listener: RwLock::new(None), seen: Mutex::default() });
        inner.version().await?;
        let relisting = tokio::spawn(relist(Arc::downgrade(&inner)));
        let rotating = tokio::spawn(rotation::run(Arc::downgrade(&inner)));
        Ok(Self { inner, relisting, rotating })
    }

    /// Stops and removes every pod of this node: for taking a cluster down, never for a restart.
    ///
    /// # Errors
    /// At the first pod that could not be removed.
    pub async fn remove_all(&self) -> Result<(), RuntimeError> {
        for pod in self.list().await? {
            self.remove_pod(&pod.uid).await?;
        }
        Ok(())
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        self.relisting.abort();
        self.rotating.abort();
    }
}

/// A channel that connects when it is first used, and again after the runtime was restarted.
fn channel(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    let connect = move |_: Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    };
    // The address is never used: the connector above goes to the socket.
    Endpoint::from_static("http://runtime.invalid").connect_with_connector_lazy(tower::service_fn(connect))
}

/// Compares the runtime's lists and tells of the pods that changed.
async fn relist(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(RELIST).await;
        let Some(inner) = inner.upgrade() else { return };
        let Ok((sandboxes, containers)) = inner.lists(None).await else { continue };
        let mut now: HashMap<String, BTreeMap<String, i32>> = HashMap::new();
        for sandbox in sandboxes {
            let uid = sandbox.labels.get(POD_UID).cloned().unwrap_or_default();
            now.entry(uid).or_default().insert(sandbox.id, sandbox.state);
        }
        for container in containers {
            let uid = container.labels.get(POD_UID).cloned().unwrap_or_default();
            now.entry(uid).or_default().insert(container.id, container.state);
        }
        let changed: Vec<String> = {
            let mut seen = inner.seen.lock();
            let of_new =
                now.iter().filter(|(uid, states)| seen.get(*uid) != Some(states)).map(|(uid, _)| uid);
            let gone = seen.keys().filter(|uid| !now.contains_key(*uid));
            let changed = of_new.chain(gone).cloned().collect();
            *seen = now;
            changed
        };
        if let Some(listener) = inner.listener.read().clone() {
            changed.iter().for_each(|uid| listener(uid));
        }
    }
}

impl Inner {
    /// Makes a call, in words for people when it fails.
    pub(super) async fn call<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => {
                Err(RuntimeError::NotFound(format!("{operation}: {}", status.message())))
            }
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => Err(RuntimeError::Unreachable {
                address: self.options.socket.display().to_string(),
                message: status.message().to_owned(),
            }),
            Ok(Err(status)) => Err(RuntimeError::Refused { operation, message: status.message().to_owned() }),
            Err(_) => {
                let message = format!("no answer within {} s", limit.as_secs());
                Err(RuntimeError::Refused { operation, message })
            }
        }
    }

    pub(super) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    async fn version(&self) -> Result<Version, RuntimeError> {
        let request = v1::VersionRequest { version: "v1".to_owned() };
        let answer = self.call("ask for the version", CALL, self.runtime().version(request)).await?;
        Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// Sandboxes and containers of this node, or of one of its pods.
    async fn lists(
        &self,
        uid: Option<&str>,
    ) -> Result<(Vec<v1::PodSandbox>, Vec<v1::Container>), RuntimeError> {
        let mut labels = HashMap::from([(OWNER.to_owned(), self.options.owner.clone())]);
        if let Some(uid) = uid {
            labels.insert(POD_UID.to_owned(), uid.to_owned());
        }
        let filter = v1::PodSandboxFilter { label_selector: labels.clone(), ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let sandboxes =
            self.call("list sandboxes", CALL, self.runtime().list_pod_sandbox(request)).await?.items;
        let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let containers = self.call("list containers", CALL, self.runtime().list_containers(request)).await?;
        Ok((sandboxes, containers.containers))
    }

    async fn status(&self, id: &str) -> Result<Option<ContainerObservation>, RuntimeError> {
        let request = v1::ContainerId { container_id: id.to_owned() };
        match self.call("ask for a container", CALL, self.runtime().container_status(request)).await {
            Ok(answer) => {
                let Some(status) = answer.status else { return Ok(None) };
                let log_path = PathBuf::from(&status.log_path);
                let mut seen = convert::container(status);
                if let ContainerState::Exited { message, .. } = &mut seen.state
                    && message.is_empty()
                {
                    *message = termination::message(&log_path).await;
                }
                Ok(Some(seen))
            }
            Err(RuntimeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn observe(&self, uid: &str) -> Result<PodObservation, RuntimeError> {
        let (sandboxes, containers) = self.lists(Some(uid)).await?;
        let mut pod = PodObservation { uid: uid.to_owned(), ..PodObservation::default() };
        if let Some(newest) = sandboxes.iter().max_by_key(|sandbox| sandbox.created_at) {
            pod.namespace = newest.labels.get(POD_NAMESPACE).cloned().unwrap_or_default();
            pod.name = newest.labels.get(POD_NAME).cloned().unwrap_or_default();
            let request = v1::PodSandboxId { pod_sandbox_id: newest.id.clone() };
            match self.call("ask for a sandbox", CALL, self.runtime().pod_sandbox_status(request)).await {
                Ok(answer) => pod.sandbox = answer.status.map(convert::sandbox),
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for container in containers {
            pod.containers.extend(self.status(&container.id).await?);
        }
        Ok(pod)
    }

    async fn sandbox_ids(&self, uid: &str) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
        Ok(self.lists(Some(uid)).await?.0)
    }

    async fn image(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec) };
        let answer = self.call("ask for an image", CALL, self.images.clone().image_status(request)).await?;
        Ok(answer.image.map(|image| image.id))
    }

    async fn stop_sandboxes(&self, uid: &str) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
        let sandboxes = self.sandbox_ids(uid).await?;
        for sandbox in &sandboxes {
            let request = v1::PodSandboxId { pod_sandbox_id: sandbox.id.clone() };
            match self.call("stop a sandbox", CALL, self.runtime().stop_pod_sandbox(request)).await {
                Ok(_) | Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sandboxes)
    }
}

#[async_trait]
impl PodRuntime for Cri {
    async fn version(&self) -> Result<Version, RuntimeError> {
        self.inner.version().await
    }

    async fn network_problem(&self) -> Option<String> {
        if let Some(problem) = &self.inner.options.network_problem {
            return Some(problem.clone());
        }
        let request = v1::StatusRequest { verbose: false };
        let answer =
            self.inner.call("ask for the status", CALL, self.inner.runtime().status(request)).await.ok()?;
        let network =
            answer.status?.conditions.into_iter().find(|condition| condition.r#type == "NetworkReady")?;
        (!network.status).then(|| format!("{}: {}", network.reason, network.message))
    }

    fn mounts_volumes(&self) -> bool {
        true
    }

    fn models_probes(&self) -> bool {
        false
    }

    fn listen(&self, listener: Listener) {
        *self.inner.listener.write() = Some(listener);
    }

    async fn list(&self) -> Result<Vec<PodObservation>, RuntimeError> {
        let (sandboxes, containers) = self.inner.lists(None).await?;
        let mut pods: BTreeMap<String, PodObservation> = BTreeMap::new();
        let all = sandboxes.into_iter().map(|sandbox| sandbox.labels);
        for labels in all.chain(containers.into_iter().map(|container| container.labels)) {
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let pod = PodObservation {
                uid: label(POD_UID),
                namespace: label(POD_NAMESPACE),
                name: label(POD_NAME),
                ..PodObservation::default()
            };
            pods.insert(label(POD_UID), pod);
        }
        Ok(pods.into_values().collect())
    }

    async fn observe(&self, uid: &str) -> Result<PodObservation, RuntimeError> {
        self.inner.observe(uid).await
    }

    async fn ensure_image(&self, pod: &Pod, image: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        let pull = |why: String| ImageError::Pull { image: image.to_owned(), why };
        if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let why = "invalid reference format".to_owned();
            return Err(ImageError::InvalidName { image: image.to_owned(), why });
        }
        if policy != PullPolicy::Always
            && let Some(reference) = self.inner.image(image).await.map_err(|error| pull(error.to_string()))?
        {
            return Ok(Image { reference, pulled: false });
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NeverPull(image.to_owned()));
        }
        let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let sandbox_config = Some(sandbox::config(pod, &self.inner.options, 0));
        let request = v1::PullImageRequest { image: Some(spec), auth: None, sandbox_config };
        let pulled = self.inner.call("pull", PULL, self.inner.images.clone().pull_image(request)).await;
        match pulled {
            Ok(answer) => Ok(Image { reference: answer.image_ref, pulled: true }),
            Err(RuntimeError::Refused { message, .. } | RuntimeError::NotFound(message)) => {
                Err(pull(message))
            }
            Err(error) => Err(pull(error.to_string())),
        }
    }

    async fn start_sandbox(&self, pod: &Pod, attempt: u32) -> Result<(), RuntimeError> {
        sandbox::start(&self.inner, pod, attempt).await
    }

    async fn start_container(&self, launch: &Launch) -> Result<(), RuntimeError> {
        Box::pin(sandbox::start_container(&self.inner, launch)).await
    }

    async fn stop_container(&self, _uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        let stopping = self.inner.runtime();
        let mut stopping = stopping;
        match self.inner.call("stop container", grace + CALL, stopping.stop_container(request)).await {
            Ok(_) | Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove_container(&self, _uid: &str, id: &str) -> Result<(), RuntimeError> {
        let request = v1::ContainerId { container_id: id.to_owned() };
        let status = self
            .inner
            .call("ask for a container", CALL, self.inner.runtime().container_status(request.clone()))
            .await;
        match self.inner.call("remove container", CALL, self.inner.runtime().remove_container(request)).await
        {
            Ok(_) | Err(RuntimeError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        if let Ok(v1::ContainerStatusResponse { status: Some(status) }) = status
            && Path::new(&status.log_path).starts_with(&self.inner.options.logs_dir)
        {
            // A log that is left over goes with the pod.
            let _ = tokio::fs::remove_file(&status.log_path).await;
        }
        Ok(())
    }

    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        self.inner.stop_sandboxes(uid).await.map(drop)
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        for sandbox in self.inner.stop_sandboxes(uid).await? {
            let request = v1::PodSandboxId { pod_sandbox_id: sandbox.id };
            match self
                .inner
                .call("remove a sandbox", CALL, self.inner.runtime().remove_pod_sandbox(request))
                .await
            {
                Ok(_) | Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let path = self.inner.options.logs_dir.join(uid);
        match tokio::fs::remove_dir_all(&path).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RuntimeError::File { operation: "remove logs", path, source })
            }
            _ => Ok(()),
        }
    }

    async fn probe(&self, target: &ProbeTarget, probe: &Probe) -> ProbeOutcome {
        probe::run(&self.inner, target, probe).await
    }

    async fn exec(
        &self,
        uid: &str,
        id: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, RuntimeError> {
        streaming::exec(&self.inner, uid, id, command, streams).await
    }

    async fn attach(&self, uid: &str, id: &str, streams: Streams) -> Result<RemoteCommand, RuntimeError> {
        streaming::attach(&self.inner, uid, id, streams).await
    }

    async fn port_forward(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
        streaming::port_forward(&self.inner, uid, port).await
    }

    async fn connect(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
        streaming::connect(&self.inner, uid, port).await
    }

    async fn logs(&self, uid: &str, id: &str, query: LogQuery) -> Result<LogStream, RuntimeError> {
        let request = v1::ContainerId { container_id: id.to_owned() };
        let status = self
            .inner
            .call("ask for a container", CALL, self.inner.runtime().container_status(request))
            .await?;
        let status = status.status.unwrap_or_default();
        let path = PathBuf::from(&status.log_path);
        if status.labels.get(POD_UID).map(String::as_str) != Some(uid) || status.log_path.is_empty() {
            return Err(RuntimeError::NotFound(format!("the log of container {id}")));
        }
        Ok(follow::stream(self.inner.clone(), id.to_owned(), path, query))
    }
}

/// The pod's own log directory.
pub(super) fn log_dir(options: &CriOptions, pod: &Pod) -> PathBuf {
    options.logs_dir.join(facts::uid(pod))
}

impl Inner {
    /// Whether a container still runs; one that is gone does not.
    pub(super) async fn runs(&self, id: &str) -> bool {
        matches!(self.status(id).await, Ok(Some(container)) if container.state.is_running())
    }
}
