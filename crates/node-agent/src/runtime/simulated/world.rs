//! The simulated pods and the timers of their containers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tool_image::{TOOL_IMAGE, ToolCommand};

use super::exec::Container;
use super::host::{self, Files, Outcome, View};
use super::images;
use super::log::Log;
use super::script::Script;
use crate::pod::facts::{self, Kind};
use crate::runtime::{ContainerObservation, ContainerState, Launch, PodObservation, SandboxObservation};

/// Everything there is.
pub(super) struct World {
    pods: HashMap<String, SimulatedPod>,
    timers: BinaryHeap<Reverse<(Timestamp, u64, Timer)>>,
    sequence: u64,
    last_address: Ipv4Addr,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    uid: String,
    id: String,
    event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready,
    Exit(i32),
}

#[derive(Default)]
pub(super) struct SimulatedPod {
    namespace: String,
    name: String,
    pub(super) sandbox: Option<SandboxObservation>,
    containers: Vec<SimulatedContainer>,
    files: Files,
}

struct SimulatedContainer {
    seen: ContainerObservation,
    log: Arc<Log>,
    command: Option<ToolCommand>,
    container: Container,
    serving: Vec<(u16, String)>,
    ignores_term: bool,
}

impl World {
    pub(super) fn new(first_address: Ipv4Addr) -> Self {
        Self { pods: HashMap::new(), timers: BinaryHeap::new(), sequence: 0, last_address: first_address }
    }

    pub(super) fn address(&mut self) -> String {
        self.last_address = Ipv4Addr::from(u32::from(self.last_address).wrapping_add(1));
        self.last_address.to_string()
    }

    pub(super) fn pod(&mut self, pod: &Pod) -> &mut SimulatedPod {
        let held = self.pods.entry(facts::uid(pod).to_owned()).or_default();
        held.namespace = pod.metadata.namespace.clone().unwrap_or_default();
        held.name = pod.metadata.name.clone().unwrap_or_default();
        held
    }

    pub(super) fn list(&self) -> Vec<PodObservation> {
        self.pods.keys().map(|uid| self.observe(uid)).collect()
    }

    pub(super) fn observe(&self, uid: &str) -> PodObservation {
        let Some(pod) = self.pods.get(uid) else {
            return PodObservation { uid: uid.to_owned(), ..PodObservation::default() };
        };
        PodObservation {
            uid: uid.to_owned(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            sandbox: pod.sandbox.clone(),
            containers: pod.containers.iter().map(|container| container.seen.clone()).collect(),
        }
    }

    pub(super) fn log(&self, uid: &str, id: &str) -> Option<Arc<Log>> {
        let pod = self.pods.get(uid)?;
        pod.containers.iter().find(|container| container.seen.id == id).map(|container| container.log.clone())
    }

    /// What a running container brings to its commands.
    pub(super) fn running(&self, uid: &str, id: &str) -> Option<Container> {
        let containers = &self.pods.get(uid)?.containers;
        let found = containers.iter().find(|own| own.seen.id == id && own.seen.state.is_running())?;
        Some(found.container.clone())
    }

    /// What a pod's running containers answer on a port.
    pub(super) fn serving(&self, uid: &str, port: u16) -> Option<String> {
        let running = self.pods.get(uid)?.containers.iter().filter(|own| own.seen.state.is_running());
        let mut ports = running.flat_map(|own| &own.serving);
        ports.find(|(own, _)| *own == port).map(|(_, text)| text.clone())
    }

    /// Works on a pod's files; `None` when it is gone.
    pub(super) fn files<T>(&mut self, uid: &str, work: impl FnOnce(&mut Files) -> T) -> Option<T> {
        self.pods.get_mut(uid).map(|pod| work(&mut pod.files))
    }

    /// Ends containers that waited for files which are there now; whether there was one.
    pub(super) fn look_again(&mut self, uid: &str, now: Timestamp) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        let mut ends = Vec::new();
        for own in pod.containers.iter().filter(|own| own.seen.state.is_running()) {
            let Some(command @ ToolCommand::Receive { .. }) = &own.command else { continue };
            if let Some((_, code)) = host::start(command, &own.container.view, &mut pod.files).end {
                ends.push((own.seen.id.clone(), i32::from(code)));
            }
        }
        for (id, code) in &ends {
            self.timer(now, uid, id, Event::Exit(*code));
        }
        !ends.is_empty()
    }

