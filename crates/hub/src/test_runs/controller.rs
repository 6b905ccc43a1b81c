//! Brings every `TestRun` forward: chooses clusters once, makes their executions, adds up their results.

use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::{
    ClusterResult, IMPORTED_ANNOTATION, RUN_UID_LABEL, RunReference, TestExecution, TestExecutionSpec,
    TestRun, TestRunStatus,
};
use fleet_objects::test_workflow::TestWorkflowSpec;
use fleet_objects::{Cluster, partition_namespace};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{Expression, Selector, SelectorExt as _};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::{fold, validate};

use super::Error;
use super::{fired, resolve};
use crate::projects::clusters_of;

/// After a failed pass.
const RETRY: Duration = Duration::from_secs(2);
/// Bytes of a run's name in the name of its executions.
const NAME_PART: usize = 40;

/// Runs until `shutdown`.
pub(super) async fn run(client: Client, shutdown: CancellationToken) {
    let runs: Api<TestRun> = Api::all(client.clone());
    let executions: Api<TestExecution> = Api::all(client.clone());
    let owner = |execution: TestExecution| {
        let run = execution.spec.run;
        [ObjectRef::<TestRun>::new(&run.name).within(&run.namespace)]
    };
    let passes = Controller::new(runs, watcher::Config::default())
        .watches(executions, watcher::Config::default(), owner)
        .run(reconcile, |_, _, _| Action::requeue(RETRY), Arc::new(client))
        .for_each(|result| async move {
            if let Err(error) = result {
                warn!(%error, "a test run waits");
            }
        });
    // Not the controller's graceful shutdown: one that is asked before its first list is there never ends. A pass that is cut
    // off is a crash at that place, which passes bear.
    shutdown.run_until_cancelled(passes).await;
}

async fn reconcile(run: Arc<TestRun>, client: Arc<Client>) -> Result<Action, Error> {
    let pass = Pass { client: &client, run: &run, now: Time(jiff::Timestamp::now()) };
    pass.all().await?;
    Ok(Action::await_change())
}

struct Pass<'a> {
    client: &'a Client,
    run: &'a TestRun,
    now: Time,
}

