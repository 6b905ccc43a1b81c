//! The pods of an execution.
//!
//! Steps that follow each other share one pod, so that they share files: each is an init container, since those run one
//! after the other, and the pod's last container, the collector, prints the kept files on its log when all have ended
//! (see [`crate::collect`]). The step runner stands around each step's command; a first init container brings it along
//! (`tool install`), so that it runs in any image. How a step ended is told by its container's termination message, never
//! by its log.
//!
//! The pod has no rights: no service-account token, no privilege escalation, no capabilities, the runtime's seccomp
//! profile, and a user that is not root unless the workflow says so: the *restricted* pod security standard.

mod build;

use fleet_objects::test_run::RunReference;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use build::{BuildError, service, steps};

use crate::plan::PlannedService;

/// Name of the container that brings the step runner.
pub const INSTALL: &str = "fairlead-install";
/// Name of the container that waits for files of other pods.
pub const RECEIVE: &str = "fairlead-files";
/// Name of the container that waits until other instances are as far.
pub const START: &str = "fairlead-start";
/// What says in [`RECEIVED_DIR`] that they are: a number that no pack has.
pub const START_NUMBER: usize = 1_000_000;
/// Name of the collector.
pub const COLLECTOR: &str = "fairlead-collect";
/// Name of a service's container.
pub const SERVICE: &str = "service";
/// Label with the uid of the `TestExecution`: a pod of the same name with another is not ours.
pub const EXECUTION_UID_LABEL: &str = "fleet.fairlead.dev/test-execution-uid";
/// What the agent's objects are marked with.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "fairlead");
/// Annotation by which a pod's steps are held (`pause`).
pub const CONTROL_ANNOTATION: &str = "fleet.fairlead.dev/test-control";
/// How long a pod may take to stop.
pub const GRACE_SECONDS: i64 = 10;
/// The user that test containers run as unless the workflow says otherwise.
pub const USER: i64 = 1000;

/// Where the step runner lies.
pub const BIN_DIR: &str = "/.fairlead/bin";
/// Where the plan and the record lie.
pub const STATE_DIR: &str = "/.fairlead/state";
/// The variables in which the plan comes, numbered from 0.
pub const PLAN_VARIABLE: &str = "FAIRLEAD_PLAN_";
/// The variables in which the record of other pods comes, numbered from 0.
pub const PROGRESS_VARIABLE: &str = "FAIRLEAD_PROGRESS_";
/// The plan.
pub const PLAN_FILE: &str = "/.fairlead/state/plan.json";
/// The record of what ended.
pub const PROGRESS_FILE: &str = "/.fairlead/state/progress.json";
/// A file for each pack that has come, named by its number.
pub const RECEIVED_DIR: &str = "/.fairlead/state/received";
/// Kept files, as `<kind>/<step>/<path>`.
pub const FILES_DIR: &str = "/.fairlead/state/files";
/// Directories that steps leave for each other.
pub const RESULTS_DIR: &str = "/.fairlead/state/results";
/// Where a step leaves its outputs, a file each; both are the same directory, the second as Testkube calls it.
pub const OUTPUTS_DIRS: [&str; 2] = ["/.fairlead/outputs", "/testkube/outputs"];
/// What the pod's control annotation says, as a file.
pub const CONTROL_FILE: &str = "/.fairlead/control/control";
/// Where the kubeconfig of the execution's own cluster lies.
pub const CLUSTER_DIR: &str = "/.fairlead/cluster";
/// The key of its Secret, and the name of its file.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Where a container leaves its last message, unless the pod says otherwise.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// What does not come from the workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// Where test pods run.
    pub namespace: String,
    /// Image of the step runner and the collector.
    pub tool_image: String,
    /// The run.
    pub run: RunReference,
    /// Uid of the execution.
    pub execution_uid: String,
    /// Which part of the execution, where there are several at once.
    pub part: String,
    /// Name of the Secret with the kubeconfig of the execution's own cluster.
    pub kubeconfig: Option<String>,
}

/// Characters of a part in a name.
const PART: usize = 32;

/// Name of a part's pod with a number: the same whenever it is asked for, so that an agent that starts again finds it.
#[must_use]
pub fn name(options: &PodOptions, number: u32) -> String {
    format!("{}-{number}", stem(options))
}

/// Name of a service's pod.
#[must_use]
pub fn service_name(options: &PodOptions, service: &PlannedService) -> String {
    let name: String = service.name.chars().take(PART).collect();
    format!("{}-s-{}-{}", stem(options), name.to_lowercase(), service.index)
}

/// Name of the Secret with the kubeconfig of the execution's own cluster.
#[must_use]
pub fn kubeconfig_name(options: &PodOptions) -> String {
    format!("{}-kubeconfig", stem(options))
}

fn stem(options: &PodOptions) -> String {
    let uid: String = options.execution_uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let part: String = options.part.chars().take(PART).collect();
    let part = part.trim_matches('-');
    let dash = if part.is_empty() { "" } else { "-" };
    format!("t-{}{dash}{part}", uid.to_ascii_lowercase())
}

/// The namespace test pods run in. Restricted is what pods are made for; a workflow that asks for root still runs.
#[must_use]
pub fn namespace(name: &str) -> Namespace {
    let labels = [
        MANAGED_BY,
        ("pod-security.kubernetes.io/enforce", "baseline"),
        ("pod-security.kubernetes.io/warn", "restricted"),
    ];
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
