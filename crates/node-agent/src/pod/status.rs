//! What to tell the API about a pod. Pure; the same input as the plan's.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::facts::{self, Kind, Outcome};
use crate::pod::plan::{self, Input};
use crate::runtime::{ContainerObservation, ContainerState};

/// Where the node answers, and how container ids are led.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// `hostIP`.
    pub host_ip: &'a str,
    /// `containerd`, `simulated`: container ids are `<runtime>://<id>`.
    pub runtime: &'a str,
}

/// The whole status; what others wrote (conditions of other types, `PodScheduled`) is kept.
#[must_use]
pub fn compute(input: &Input<'_>, about: &About<'_>) -> core::PodStatus {
    let old = input.pod.status.clone().unwrap_or_default();
    let spec = facts::spec(input.pod);
    let initialized = initialized(input);
    let init: Vec<_> = statuses(input, about, initialized, |kind| kind != Kind::App);
    let own: Vec<_> = statuses(input, about, initialized, |kind| kind == Kind::App);
    let ephemeral: Vec<_> = facts::ephemeral(input.pod)
        .filter_map(|own| facts::container(input.pod, &own.name))
        .map(|(kind, container)| status_of(input, about, kind, &container, initialized))
        .collect();
    let outcome = facts::told_outcome(input.pod).or_else(|| facts::outcome(input.pod, input.observed));
    let phase = phase(input, outcome, &own);
    let host_network = spec.host_network == Some(true);
    let mut ips = input.observed.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
    if ips.is_empty() && input.observed.sandbox.is_some() && host_network {
        ips.push(about.host_ip.to_owned());
    }
    if ips.is_empty() {
        ips = old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    let (reason, message) = match &input.memory.ended {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (old.reason.clone(), old.message.clone()),
    };
    let conditions = conditions(input, &old, phase, initialized, &init, &own);
    core::PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        host_ip: Some(about.host_ip.to_owned()),
        host_ips: Some(vec![core::HostIP { ip: about.host_ip.to_owned() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| core::PodIP { ip }).collect()),
        start_time: old.start_time.clone().or(Some(Time(whole_seconds(input.now)))),
        qos_class: old.qos_class.clone().or_else(|| Some(qos_class(input.pod).to_owned())),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(own),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        conditions: Some(conditions),
        observed_generation: input.pod.metadata.generation,
        ..old
    }
}

/// The API keeps whole seconds; finer times would look like changes for ever.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Whether every init container has done its part.
fn initialized(input: &Input<'_>) -> bool {
    let past = facts::spec(input.pod).containers.iter().any(|c| input.observed.latest(&c.name).is_some());
    past || facts::containers(input.pod).all(|(kind, container)| match kind {
        Kind::Init => facts::init_done(input.pod, input.observed, &container.name),
        Kind::Sidecar => running(input, &container.name).is_some_and(|c| is_started(input, c)),
        Kind::App | Kind::Ephemeral => true,
    })
}

fn running<'a>(input: &Input<'a>, name: &str) -> Option<&'a ContainerObservation> {
    input.observed.latest(name).filter(|container| container.state.is_running())
}

fn is_started(input: &Input<'_>, container: &ContainerObservation) -> bool {
    input.memory.probes.get(&container.id).is_none_or(|probed| probed.started)
}

fn is_ready(input: &Input<'_>, spec: &core::Container, container: &ContainerObservation) -> bool {
    if !container.state.is_running() {
        return false;
    }
    match (container.modelled_ready, input.memory.probes.get(&container.id)) {
        (Some(ready), _) => ready,
        (None, Some(probed)) => probed.started && probed.ready,
        (None, None) => spec.readiness_probe.is_none() && spec.startup_probe.is_none(),
    }
}

fn statuses(
    input: &Input<'_>,
    about: &About<'_>,
    initialized: bool,
    wanted: impl Fn(Kind) -> bool,
) -> Vec<core::ContainerStatus> {
    facts::containers(input.pod)
        .filter(|(kind, _)| wanted(*kind))
        .map(|(kind, container)| status_of(input, about, kind, container, initialized))
        .collect()
}

