//! `kubectl get pods`: what the STATUS column says follows upstream's `printPod` to the letter, since people and
//! scripts read it.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{Column, age, human_duration};
use crate::json::{integer, list, text, truth};

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::object_name(),
        Column::new("Ready").saying("The aggregate readiness state of this pod for accepting traffic."),
        Column::new("Status").saying("The aggregate status of the containers in this pod."),
        Column::new("Restarts").saying("The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
        Column::age(),
        Column::described("IP", "PodStatus", "podIP").in_wide(),
        Column::described("Node", "PodSpec", "nodeName").in_wide(),
        Column::described("Nominated Node", "PodStatus", "nominatedNodeName").in_wide(),
        Column::described("Readiness Gates", "PodSpec", "readinessGates").in_wide(),
    ]
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let summary = Summary::of(pod);
    let mut restarts = summary.restarts.to_string();
    if summary.restarts != 0
        && let Some(last) = summary.last_restart
    {
        restarts = format!("{restarts} ({} ago)", human_duration(last, now));
    }
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let ip = list(status, "podIPs").first().map_or("", |ip| text(ip, "ip"));
    let ip = if ip.is_empty() { text(status, "podIP") } else { ip };
    vec![
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip).into(),
        or_none(text(spec, "nodeName")).into(),
        or_none(text(status, "nominatedNodeName")).into(),
        readiness_gates(spec, status).into(),
    ]
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = list(spec, "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|gate| holds(status, text(gate, "conditionType"))).count();
    format!("{met}/{}", gates.len())
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    list(status, "conditions").iter().find(|condition| text(condition, "type") == kind)
}

fn holds(status: &Value, kind: &str) -> bool {
    condition(status, kind).is_some_and(|condition| text(condition, "status") == "True")
}

#[derive(Debug, Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let mut summary = Self { reason: text(status, "phase").to_owned(), ..Self::default() };
        if !text(status, "reason").is_empty() {
            text(status, "reason").clone_into(&mut summary.reason);
        }
        if condition(status, "PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let sidecars: Vec<&str> = list(spec, "initContainers")
            .iter()
            .filter(|container| text(container, "restartPolicy") == "Always")
            .map(|container| text(container, "name"))
            .collect();
        summary.total = list(spec, "containers").len() + sidecars.len();
        let mut sidecar_restarts = (0, None);
        let initializing = summary.look_at_init(pod, &sidecars, &mut sidecar_restarts);
        if !initializing || holds(status, "Initialized") {
            (summary.restarts, summary.last_restart) = sidecar_restarts;
            summary.look_at_containers(status);
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            if text(status, "reason") == "NodeLost" {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(text(status, "phase"), "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        summary
    }

    /// Whether an init container is still to end.
    fn look_at_init(
        &mut self,
        pod: &Value,
        sidecars: &[&str],
        sidecar_restarts: &mut (i64, Option<Timestamp>),
    ) -> bool {
        let total = list(&pod["spec"], "initContainers").len();
        for (index, container) in list(&pod["status"], "initContainerStatuses").iter().enumerate() {
            let restarts = integer(container, "restartCount");
            self.restarts += restarts;
            self.last_restart = self.last_restart.max(last_end(container));
            let sidecar = sidecars.contains(&text(container, "name"));
            if sidecar {
                sidecar_restarts.0 += restarts;
                sidecar_restarts.1 = sidecar_restarts.1.max(last_end(container));
            }
            let state = &container["state"];
            let terminated = state.get("terminated").filter(|state| state.is_object());
            let waiting = text(&state["waiting"], "reason");
            self.reason = match terminated {
                Some(state) if integer(state, "exitCode") == 0 => continue,
                _ if sidecar && truth(container, "started") => {
                    self.ready += usize::from(truth(container, "ready"));
                    continue;
                }
                Some(state) => format!("Init:{}", end_reason(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{total}"),
            };
            return true;
        }
        false
    }

    fn look_at_containers(&mut self, status: &Value) {
        let mut running = false;
        let mut error = None;
        for container in list(status, "containerStatuses").iter().rev() {
            self.restarts += integer(container, "restartCount");
            self.last_restart = self.last_restart.max(last_end(container));
            let state = &container["state"];
            let waiting = text(&state["waiting"], "reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if state["terminated"].is_object() {
                self.reason = end_reason(&state["terminated"]);
                if integer(&state["terminated"], "exitCode") != 0 {
                    error = Some(self.reason.clone());
                }
            } else if truth(container, "ready") && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            self.reason = match error {
                _ if running && holds(status, "Ready") => "Running".to_owned(),
                Some(error) => error,
                None if running => "NotReady".to_owned(),
                None => "Completed".to_owned(),
            };
        }
    }
}

fn end_reason(terminated: &Value) -> String {
    match (text(terminated, "reason"), integer(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", integer(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn last_end(container: &Value) -> Option<Timestamp> {
    text(&container["lastState"]["terminated"], "finishedAt").parse().ok()
}
