//! The plan, case by case: what is there, and what is to be done.

use serde_json::json;

use super::*;
use crate::runtime::SandboxObservation;

const BACK_OFF: BackOff = BackOff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn pod(policy: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u" },
        "spec": {
            "restartPolicy": policy,
            "initContainers": [{ "name": "init", "image": "i" }, { "name": "side", "image": "i", "restartPolicy": "Always" }],
            "containers": [{ "name": "app", "image": "i" }],
        },
    }))
    .expect("a pod")
}

fn at(seconds_ago: i64) -> Timestamp {
    now().checked_sub(SignedDuration::from_secs(seconds_ago)).expect("in range")
}

fn running(name: &str) -> ContainerObservation {
    ContainerObservation {
        id: format!("{name}-id"),
        name: name.to_owned(),
        attempt: 0,
        image: "i".to_owned(),
        image_id: "i".to_owned(),
        state: ContainerState::Running { started_at: at(60) },
        modelled_ready: None,
    }
}

fn exited(name: &str, attempt: u32, exit_code: i32, seconds_ago: i64) -> ContainerObservation {
    let state = ContainerState::Exited {
        started_at: at(seconds_ago + 1),
        finished_at: at(seconds_ago),
        exit_code,
        reason: "Error".to_owned(),
        message: String::new(),
    };
    ContainerObservation { id: format!("{name}-{attempt}"), attempt, state, ..running(name) }
}

fn observed(containers: Vec<ContainerObservation>) -> PodObservation {
    let sandbox =
        SandboxObservation { id: "s".into(), ready: true, ips: vec!["10.0.0.1".into()], attempt: 0 };
    PodObservation { uid: "u".into(), sandbox: Some(sandbox), containers, ..PodObservation::default() }
}

fn plan(pod: &Pod, observed: &PodObservation, memory: &Memory) -> Plan {
    decide(&Input { pod, observed, memory, now: now(), back_off: BACK_OFF })
}

fn starts(plan: &Plan) -> Vec<(&str, u32)> {
    let start = |action: &'_ Action| matches!(action, Action::StartContainer { .. });
    let of = |action| match action {
        &Action::StartContainer { ref name, attempt } => (name.as_str(), attempt),
        _ => unreachable!("filtered"),
    };
    plan.actions.iter().filter(|action| start(action)).map(of).collect()
}

#[test]
fn a_new_pod_gets_its_sandbox_then_its_containers_in_order() {
    let (pod, memory) = (pod("Always"), Memory::default());
    let nothing = PodObservation::default();
    assert_eq!(plan(&pod, &nothing, &memory).actions, [Action::StartSandbox { attempt: 0 }]);
    assert_eq!(starts(&plan(&pod, &observed(vec![]), &memory)), [("init", 0)]);
    assert!(plan(&pod, &observed(vec![running("init")]), &memory).actions.is_empty());
    let after_init = observed(vec![exited("init", 0, 0, 1)]);
    assert_eq!(starts(&plan(&pod, &after_init, &memory)), [("side", 0)]);
    let with_sidecar = observed(vec![exited("init", 0, 0, 1), running("side")]);
    assert_eq!(starts(&plan(&pod, &with_sidecar, &memory)), [("app", 0)]);
}

#[test]
fn a_sidecar_holds_the_others_back_until_its_startup_probe_succeeds() {
    let mut memory = Memory::default();
    memory.probes.insert("side-id".into(), Probed { started: false, ready: false, unhealthy: None });
    let observed = observed(vec![exited("init", 0, 0, 1), running("side")]);
    assert!(starts(&plan(&pod("Always"), &observed, &memory)).is_empty());
}

#[test]
fn back_off_doubles_from_the_second_failure_on() {
    let memory = Memory::default();
    let crashed = |attempt, ago| {
        observed(vec![exited("init", 0, 0, 99), running("side"), exited("app", attempt, 1, ago)])
    };
    assert_eq!(starts(&plan(&pod("Always"), &crashed(0, 0), &memory)), [("app", 1)]);
    let waits = plan(&pod("Always"), &crashed(1, 3), &memory);
    assert!(waits.actions.is_empty());
    assert_eq!(waits.wake_at, Some(now().checked_add(SignedDuration::from_secs(7)).expect("in range")));
    assert_eq!(starts(&plan(&pod("Always"), &crashed(1, 10), &memory)), [("app", 2)]);
    assert!(plan(&pod("Always"), &crashed(2, 19), &memory).actions.is_empty());
    assert_eq!(BACK_OFF.delay(40), Duration::from_secs(300));
}