impl Pass<'_> {
    async fn all(&self) -> Result<(), Error> {
        if self.run.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        // What came of it came with it.
        if self.run.annotations().contains_key(IMPORTED_ANNOTATION) {
            return Ok(());
        }
        let before = self.run.status.clone().unwrap_or_default();
        if fired::is_fired(self.run) {
            return self.fired(&before).await;
        }
        let settled = condition(&before.conditions).is_some_and(|condition| condition.status != "Unknown");
        if settled {
            return Ok(());
        }
        let mut status = before.clone();
        if status.workflow.is_none() {
            match self.begin(&mut status).await? {
                Ok(()) => {}
                Err((reason, message)) => {
                    let generation = self.run.metadata.generation;
                    status.observed_generation = generation;
                    fold::set_condition(
                        &mut status.conditions,
                        "False",
                        reason,
                        &message,
                        generation,
                        &self.now,
                    );
                    return self.write(&before, &status).await;
                }
            }
            fold::run(&mut status, self.run.metadata.generation, &self.now);
            // The choice is written down before anything is made: a hub that starts again does not choose anew.
            self.write(&before, &status).await?;
        }
        let chosen = status.clone();
        if let Some(workflow) = status.workflow.clone() {
            for cluster in status.clusters.iter_mut().filter(|cluster| cluster.outcome.is_none()) {
                *cluster = self.cluster(cluster, &workflow).await?;
            }
        }
        fold::run(&mut status, self.run.metadata.generation, &self.now);
        self.write(&chosen, &status).await
    }

    /// A run that agents began: clusters come as they tell of it, also after the others have ended.
    async fn fired(&self, before: &TestRunStatus) -> Result<(), Error> {
        let mut status = before.clone();
        status.workflow.clone_from(&self.run.spec.workflow);
        for name in &self.run.spec.targets.clusters {
            if !status.clusters.iter().any(|known| known.cluster == *name) {
                let cluster = name.clone();
                let reason = "Pending".to_owned();
                status.clusters.push(ClusterResult { cluster, reason, ..ClusterResult::default() });
            }
        }
        for known in status.clusters.iter_mut().filter(|cluster| cluster.outcome.is_none()) {
            *known = self.known(known, &self.run.name_any()).await?;
        }
        fold::run(&mut status, self.run.metadata.generation, &self.now);
        self.write(before, &status).await
    }

    /// What is known of the execution that an agent began.
    async fn known(&self, before: &ClusterResult, name: &str) -> Result<ClusterResult, Error> {
        let api: Api<TestExecution> =
            Api::namespaced(self.client.clone(), &partition_namespace(&before.cluster));
        let found = api.get_opt(name).await.map_err(api_error("read an execution"))?;
        let Some(found) = found else { return Ok(before.clone()) };
        self.steer(&api, &found).await?;
        Ok(found.status.and_then(|status| status.result).unwrap_or_else(|| before.clone()))
    }

    /// Hands on what people want of the run while it goes: its end, a halt, its going on.
    async fn steer(&self, api: &Api<TestExecution>, found: &TestExecution) -> Result<(), Error> {
        let (run, known) = (&self.run.spec, &found.spec);
        let cancel = run.cancel || known.cancel;
        if (cancel, run.pause) == (known.cancel, known.pause) {
            return Ok(());
        }
        let patch = Patch::Merge(serde_json::json!({"spec": {"cancel": cancel, "pause": run.pause}}));
        let steered = api.patch(&found.name_any(), &PatchParams::default(), &patch).await;
        steered.map(drop).map_err(api_error("cancel an execution, hold it or let it go on"))
    }

    /// Settles what is run and where.
    async fn begin(&self, status: &mut TestRunStatus) -> Result<Result<(), (&'static str, String)>, Error> {
        if let Err(invalid) = validate::run(&self.run.spec) {
            return Ok(Err(("Invalid", invalid.to_string())));
        }
        let namespace = self.run.namespace().unwrap_or_default();
        let (inline, reference) = (self.run.spec.workflow.as_ref(), self.run.spec.workflow_ref.as_ref());
        let workflow = match resolve::named(self.client, &namespace, inline, reference).await? {
            Ok(mut workflow) => {
                workflow.priority = self.run.spec.priority.or(workflow.priority);
                workflow
            }
            Err(told) => return Ok(Err(told)),
        };
        if let Err(invalid) = validate::resolved(&workflow, &self.run.spec) {
            return Ok(Err(("Invalid", invalid.to_string())));
        }
        let clusters = clusters_of(self.client, &namespace).await.map_err(api_error("list clusters"))?;
        match choose(self.run, &clusters) {
            Ok(chosen) => status.clusters = chosen,
            Err(message) => return Ok(Err(("Invalid", message))),
        }
        status.workflow = Some(workflow);
        Ok(Ok(()))
    }

    /// Makes sure of the execution in one cluster and reads what is known of it.
    async fn cluster(
        &self,
        known: &ClusterResult,
        workflow: &TestWorkflowSpec,
    ) -> Result<ClusterResult, Error> {
        let api: Api<TestExecution> =
            Api::namespaced(self.client.clone(), &partition_namespace(&known.cluster));
        let wanted = self.execution(&known.cluster, workflow);
        let name = wanted.name_any();
        let Some(found) = api.get_opt(&name).await.map_err(api_error("read an execution"))? else {
            if known.started_at.is_some() {
                return Ok(fold::not_run(
                    &known.cluster,
                    "ExecutionDeleted",
                    "its TestExecution was deleted",
                ));
            }
            return match api.create(&PostParams::default(), &wanted).await {
                Ok(_) => Ok(ClusterResult { reason: "Pending".to_owned(), ..known.clone() }),
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let message = format!("cluster {} has no partition on this hub", known.cluster);
                    Ok(fold::not_run(&known.cluster, "NoPartition", &message))
                }
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(known.clone()),
                Err(error) => Err(api_error("make an execution")(error)),
            };
        };
        self.steer(&api, &found).await?;
        Ok(found.status.and_then(|status| status.result).unwrap_or_else(|| known.clone()))
    }

    fn execution(&self, cluster: &str, workflow: &TestWorkflowSpec) -> TestExecution {
        let uid = self.run.uid().unwrap_or_default();
        let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let base: String = self.run.name_any().chars().take(NAME_PART).collect();
        let spec = TestExecutionSpec {
            run: RunReference {
                namespace: self.run.namespace().unwrap_or_default(),
                name: self.run.name_any(),
                uid: uid.clone(),
            },
            cluster: cluster.to_owned(),
            workflow: workflow.clone(),
            variables: self.run.spec.variables.clone(),
            cancel: self.run.spec.cancel,
            config: self.run.spec.config.clone(),
            pause: self.run.spec.pause,
        };
        let mut execution =
            TestExecution::new(&format!("{}-{short}", base.trim_end_matches(['-', '.'])), spec);
        execution.labels_mut().insert(RUN_UID_LABEL.to_owned(), uid);
        execution
    }

    async fn write(&self, before: &TestRunStatus, after: &TestRunStatus) -> Result<(), Error> {
        if before == after {
            return Ok(());
        }
        let api: Api<TestRun> =
            Api::namespaced(self.client.clone(), &self.run.namespace().unwrap_or_default());
        // What others write there stays as they wrote it: what is left out of a merge is not changed.
        let after = TestRunStatus { deliveries: Default::default(), traced_at: None, ..after.clone() };
        let patch = Patch::Merge(serde_json::json!({ "status": after }));
        match api.patch_status(&self.run.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(api_error("write a run's status")(error)),
        }
    }
}

