//! Takes in what agents report about executions.

use std::sync::Arc;
use std::time::Duration;

use fleet_objects::partition_namespace;
use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::{
    ClusterResult, Outcome, RunReference, TestExecution, TestExecutionStatus, TestRun,
};
use fleet_objects::test_trigger::TriggerNews;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use tracing::warn;
use workflow::fold;

use super::Error;
use super::artifacts::{ArtifactStore, Place};
use super::controller::api_error;
use super::fired;
use super::logs::{LogStore, Piece};

/// How often a run is looked at for whether it is settled, and how long between two looks: its controller does that as soon
/// as an execution has ended.
const SETTLING: u32 = 20;
const SETTLE: Duration = Duration::from_millis(250);

/// Folds records; cheap to clone. Handling a record again changes nothing.
#[derive(Clone)]
pub struct Handler {
    client: Client,
    logs: Arc<LogStore>,
    artifacts: Arc<ArtifactStore>,
}

impl Handler {
    pub(super) fn new(client: Client, logs: Arc<LogStore>, artifacts: Arc<ArtifactStore>) -> Self {
        Self { client, logs, artifacts }
    }

    /// Takes in news of a trigger; as [`Handler::handle`] otherwise.
    ///
    /// # Errors
    /// When it should be tried again.
    pub async fn trigger(&self, cluster: &str, news: &TriggerNews) -> Result<(), Error> {
        fired::take(&self.client, cluster, news).await
    }

    /// Takes in one record. `cluster` is the name from the agent's authenticated identity: a record about another
    /// cluster's execution finds nothing in this one's partition and is dropped.
    ///
    /// # Errors
    /// When it should be tried again.
    pub async fn handle(&self, cluster: &str, record: TestRecord) -> Result<(), Error> {
        let api: Api<TestExecution> = Api::namespaced(self.client.clone(), &partition_namespace(cluster));
        if let TestNews::Log { step, attempt, offset, length, text } = record.news {
            let piece = Piece { cluster: cluster.to_owned(), step, attempt, offset, length, text };
            loop {
                // The log's place follows from the execution as the hub knows it, never from what the record claims.
                if !self.logs.knows(&record.execution_uid, cluster) {
                    let found =
                        api.get_opt(&record.execution).await.map_err(api_error("read an execution"))?;
                    match found {
                        Some(execution) if fired::is_about(&execution, &record.execution_uid) => {
                            self.logs.introduce(&record.execution_uid, cluster, &execution.spec.run.uid);
                        }
                        _ => return Ok(()),
                    }
                }
                // Others may have taken its place meanwhile.
                if self.logs.append(&record.execution_uid, piece.clone()).await? {
                    return Ok(());
                }
            }
        }
        let Some(execution) = api.get_opt(&record.execution).await.map_err(api_error("read an execution"))?
        else {
            return Ok(());
        };
        if !fired::is_about(&execution, &record.execution_uid) {
            warn!(cluster, execution = %record.execution, "a record of an execution that is gone is dropped");
            return Ok(());
        }
        let before = execution.status.clone().unwrap_or_default();
        if let TestNews::Lost { sha256, .. } = &record.news {
            // What had come of it is of no use.
            let run_uid = &execution.spec.run.uid;
            self.artifacts.give_up(Place { run_uid, cluster, sha256 }).await;
        }
        let lost = matches!(record.news, TestNews::Lost { .. });
        let after = fold_record(&execution, &before, record.news);
        let for_run = lost.then(|| settled(after.as_ref().unwrap_or(&before))).flatten();
        if let Some(after) = after {
            let patch = Patch::Merge(serde_json::json!({ "status": after }));
            api.patch_status(&record.execution, &PatchParams::default(), &patch)
                .await
                .map_err(api_error("write an execution's status"))?;
        }
        match for_run {
            Some(result) => self.tell_run(&execution.spec.run, &result).await,
            None => Ok(()),
        }
    }

    /// Brings what came of an execution into the record of its run, where that has been settled already.
    async fn tell_run(&self, run: &RunReference, result: &ClusterResult) -> Result<(), Error> {
        let api: Api<TestRun> = Api::namespaced(self.client.clone(), &run.namespace);
        for _ in 0..SETTLING {
            let found = api.get_opt(&run.name).await.map_err(api_error("read a run"))?;
            let Some(found) = found.filter(|found| found.uid().as_deref() == Some(&run.uid)) else {
                return Ok(());
            };
            let mut clusters = found.status.clone().unwrap_or_default().clusters;
            let Some(own) = clusters.iter_mut().find(|own| own.cluster == result.cluster) else {
                return Ok(());
            };
            // Until then the run's controller is about to take the whole result over.
            if own.outcome.is_some() {
                if own == result {
                    return Ok(());
                }
                own.clone_from(result);
                let patch = Patch::Merge(serde_json::json!({
                    "metadata": { "resourceVersion": found.resource_version() },
                    "status": { "clusters": clusters },
                }));
                match api.patch_status(&run.name, &PatchParams::default(), &patch).await {
                    Ok(_) => return Ok(()),
                    Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(api_error("write a run's status")(error)),
                }
            }
            tokio::time::sleep(SETTLE).await;
        }
        warn!(run = %run.name, cluster = %result.cluster, "a lost file is told by the execution alone");
        Ok(())
    }
}