#[test]
fn restart_policies_decide_who_is_started_again() {
    let memory = Memory::default();
    for (policy, code, again) in [
        ("Always", 0, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
        ("Never", 0, false),
    ] {
        let observed = observed(vec![exited("init", 0, 0, 99), running("side"), exited("app", 0, code, 5)]);
        let plan = plan(&pod(policy), &observed, &memory);
        assert_eq!(!starts(&plan).is_empty(), again, "{policy} {code}");
        let stops_sidecar =
            plan.actions.iter().any(|a| matches!(a, Action::StopContainer { name, .. } if name == "side"));
        assert_eq!(stops_sidecar, !again, "{policy} {code}: a sidecar outlives nobody");
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let observed = observed(vec![exited("init", 0, 1, 5)]);
    assert_eq!(facts::outcome(&pod("Never"), &observed), Some(facts::Outcome::Failed));
    assert_eq!(plan(&pod("Never"), &observed, &Memory::default()).actions, [Action::StopSandbox]);
    assert_eq!(starts(&plan(&pod("OnFailure"), &observed, &Memory::default())), [("init", 1)]);
}

#[test]
fn deletion_stops_apps_then_sidecars_then_the_sandbox_then_finishes() {
    let mut pod = pod("Always");
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    pod.metadata.deletion_grace_period_seconds = Some(7);
    let mut memory = Memory::default();
    let both = observed(vec![exited("init", 0, 0, 99), running("side"), running("app")]);
    let names = |plan: &Plan| -> Vec<String> {
        plan.actions
            .iter()
            .filter_map(|a| match a {
                Action::StopContainer { name, grace, .. } => Some(format!("{name} {}", grace.as_secs())),
                _ => None,
            })
            .collect()
    };
    assert_eq!(names(&plan(&pod, &both, &memory)), ["app 7"]);
    memory.stopping.insert("app-id".into(), Duration::from_secs(7));
    assert!(plan(&pod, &both, &memory).actions.is_empty(), "a stop under way is not repeated");
    pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(names(&plan(&pod, &both, &memory)), ["app 0"], "a shorter grace overrides");
    let side = observed(vec![running("side"), exited("app", 0, 0, 1)]);
    assert_eq!(names(&plan(&pod, &side, &memory)), ["side 0"]);
    let mut none = observed(vec![exited("app", 0, 0, 1)]);
    assert_eq!(plan(&pod, &none, &memory).actions, [Action::StopSandbox]);
    if let Some(sandbox) = &mut none.sandbox {
        sandbox.ready = false;
    }
    assert_eq!(plan(&pod, &none, &memory).actions, [Action::Finish]);
}

#[test]
fn a_pod_the_api_calls_ended_is_never_started_again() {
    let mut pod = pod("Always");
    pod.status = serde_json::from_value(json!({ "phase": "Failed" })).expect("a status");
    assert!(plan(&pod, &PodObservation::default(), &Memory::default()).actions.is_empty());
}

#[test]
fn liveness_stops_and_a_deadline_ends() {
    let mut memory = Memory::default();
    memory
        .probes
        .insert("app-id".into(), Probed { started: true, ready: true, unhealthy: Some("sick".into()) });
    let mut pod = pod("Always");
    let all = observed(vec![exited("init", 0, 0, 99), running("side"), running("app")]);
    let plan_now = plan(&pod, &all, &memory);
    assert!(
        matches!(&plan_now.actions[..], [Action::StopContainer { name, why, .. }] if name == "app" && why == "sick")
    );
    if let Some(spec) = &mut pod.spec {
        spec.active_deadline_seconds = Some(30);
    }
    pod.status = serde_json::from_value(json!({ "startTime": "2026-01-01T00:09:00Z" })).expect("a status");
    assert!(matches!(
        plan(&pod, &all, &memory).actions[..],
        [Action::End { reason: "DeadlineExceeded", .. }]
    ));
}

#[test]
fn old_attempts_are_forgotten_but_the_one_before_the_newest() {
    let dead = |attempt| exited("app", attempt, 1, 1);
    let all = observed(vec![exited("init", 0, 0, 99), running("side"), dead(1), dead(2), dead(3)]);
    let plan = plan(&pod("Always"), &all, &Memory::default());
    assert_eq!(plan.actions, [Action::RemoveContainer { id: "app-1".into() }]);
}

#[test]
fn an_ephemeral_container_runs_once_beside_the_others() {
    let mut pod = pod("Always");
    if let Some(spec) = &mut pod.spec {
        spec.ephemeral_containers =
            serde_json::from_value(json!([{ "name": "debug", "image": "i" }])).expect("a list");
    }
    let others = || vec![exited("init", 0, 0, 99), running("side"), running("app")];
    let start = |attempt| Action::StartContainer { name: "debug".into(), attempt };
    assert_eq!(plan(&pod, &observed(others()), &Memory::default()).actions, [start(0)]);
    let ended = observed([others(), vec![exited("debug", 0, 1, 9)]].concat());
    assert!(plan(&pod, &ended, &Memory::default()).actions.is_empty(), "it is not started again");
    assert_eq!(facts::outcome(&pod, &ended), None, "its end is not the pod's");
    pod.status = serde_json::from_value(json!({ "ephemeralContainerStatuses": [
        { "name": "debug", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "containerID": "x://y" }] }))
    .expect("a status");
    assert!(
        plan(&pod, &observed(others()), &Memory::default()).actions.is_empty(),
        "nor when it was forgotten"
    );
}
