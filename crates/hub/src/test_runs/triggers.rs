//! Hands every `TestTrigger` to the clusters it is for: a `TestTriggerAssignment` in each one's partition. What fires, and
//! when, is decided there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::{RunReference, TestRun, TestRunSpec};
use fleet_objects::test_trigger::{
    HeldTrigger, TRIGGER_FINALIZER, TestTrigger, TestTriggerAssignment, TestTriggerAssignmentSpec,
    TestTriggerStatus,
};
use fleet_objects::test_workflow::{TestWorkflow, TestWorkflowSpec};
use fleet_objects::{ConditionChange, partition_namespace, set_condition};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::{trigger, validate};

use super::Error;
use super::controller::{api_error, choose};
use super::resolve;
use crate::projects::clusters_of;

/// After a failed pass.
const RETRY: Duration = Duration::from_secs(2);
/// How soon a cluster that joins or gets other labels has its triggers. A watch of all clusters would wake every trigger
/// for every change of every cluster's status.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Label on assignments: the trigger's uid.
const UID_LABEL: &str = "fleet.fairlead.dev/test-trigger-uid";

/// Runs until `shutdown`.
pub(super) async fn run(client: Client, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<TestTrigger>::all(client.clone()), watcher::Config::default());
    let known = controller.store();
    let refer = move |workflow: TestWorkflow| {
        let (namespace, name) = (workflow.namespace(), workflow.name_any());
        let refers = |trigger: &Arc<TestTrigger>| {
            let reference = trigger.spec.workflow_ref.as_ref();
            trigger.namespace() == namespace && reference.is_some_and(|reference| reference.name == name)
        };
        known
            .state()
            .iter()
            .filter(|trigger| refers(trigger))
            .map(|trigger| ObjectRef::from_obj(trigger.as_ref()))
            .collect::<Vec<_>>()
    };
    let passes = controller
        .watches(Api::<TestWorkflow>::all(client.clone()), watcher::Config::default(), refer)
        .run(reconcile, |_, _, _| Action::requeue(RETRY), Arc::new(client))
        .for_each(|result| async move {
            if let Err(error) = result {
                warn!(%error, "a test trigger waits");
            }
        });
    // As for runs: the controller's own graceful shutdown may never end.
    shutdown.run_until_cancelled(passes).await;
}

async fn reconcile(trigger: Arc<TestTrigger>, client: Arc<Client>) -> Result<Action, Error> {
    let pass = Pass { client: &client, trigger: &trigger };
    if trigger.metadata.deletion_timestamp.is_some() {
        pass.leave().await?;
        return Ok(Action::await_change());
    }
    pass.all().await?;
    Ok(Action::requeue(LOOK_AGAIN))
}

struct Pass<'a> {
    client: &'a Client,
    trigger: &'a TestTrigger,
}

