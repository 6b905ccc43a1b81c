//! What the status of a step's pod says.

use fleet_objects::test_run::Outcome;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{COLLECTOR, STEP};

/// How a step's pod is.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Not started yet, and nothing says that it will not.
    Pending,
    /// The step's container runs.
    Running,
    /// The step's container cannot start. It may yet (an image that appears), so the caller decides how long to wait.
    Stuck(Stuck),
    /// The step's container ended.
    Ended(Ended),
    /// The pod ended without the step's container having run to its end.
    Lost {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
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

/// Reads the status of a step's pod.
#[must_use]
pub fn step(pod: &Pod) -> Observation {
    let Some(status) = &pod.status else { return Observation::Pending };
    let container = container_status(pod, STEP);
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Observation::Ended(Ended {
            exit_code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone().unwrap_or_default(),
            started_at: ended.started_at.clone(),
            finished_at: ended.finished_at.clone(),
        });
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return Observation::Lost {
            reason: status.reason.clone().unwrap_or_else(|| "PodEnded".to_owned()),
            message: status.message.clone().unwrap_or_else(|| "the pod ended before the step did".to_owned()),
        };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Observation::Running;
    }
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref())
        && let Some(reason) = waiting.reason.as_deref()
        && let Some(forever) = stuck(reason)
    {
        let message = waiting.message.clone().unwrap_or_default();
        return Observation::Stuck(Stuck { reason: reason.to_owned(), message, forever });
    }
    unschedulable(pod).map_or(Observation::Pending, Observation::Stuck)
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

/// How the collector is: `Ok(true)` once it can be asked to collect, `Ok(false)` while that may still come.
///
/// # Errors
/// Why it will not, for people.
pub fn collector(pod: &Pod) -> Result<bool, String> {
    let Some(state) = container_status(pod, COLLECTOR).and_then(|container| container.state.as_ref()) else {
        return Ok(false);
    };
    if let Some(ended) = &state.terminated {
        // Its log is still there, whole or not.
        return if ended.exit_code == 0 {
            Ok(true)
        } else {
            Err(format!(
                "the collector ended with exit code {} {}",
                ended.exit_code,
                ended.message.as_deref().unwrap_or_default()
            ))
        };
    }
    if let Some(waiting) = &state.waiting
        && let Some(reason) = waiting.reason.as_deref()
        && stuck(reason).is_some()
    {
        return Err(format!(
            "the collector cannot start: {reason}: {}",
            waiting.message.as_deref().unwrap_or_default()
        ));
    }
    Ok(state.running.is_some())
}

fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {}, "status": status})).expect("a pod")
    }

    #[test]
    fn a_step_that_ends_is_ended_while_the_collector_still_runs() {
        let pod = pod(serde_json::json!({"phase": "Running", "containerStatuses": [
            {"name": "collector", "ready": true, "restartCount": 0, "image": "", "imageID": "",
             "state": {"running": {}}},
            {"name": "step", "ready": false, "restartCount": 0, "image": "", "imageID": "",
             "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}));
        let Observation::Ended(ended) = step(&pod) else { panic!("ended") };
        assert_eq!((ended.exit_code, ended.outcome()), (3, Outcome::Failed));
        assert_eq!(collector(&pod), Ok(true));
    }

    #[test]
    fn a_missing_image_is_stuck_and_says_why() {
        let pod = pod(serde_json::json!({"phase": "Pending", "containerStatuses": [
            {"name": "step", "ready": false, "restartCount": 0, "image": "", "imageID": "",
             "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}));
        let expected =
            Stuck { reason: "ImagePullBackOff".into(), message: "not found".into(), forever: false };
        assert_eq!(step(&pod), Observation::Stuck(expected));
    }

    #[test]
    fn an_evicted_pod_is_lost() {
        let pod =
            pod(serde_json::json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
        assert!(matches!(step(&pod), Observation::Lost { reason, .. } if reason == "Evicted"));
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
