//! What agents tell about triggers: a firing becomes a `TestRun`, one over all clusters for a time of a schedule, and the
//! execution that the agent began by itself.
//!
//! Only an assignment in the agent's own partition counts, and name, namespace and workflow come from it: what an agent
//! says can neither name another run nor put another workflow into one.

use fleet_objects::partition_namespace;
use fleet_objects::test_run::{
    RUN_UID_LABEL, RunReference, TestExecution, TestExecutionSpec, TestRun, TestRunSpec, TestTargets,
};
use fleet_objects::test_trigger::{
    AGENT_UID_ANNOTATION, TRIGGER_LABEL, TestTrigger, TestTriggerAssignment, TriggerNews, fired_run_name,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::warn;

use super::Error;
use super::controller::api_error;

/// Annotation on a run: the uid of the trigger that fired.
const FIRED_BY: &str = "fleet.fairlead.dev/fired-by";
/// Annotation on a run: why, in the words of the first cluster.
const CAUSE: &str = "fleet.fairlead.dev/cause";
/// Tries to add a cluster to a run that others change too.
const TRIES: u32 = 8;

/// Whether agents began this run by themselves: its executions are made of what they tell, never by the controller.
pub(super) fn is_fired(run: &TestRun) -> bool {
    run.annotations().contains_key(FIRED_BY)
}

/// Whether records with this uid are about this execution.
pub(super) fn is_about(execution: &TestExecution, uid: &str) -> bool {
    match execution.annotations().get(AGENT_UID_ANNOTATION) {
        Some(own) => own == uid,
        None => execution.uid().as_deref() == Some(uid),
    }
}

/// Takes in one piece of news of `cluster`. Taking it in again changes nothing.
pub(super) async fn take(client: &Client, cluster: &str, news: &TriggerNews) -> Result<(), Error> {
    let partition = partition_namespace(cluster);
    let parts: Api<TestTriggerAssignment> = Api::namespaced(client.clone(), &partition);
    let name = match news {
        TriggerNews::Fired { assignment, .. } | TriggerNews::Forgotten { assignment } => assignment,
    };
    let Some(part) = parts.get_opt(name).await.map_err(api_error("read a trigger assignment"))? else {
        if matches!(news, TriggerNews::Fired { .. }) {
            warn!(cluster, assignment = %name, "a trigger fired that this hub does not know; its results are dropped");
        }
        return Ok(());
    };
    match news {
        TriggerNews::Forgotten { .. } => forgotten(&parts, &part).await,
        TriggerNews::Fired { key, execution_uid, time, cause, .. } => {
            let run = fired_run_name(&part.spec.trigger, key);
            let Some(uid) = join_run(client, &part, &run, cause).await? else { return Ok(()) };
            make_execution(client, &part, &run, uid, execution_uid).await?;
            note(client, &part, time).await
        }
    }
}

async fn forgotten(api: &Api<TestTriggerAssignment>, part: &TestTriggerAssignment) -> Result<(), Error> {
    // It may have been handed over again meanwhile.
    if !part.spec.withdrawn {
        return Ok(());
    }
    let only = Preconditions { uid: part.uid(), resource_version: part.resource_version() };
    let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    match api.delete(&part.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(api_error("remove a trigger assignment")(error)),
    }
}

/// Makes the run of a firing, or adds the cluster to it; its uid, or nothing when it cannot be.
async fn join_run(
    client: &Client,
    part: &TestTriggerAssignment,
    name: &str,
    cause: &str,
) -> Result<Option<String>, Error> {
    let spec = &part.spec;
    let runs: Api<TestRun> = Api::namespaced(client.clone(), &spec.trigger.namespace);
    let mut last = None;
    for _ in 0..TRIES {
        let result = match runs.get_opt(name).await.map_err(api_error("read a run"))? {
            None => runs.create(&PostParams::default(), &new_run(part, name, cause)).await,
            Some(run) if run.annotations().get(FIRED_BY) != Some(&spec.trigger.uid) => {
                warn!(
                    run = name,
                    "a run of that name is not of the trigger that fired; its results are dropped"
                );
                return Ok(None);
            }
            Some(run) if run.spec.targets.clusters.contains(&spec.cluster) => return Ok(run.uid()),
            Some(run) => {
                let mut clusters = run.spec.targets.clusters.clone();
                clusters.push(spec.cluster.clone());
                let patch = json!({"metadata": {"resourceVersion": run.resource_version()},
                    "spec": {"targets": {"clusters": clusters}}});
                runs.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
        };
        match result {
            Ok(run) => return Ok(run.uid()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                warn!(namespace = %spec.trigger.namespace, "the namespace of a trigger is gone; its results are dropped");
                return Ok(None);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => last = Some(kube::Error::Api(status)),
            Err(error) => return Err(api_error("make the run of a trigger")(error)),
        }
    }
    last.map_or(Ok(None), |error| Err(api_error("add a cluster to a run")(error)))
}

fn new_run(part: &TestTriggerAssignment, name: &str, cause: &str) -> TestRun {
    let spec = &part.spec;
    let targets = TestTargets { clusters: vec![spec.cluster.clone()], ..TestTargets::default() };
    let mut run = TestRun::new(
        name,
        TestRunSpec {
            workflow: Some(spec.workflow.clone()),
            targets,
            variables: spec.variables.clone(),
            config: spec.config.clone(),
            ..TestRunSpec::default()
        },
    );
    // A label's value is shorter than a name may be.
    let label: String = spec.trigger.name.chars().take(63).collect();
    run.labels_mut().insert(TRIGGER_LABEL.to_owned(), label.trim_end_matches(['-', '.']).to_owned());
    run.annotations_mut().insert(FIRED_BY.to_owned(), spec.trigger.uid.clone());
    run.annotations_mut().insert(CAUSE.to_owned(), cause.chars().take(1024).collect());
    run
}

async fn make_execution(
    client: &Client,
    part: &TestTriggerAssignment,
    run: &str,
    run_uid: String,
    execution_uid: &str,
) -> Result<(), Error> {
    let spec = &part.spec;
    let api: Api<TestExecution> = Api::namespaced(client.clone(), &partition_namespace(&spec.cluster));
    let namespace = spec.trigger.namespace.clone();
    let mut execution = TestExecution::new(
        run,
        TestExecutionSpec {
            run: RunReference { namespace, name: run.to_owned(), uid: run_uid.clone() },
            cluster: spec.cluster.clone(),
            workflow: spec.workflow.clone(),
            variables: spec.variables.clone(),
            config: spec.config.clone(),
            cancel: false,
            pause: None,
        },
    );
    execution.labels_mut().insert(RUN_UID_LABEL.to_owned(), run_uid);
    execution.annotations_mut().insert(AGENT_UID_ANNOTATION.to_owned(), execution_uid.to_owned());
    match api.create(&PostParams::default(), &execution).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(api_error("make the execution of a trigger")(error)),
    }
}

/// Notes when the trigger fired last; an older time, told late, changes nothing.
async fn note(client: &Client, part: &TestTriggerAssignment, time: &Time) -> Result<(), Error> {
    let triggers: Api<TestTrigger> = Api::namespaced(client.clone(), &part.spec.trigger.namespace);
    let name = &part.spec.trigger.name;
    let Some(trigger) = triggers.get_opt(name).await.map_err(api_error("read a trigger"))? else {
        return Ok(());
    };
    let known = trigger.status.and_then(|status| status.last_fired);
    if known.is_some_and(|known| known.0 >= time.0) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": {"lastFired": time}}));
    match triggers.patch_status(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(api_error("write a trigger's status")(error)),
    }
}
