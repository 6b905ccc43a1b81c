//! What a pod's document and its observation say, in the words the plan uses. Pure.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, EphemeralContainer, Pod, PodSpec};

use crate::runtime::{ContainerState, PodObservation};

/// What part a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next.
    Init,
    /// An init container that stays: `restartPolicy: Always`.
    Sidecar,
    /// One of the pod's own containers.
    App,
    /// Added to the running pod to look into it: runs once and counts for nothing.
    Ephemeral,
}

/// The pod's specification; a pod without one has no containers.
#[must_use]
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The pod's uid.
#[must_use]
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Init containers, then the pod's own, in order.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (Kind, &Container)> {
    let spec = spec(pod);
    let init = spec.init_containers.iter().flatten().map(|container| {
        let stays = container.restart_policy.as_deref() == Some("Always");
        (if stays { Kind::Sidecar } else { Kind::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (Kind::App, container)))
}

/// Containers added to the running pod, in order.
pub fn ephemeral(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    spec(pod).ephemeral_containers.iter().flatten()
}

/// An ephemeral container as the runtime starts it.
fn started(own: &EphemeralContainer) -> Container {
    Container {
        name: own.name.clone(),
        image: own.image.clone(),
        image_pull_policy: own.image_pull_policy.clone(),
        command: own.command.clone(),
        args: own.args.clone(),
        working_dir: own.working_dir.clone(),
        env: own.env.clone(),
        env_from: own.env_from.clone(),
        volume_mounts: own.volume_mounts.clone(),
        volume_devices: own.volume_devices.clone(),
        security_context: own.security_context.clone(),
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        termination_message_path: own.termination_message_path.clone(),
        termination_message_policy: own.termination_message_policy.clone(),
        ..Container::default()
    }
}

/// A container of any kind by name.
#[must_use]
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Kind, Cow<'a, Container>)> {
    let declared = containers(pod).find(|(_, container)| container.name == name);
    let declared = declared.map(|(kind, container)| (kind, Cow::Borrowed(container)));
    declared.or_else(|| {
        let own = ephemeral(pod).find(|own| own.name == name)?;
        Some((Kind::Ephemeral, Cow::Owned(started(own))))
    })
}

/// What the API was last told of a container.
#[must_use]
pub fn told<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let ephemeral = status.ephemeral_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).chain(ephemeral).find(|status| status.name == name)
}

/// Whether an ended container is to be started again.
#[must_use]
pub fn restarts(pod: &Pod, kind: Kind, exit_code: i32) -> bool {
    let policy = spec(pod).restart_policy.as_deref().unwrap_or("Always");
    match (kind, policy) {
        (Kind::Sidecar, _) => true,
        (Kind::Ephemeral, _) => false,
        (Kind::Init, "Never") => false,
        (Kind::Init, _) => exit_code != 0,
        (Kind::App, "Never") => false,
        (Kind::App, "OnFailure") => exit_code != 0,
        (Kind::App, _) => true,
    }
}

/// The exit code of the newest attempt, if it has ended.
#[must_use]
pub fn exit_code(observed: &PodObservation, name: &str) -> Option<i32> {
    match observed.latest(name)?.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

/// Whether an init container has done its work: it ended well, or the API was told so by an agent before a runtime
/// that forgets.
#[must_use]
pub fn init_done(pod: &Pod, observed: &PodObservation, name: &str) -> bool {
    match observed.latest(name) {
        Some(_) => exit_code(observed, name) == Some(0),
        None => told(pod, name)
            .and_then(|status| status.state.as_ref()?.terminated.as_ref())
            .is_some_and(|terminated| terminated.exit_code == 0),
    }
}

/// The attempt a container not yet known to the runtime begins with: one more than the API knows of.
#[must_use]
pub fn first_attempt(pod: &Pod, name: &str) -> u32 {
    match told(pod, name) {
        Some(status) if status.container_id.is_some() => {
            u32::try_from(status.restart_count).unwrap_or(0).saturating_add(1)
        }
        _ => 0,
    }
}

/// How the pod's run has ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every container ended well.
    Succeeded,
    /// One did not, and nothing will start it again.
    Failed,
}

/// The outcome by the containers alone.
#[must_use]
pub fn outcome(pod: &Pod, observed: &PodObservation) -> Option<Outcome> {
    let final_code =
        |kind: Kind, name: &str| exit_code(observed, name).filter(|code| !restarts(pod, kind, *code));
    let mut failed = false;
    for (kind, container) in containers(pod) {
        match kind {
            Kind::Init => match final_code(kind, &container.name) {
                Some(code) if code != 0 => return Some(Outcome::Failed),
                _ => {}
            },
            Kind::Sidecar | Kind::Ephemeral => {}
            Kind::App => failed |= final_code(kind, &container.name)? != 0,
        }
    }
    let any = !spec(pod).containers.is_empty();
    any.then_some(if failed { Outcome::Failed } else { Outcome::Succeeded })
}

/// The phase the API was told, when it is a last one: such a pod is never started again.
#[must_use]
pub fn told_outcome(pod: &Pod) -> Option<Outcome> {
    match pod.status.as_ref()?.phase.as_deref()? {
        "Succeeded" => Some(Outcome::Succeeded),
        "Failed" => Some(Outcome::Failed),
        _ => None,
    }
}

/// The grace of deletion when there is one, else the pod's own, else 30 s.
#[must_use]
pub fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// When the pod's `activeDeadlineSeconds` is over.
#[must_use]
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = spec(pod).active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}