/// What a lost file is told to the run with: also when the record comes again, for the hub may have ended after it wrote to
/// the execution and before it wrote to the run.
fn settled(status: &TestExecutionStatus) -> Option<ClusterResult> {
    status.result.clone().filter(|result| result.outcome.is_some())
}

/// The status after a piece of news; `None` when it is no news.
fn fold_record(
    execution: &TestExecution,
    before: &TestExecutionStatus,
    news: TestNews,
) -> Option<TestExecutionStatus> {
    let known = before.result.clone().unwrap_or_else(|| ClusterResult {
        cluster: execution.spec.cluster.clone(),
        ..ClusterResult::default()
    });
    if known.outcome.is_some() {
        let TestNews::Lost { sha256, reason } = news else { return None };
        let mut result = known.clone();
        mark_lost(&mut result, &sha256, &reason);
        let status = TestExecutionStatus { result: Some(result), ..before.clone() };
        return (status != *before).then_some(status);
    }
    let mut result = match news {
        TestNews::Log { .. } | TestNews::Lost { .. } => return None,
        TestNews::Finished { result } => result,
        TestNews::Queued { at, message } if known.started_at.is_none() && known.queued_at.is_none() => {
            ClusterResult { queued_at: Some(at), reason: fold::QUEUED.to_owned(), message, ..known.clone() }
        }
        TestNews::Queued { .. } => return None,
        TestNews::Started { at } if known.started_at.is_none() => ClusterResult {
            started_at: Some(at),
            reason: "Running".to_owned(),
            message: String::new(),
            ..known.clone()
        },
        TestNews::Started { .. } => return None,
        TestNews::Step { result: step } => {
            let mut result = known.clone();
            let same = result.steps.iter_mut().find(|own| own.name == step.name);
            match same {
                // Groups are told again when more of them is known; what ended stays as it was told first.
                Some(own) if own.outcome.is_none() => *own = step,
                Some(_) => return None,
                None => result.steps.push(step),
            }
            "Running".clone_into(&mut result.reason);
            result.message.clear();
            fold::cluster(&mut result, false);
            result
        }
    };
    execution.spec.cluster.clone_into(&mut result.cluster);
    if known == result {
        return None;
    }
    let mut conditions = before.conditions.clone();
    let value = match result.outcome {
        None => "Unknown",
        Some(Outcome::Passed) => "True",
        Some(_) => "False",
    };
    let reason = if result.reason.is_empty() { "Running" } else { &result.reason };
    let now = Time(jiff::Timestamp::now());
    fold::set_condition(&mut conditions, value, reason, &result.message, execution.metadata.generation, &now);
    Some(TestExecutionStatus { conditions, result: Some(result) })
}