fn status_of(
    input: &Input<'_>,
    about: &About<'_>,
    kind: Kind,
    container: &core::Container,
    initialized: bool,
) -> core::ContainerStatus {
    let name = &container.name;
    let old = facts::told(input.pod, name);
    let Some(latest) = input.observed.latest(name) else {
        return unstarted(input, container, kind, initialized, old);
    };
    let mut last = input.observed.previous(name).and_then(|c| terminated(about, c));
    let state = match &latest.state {
        ContainerState::Running { started_at } => core::ContainerState {
            running: Some(core::ContainerStateRunning { started_at: Some(Time(whole_seconds(*started_at))) }),
            ..Default::default()
        },
        ContainerState::Created => waiting(input, name, "ContainerCreating"),
        ContainerState::Exited { exit_code, .. } => {
            let own = terminated(about, latest);
            match why_waiting(input, kind, latest, *exit_code) {
                Some(waits) => {
                    last = own;
                    core::ContainerState { waiting: Some(waits), ..Default::default() }
                }
                None => own.unwrap_or_default(),
            }
        }
    };
    let completed_init = kind == Kind::Init && facts::exit_code(input.observed, name) == Some(0);
    core::ContainerStatus {
        name: name.clone(),
        image: latest.image.clone(),
        image_id: latest.image_id.clone(),
        container_id: Some(format!("{}://{}", about.runtime, latest.id)),
        ready: completed_init || is_ready(input, container, latest),
        started: Some(latest.state.is_running() && is_started(input, latest)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.or_else(|| old.and_then(|old| old.last_state.clone())).unwrap_or_default()),
        ..Default::default()
    }
}

/// A container the runtime does not know. What the API was told of a finished one stays.
fn unstarted(
    input: &Input<'_>,
    container: &core::Container,
    kind: Kind,
    initialized: bool,
    old: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let ended = old.filter(|old| {
        let terminated = old.state.as_ref().is_some_and(|state| state.terminated.is_some());
        terminated
            && (matches!(kind, Kind::Init | Kind::Ephemeral) || facts::told_outcome(input.pod).is_some())
    });
    if let Some(old) = ended {
        return old.clone();
    }
    let has_init = facts::spec(input.pod).init_containers.as_ref().is_some_and(|init| !init.is_empty());
    let waits_for_init = has_init && kind != Kind::Ephemeral && !(kind == Kind::App && initialized);
    let reason = if waits_for_init { "PodInitializing" } else { "ContainerCreating" };
    core::ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: String::new(),
        ready: false,
        started: Some(false),
        restart_count: old.map_or(0, |old| old.restart_count),
        state: Some(waiting(input, &container.name, reason)),
        last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
        ..Default::default()
    }
}

fn waiting(input: &Input<'_>, name: &str, usual: &str) -> core::ContainerState {
    let waiting = match input.memory.waiting.get(name) {
        Some(why) => core::ContainerStateWaiting {
            reason: Some(why.reason.clone()),
            message: (!why.message.is_empty()).then(|| why.message.clone()),
        },
        None => core::ContainerStateWaiting { reason: Some(usual.to_owned()), message: None },
    };
    core::ContainerState { waiting: Some(waiting), ..Default::default() }
}

/// Why an ended container waits rather than counts as ended.
fn why_waiting(
    input: &Input<'_>,
    kind: Kind,
    latest: &ContainerObservation,
    exit_code: i32,
) -> Option<core::ContainerStateWaiting> {
    let over = input.pod.metadata.deletion_timestamp.is_some()
        || input.memory.ended.is_some()
        || facts::outcome(input.pod, input.observed).is_some();
    if over || !facts::restarts(input.pod, kind, exit_code) {
        return None;
    }
    if let Some(why) = input.memory.waiting.get(&latest.name) {
        return Some(core::ContainerStateWaiting {
            reason: Some(why.reason.clone()),
            message: Some(why.message.clone()),
        });
    }
    plan::restart_at(input, latest).filter(|at| *at > input.now)?;
    Some(core::ContainerStateWaiting {
        reason: Some("CrashLoopBackOff".to_owned()),
        message: Some(back_off_message(input, latest)),
    })
}

/// The words of upstream's `BackOff` event and waiting message.
#[must_use]
pub fn back_off_message(input: &Input<'_>, container: &ContainerObservation) -> String {
    let meta = &input.pod.metadata;
    format!(
        "back-off {:?} restarting failed container={} pod={}_{}({})",
        plan::restart_delay(input, container),
        container.name,
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        facts::uid(input.pod),
    )
}

fn terminated(about: &About<'_>, container: &ContainerObservation) -> Option<core::ContainerState> {
    let ContainerState::Exited { started_at, finished_at, exit_code, reason, message } = &container.state
    else {
        return None;
    };
    Some(core::ContainerState {
        terminated: Some(core::ContainerStateTerminated {
            container_id: Some(format!("{}://{}", about.runtime, container.id)),
            exit_code: *exit_code,
            started_at: Some(Time(whole_seconds(*started_at))),
            finished_at: Some(Time(whole_seconds(*finished_at))),
            reason: Some(reason.clone()),
            message: (!message.is_empty()).then(|| message.clone()),
            signal: None,
        }),
        ..Default::default()
    })
}

