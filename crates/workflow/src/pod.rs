//! The pod of one attempt at a step.
//!
//! One pod per attempt: it works on every Kubernetes and on simulated nodes, and a retry starts from nothing. A step
//! that keeps files shares an `emptyDir` with a second container, the collector, which waits to be told to stop and then
//! prints the files on its log (see [`crate::collect`]). An init container would not do: it never runs its successor
//! when the step fails, which is when reports matter most.
//!
//! The pod has no rights: no service-account token, no privilege escalation, no capabilities, the runtime's seccomp
//! profile. It may run as root, as most images want to.

use std::collections::BTreeMap;

use fleet_objects::test_run::{RUN_UID_LABEL, RunReference};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, Namespace, Pod, PodSecurityContext, PodSpec,
    ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::collect::WORKSPACE;
use crate::plan::PlannedStep;

/// Name of the step's container.
pub const STEP: &str = "step";
/// Name of the collector.
pub const COLLECTOR: &str = "collector";
/// Label with the uid of the `TestExecution`: a pod of the same name with another is not ours.
pub const EXECUTION_UID_LABEL: &str = "fleet.fairlead.dev/test-execution-uid";
/// Label with the step's name.
pub const STEP_LABEL: &str = "fleet.fairlead.dev/test-step";
/// Label with the number of the attempt.
pub const ATTEMPT_LABEL: &str = "fleet.fairlead.dev/test-attempt";
/// What the agent's objects are marked with.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "fairlead");
/// How long a pod may take to stop: the collector prints up to 7 MiB in this time.
pub const GRACE_SECONDS: i64 = 60;

/// What does not come from the workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// Where test pods run.
    pub namespace: String,
    /// Image of the collector.
    pub tool_image: String,
    /// The run.
    pub run: RunReference,
    /// Uid of the execution.
    pub execution_uid: String,
}

/// Name of an attempt's pod: the same whenever it is asked for, so that an agent that starts again finds its pod.
#[must_use]
pub fn name(options: &PodOptions, step: &PlannedStep, attempt: u32) -> String {
    let uid: String = options.execution_uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("t-{}-{}-{attempt}", uid.to_ascii_lowercase(), step.name)
}

/// The pod of an attempt.
#[must_use]
pub fn build(options: &PodOptions, step: &PlannedStep, attempt: u32) -> Pod {
    let mut containers = vec![step_container(step, attempt)];
    if step.collects() {
        containers.push(collector_container(options, step));
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name(options, step, attempt)),
            namespace: Some(options.namespace.clone()),
            labels: Some(labels(options, step, attempt)),
            annotations: Some(BTreeMap::from([(
                "fleet.fairlead.dev/test-run".to_owned(),
                format!("{}/{}", options.run.namespace, options.run.name),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers,
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            security_context: Some(PodSecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            volumes: Some(vec![Volume {
                name: "workspace".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The namespace test pods run in.
#[must_use]
pub fn namespace(name: &str) -> Namespace {
    let labels = [MANAGED_BY, ("pod-security.kubernetes.io/enforce", "baseline")];
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn labels(options: &PodOptions, step: &PlannedStep, attempt: u32) -> BTreeMap<String, String> {
    [
        (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        (RUN_UID_LABEL, options.run.uid.clone()),
        (EXECUTION_UID_LABEL, options.execution_uid.clone()),
        (STEP_LABEL, step.name.clone()),
        (ATTEMPT_LABEL, attempt.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn step_container(step: &PlannedStep, attempt: u32) -> Container {
    let own =
        EnvVar { name: "FAIRLEAD_ATTEMPT".to_owned(), value: Some(attempt.to_string()), value_from: None };
    let given = step.env.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        value: Some(variable.value.clone()),
        value_from: None,
    });
    Container {
        name: STEP.to_owned(),
        image: Some(step.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: (!step.command.is_empty()).then(|| step.command.clone()),
        args: (!step.args.is_empty()).then(|| step.args.clone()),
        env: Some(given.chain([own]).collect()),
        working_dir: Some(step.working_dir.clone()),
        volume_mounts: Some(vec![workspace(false)]),
        security_context: Some(no_rights()),
        ..Container::default()
    }
}

fn collector_container(options: &PodOptions, step: &PlannedStep) -> Container {
    let mut command: Vec<String> =
        ["/fairlead", "tool", "collect", "--dir", WORKSPACE].map(str::to_owned).to_vec();
    for (flag, globs) in [("--artifact", &step.artifacts), ("--junit", &step.junit)] {
        for glob in globs {
            command.push(format!("{flag}={glob}"));
        }
    }
    let quantities = |cpu: &str, memory: &str| {
        Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ]))
    };
    Container {
        name: COLLECTOR.to_owned(),
        image: Some(options.tool_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(command),
        volume_mounts: Some(vec![workspace(true)]),
        security_context: Some(SecurityContext { read_only_root_filesystem: Some(true), ..no_rights() }),
        resources: Some(ResourceRequirements {
            requests: quantities("1m", "8Mi"),
            limits: quantities("500m", "64Mi"),
            claims: None,
        }),
        ..Container::default()
    }
}

fn workspace(read_only: bool) -> VolumeMount {
    VolumeMount {
        name: "workspace".to_owned(),
        mount_path: WORKSPACE.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn no_rights() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::TestExecutionSpec;
    use fleet_objects::test_workflow::{TestStep, TestWorkflowSpec};

    use super::*;

    fn options() -> PodOptions {
        PodOptions {
            namespace: "fairlead-tests".into(),
            tool_image: "fairlead.dev/tool:latest".into(),
            run: RunReference { namespace: "default".into(), name: "smoke".into(), uid: "run-uid".into() },
            execution_uid: "5B0C1E2A-1111-2222-3333-444455556666".into(),
        }
    }

    fn planned(step: TestStep) -> PlannedStep {
        let spec = TestExecutionSpec {
            run: options().run,
            cluster: "dev".into(),
            workflow: TestWorkflowSpec { steps: vec![step], ..Default::default() },
            variables: BTreeMap::new(),
            cancel: false,
        };
        crate::plan::execution(&spec).expect("valid").steps.remove(0)
    }

    #[test]
    fn the_pod_of_a_step_that_keeps_files() {
        let step = planned(TestStep {
            name: "unit".into(),
            image: "example.com/unit:1".into(),
            command: vec!["/run".into(), "$(FAIRLEAD_CLUSTER)".into()],
            artifacts: vec!["out/**".into()],
            junit: vec!["*.xml".into()],
            ..Default::default()
        });
        insta::assert_json_snapshot!(build(&options(), &step, 2));
    }

    #[test]
    fn a_name_fits_whatever_the_step_is_called() {
        let step = planned(TestStep { name: "s".repeat(40), image: "i".into(), ..Default::default() });
        let name = name(&options(), &step, 21);
        assert!(name.len() <= 63, "{name}");
        assert_eq!(build(&options(), &step, 1).spec.expect("spec").containers.len(), 1);
    }
}
