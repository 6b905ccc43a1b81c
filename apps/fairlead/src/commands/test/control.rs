//! `fairlead test cancel`, `pause`, `resume` and `rerun`

use std::time::Duration;

use clap::Args;
use fleet_objects::test_run::{Outcome, TestRun, TestRunSpec, TestTargets};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::json;
use workflow::report::history;

use super::watch;
use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// On a run: the run it repeats.
const RERUN_OF: &str = "fleet.fairlead.dev/rerun-of";

#[derive(Args, Debug)]
pub(crate) struct ControlArguments {
    /// Which run
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct RerunArguments {
    /// Which run
    name: String,
    /// Only in the clusters in which it did not pass
    #[arg(long)]
    failed: bool,
    /// With the workflow as it is now, not as it was
    #[arg(long)]
    latest: bool,
    /// Stream the logs of all clusters and wait for the end
    #[arg(long, short)]
    watch: bool,
    /// How long to wait with --watch
    #[arg(long, default_value = "30m", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
}

pub(crate) async fn cancel(global: &Global, arguments: &ControlArguments) -> Result<Code, Failure> {
    set(global, &arguments.name, "cancel", true).await?;
    output::progress(&format!("{} is being cancelled", arguments.name));
    Ok(Code::Ok)
}

pub(crate) async fn pause(global: &Global, arguments: &ControlArguments) -> Result<Code, Failure> {
    set(global, &arguments.name, "pause", true).await?;
    output::progress(&format!(
        "{} pauses before its next step; go on with: fairlead test resume {0}",
        arguments.name
    ));
    Ok(Code::Ok)
}

pub(crate) async fn resume(global: &Global, arguments: &ControlArguments) -> Result<Code, Failure> {
    set(global, &arguments.name, "pause", false).await?;
    output::progress(&format!("{} goes on", arguments.name));
    Ok(Code::Ok)
}

/// Sets a field of a run that has not ended, and sees that the hub knows the field.
async fn set(global: &Global, name: &str, field: &str, value: bool) -> Result<(), Failure> {
    let client = connection::hub(global).await?;
    let run = super::get(&client, global, name).await?;
    if super::code(&run).is_some() {
        let (reason, message) = super::condition(&run);
        return Err(Failure::negative(format!("test run {name} has ended: {reason}: {message}"))
            .hint(format!("fairlead test rerun {name}")));
    }
    let resource = ApiResource::erase::<TestRun>(&());
    let runs: Api<DynamicObject> = Api::namespaced_with(client, &global.namespace, &resource);
    let patch = Patch::Merge(json!({ "spec": { (field): value } }));
    let patched = runs.patch(name, &PatchParams::default(), &patch).await;
    let patched = patched.map_err(api(format!("cannot change test run {name}")))?;
    if patched.data["spec"][field] != value {
        return Err(Failure::negative(format!("this hub knows no {field} of test runs")));
    }
    Ok(())
}

pub(crate) async fn rerun(global: &Global, arguments: &RerunArguments) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let before = super::get(&client, global, &arguments.name).await?;
    let again = repeated(&before, arguments.failed, arguments.latest)?;
    let runs: Api<TestRun> = Api::namespaced(client.clone(), &global.namespace);
    let made = runs.create(&PostParams::default(), &again).await.map_err(api("cannot make the test run"))?;
    let name = made.name_any();
    if arguments.watch {
        return watch::follow(&client, global, &name, arguments.timeout).await;
    }
    output::data(&format!("testrun/{name}\n"))?;
    output::progress(&format!("follow it with: fairlead test watch {name}"));
    Ok(Code::Ok)
}

/// The run that repeats another.
fn repeated(before: &TestRun, failed: bool, latest: bool) -> Result<TestRun, Failure> {
    let name = before.name_any();
    let status = before.status.clone().unwrap_or_default();
    let mut spec = TestRunSpec { cancel: false, ..before.spec.clone() };
    if let Some(snapshot) = status.workflow.filter(|_| !latest) {
        (spec.workflow, spec.workflow_ref) = (Some(snapshot), None);
    } else if latest && spec.workflow_ref.is_none() {
        return Err(Failure::usage(format!("test run {name} refers to no workflow that could have changed")));
    }
    if failed {
        let left = status.clusters.iter().filter(|cluster| cluster.outcome != Some(Outcome::Passed));
        let clusters: Vec<_> = left.map(|cluster| cluster.cluster.clone()).collect();
        if clusters.is_empty() {
            return Err(Failure::usage(format!("test run {name} passed in every cluster")));
        }
        spec.targets = TestTargets { clusters, ..TestTargets::default() };
    }
    let mut run = TestRun::new(&name, spec);
    run.metadata.name = None;
    run.metadata.namespace = before.metadata.namespace.clone();
    run.metadata.generate_name = Some(format!("{}-", history::workflow_of(before)));
    run.labels_mut().extend(before.labels().clone());
    run.annotations_mut().insert(RERUN_OF.to_owned(), name);
    Ok(run)
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::{ClusterResult, TestRunStatus, WorkflowReference};
    use fleet_objects::test_workflow::TestWorkflowSpec;

    use super::*;

    fn before() -> TestRun {
        let workflow_ref = Some(WorkflowReference { name: "smoke".into() });
        let targets = TestTargets { all: true, ..TestTargets::default() };
        let spec = TestRunSpec { workflow_ref, targets, cancel: true, ..TestRunSpec::default() };
        let mut run = TestRun::new("smoke-x1", spec);
        let cluster = |name: &str, outcome| ClusterResult {
            cluster: name.into(),
            outcome: Some(outcome),
            ..ClusterResult::default()
        };
        run.status = Some(TestRunStatus {
            workflow: Some(TestWorkflowSpec::default()),
            clusters: vec![
                cluster("a", Outcome::Passed),
                cluster("b", Outcome::Failed),
                cluster("c", Outcome::NotRun),
            ],
            ..TestRunStatus::default()
        });
        run
    }

    #[test]
    fn a_repeated_run_is_the_same_again_or_only_where_it_did_not_pass() {
        let again = repeated(&before(), false, false).expect("a run");
        assert!(again.spec.targets.all && !again.spec.cancel);
        assert!(again.spec.workflow.is_some() && again.spec.workflow_ref.is_none());
        assert_eq!(again.metadata.generate_name.as_deref(), Some("smoke-"));
        let failed = repeated(&before(), true, true).expect("a run");
        assert_eq!(failed.spec.targets.clusters, ["b", "c"]);
        assert!(failed.spec.workflow.is_none() && failed.spec.workflow_ref.is_some());
        let mut inline = before();
        inline.spec.workflow_ref = None;
        assert_eq!(repeated(&inline, false, true).expect_err("nothing newer").code, Code::Usage);
    }
}