impl Pass<'_> {
    async fn all(&self) -> Result<(), Error> {
        if !self.trigger.finalizers().iter().any(|name| name == TRIGGER_FINALIZER) {
            self.set_finalizers(|all| all.push(TRIGGER_FINALIZER.to_owned())).await?;
        }
        let wanted = match self.wanted().await? {
            Ok(wanted) => wanted,
            // What clusters hold already goes on as it was: a slip of the pen stops nothing.
            Err((reason, message)) => return self.say(false, reason, message, None).await,
        };
        let there = self.assignments().await?;
        let mut left = 0_u32;
        for (cluster, spec) in &wanted {
            let known = there.iter().find(|known| known.spec.cluster == *cluster);
            left += u32::from(self.hand_over(known, spec).await?);
        }
        for known in there.iter().filter(|known| !wanted.contains_key(&known.spec.cluster)) {
            self.withdraw(known).await?;
        }
        let message = format!("{left} clusters judge it");
        self.say(true, "HandedOver", message, Some(left)).await
    }

    /// What each chosen cluster should have.
    async fn wanted(
        &self,
    ) -> Result<Result<BTreeMap<String, TestTriggerAssignmentSpec>, resolve::Told>, Error> {
        let spec = &self.trigger.spec;
        if let Err(invalid) = trigger::check(spec) {
            return Ok(Err(("Invalid", invalid.to_string())));
        }
        let workflow = match self.workflow().await? {
            Ok(workflow) => workflow,
            Err(told) => return Ok(Err(told)),
        };
        let namespace = self.trigger.namespace().unwrap_or_default();
        let clusters = clusters_of(self.client, &namespace).await.map_err(api_error("list clusters"))?;
        let run = TestRun::new("", TestRunSpec { targets: spec.targets.clone(), ..TestRunSpec::default() });
        let chosen = match choose(&run, &clusters) {
            // Whether a cluster is connected now does not matter: it gets its part when it comes back.
            Ok(chosen) => chosen.into_iter().map(|cluster| cluster.cluster),
            Err(message) => return Ok(Err(("Invalid", message))),
        };
        let known = |name: &String| clusters.iter().any(|cluster| cluster.name_any() == *name);
        let one = |cluster: String| {
            let part = TestTriggerAssignmentSpec {
                trigger: RunReference {
                    namespace: self.trigger.namespace().unwrap_or_default(),
                    name: self.trigger.name_any(),
                    uid: self.trigger.uid().unwrap_or_default(),
                },
                cluster: cluster.clone(),
                revision: 0,
                workflow: workflow.clone(),
                variables: spec.variables.clone(),
                config: spec.config.clone(),
                when: spec.when.clone(),
                concurrency: spec.concurrency,
                suspend: spec.suspend,
                withdrawn: false,
            };
            (cluster, part)
        };
        Ok(Ok(chosen.filter(known).map(one).collect()))
    }

    /// The workflow with everything in it that it names: an agent asks for nothing while the hub is away.
    async fn workflow(&self) -> Result<Result<TestWorkflowSpec, resolve::Told>, Error> {
        let spec = &self.trigger.spec;
        let namespace = self.trigger.namespace().unwrap_or_default();
        let (inline, reference) = (spec.workflow.as_ref(), spec.workflow_ref.as_ref());
        let workflow = match resolve::named(self.client, &namespace, inline, reference).await? {
            Ok(workflow) => workflow,
            Err(told) => return Ok(Err(told)),
        };
        let run = TestRunSpec {
            variables: spec.variables.clone(),
            config: spec.config.clone(),
            ..TestRunSpec::default()
        };
        let valid = validate::resolved(&workflow, &run);
        Ok(valid.map(|()| workflow).map_err(|invalid| ("Invalid", invalid.to_string())))
    }

    fn name(&self) -> String {
        format!("{}.{}", self.trigger.namespace().unwrap_or_default(), self.trigger.name_any())
    }

    async fn assignments(&self) -> Result<Vec<TestTriggerAssignment>, Error> {
        let all: Api<TestTriggerAssignment> = Api::all(self.client.clone());
        let uid = self.trigger.uid().unwrap_or_default();
        let ours = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        Ok(all.list(&ours).await.map_err(api_error("list trigger assignments"))?.items)
    }

    /// False: the cluster has no partition.
    async fn hand_over(
        &self,
        known: Option<&TestTriggerAssignment>,
        spec: &TestTriggerAssignmentSpec,
    ) -> Result<bool, Error> {
        let api: Api<TestTriggerAssignment> =
            Api::namespaced(self.client.clone(), &partition_namespace(&spec.cluster));
        let Some(known) = known else {
            let spec = TestTriggerAssignmentSpec { revision: revision(0), ..spec.clone() };
            let mut made = TestTriggerAssignment::new(&self.name(), spec);
            made.labels_mut().insert(UID_LABEL.to_owned(), self.trigger.uid().unwrap_or_default());
            return match api.create(&PostParams::default(), &made).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
                Err(error) => Err(api_error("make a trigger assignment")(error)),
            };
        };
        let same = TestTriggerAssignmentSpec { revision: known.spec.revision, ..spec.clone() };
        if same != known.spec {
            let spec = TestTriggerAssignmentSpec { revision: revision(known.spec.revision), ..spec.clone() };
            let mut next = known.clone();
            next.spec = spec;
            // Whole, with its resource version: fields that are no longer set must go.
            api.replace(&known.name_any(), &PostParams::default(), &next)
                .await
                .map_err(api_error("change a trigger assignment"))?;
        }
        Ok(true)
    }

    /// Tells the agent to forget. The assignment itself goes when the agent says that it has.
    async fn withdraw(&self, known: &TestTriggerAssignment) -> Result<(), Error> {
        if known.spec.withdrawn {
            return Ok(());
        }
        let api: Api<TestTriggerAssignment> =
            Api::namespaced(self.client.clone(), &known.namespace().unwrap_or_default());
        let patch =
            Patch::Merge(json!({"spec": {"withdrawn": true, "revision": revision(known.spec.revision)}}));
        match api.patch(&known.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(api_error("withdraw a trigger assignment")(error)),
        }
    }

    async fn leave(&self) -> Result<(), Error> {
        for known in self.assignments().await? {
            self.withdraw(&known).await?;
        }
        self.set_finalizers(|all| all.retain(|name| name != TRIGGER_FINALIZER)).await
    }

    async fn set_finalizers(&self, change: impl FnOnce(&mut Vec<String>)) -> Result<(), Error> {
        let mut all = self.trigger.finalizers().to_vec();
        change(&mut all);
        let api: Api<TestTrigger> =
            Api::namespaced(self.client.clone(), &self.trigger.namespace().unwrap_or_default());
        let patch =
            json!({"metadata": {"finalizers": all, "resourceVersion": self.trigger.resource_version()}});
        match api.patch(&self.trigger.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(api_error("mark a trigger")(error)),
        }
    }

    async fn say(
        &self,
        ready: bool,
        reason: &'static str,
        message: String,
        clusters: Option<u32>,
    ) -> Result<(), Error> {
        let before = self.trigger.status.clone().unwrap_or_default();
        let generation = self.trigger.metadata.generation;
        let mut after = TestTriggerStatus { observed_generation: generation, ..before.clone() };
        after.clusters = clusters.unwrap_or(before.clusters);
        let change = ConditionChange {
            kind: "Ready",
            status: Some(ready),
            reason,
            message,
            observed_generation: generation,
        };
        set_condition(&mut after.conditions, change, &Time(jiff::Timestamp::now()));
        if after == before {
            return Ok(());
        }
        let api: Api<TestTrigger> =
            Api::namespaced(self.client.clone(), &self.trigger.namespace().unwrap_or_default());
        // When it fired last is written by whoever was told of it.
        let patch = json!({"status": {"observedGeneration": after.observed_generation,
            "conditions": after.conditions, "clusters": after.clusters}});
        let written =
            api.patch_status(&self.trigger.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        written.map(drop).map_err(api_error("write a trigger's status"))
    }
}

/// Tells a cluster's agent to forget triggers that it holds and this hub does not know. It says when it has, and what was made
/// here for that goes.
pub(crate) async fn forget(
    client: &Client,
    cluster: &str,
    orphans: &[HeldTrigger],
) -> Result<(), kube::Error> {
    let api: Api<TestTriggerAssignment> = Api::namespaced(client.clone(), &partition_namespace(cluster));
    for orphan in orphans {
        let (namespace, name) = orphan.name.split_once('.').unwrap_or(("", &orphan.name));
        let spec = TestTriggerAssignmentSpec {
            trigger: RunReference {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            },
            cluster: cluster.to_owned(),
            revision: revision(orphan.revision),
            withdrawn: true,
            ..TestTriggerAssignmentSpec::default()
        };
        match api.create(&PostParams::default(), &TestTriggerAssignment::new(&orphan.name, spec)).await {
            Ok(_) => {}
            // It is known by now, or was withdrawn already.
            Err(error) if api_client::error::is_already_exists(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Above the last one, and above every one an earlier life of this hub may have given: agents do not go back.
fn revision(last: i64) -> i64 {
    jiff::Timestamp::now().as_second().max(last.saturating_add(1))
}