    fn timer(&mut self, at: Timestamp, uid: &str, id: &str, event: Event) {
        self.sequence += 1;
        let timer = Timer { uid: uid.to_owned(), id: id.to_owned(), event };
        self.timers.push(Reverse((at, self.sequence, timer)));
    }

    /// Starts an attempt of a container and sets its timers.
    pub(super) fn start(&mut self, launch: &Launch, script: &Script, now: Timestamp) {
        let uid = facts::uid(&launch.pod).to_owned();
        let name = launch.container.name.clone();
        let id = format!("{uid}-{name}-{}", launch.attempt);
        let view = View {
            container: name.clone(),
            mounts: launch
                .container
                .volume_mounts
                .iter()
                .flatten()
                .map(|mount| (mount.mount_path.clone(), mount.name.clone()))
                .collect(),
            environment: launch.environment.clone(),
        };
        let command = tool_command(launch);
        let pod = self.pod(&launch.pod);
        for (volume, path, content) in &launch.files {
            pod.files.insert(host::in_volume(volume, path), content.clone().into());
        }
        let hostname = facts::spec(&launch.pod).hostname.clone().unwrap_or_else(|| pod.name.clone());
        let with = Container { view: view.clone(), scripts: script.exec.clone(), hostname };
        let outcome = match &command {
            Some(Ok(command)) => host::start(command, &view, &mut pod.files),
            Some(Err(why)) => Outcome {
                lines: why.lines().map(|line| (Duration::ZERO, line.to_owned())).collect(),
                end: Some((Duration::ZERO, 2)),
                ..Outcome::default()
            },
            None => other_image(launch, &with, &mut pod.files),
        };
        let serving = outcome.serving.iter().cloned().chain(script.http.clone()).collect();
        let (lines, end) = scripted(outcome, script);
        let log = Arc::new(Log::new());
        log.add(lines.into_iter().map(|(after, line)| (later(now, after), line)));
        let ready_now = !script.never_ready && script.ready_after.is_zero();
        let image = launch.container.image.clone().unwrap_or_default();
        pod.containers.retain(|container| container.seen.id != id);
        pod.containers.push(SimulatedContainer {
            seen: ContainerObservation {
                id: id.clone(),
                name,
                attempt: launch.attempt,
                image_id: format!("simulated/{image}"),
                image,
                state: ContainerState::Running { started_at: now },
                modelled_ready: Some(ready_now),
            },
            log,
            command: command.and_then(Result::ok),
            container: with,
            serving,
            ignores_term: script.ignore_term,
        });
        if !ready_now && !script.never_ready {
            self.timer(later(now, script.ready_after), &uid, &id, Event::Ready);
        }
        if let Some((after, code)) = end {
            self.timer(later(now, after), &uid, &id, Event::Exit(code));
        }
    }

    /// Fires what is due; whose pods changed, and when the next timer is.
    pub(super) fn fire(&mut self, now: Timestamp) -> (Vec<String>, Option<Timestamp>) {
        let mut changed = Vec::new();
        while let Some(Reverse((at, ..))) = self.timers.peek() {
            if *at > now {
                break;
            }
            let Some(Reverse((at, _, timer))) = self.timers.pop() else { break };
            let Some(pod) = self.pods.get_mut(&timer.uid) else { continue };
            let files = &pod.files;
            let Some(container) = pod.containers.iter_mut().find(|own| own.seen.id == timer.id) else {
                continue;
            };
            if !container.seen.state.is_running() {
                continue;
            }
            match timer.event {
                Event::Ready => container.seen.modelled_ready = Some(true),
                Event::Exit(code) => {
                    let message = host::message(&container.seen.name, files);
                    container.exit(code, at, Vec::new());
                    container.say(message);
                }
            }
            changed.push(timer.uid);
        }
        (changed, self.timers.peek().map(|Reverse((at, ..))| *at))
    }

    /// TERM, or KILL when `force`. `true` when the container takes no notice.
    pub(super) fn stop(&mut self, uid: &str, id: &str, force: bool, now: Timestamp) -> bool {
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        let Some(container) = pod.containers.iter_mut().find(|container| container.seen.id == id) else {
            return false;
        };
        let ContainerState::Running { started_at } = container.seen.state else { return false };
        if force {
            container.exit(137, now, Vec::new());
            return false;
        }
        if container.ignores_term {
            return true;
        }
        let after = now.duration_since(started_at).max(SignedDuration::ZERO).unsigned_abs();
        let outcome = match &container.command {
            Some(command) => host::stop(command, &container.container.view, &mut pod.files, after),
            None => Outcome { end: Some((Duration::ZERO, 0)), ..Outcome::default() },
        };
        let code = outcome.end.map_or(0, |(_, code)| i32::from(code));
        container.exit(code, now, outcome.lines.into_iter().map(|(_, line)| line).collect());
        false
    }

