//! Test runs that gates of rollouts wait for: made when the rollout's status names them, read until they end.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::rollout::{GateTest, GateTestState, Rollout, RolloutStatus};
use fleet_objects::test_run::{SUCCEEDED, TestRun, TestRunSpec, TestTargets, WorkflowReference};
use fleet_objects::{assignment_label_value, condition};
use fleet_planner::rollout::TestState;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::error::Error;
use crate::service::Shared;

/// How often a run that has not ended is looked at.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// On a TestRun: the rollout that waits for it.
const LABEL_ROLLOUT: &str = "fleet.fairlead.dev/rollout";

/// How the runs that a status names go. What cannot be read has not ended.
pub(super) async fn states(shared: &Shared, rollout: &Rollout) -> BTreeMap<String, TestState> {
    let namespace = rollout.namespace().unwrap_or_default();
    let api: Api<TestRun> = Api::namespaced(shared.client.clone(), &namespace);
    let mut states = BTreeMap::new();
    for test in rollout.status.iter().flat_map(running) {
        match api.get_opt(&test.run).await {
            Ok(Some(run)) => drop(states.insert(test.run.clone(), state(&run))),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, run = test.run, "a gate's test run cannot be read yet"),
        }
    }
    states
}

/// Makes the runs that are not there. The status that names them is written, so none is made twice under two names.
pub(super) async fn make(shared: &Shared, rollout: &Rollout, status: &RolloutStatus) -> Result<(), Error> {
    let namespace = rollout.namespace().unwrap_or_default();
    let api: Api<TestRun> = Api::namespaced(shared.client.clone(), &namespace);
    for test in running(status).filter(|test| test.message.is_empty()) {
        let failed = || {
            Error::api(format!("make test run {namespace}/{} of rollout {}", test.run, rollout.name_any()))
        };
        if api.get_opt(&test.run).await.map_err(failed())?.is_some() {
            continue;
        }
        match api.create(&PostParams::default(), &run(rollout, test)).await {
            Ok(_) => {}
            Err(error) if api_client::error::is_already_exists(&error) => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}

/// Whether a run is waited for.
pub(super) fn waits(status: &RolloutStatus) -> bool {
    running(status).next().is_some()
}

fn running(status: &RolloutStatus) -> impl Iterator<Item = &GateTest> {
    let withdrawal = status.withdrawal.iter().flat_map(|withdrawal| &withdrawal.tests);
    status.tests.iter().chain(withdrawal).filter(|test| test.state == GateTestState::Running)
}

fn run(rollout: &Rollout, test: &GateTest) -> TestRun {
    let spec = TestRunSpec {
        workflow_ref: Some(WorkflowReference { name: test.workflow.clone() }),
        targets: TestTargets { clusters: test.clusters.clone(), ..TestTargets::default() },
        variables: test.variables.clone(),
        ..TestRunSpec::default()
    };
    let mut run = TestRun::new(&test.run, spec);
    run.metadata.namespace = rollout.namespace();
    run.labels_mut().insert(LABEL_ROLLOUT.to_owned(), assignment_label_value(&rollout.name_any()));
    run
}

fn state(run: &TestRun) -> TestState {
    let status = run.status.clone().unwrap_or_default();
    let Some(succeeded) = condition(&status.conditions, SUCCEEDED) else {
        return TestState::Running("it has not begun".to_owned());
    };
    let said = if succeeded.message.is_empty() { &succeeded.reason } else { &succeeded.message };
    match succeeded.status.as_str() {
        "True" => TestState::Passed,
        "False" => TestState::Failed(said.clone()),
        _ => TestState::Running(said.clone()),
    }
}
