//! Carries out one execution: asks the plan what is next, does it, notes it, tells the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::{ClusterResult, Outcome, TestCounts};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::fold;
use workflow::plan::{self, CANCELLED, ExecutionPlan, PlannedService};
use workflow::pod::PodOptions;
use workflow::progress::{self, Next};

use super::journal::{Note, Part, PodNote, Verdict};
use super::secrets::Secrets;
use super::together::Together;
use super::{Error, Shared};

/// Why instances are not run.
const LISTS_LOST: &str = "what its instances are told by did not come out of the pod that found it";
/// Between tries to append to an outbox that is full.
const OUTBOX_RETRY: Duration = Duration::from_secs(1);

/// One execution under way.
pub(super) struct Execution {
    pub(super) shared: Arc<Shared>,
    pub(super) note: Mutex<Note>,
    pub(super) uid: String,
    pub(super) cancel: CancellationToken,
    pub(super) shutdown: CancellationToken,
    pub(super) pause: watch::Receiver<Option<bool>>,
    /// Why it is cancelled, where it was not a person.
    pub(super) why: Arc<OnceLock<String>>,
    about: TestRecord,
    pub(super) secrets: Secrets,
    /// Name of the Secret that leads to its own cluster.
    pub(super) kubeconfig: OnceLock<String>,
    /// Results are handed on one at a time: whoever folds them need not expect two at once of one execution.
    telling: Mutex<()>,
    /// By part: with whom it begins.
    pub(super) together: parking_lot::Mutex<BTreeMap<String, Arc<Together>>>,
    /// By part: the services that were started for it.
    pub(super) started: parking_lot::Mutex<BTreeMap<String, Vec<PlannedService>>>,
}

/// What others want of an execution.
pub(super) struct Control {
    pub(super) pause: watch::Receiver<Option<bool>>,
    pub(super) cancel: CancellationToken,
    /// Why it is cancelled, where it was not a person.
    pub(super) why: Arc<OnceLock<String>>,
    pub(super) shutdown: CancellationToken,
}

/// A record about an execution.
pub(super) fn about(note: &Note, news: TestNews) -> TestRecord {
    TestRecord {
        run: note.spec.run.clone(),
        execution_uid: note.uid.clone(),
        execution: note.name.clone(),
        news,
    }
}

