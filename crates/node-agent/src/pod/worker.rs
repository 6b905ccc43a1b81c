//! The worker of one pod: observes, decides, tells the API, carries out; then waits for a change.
//!
//! It is woken by the pod's document, the runtime, probes, the end of a stop it began, and by time. Dropping it leaves
//! every container as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::events::{Recorder, Severity};
use crate::inputs::{InputError, Inputs};
use crate::options::Options;
use crate::pod::facts::{self, Kind};
use crate::pod::launch::{Failure, Starter};
use crate::pod::plan::{self, Action, BackOff, Input, Memory, Retry, Waiting};
use crate::pod::probes::Probes;
use crate::pod::report::Reporter;
use crate::pod::status::{self, About};
use crate::runtime::{ContainerState, PodObservation, PodRuntime, ProbeTarget};

/// What all workers of a node share.
pub struct Shared {
    /// How the agent behaves.
    pub options: Options,
    /// The runtime.
    pub runtime: Arc<dyn PodRuntime>,
    /// Leads container ids.
    pub runtime_name: String,
    /// What containers are given.
    pub inputs: Inputs,
    /// The API.
    pub client: kube::Client,
    /// Where to tell what happened.
    pub events: Recorder,
}

/// The newest document of a pod, as the watch has it.
#[derive(Clone, Debug)]
pub enum Document {
    /// It is there.
    Present(Arc<Pod>),
    /// The API no longer has it.
    Gone,
}

/// One pod's worker.
pub struct Worker {
    shared: Arc<Shared>,
    documents: watch::Receiver<Document>,
    wake: Arc<Notify>,
    pod: Arc<Pod>,
    dir: PathBuf,
    memory: Memory,
    probes: Probes,
    stops: JoinSet<String>,
    reporter: Reporter,
    volumes_read: tokio::time::Instant,
}

