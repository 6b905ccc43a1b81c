//! What the status of a pod says.

use fleet_objects::test_run::Outcome;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How a pod of steps is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// How each of its steps' containers ended, by name, in order.
    pub ended: Vec<(String, Ended)>,
    /// The container that runs or is to run next: its name, and whether it runs.
    pub current: Option<(String, bool)>,
    /// Why the current one does not start, when something is wrong.
    pub stuck: Option<Stuck>,
    /// The pod is over: its phase's reason and message, where it has one.
    pub over: Option<(String, String)>,
}

/// Why a container does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// One word, Kubernetes' own: `ErrImagePull`, `Unschedulable` …
    pub reason: String,
    /// For people.
    pub message: String,
    /// No waiting helps: the image's name is wrong, the container's configuration refers to what is not there.
    pub forever: bool,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its exit code.
    pub exit_code: i32,
    /// Kubernetes' word: `Completed`, `Error`, `OOMKilled`, `StartError` …
    pub reason: String,
    /// For people; often empty.
    pub message: String,
    /// When it had started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
}

impl Ended {
    /// Whether it ran at all: a runtime that fails to start a container reports that as its end.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.reason.as_str() {
            "StartError" | "ContainerCannotRun" | "ContainerStatusUnknown" => Outcome::NotRun,
            _ if self.exit_code == 0 => Outcome::Passed,
            _ => Outcome::Failed,
        }
    }
}

/// Reads the status of a pod of steps.
#[must_use]
pub fn steps(pod: &Pod) -> PodState {
    let mut state = PodState::default();
    let Some(status) = &pod.status else { return state };
    let own =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in own {
        let now = container.state.as_ref();
        if let Some(ended) = now.and_then(|state| state.terminated.as_ref()) {
            let ended = Ended {
                exit_code: ended.exit_code,
                reason: ended.reason.clone().unwrap_or_default(),
                message: ended.message.clone().unwrap_or_default(),
                started_at: ended.started_at.clone(),
                finished_at: ended.finished_at.clone(),
            };
            state.ended.push((container.name.clone(), ended));
        } else if state.current.is_none() {
            let runs = now.is_some_and(|state| state.running.is_some());
            state.current = Some((container.name.clone(), runs));
            let waiting = now.and_then(|state| state.waiting.as_ref());
            state.stuck = waiting.and_then(|waiting| {
                let reason = waiting.reason.as_deref()?;
                let forever = stuck(reason)?;
                let message = waiting.message.clone().unwrap_or_default();
                Some(Stuck { reason: reason.to_owned(), message, forever })
            });
        }
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let reason = status.reason.clone().unwrap_or_default();
        state.over = Some((reason, status.message.clone().unwrap_or_default()));
    } else if state.stuck.is_none() && state.current.as_ref().is_none_or(|(_, runs)| !runs) {
        state.stuck = unschedulable(pod);
    }
    state
}

/// Whether a service is ready; `Err` when it never will be: it ended.
///
/// # Errors
/// How it ended, for people.
pub fn ready(pod: &Pod) -> Result<Option<String>, String> {
    let Some(status) = &pod.status else { return Ok(None) };
    let ready = status.conditions.iter().flatten().any(|own| own.type_ == "Ready" && own.status == "True");
    if ready {
        return Ok(status.pod_ip.clone());
    }
    match status.phase.as_deref() {
        // A service that did what it was there for is no mistake.
        Some("Succeeded") => Ok(Some(status.pod_ip.clone().unwrap_or_default())),
        Some("Failed") => Err(format!("it ended: {}", status.message.clone().unwrap_or_default())),
        _ => Ok(None),
    }
}

/// Whether a waiting reason means that something is wrong, and if so whether for ever.
fn stuck(reason: &str) -> Option<bool> {
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" | "CreateContainerConfigError" | "ImageInspectError" => {
            Some(true)
        }
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "CreateContainerError"
        | "RunContainerError"
        | "CrashLoopBackOff" => Some(false),
        _ => None,
    }
}

fn unschedulable(pod: &Pod) -> Option<Stuck> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| Stuck {
        reason: scheduled.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
        message: scheduled.message.clone().unwrap_or_default(),
        forever: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {}, "status": status})).expect("a pod")
    }

    fn container(name: &str, state: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state})
    }

    #[test]
    fn steps_end_one_after_the_other() {
        let pod = pod(serde_json::json!({"phase": "Pending", "initContainerStatuses": [
            container("a", serde_json::json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": "{}"}})),
            container("b", serde_json::json!({"running": {}})),
            container("c", serde_json::json!({"waiting": {"reason": "PodInitializing"}}))]}));
        let state = steps(&pod);
        assert_eq!((state.ended.len(), state.ended[0].1.message.as_str()), (1, "{}"));
        assert_eq!(state.current, Some(("b".to_owned(), true)));
        assert_eq!((state.stuck, state.over), (None, None));
    }

    #[test]
    fn a_missing_image_is_stuck_and_says_why() {
        let waiting = serde_json::json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
        let pod =
            pod(serde_json::json!({"phase": "Pending", "initContainerStatuses": [container("a", waiting)]}));
        let expected =
            Stuck { reason: "ImagePullBackOff".into(), message: "not found".into(), forever: false };
        assert_eq!(steps(&pod).stuck, Some(expected));
    }

    #[test]
    fn an_evicted_pod_is_over() {
        let pod =
            pod(serde_json::json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
        assert_eq!(steps(&pod).over, Some(("Evicted".into(), "low on memory".into())));
    }

    #[test]
    fn a_container_the_runtime_could_not_start_did_not_run() {
        let ended = Ended {
            exit_code: 128,
            reason: "StartError".into(),
            message: String::new(),
            started_at: None,
            finished_at: None,
        };
        assert_eq!(ended.outcome(), Outcome::NotRun);
    }
}