/// Runs to the end, or until `shutdown`.
pub(super) async fn execution(shared: Arc<Shared>, mut note: Note, control: Control) -> Result<(), Error> {
    let plan = plan::execution(&note.spec).map_err(|invalid| ("InvalidWorkflow", invalid.to_string()));
    let secrets = Secrets::new(&note, plan.as_ref().ok());
    let (secrets, plan) = match secrets {
        Ok(secrets) => (secrets, plan),
        Err(why) => (Secrets::default(), Err(("SecretUnreadable", why))),
    };
    let verdict = note.verdict.clone();
    let begun = note.result.started_at.is_some();
    if verdict.is_none() {
        note.result.started_at.get_or_insert_with(now);
    }
    let about = about(&note, TestNews::Finished { result: ClusterResult::default() });
    let (uid, started) = (note.uid.clone(), note.result.started_at.clone());
    let Control { pause, cancel, why, shutdown } = control;
    let (note, telling, kubeconfig) = (Mutex::new(note), Mutex::new(()), OnceLock::new());
    let execution = Arc::new(Execution {
        shared,
        note,
        uid,
        cancel,
        shutdown,
        pause,
        why,
        about,
        secrets,
        kubeconfig,
        telling,
        together: Default::default(),
        started: Default::default(),
    });
    if let Some(verdict) = verdict {
        execution.settled(verdict).await;
        return execution.finish().await;
    }
    match plan {
        Ok(plan) => {
            // Said before anything else, while the pod is already on its way.
            let told = async {
                if let Some(at) = started.filter(|_| !begun) {
                    execution.tell(TestNews::Started { at }).await;
                }
            };
            let part = execution.with_cluster(Arc::new(plan), begun);
            match tokio::join!(told, part).1? {
                Some(Ended::Outcome(outcome)) => {
                    let mut note = execution.note.lock().await;
                    note.result.finished_at = Some(now());
                    fold::cluster(&mut note.result, true);
                    // A plan without results of its own for a step cannot be; the plan's word counts.
                    note.result.outcome = Some(outcome);
                }
                Some(Ended::NotRun(reason, message)) => execution.could_not_run(reason, &message).await,
                None => return Ok(()),
            }
        }
        Err((reason, message)) => execution.could_not_run(reason, &message).await,
    }
    execution.finish().await
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    /// All its steps did.
    Outcome(Outcome),
    /// They never began: reason and message.
    NotRun(&'static str, String),
}

impl Execution {
    async fn could_not_run(&self, reason: &str, message: &str) {
        let mut note = self.note.lock().await;
        let started_at = note.result.started_at.clone();
        let queued_at = note.result.queued_at.clone();
        let result = fold::not_run(&note.spec.cluster, reason, &self.masked(message));
        let steps = std::mem::take(&mut note.result.steps);
        note.result = ClusterResult { queued_at, started_at, finished_at: Some(now()), steps, ..result };
    }

    /// It does not run at all.
    async fn settled(&self, verdict: Verdict) {
        let mut note = self.note.lock().await;
        let counts = match verdict.outcome {
            Outcome::Skipped => TestCounts { skipped: 1, ..TestCounts::default() },
            _ => TestCounts { errors: 1, ..TestCounts::default() },
        };
        note.result.outcome = Some(verdict.outcome);
        note.result.reason = verdict.reason;
        note.result.message = verdict.message;
        note.result.counts = counts;
        note.result.finished_at = Some(now());
    }

    /// Why it was cancelled.
    fn cancelled_because(&self) -> String {
        self.why.get().cloned().unwrap_or_else(|| "the run was cancelled".to_owned())
    }

    async fn finish(&self) -> Result<(), Error> {
        let result = self.note.lock().await.result.clone();
        if self.tell(TestNews::Finished { result }).await {
            let mut note = self.note.lock().await;
            note.finished = true;
            self.shared.journal.save(&note).await?;
            self.shared.spool.forget_packs(&self.owner()).await;
        }
        Ok(())
    }

    /// Appends a result to the outbox, however long that takes; false when the agent stops first.
    pub(super) async fn tell(&self, news: TestNews) -> bool {
        let record = self.record(news);
        let _turn = self.telling.lock().await;
        loop {
            match self.shared.records.append(record.clone()).await {
                Ok(()) => return true,
                Err(error) => {
                    warn!(execution = %record.execution, %error, "a test result waits for the outbox");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(OUTBOX_RETRY) => {}
                () = self.shutdown.cancelled() => return false,
            }
        }
    }

    /// Name of the `TestExecution`.
    pub(super) fn execution_name(&self) -> &str {
        &self.about.execution
    }

    pub(super) fn record(&self, news: TestNews) -> TestRecord {
        TestRecord { news, ..self.about.clone() }
    }

    pub(super) fn options(&self, part: &str) -> PodOptions {
        PodOptions {
            namespace: self.shared.options.namespace.clone(),
            tool_image: self.shared.options.tool_image.clone(),
            run: self.about.run.clone(),
            execution_uid: self.uid.clone(),
            part: part.to_owned(),
            kubeconfig: self.kubeconfig.get().cloned(),
        }
    }

    /// Changes the notes of a part and makes the change durable.
    pub(super) async fn note_part<T>(
        &self,
        part: &str,
        change: impl FnOnce(&mut Part) -> T,
    ) -> Result<T, Error> {
        let mut note = self.note.lock().await;
        let out = change(note.parts.entry(part.to_owned()).or_default());
        self.shared.journal.save(&note).await?;
        Ok(out)
    }

    pub(super) async fn part_note(&self, part: &str) -> Part {
        self.note.lock().await.parts.get(part).cloned().unwrap_or_default()
    }

    /// Carries out a plan; its top-level results stand under `parent`. `None` when the agent stops first.
    pub(super) fn part(
        self: &Arc<Self>,
        plan: Arc<ExecutionPlan>,
        part: String,
        parent: String,
    ) -> BoxFuture<'_, Result<Option<Ended>, Error>> {
        Box::pin(async move {
            let begun = self.note_part(&part, |own| own.started_at.get_or_insert_with(now).clone()).await?;
            if progress::outcome(&plan, &self.part_note(&part).await.progress).is_some() {
                return Ok(self.steps(&plan, &part, &parent, &begun).await?.map(Ended::Outcome));
            }
            if let Err((reason, message)) = self.claims(&plan, &part).await {
                return Ok(Some(Ended::NotRun(reason, message)));
            }
            let with_services = tokio::select! {
                services = self.start_services(&plan, &part, &plan.services, 0) => services,
                () = self.shutdown.cancelled() => return Ok(None),
                () = self.cancel.cancelled() => Ok(None),
            };
            let ended = match with_services {
                Ok(with) => {
                    let plan = with.map_or(plan.clone(), Arc::new);
                    self.steps(&plan, &part, &parent, &begun).await?.map(Ended::Outcome)
                }
                Err((reason, message)) => Some(Ended::NotRun(reason, message)),
            };
            if let Some(ended) = &ended {
                let outcome = match ended {
                    Ended::Outcome(outcome) => Some(*outcome),
                    Ended::NotRun(..) => None,
                };
                self.stop_services(&plan, &part, outcome).await;
                self.release_claims(&plan, &part).await;
            }
            Ok(ended)
        })
    }

    async fn steps(
        self: &Arc<Self>,
        plan: &Arc<ExecutionPlan>,
        part: &str,
        parent: &str,
        begun: &Time,
    ) -> Result<Option<Outcome>, Error> {
        let (mut with_instances, mut started) = (Arc::clone(plan), BTreeSet::new());
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            let known = self.part_note(part).await;
            if let Some((index, expanded)) = self.expanded(&with_instances, &known).await {
                match expanded {
                    Ok(plan) => with_instances = Arc::new(plan),
                    Err(why) => {
                        Arc::make_mut(&mut with_instances).steps[index].waits_for.clear();
                        let attempt = super::results::not_run("InvalidWorkflow", &why);
                        self.ended(&with_instances, part, parent, index, Outcome::NotRun, vec![attempt])
                            .await?;
                    }
                }
                continue;
            }
            if let Some(index) = again(&with_instances, &known, &started) {
                started.insert(index);
                let services = with_instances.steps[index].starts.clone().unwrap_or_default();
                let there = tokio::select! {
                    there = self.start_services(&with_instances, part, &services, index + 1) => there,
                    () = self.shutdown.cancelled() => return Ok(None),
                    () = self.cancel.cancelled() => Ok(None),
                };
                match there {
                    Ok(with) => with_instances = with.map_or(with_instances, Arc::new),
                    Err((reason, message)) => warn!(reason, message, "services of an execution are gone"),
                }
                continue;
            }
            let plan = &with_instances;
            if let Some(pod) = known.pod {
                if self.pod(plan, part, parent, pod, begun).await? {
                    continue;
                }
                return Ok(None);
            }
            if self.cancel.is_cancelled() {
                self.abandon(plan, part, parent, CANCELLED, &self.cancelled_because()).await?;
            } else if left(plan, begun).is_zero() {
                let message = format!("ran longer than {}", workflow::duration::display(plan.timeout));
                self.abandon(plan, part, parent, "TimedOut", &message).await?;
            }
            let known = self.part_note(part).await;
            let pause = *self.pause.borrow();
            let (resumed, held) = (pause == Some(false), pause == Some(true));
            let next = progress::next(plan, &known.progress, &|_| resumed);
            match next {
                Next::Finish => {
                    self.groups(plan, part, parent).await?;
                    return Ok(Some(progress::outcome(plan, &known.progress).unwrap_or(Outcome::NotRun)));
                }
                Next::Skip(index) => {
                    self.ended(plan, part, parent, index, Outcome::Skipped, Vec::new()).await?;
                }
                Next::Broken(index, why) => {
                    let attempt =
                        super::results::not_run("InvalidExpression", &format!("its condition: {why}"));
                    self.ended(plan, part, parent, index, Outcome::NotRun, vec![attempt]).await?;
                }
                Next::Pod(..) | Next::Parallel(_) | Next::Services(_) if held => {
                    self.wait_for_change(pause).await
                }
                Next::Wait(_) => self.wait_for_change(pause).await,
                Next::Parallel(index) | Next::Services(index) if !plan.steps[index].waits_for.is_empty() => {
                    let attempt = super::results::not_run("ListsLost", LISTS_LOST);
                    self.ended(plan, part, parent, index, Outcome::NotRun, vec![attempt]).await?;
                }
                Next::Services(index) => {
                    let began = now();
                    let services = plan.steps[index].starts.clone().unwrap_or_default();
                    let there = tokio::select! {
                        there = self.start_services(plan, part, &services, index + 1) => there,
                        () = self.shutdown.cancelled() => return Ok(None),
                        () = self.cancel.cancelled() => continue,
                    };
                    started.insert(index);
                    let (outcome, mut attempt) = match there {
                        Ok(_) => (Outcome::Passed, super::results::not_run("Completed", "")),
                        Err((reason, ref message)) => {
                            (Outcome::NotRun, super::results::not_run(reason, message))
                        }
                    };
                    (attempt.outcome, attempt.started_at) = (outcome, Some(began));
                    self.ended(plan, part, parent, index, outcome, vec![attempt]).await?;
                    if let Ok(Some(with)) = there {
                        with_instances = Arc::new(with);
                    }
                }
                Next::Parallel(index) => {
                    if !self.parallel(plan, part, parent, index).await? {
                        return Ok(None);
                    }
                }
                Next::Pod(from, end) => {
                    self.note_part(part, |own| {
                        own.number += 1;
                        own.pod = Some(PodNote { steps: (from, end), ..PodNote::default() });
                    })
                    .await?;
                }
            }
        }
    }

    /// The plan with the instances of a step that waited for what has been found out meanwhile, and the step's place; why
    /// not, for people.
    async fn expanded(
        &self,
        plan: &ExecutionPlan,
        known: &Part,
    ) -> Option<(usize, Result<ExecutionPlan, String>)> {
        let waits = |index: &usize| {
            let waits_for = &plan.steps[*index].waits_for;
            !waits_for.is_empty() && waits_for.iter().all(|list| known.progress.lists.contains_key(list))
        };
        let index = (0..plan.steps.len()).find(waits)?;
        let (spec, found) = {
            let note = self.note.lock().await;
            // Those of the parts that this one is in tell what this one is.
            let lists = note.parts.values().flat_map(|part| part.progress.lists.clone());
            (note.spec.clone(), lists.collect())
        };
        let expanded = plan::expanded(&spec, found, plan, index).map_err(|invalid| invalid.to_string());
        let expanded = expanded.and_then(|plan| self.secrets.name(&plan).map(|()| plan));
        Some((index, expanded))
    }

    /// Until somebody holds the run, lets it go on or ends it.
    async fn wait_for_change(&self, decided: Option<bool>) {
        let mut pause = self.pause.clone();
        tokio::select! {
            _ = pause.wait_for(|now| *now != decided) => {}
            () = self.cancel.cancelled() => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Runs the instances of a step; false when the agent stops first.
    async fn parallel(
        self: &Arc<Self>,
        plan: &Arc<ExecutionPlan>,
        part: &str,
        parent: &str,
        index: usize,
    ) -> Result<bool, Error> {
        let step = &plan.steps[index];
        let Some(parallel) = &step.parallel else { return Ok(true) };
        let began = now();
        let mut instances = Vec::new();
        let names = (0..parallel.instances.len()).map(|number| format!("{}-{number}", step.name));
        let together = Arc::new(Together::new(names.clone()));
        for (name, instance) in names.zip(&parallel.instances) {
            if instance.starts_together.is_some() {
                self.together.lock().insert(name.clone(), Arc::clone(&together));
            }
            let ended = self.part(Arc::new(instance.clone()), name.clone(), step.name.clone());
            let together = Arc::clone(&together);
            instances.push(ended.inspect(move |_| together.here(&name)));
        }
        let mut running = futures::stream::iter(instances)
            .buffer_unordered(parallel.parallelism.clamp(1, plan::MAX_INSTANCES));
        let (mut failed, mut told) = (0_usize, String::new());
        let mut worst = Outcome::Passed;
        while let Some(ended) = running.next().await {
            let outcome = match ended? {
                None => return Ok(false),
                Some(Ended::Outcome(outcome)) => outcome,
                Some(Ended::NotRun(reason, message)) => {
                    told = format!("{reason}: {message}");
                    Outcome::NotRun
                }
            };
            if progress::is_failure(outcome) {
                failed += 1;
                if worst != Outcome::Failed {
                    worst = outcome;
                }
                if parallel.fail_fast {
                    break;
                }
            }
        }
        drop(running);
        if failed > 0 && parallel.fail_fast {
            self.end_instances(parallel, step).await?;
        }
        let mut attempt = super::results::not_run("", "");
        attempt.started_at = Some(began);
        attempt.finished_at = Some(now());
        attempt.outcome = if step.negative { progress::inverted(worst) } else { worst };
        if parallel.instances.is_empty() {
            attempt.warnings.push("no instances: a list that they are told by is empty".to_owned());
        }
        if failed > 0 {
            "InstancesFailed".clone_into(&mut attempt.reason);
            attempt.message = format!("{failed} of {} instances failed", parallel.instances.len());
            if !told.is_empty() {
                attempt.message.push_str(&format!("; {told}"));
            }
        }
        let outcome = attempt.outcome;
        self.ended(plan, part, parent, index, outcome, vec![attempt]).await?;
        Ok(true)
    }

    /// Ends what a failure of another instance left under way.
    async fn end_instances(
        self: &Arc<Self>,
        parallel: &plan::PlannedParallel,
        step: &plan::PlannedStep,
    ) -> Result<(), Error> {
        for (number, instance) in parallel.instances.iter().enumerate() {
            let name = format!("{}-{number}", step.name);
            self.remove_pod_of(&name).await;
            self.note_part(&name, |own| own.pod = None).await?;
            self.abandon(instance, &name, &step.name, "FailFast", "another instance failed first").await?;
            self.groups(instance, &name, &step.name).await?;
            self.stop_services(instance, &name, None).await;
        }
        Ok(())
    }
}

/// A step that started services before the agent was started anew: their addresses are to be found again.
fn again(plan: &ExecutionPlan, known: &Part, started: &BTreeSet<usize>) -> Option<usize> {
    let was = |index: &usize| {
        let passed = known.progress.ended.get(index) == Some(&Outcome::Passed);
        plan.steps[*index].starts.is_some() && passed && !started.contains(index)
    };
    (0..plan.steps.len()).find(was)
}

/// What is left of a plan's time.
pub(super) fn left(plan: &ExecutionPlan, begun: &Time) -> Duration {
    plan.timeout.saturating_sub(jiff::Timestamp::now().duration_since(begun.0).unsigned_abs())
}

pub(super) fn now() -> Time {
    Time(jiff::Timestamp::now())
}