impl Worker {
    /// A worker for `pod`; `documents` brings its further documents and `wake` the runtime's changes.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        documents: watch::Receiver<Document>,
        wake: Arc<Notify>,
    ) -> Self {
        let dir = shared.options.pods_dir.join(facts::uid(&pod));
        let probes = Probes::new(shared.runtime.clone(), wake.clone());
        let reporter = Reporter::new(shared.client.clone());
        Self {
            shared,
            documents,
            wake,
            pod,
            dir,
            memory: Memory::default(),
            probes,
            stops: JoinSet::new(),
            reporter,
            volumes_read: tokio::time::Instant::now(),
        }
    }

    /// Works until the pod is finished.
    pub async fn run(mut self) {
        loop {
            self.take_document();
            let observed = match self.shared.runtime.observe(facts::uid(&self.pod)).await {
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(%error, pod = facts::uid(&self.pod), "the runtime could not be asked");
                    self.wait(None, Duration::from_secs(1)).await;
                    continue;
                }
            };
            self.sync_probes(&observed);
            let plan = plan::decide(&self.input(&observed));
            // A simulation starts in no time: telling what comes before would only double the writes.
            let starting = plan
                .actions
                .iter()
                .any(|action| matches!(action, Action::StartSandbox { .. } | Action::StartContainer { .. }));
            let silent = starting && self.shared.runtime.models_probes();
            if !silent && !self.report(&observed).await {
                self.wait(None, Duration::from_secs(1)).await;
                continue;
            }
            if self.show_image_back_off() {
                continue;
            }
            if plan.actions.is_empty() {
                self.refresh_volumes(&observed).await;
                self.wait(plan.wake_at, self.shared.options.resync_period).await;
                continue;
            }
            let waiting_only =
                plan.actions.iter().all(|action| matches!(action, Action::StopContainer { .. }));
            for action in plan.actions {
                if matches!(action, Action::Finish) {
                    if self.finish().await {
                        return;
                    }
                    self.wait(None, Duration::from_secs(1)).await;
                    break;
                }
                if !self.carry_out(action, &observed).await {
                    break;
                }
            }
            if waiting_only {
                self.wait(plan.wake_at, self.shared.options.resync_period).await;
            }
        }
    }

    fn take_document(&mut self) {
        let document = self.documents.borrow_and_update().clone();
        match document {
            Document::Gone => self.memory.gone = true,
            Document::Present(pod) => {
                // The answer to an own write may be newer than what the watch has brought.
                let version = |pod: &Pod| pod.metadata.resource_version.as_ref()?.parse::<u64>().ok();
                if version(&pod) >= version(&self.pod) {
                    self.pod = pod;
                }
            }
        }
    }

    fn input<'a>(&'a self, observed: &'a PodObservation) -> Input<'a> {
        let options = &self.shared.options;
        Input {
            pod: &self.pod,
            observed,
            memory: &self.memory,
            now: Timestamp::now(),
            back_off: BackOff { initial: options.back_off_initial, max: options.back_off_max },
        }
    }

    /// Tells the API when something changed. `false`: it could not be told.
    async fn report(&mut self, observed: &PodObservation) -> bool {
        if self.memory.gone {
            return true;
        }
        let about = About { host_ip: &self.shared.options.address, runtime: &self.shared.runtime_name };
        let status = status::compute(&self.input(observed), &about);
        match self.reporter.push(&self.pod, &status).await {
            Ok(Some(pod)) => {
                self.pod = Arc::new(pod);
                true
            }
            Ok(None) => true,
            Err(crate::pod::report::ReportError::Gone) => {
                self.memory.gone = true;
                true
            }
            Err(error) => {
                tracing::warn!(%error, pod = facts::uid(&self.pod), "the pod's status could not be told");
                false
            }
        }
    }

    /// Once a failed pull was shown as such, the pod waits in `ImagePullBackOff`. `true` when that is news.
    fn show_image_back_off(&mut self) -> bool {
        let mut news = false;
        for (name, waiting) in &mut self.memory.waiting {
            if waiting.reason == "ErrImagePull" {
                let image =
                    facts::container(&self.pod, name).and_then(|(_, c)| c.image.clone()).unwrap_or_default();
                let short = format!("Back-off pulling image \"{image}\"");
                waiting.message = format!("{short}: ErrImagePull: {}", waiting.message);
                waiting.reason = "ImagePullBackOff".to_owned();
                self.shared.events.pod(&self.pod, Some(name), Severity::Normal, "BackOff", short);
                news = true;
            }
        }
        news
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>, at_most: Duration) {
        let until = wake_at.map_or(at_most, |at| {
            let left = at.duration_since(Timestamp::now()).max(SignedDuration::from_millis(1));
            at_most.min(left.unsigned_abs())
        });
        tokio::select! {
            changed = self.documents.changed() => if changed.is_err() {
                // Only when the service is being dropped.
                std::future::pending::<()>().await;
            },
            () = self.wake.notified() => {}
            Some(stopped) = self.stops.join_next() => {
                if let Ok(id) = stopped {
                    self.memory.stopping.remove(&id);
                }
            }
            () = tokio::time::sleep(until) => {}
        }
    }

    fn sync_probes(&mut self, observed: &PodObservation) {
        let running = |id: &str| observed.containers.iter().any(|c| c.id == id && c.state.is_running());
        if !self.shared.runtime.models_probes() {
            for container in observed.containers.iter().filter(|c| c.state.is_running()) {
                let Some((kind, spec)) = facts::container(&self.pod, &container.name) else { continue };
                if matches!(kind, Kind::Init | Kind::Ephemeral) {
                    continue;
                }
                let (events, pod, name) =
                    (self.shared.events.clone(), self.pod.clone(), container.name.clone());
                let on_failure = move |_: &'static str, message: String| {
                    events.pod(&pod, Some(&name), Severity::Warning, "Unhealthy", message);
                };
                self.probes.begin(&spec, &self.target(observed, &container.id, &spec), Arc::new(on_failure));
            }
        }
        self.probes.keep(&running);
        self.memory.probes = self.probes.results();
        for container in &observed.containers {
            let options = &self.shared.options;
            let back_off = BackOff { initial: options.back_off_initial, max: options.back_off_max };
            if plan::ran_long_enough(container, back_off) {
                self.memory.streaks.insert(container.name.clone(), container.attempt);
            }
        }
    }

    fn target(
        &self,
        observed: &PodObservation,
        id: &str,
        container: &k8s_openapi::api::core::v1::Container,
    ) -> ProbeTarget {
        let ip = observed.sandbox.as_ref().and_then(|sandbox| sandbox.ips.first().cloned());
        let ports = container
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)));
        ProbeTarget {
            uid: facts::uid(&self.pod).to_owned(),
            container_id: id.to_owned(),
            ip: ip.unwrap_or_else(|| self.shared.options.address.clone()),
            ports: ports.collect(),
        }
    }

    /// Carries one step out. `false`: look again before the next.
    async fn carry_out(&mut self, action: Action, observed: &PodObservation) -> bool {
        match action {
            Action::StartSandbox { attempt } => {
                self.start_sandbox(attempt).await;
                false
            }
            Action::StartContainer { name, attempt } => self.start_container(&name, attempt, observed).await,
            Action::StopContainer { id, name, grace, why } => {
                self.stop_container(id, &name, grace, &why);
                true
            }
            Action::RemoveContainer { id } => {
                if let Err(error) = self.shared.runtime.remove_container(facts::uid(&self.pod), &id).await {
                    tracing::warn!(%error, "an ended container could not be removed");
                }
                true
            }
            Action::StopSandbox => {
                if let Err(error) = self.shared.runtime.stop_sandbox(facts::uid(&self.pod)).await {
                    tracing::warn!(%error, "a sandbox could not be stopped");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                false
            }
            Action::End { reason, message } => {
                self.shared.events.pod(&self.pod, None, Severity::Normal, reason, message.clone());
                self.memory.ended = Some((reason.to_owned(), message));
                false
            }
            Action::Finish => false,
        }
    }

    fn stop_container(&mut self, id: String, name: &str, grace: Duration, why: &str) {
        let message = if self.pod.metadata.deletion_timestamp.is_some() {
            format!("Stopping container {name}")
        } else {
            format!("Stopping container {name}: {why}")
        };
        self.shared.events.pod(&self.pod, Some(name), Severity::Normal, "Killing", message);
        self.memory.stopping.insert(id.clone(), grace);
        let (runtime, uid) = (self.shared.runtime.clone(), facts::uid(&self.pod).to_owned());
        self.stops.spawn(async move {
            if let Err(error) = runtime.stop_container(&uid, &id, grace).await {
                tracing::warn!(%error, container = id, "a container could not be stopped");
                // The worker tries again once this ends; a refusing runtime must not be asked in a tight loop.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            id
        });
    }

    /// Ends once the pod is to be deleted: a start under way is then given up.
    async fn deleted(documents: &mut watch::Receiver<Document>) {
        let ending = |document: &Document| match document {
            Document::Gone => true,
            Document::Present(pod) => pod.metadata.deletion_timestamp.is_some(),
        };
        if documents.wait_for(ending).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn start_sandbox(&mut self, attempt: u32) {
        let (shared, pod, dir) = (self.shared.clone(), self.pod.clone(), self.dir.clone());
        let mut documents = self.documents.clone();
        let work = async {
            let ready = if shared.runtime.mounts_volumes() {
                shared.inputs.volumes(&pod, &dir, &[]).await.map(drop)
            } else {
                shared.inputs.check_volumes(&pod).await
            };
            if let Err(error) = ready {
                return Err(("FailedMount", error.to_string()));
            }
            let started = shared.runtime.start_sandbox(&pod, attempt).await;
            started
                .map_err(|error| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}")))
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = Self::deleted(&mut documents) => return,
        };
        match outcome {
            Ok(()) => {
                self.memory.retries.remove("");
            }
            Err((reason, message)) => {
                self.shared.events.pod(&self.pod, None, Severity::Warning, reason, message);
                self.retry_later("");
            }
        }
    }

    async fn start_container(&mut self, name: &str, attempt: u32, observed: &PodObservation) -> bool {
        let Some((_, container)) = facts::container(&self.pod, name) else { return true };
        let container = container.into_owned();
        self.note_back_off(name, observed);
        let (shared, pod, dir) = (self.shared.clone(), self.pod.clone(), self.dir.clone());
        let mut documents = self.documents.clone();
        let ips = self.ips(observed);
        let starter = Starter {
            runtime: &*shared.runtime,
            inputs: &shared.inputs,
            events: &shared.events,
            dir: &dir,
            ips: &ips,
        };
        let outcome = tokio::select! {
            outcome = starter.start(&pod, &container, attempt) => outcome,
            () = Self::deleted(&mut documents) => return false,
        };
        match outcome {
            Ok(()) => {
                self.memory.waiting.remove(name);
                self.memory.retries.remove(name);
            }
            Err(Failure::Waiting(waiting)) => {
                self.memory.waiting.insert(name.to_owned(), waiting);
                self.retry_later(name);
            }
            Err(Failure::Volumes(error)) => {
                let waiting = Waiting { reason: "ContainerCreating".to_owned(), message: String::new() };
                self.tell_mount(&error);
                self.memory.waiting.insert(name.to_owned(), waiting);
                self.retry_later(name);
            }
        }
        true
    }

    fn tell_mount(&self, error: &InputError) {
        let message = format!("MountVolume.SetUp failed: {error}");
        self.shared.events.pod(&self.pod, None, Severity::Warning, "FailedMount", message);
    }

    /// A restart after a failure is told as `BackOff`, once it had to wait.
    fn note_back_off(&self, name: &str, observed: &PodObservation) {
        let Some(latest) = observed.latest(name) else { return };
        let input = self.input(observed);
        if matches!(latest.state, ContainerState::Exited { .. })
            && !plan::restart_delay(&input, latest).is_zero()
        {
            let message = status::back_off_message(&input, latest).replacen("back-off", "Back-off", 1);
            self.shared.events.pod(&self.pod, Some(name), Severity::Warning, "BackOff", message);
        }
    }

    fn ips(&self, observed: &PodObservation) -> Vec<String> {
        let own = observed.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        if own.is_empty() { vec![self.shared.options.address.clone()] } else { own }
    }

    fn retry_later(&mut self, name: &str) {
        let options = &self.shared.options;
        let failures = self.memory.retries.get(name).map_or(1, |retry| retry.failures.saturating_add(1));
        let back_off = BackOff { initial: options.back_off_initial, max: options.back_off_max };
        let delay =
            SignedDuration::try_from(back_off.delay(failures)).unwrap_or(SignedDuration::from_secs(300));
        let at = Timestamp::now().saturating_add(delay).unwrap_or(Timestamp::MAX);
        self.memory.retries.insert(name.to_owned(), Retry { failures, at });
    }

    async fn refresh_volumes(&mut self, observed: &PodObservation) {
        let running = observed.containers.iter().any(|container| container.state.is_running());
        let due = self.volumes_read.elapsed() >= self.shared.options.volume_period;
        if !running || !due || !self.shared.runtime.mounts_volumes() {
            return;
        }
        self.volumes_read = tokio::time::Instant::now();
        let ips = self.ips(observed);
        if let Err(error) = self.shared.inputs.volumes(&self.pod, &self.dir, &ips).await {
            // What is mounted stays as it was: an API server that is away takes nothing from a running pod.
            self.tell_mount(&error);
        }
    }

    /// Forgets the pod here, then at the API. `false`: try again.
    async fn finish(&mut self) -> bool {
        if let Err(error) = self.shared.runtime.remove_pod(facts::uid(&self.pod)).await {
            tracing::warn!(%error, pod = facts::uid(&self.pod), "a pod could not be removed");
            return false;
        }
        if self.shared.runtime.mounts_volumes()
            && let Err(error) = tokio::fs::remove_dir_all(&self.dir).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.dir.display(), "a pod's directory could not be removed");
        }
        if self.memory.gone {
            return true;
        }
        match self.reporter.delete(&self.pod).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, pod = facts::uid(&self.pod), "a finished pod could not be deleted");
                false
            }
        }
    }
}