/// Notes at every place where a result names a file that it will not come, and why.
fn mark_lost(result: &mut ClusterResult, sha256: &str, reason: &str) {
    for attempt in result.steps.iter_mut().flat_map(|step| &mut step.attempts) {
        let mut paths = Vec::new();
        for artifact in attempt.artifacts.iter_mut().filter(|own| own.sha256 == sha256 && own.lost.is_empty())
        {
            reason.clone_into(&mut artifact.lost);
            paths.push(artifact.path.clone());
        }
        attempt.warnings.extend(paths.iter().map(|path| format!("{path} is lost: {reason}")));
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::{Artifact, AttemptResult, StepResult, TestExecutionSpec};
    use fleet_objects::test_workflow::{TestStep, TestWorkflowSpec};

    use super::*;

    fn execution() -> TestExecution {
        let step = |name: &str| TestStep { name: name.into(), image: "i".into(), ..TestStep::default() };
        TestExecution::new(
            "smoke",
            TestExecutionSpec {
                run: RunReference::default(),
                cluster: "dev".into(),
                workflow: TestWorkflowSpec { steps: vec![step("a"), step("b")], ..Default::default() },
                variables: Default::default(),
                cancel: false,
                config: Default::default(),
                pause: None,
            },
        )
    }

    fn attempt(step: &str, outcome: Outcome) -> TestNews {
        let result = AttemptResult {
            attempt: 1,
            outcome,
            reason: "r".into(),
            message: String::new(),
            exit_code: None,
            started_at: None,
            finished_at: None,
            junit: None,
            artifacts: vec![],
            warnings: vec![],
        };
        TestNews::Step {
            result: StepResult {
                name: step.into(),
                outcome: Some(outcome),
                attempts: vec![result],
                ..StepResult::default()
            },
        }
    }

    #[test]
    fn a_record_that_comes_again_changes_nothing() {
        let execution = execution();
        let first = fold_record(&execution, &TestExecutionStatus::default(), attempt("a", Outcome::Passed));
        let first = first.expect("news");
        assert_eq!(fold_record(&execution, &first, attempt("a", Outcome::Passed)), None);
        assert_eq!(fold_record(&execution, &first, attempt("a", Outcome::Failed)), None, "the first counts");
        let second = fold_record(&execution, &first, attempt("b", Outcome::Failed)).expect("news");
        let mut result = second.result.clone().expect("a result");
        fold::cluster(&mut result, true);
        let done = fold_record(&execution, &second, TestNews::Finished { result }).expect("news");
        assert_eq!(done.conditions[0].status, "False");
        assert_eq!(
            fold_record(&execution, &done, attempt("a", Outcome::Failed)),
            None,
            "nothing follows the end"
        );
    }

    #[test]
    fn a_lost_file_is_told_after_the_end_and_once() {
        let execution = execution();
        let artifact = |path: &str| Artifact { path: path.into(), sha256: "d".into(), ..Artifact::default() };
        let TestNews::Step { result: mut step } = attempt("a", Outcome::Passed) else { panic!("a step") };
        step.attempts[0].artifacts = vec![artifact("a.xml"), artifact("copy.xml")];
        let mut result = ClusterResult { cluster: "dev".into(), steps: vec![step], ..Default::default() };
        let lost = || TestNews::Lost { sha256: "d".into(), reason: "the disk".into() };
        let before = TestExecutionStatus { result: Some(result.clone()), ..Default::default() };
        assert_eq!(fold_record(&execution, &before, lost()), None, "the end tells of its files");
        fold::cluster(&mut result, true);
        let done = fold_record(&execution, &before, TestNews::Finished { result }).expect("news");
        let after = fold_record(&execution, &done, lost()).expect("news");
        assert_eq!(
            (after.conditions.as_slice(), done.result.as_ref().and_then(|own| own.outcome)),
            (done.conditions.as_slice(), Some(Outcome::Passed))
        );
        let own = &after.result.as_ref().expect("a result").steps[0].attempts[0];
        assert!(own.artifacts.iter().all(|artifact| artifact.lost == "the disk"));
        assert_eq!(own.warnings, ["a.xml is lost: the disk", "copy.xml is lost: the disk"]);
        assert_eq!(fold_record(&execution, &after, lost()), None, "it came again");
        assert_eq!(settled(&after), after.result, "which the run may not have been told yet");
        assert_eq!(settled(&before), None);
        let other = TestNews::Lost { sha256: "e".into(), reason: "the disk".into() };
        assert_eq!(fold_record(&execution, &after, other), None);
    }

    #[test]
    fn waiting_is_told_until_it_begins() {
        let execution = execution();
        let time = |second| Time(jiff::Timestamp::from_second(second).expect("a time"));
        let queued = || TestNews::Queued { at: time(1), message: "waits for a place".to_owned() };
        let waits = fold_record(&execution, &TestExecutionStatus::default(), queued()).expect("news");
        assert_eq!(waits.conditions[0].reason, "Queued");
        assert_eq!(fold_record(&execution, &waits, queued()), None);
        let begun = fold_record(&execution, &waits, TestNews::Started { at: time(2) }).expect("news");
        let result = begun.result.clone().expect("a result");
        assert_eq!((result.reason.as_str(), result.message.as_str()), ("Running", ""));
        assert_eq!((result.queued_at, result.started_at), (Some(time(1)), Some(time(2))));
        assert_eq!(fold_record(&execution, &begun, queued()), None, "it came late");
    }

    #[test]
    fn an_agent_cannot_speak_for_another_cluster() {
        let result =
            ClusterResult { cluster: "prod".into(), outcome: Some(Outcome::Passed), ..Default::default() };
        let done = fold_record(&execution(), &TestExecutionStatus::default(), TestNews::Finished { result });
        assert_eq!(done.expect("news").result.expect("a result").cluster, "dev");
    }
}