/// Which clusters a run goes to, with those in which it cannot run already told.
pub(super) fn choose(run: &TestRun, clusters: &[Cluster]) -> Result<Vec<ClusterResult>, String> {
    let targets = &run.spec.targets;
    let selector = targets.selector.clone().map(to_selector).transpose()?;
    let mut chosen = Vec::new();
    for cluster in clusters {
        let name = cluster.name_any();
        let labelled = selector.as_ref().is_some_and(|selector| selector.matches(cluster.labels()));
        if !(targets.all || labelled || targets.clusters.contains(&name)) {
            continue;
        }
        let conditions =
            cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let connected = conditions.iter().find(|condition| condition.type_ == "Connected");
        chosen.push(match connected {
            Some(condition) if condition.status == "True" => {
                ClusterResult { cluster: name, reason: "Pending".to_owned(), ..ClusterResult::default() }
            }
            Some(condition) => fold::not_run(&name, "Disconnected", &condition.message),
            None => fold::not_run(&name, "Disconnected", "its agent has not connected yet"),
        });
    }
    for name in &targets.clusters {
        if !chosen.iter().any(|known| known.cluster == *name) {
            chosen.push(fold::not_run(name, "UnknownCluster", &format!("the fleet has no cluster {name}")));
        }
    }
    Ok(chosen)
}

/// Whether a selector selects these labels.
pub(super) fn selects(
    selector: &LabelSelector,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<bool, String> {
    Ok(to_selector(selector.clone())?.matches(labels))
}

fn to_selector(selector: LabelSelector) -> Result<Selector, String> {
    let mut expressions = Vec::new();
    for (key, value) in selector.match_labels.unwrap_or_default() {
        expressions.push(Expression::Equal(key, value));
    }
    for requirement in selector.match_expressions.unwrap_or_default() {
        let key = requirement.key;
        let values = requirement.values.unwrap_or_default().into_iter().collect();
        expressions.push(match requirement.operator.as_str() {
            "In" => Expression::In(key, values),
            "NotIn" => Expression::NotIn(key, values),
            "Exists" => Expression::Exists(key),
            "DoesNotExist" => Expression::DoesNotExist(key),
            other => return Err(format!("spec.targets.selector: {other:?} is not an operator")),
        });
    }
    Ok(expressions.into_iter().collect())
}

fn condition(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == fleet_objects::test_run::SUCCEEDED)
}

pub(super) fn api_error(operation: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api { operation, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::{Outcome, TestRunSpec, TestTargets};
    use fleet_objects::{ClusterSpec, ClusterStatus};

    use super::*;

    fn cluster(name: &str, region: &str, connected: bool) -> Cluster {
        let mut cluster = Cluster::new(name, ClusterSpec::default());
        cluster.labels_mut().insert("region".to_owned(), region.to_owned());
        let mut conditions = Vec::new();
        let time = Time(jiff::Timestamp::UNIX_EPOCH);
        fold::set_condition(
            &mut conditions,
            if connected { "True" } else { "False" },
            "x",
            "away",
            None,
            &time,
        );
        conditions[0].type_ = "Connected".to_owned();
        cluster.status = Some(ClusterStatus { conditions, ..ClusterStatus::default() });
        cluster
    }

    #[test]
    fn every_cluster_that_was_asked_for_is_told_of() {
        let selector = LabelSelector {
            match_labels: Some([("region".to_owned(), "eu".to_owned())].into()),
            ..LabelSelector::default()
        };
        let targets = TestTargets {
            clusters: vec!["gone".into(), "us-1".into()],
            selector: Some(selector),
            all: false,
        };
        let run = TestRun::new("r", TestRunSpec { targets, ..TestRunSpec::default() });
        let fleet = [
            cluster("eu-1", "eu", true),
            cluster("eu-2", "eu", false),
            cluster("us-1", "us", true),
            cluster("us-2", "us", true),
        ];
        let chosen = choose(&run, &fleet).expect("a valid selector");
        let told: Vec<_> =
            chosen.iter().map(|c| (c.cluster.as_str(), c.outcome, c.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                ("eu-1", None, "Pending"),
                ("eu-2", Some(Outcome::NotRun), "Disconnected"),
                ("us-1", None, "Pending"),
                ("gone", Some(Outcome::NotRun), "UnknownCluster"),
            ]
        );
    }
}