    pub(super) fn remove_container(&mut self, uid: &str, id: &str) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.containers.retain(|container| container.seen.id != id || container.seen.state.is_running());
        }
    }

    pub(super) fn stop_sandbox(&mut self, uid: &str) {
        if let Some(sandbox) = self.pods.get_mut(uid).and_then(|pod| pod.sandbox.as_mut()) {
            sandbox.ready = false;
        }
    }

    pub(super) fn remove_pod(&mut self, uid: &str, now: Timestamp) {
        for container in self.pods.remove(uid).into_iter().flat_map(|pod| pod.containers) {
            container.log.end(now, Vec::new());
        }
    }
}

impl SimulatedContainer {
    /// Leaves a last message.
    fn say(&mut self, text: String) {
        if let ContainerState::Exited { message, .. } = &mut self.seen.state
            && message.is_empty()
        {
            *message = text;
        }
    }

    fn exit(&mut self, exit_code: i32, at: Timestamp, last: Vec<String>) {
        let ContainerState::Running { started_at } = self.seen.state else { return };
        self.seen.state = ContainerState::Exited {
            started_at,
            finished_at: at,
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: String::new(),
        };
        self.seen.modelled_ready = Some(false);
        self.log.end(at, last);
    }
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    SignedDuration::try_from(after)
        .ok()
        .and_then(|after| now.checked_add(after).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The tool's command, when the image is the tool image or the command line names the tool.
fn tool_command(launch: &Launch) -> Option<Result<ToolCommand, String>> {
    let container = &launch.container;
    let command = container.command.clone().unwrap_or_default();
    let args = container.args.clone().unwrap_or_default();
    let is_tool = container.image.as_deref() == Some(TOOL_IMAGE);
    (is_tool || !command.is_empty()).then(|| ToolCommand::of_container(&command, &args)).flatten()
}

/// What an image does that is not ours: what its command says, else what is usual.
fn other_image(launch: &Launch, container: &Container, files: &mut Files) -> Outcome {
    let spec = &launch.container;
    let command = spec.command.clone().unwrap_or_default();
    let args = spec.args.clone().unwrap_or_default();
    if !command.is_empty() {
        let whole: Vec<String> = command.iter().chain(&args).cloned().collect();
        if let Some(outcome) = images::commanded(&whole, container, files) {
            return outcome;
        }
    }
    if images::serves(spec.image.as_deref().unwrap_or_default(), &command, &args) == Some(true) {
        let greeting = images::greeting(spec.image.as_deref().unwrap_or_default(), &args);
        let lines = greeting.iter().map(|line| (Duration::ZERO, (*line).to_owned())).collect();
        return Outcome { lines, ..Outcome::default() };
    }
    let kind = facts::container(&launch.pod, &launch.container.name).map(|(kind, _)| kind);
    let stays = match kind {
        Some(Kind::Init) => false,
        Some(Kind::Sidecar | Kind::Ephemeral) => true,
        _ => facts::spec(&launch.pod).restart_policy.as_deref().unwrap_or("Always") == "Always",
    };
    Outcome { end: (!stays).then_some((Duration::ZERO, 0)), ..Outcome::default() }
}

type Scripted = (Vec<(Duration, String)>, Option<(Duration, i32)>);

/// What the annotations make of it.
fn scripted(outcome: Outcome, script: &Script) -> Scripted {
    let mut lines = outcome.lines;
    if let Some(text) = &script.log {
        lines.splice(0..0, text.lines().map(|line| (Duration::ZERO, line.to_owned())));
    }
    let own = outcome.end.map(|(after, code)| (after, i32::from(code)));
    let end = match (script.exit_after, script.exit_code) {
        (None, None) => own,
        (after, code) => {
            let (own_after, own_code) = own.unwrap_or_default();
            Some((after.unwrap_or(own_after), code.unwrap_or(own_code)))
        }
    };
    (lines, end)
}