fn phase(input: &Input<'_>, outcome: Option<Outcome>, own: &[core::ContainerStatus]) -> &'static str {
    if input.memory.ended.is_some() {
        return "Failed";
    }
    match outcome {
        Some(Outcome::Failed) => return "Failed",
        Some(Outcome::Succeeded) => return "Succeeded",
        None => {}
    }
    let deleting = input.pod.metadata.deletion_timestamp.is_some();
    let was_started = |status: &core::ContainerStatus| status.container_id.is_some();
    if deleting && !own.is_empty() && own.iter().all(was_started) {
        // Every container was ended by the deletion; which phase is left depends on how they ended.
        let codes: Option<Vec<i32>> =
            own.iter().map(|status| Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)).collect();
        if let Some(codes) = codes {
            return if codes.iter().all(|code| *code == 0) { "Succeeded" } else { "Failed" };
        }
    }
    if !own.is_empty() && own.iter().all(was_started) { "Running" } else { "Pending" }
}

fn conditions(
    input: &Input<'_>,
    old: &core::PodStatus,
    phase: &str,
    initialized: bool,
    init: &[core::ContainerStatus],
    own: &[core::ContainerStatus],
) -> Vec<core::PodCondition> {
    let unready = names(
        own.iter().chain(init.iter().filter(|status| {
            facts::container(input.pod, &status.name).is_some_and(|(kind, _)| kind == Kind::Sidecar)
        })),
        |status| !status.ready,
    );
    let completed = phase == "Succeeded";
    let failed = phase == "Failed";
    let unready_why = || {
        if completed {
            Some(("PodCompleted", String::new()))
        } else if failed {
            Some(("PodFailed", String::new()))
        } else {
            (!unready.is_empty()).then(|| {
                ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
            })
        }
    };
    let incomplete = names(init.iter(), |status| {
        !status.ready
            && status.state.as_ref().is_none_or(|s| s.terminated.as_ref().is_none_or(|t| t.exit_code != 0))
    });
    let not_initialized = (!initialized && !completed).then(|| {
        ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", incomplete.join(" ")))
    });
    let sandbox = input.observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready);
    let ready = unready_why().or_else(|| gate_missing(input, old));
    let mut list: Vec<core::PodCondition> = Vec::new();
    let mut own_types = vec![
        condition(old, input, "PodReadyToStartContainers", sandbox, None),
        condition(old, input, "Initialized", not_initialized.is_none(), not_initialized),
        condition(old, input, "Ready", ready.is_none(), ready),
        condition(old, input, "ContainersReady", unready_why().is_none(), unready_why()),
    ];
    // Others' conditions keep their places, so that a comparison with what was told finds no difference.
    for theirs in old.conditions.iter().flatten() {
        match own_types.iter().position(|own| own.type_ == theirs.type_) {
            Some(index) => list.push(own_types.remove(index)),
            None => list.push(theirs.clone()),
        }
    }
    list.extend(own_types);
    if !list.iter().any(|condition| condition.type_ == "PodScheduled") {
        list.push(condition(old, input, "PodScheduled", true, None));
    }
    list
}

fn names<'a>(
    statuses: impl Iterator<Item = &'a core::ContainerStatus>,
    wanted: impl Fn(&core::ContainerStatus) -> bool,
) -> Vec<&'a str> {
    statuses.filter(|status| wanted(status)).map(|status| status.name.as_str()).collect()
}

/// The first readiness gate that isn't met.
fn gate_missing(input: &Input<'_>, old: &core::PodStatus) -> Option<(&'static str, String)> {
    let gates = facts::spec(input.pod).readiness_gates.iter().flatten();
    for gate in gates {
        let found = old.conditions.iter().flatten().find(|condition| condition.type_ == gate.condition_type);
        let why = match found {
            Some(condition) if condition.status == "True" => continue,
            Some(condition) => {
                format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    gate.condition_type, condition.status
                )
            }
            None => format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            ),
        };
        return Some(("ReadinessGatesNotReady", why));
    }
    None
}

fn condition(
    old: &core::PodStatus,
    input: &Input<'_>,
    kind: &str,
    holds: bool,
    why: Option<(&str, String)>,
) -> core::PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = old.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone())
        .unwrap_or(Time(whole_seconds(input.now)));
    let (reason, message) = why.map_or((None, None), |(reason, message)| {
        (Some(reason.to_owned()), (!message.is_empty()).then_some(message))
    });
    core::PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(since),
        reason,
        message,
        observed_generation: input.pod.metadata.generation,
        ..Default::default()
    }
}

/// `Guaranteed` when every container limits cpu and memory to what it requests, `BestEffort` when none asks for
/// anything.
#[must_use]
pub fn qos_class(pod: &core::Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for (_, container) in facts::containers(pod) {
        let resources = container.resources.clone().unwrap_or_default();
        let (limits, requests) =
            (resources.limits.unwrap_or_default(), resources.requests.unwrap_or_default());
        for resource in ["cpu", "memory"] {
            let (limit, request) = (limits.get(resource), requests.get(resource));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
