//! The sample application and the sample test.

use std::time::Duration;

use fleet_objects::test_run::{Outcome, TestRun};
use fleet_objects::test_workflow::TestWorkflow;
use fleet_objects::{Placement, Profile};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::error::UpError;

/// Who applies the samples.
const MANAGER: &str = "fairlead-up";

/// Between two looks at the test run.
const LOOK: Duration = Duration::from_millis(50);

/// Applies the samples to the hub.
pub(crate) async fn apply(hub: &Client, samples: &[Value]) -> Result<(), UpError> {
    for sample in samples {
        let kind = sample["kind"].as_str().unwrap_or_default();
        let name = sample["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = sample["metadata"]["namespace"].as_str().unwrap_or("default");
        let resource = match kind {
            "Profile" => ApiResource::erase::<Profile>(&()),
            "Placement" => ApiResource::erase::<Placement>(&()),
            "TestWorkflow" => ApiResource::erase::<TestWorkflow>(&()),
            _ => return Err(UpError::Invalid(format!("a sample is a {kind:?}"))),
        };
        let objects: Api<DynamicObject> = Api::namespaced_with(hub.clone(), namespace, &resource);
        let how = PatchParams::apply(MANAGER).force();
        let applied = objects.patch(name, &how, &Patch::Apply(sample)).await;
        applied.map_err(UpError::request(format!("apply sample {kind} {name}")))?;
    }
    Ok(())
}

/// How many placements are among the samples.
pub(crate) fn placements(samples: &[Value]) -> usize {
    samples.iter().filter(|sample| sample["kind"] == "Placement").count()
}

/// The name of the sample test.
pub(crate) fn workflow(samples: &[Value]) -> Option<&str> {
    samples.iter().find(|sample| sample["kind"] == "TestWorkflow")?["metadata"]["name"].as_str()
}

/// Runs the sample test in all clusters; what came of it, for people.
pub(crate) async fn test(hub: &Client, workflow: &str) -> Result<String, UpError> {
    let run: TestRun = serde_json::from_value(json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1",
        "kind": "TestRun",
        "metadata": {"generateName": format!("{workflow}-")},
        "spec": {"workflowRef": {"name": workflow}, "targets": {"all": true}},
    }))
    .map_err(|error| UpError::Request {
        what: "make the sample test's run".to_owned(),
        source: error.into(),
    })?;
    let runs: Api<TestRun> = Api::namespaced(hub.clone(), "default");
    let run =
        runs.create(&PostParams::default(), &run).await.map_err(UpError::request("start the sample test"))?;
    let name = run.name_any();
    loop {
        let run = runs.get(&name).await.map_err(UpError::request(format!("read test run {name}")))?;
        if let Some(result) = result(&run) {
            return Ok(format!("{name} {result}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn result(run: &TestRun) -> Option<String> {
    let status = run.status.as_ref()?;
    let ended = status.conditions.iter().find(|condition| condition.type_ == "Succeeded")?;
    let passed = status.clusters.iter().filter(|result| result.outcome == Some(Outcome::Passed)).count();
    match ended.status.as_str() {
        "Unknown" => None,
        "True" => Some(format!("passed in {passed} clusters")),
        _ => Some(format!(
            "passed in {passed} of {} clusters: {}",
            status.clusters.len(),
            status
                .clusters
                .iter()
                .filter(|result| result.outcome != Some(Outcome::Passed))
                .map(|result| format!("{}: {} {}", result.cluster, result.reason, result.message))
                .collect::<Vec<_>>()
                .join("; ")
        )),
    }
}
