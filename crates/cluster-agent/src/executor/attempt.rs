//! One attempt at a step: its pod made, watched, stopped, its files taken out.

use std::time::Duration;

use fleet_objects::test_run::{AttemptResult, Outcome};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, LogParams, PostParams, Preconditions};
use kube::runtime::watcher::watch_object;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::fold::Collection;
use workflow::observe::{self, Observation, Stuck};
use workflow::plan::{CANCELLED, PlannedStep};
use workflow::{collect, duration, fold, pod};

use super::journal::Note;
use super::run::now;
use super::{Error, Shared, log_follow};

/// How long an image may be unavailable before the attempt is given up: long enough for one retry of a kubelet, short
/// enough for a person who waits.
const IMAGE_TOLERANCE: Duration = Duration::from_secs(20);
/// How long the collector may take to come up once the step has ended.
const COLLECTOR_START: Duration = Duration::from_secs(60);
/// How long it may take to print everything: the pod's grace period and some for the log to arrive.
const COLLECTOR_PRINT: Duration = Duration::from_secs(75);
/// How long a stopped pod may take to be gone before it is removed by force.
const POD_GONE: Duration = Duration::from_secs(75);
/// How long the rest of a log may take to arrive after its container ended.
const LOG_TAIL: Duration = Duration::from_secs(5);
/// Between tries of a request that failed.
const RETRY: Duration = Duration::from_millis(500);

/// How the step's container ended, or why it never will.
enum End {
    Result(Box<AttemptResult>),
    /// The agent stops; the attempt goes on at the next start.
    Shutdown,
}

/// Carries out an attempt; `None` when the agent stops first.
pub(super) async fn carry_out(
    shared: &Shared,
    note: &mut Note,
    step: &PlannedStep,
    number: u32,
    cancel: &CancellationToken,
    shutdown: &CancellationToken,
) -> Result<Option<AttemptResult>, Error> {
    let options = pod::PodOptions {
        namespace: shared.options.namespace.clone(),
        tool_image: shared.options.tool_image.clone(),
        run: note.spec.run.clone(),
        execution_uid: note.uid.clone(),
    };
    let pods: Api<Pod> = Api::namespaced(shared.cluster.clone(), &options.namespace);
    let name = pod::name(&options, step, number);
    let noted = note.current.as_ref().and_then(|current| current.ended.clone());
    let ended = if let Some(ended) = noted {
        ended
    } else {
        let (stop, progress) = (CancellationToken::new(), log_follow::Progress::of(note));
        let follower = log_follow::follow(shared, note, &pods, &name, step, number, &progress, &stop);
        let watched = async {
            let end = to_end(shared, note, &pods, &options, step, number, cancel, shutdown).await;
            stop.cancel();
            end
        };
        let tail = async {
            stop.cancelled().await;
            tokio::time::sleep(LOG_TAIL).await;
        };
        let logs = async {
            tokio::select! { () = follower => {}, () = tail => {} }
        };
        let (end, ()) = tokio::join!(watched, logs);
        let reached = progress.get();
        let End::Result(result) = end else {
            if let Some(current) = &mut note.current {
                current.log_offset = reached;
            }
            shared.journal.save(note).await?;
            return Ok(None);
        };
        if let Some(current) = &mut note.current {
            current.log_offset = reached;
            current.ended = Some((*result).clone());
        }
        shared.journal.save(note).await?;
        *result
    };
    let ran = matches!(ended.outcome, Outcome::Passed | Outcome::Failed | Outcome::TimedOut);
    let collection: Collection = if !step.collects() {
        Ok((Vec::new(), Vec::new()))
    } else if ran {
        collect_files(&pods, &name).await
    } else {
        Err("the step did not run".to_owned())
    };
    let mut result = fold::attempt(step, ended, &collection);
    if let Ok((files, _)) = &collection {
        keep(shared, &mut result, files).await;
    }
    remove(&pods, &name, &note.uid).await;
    Ok(Some(result))
}

/// Spools files for the hub; those that find no room are said so.
async fn keep(shared: &Shared, result: &mut AttemptResult, files: &[collect::Collected]) {
    for file in files {
        if let Err(error) = shared.spool.put(&file.artifact.sha256, file.content.clone()).await {
            result.warnings.push(format!("{} was not kept: {error}", file.artifact.path));
            result.artifacts.retain(|artifact| artifact.path != file.artifact.path);
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one attempt; a struct of borrows would say the same"
)]
async fn to_end(
    shared: &Shared,
    note: &Note,
    pods: &Api<Pod>,
    options: &pod::PodOptions,
    step: &PlannedStep,
    number: u32,
    cancel: &CancellationToken,
    shutdown: &CancellationToken,
) -> End {
    let started = note.current.as_ref().map_or_else(now, |current| current.started_at.clone());
    let spent = jiff::Timestamp::now().duration_since(started.0).unsigned_abs();
    let deadline = Instant::now() + step.timeout.saturating_sub(spent);
    let base = AttemptResult {
        attempt: number,
        outcome: Outcome::NotRun,
        reason: String::new(),
        message: String::new(),
        exit_code: None,
        started_at: Some(started),
        finished_at: None,
        junit: None,
        artifacts: Vec::new(),
        warnings: Vec::new(),
    };
    let end = |outcome: Outcome, reason: &str, message: String| {
        let (reason, finished_at) = (reason.to_owned(), Some(now()));
        let result = AttemptResult { outcome, reason, message, finished_at, ..base.clone() };
        End::Result(Box::new(result))
    };
    let work = async {
        if let Err((reason, message)) = ensure_pod(shared, pods, options, step, number).await {
            return end(Outcome::NotRun, &reason, message);
        }
        match watch_step(pods, &pod::name(options, step, number), step, deadline).await {
            Watched::Ended(ended) => {
                let message = match (ended.exit_code, ended.message.trim()) {
                    (0, _) => String::new(),
                    (code, "") => format!("exit code {code}"),
                    (code, message) => format!("exit code {code}: {message}"),
                };
                let mut reason = ended.reason.clone();
                if ended.exit_code != 0 && (reason.is_empty() || reason == "Error") {
                    "ExitCode".clone_into(&mut reason);
                }
                End::Result(Box::new(AttemptResult {
                    outcome: ended.outcome(),
                    reason,
                    message,
                    exit_code: Some(ended.exit_code),
                    started_at: ended.started_at.clone().or_else(|| base.started_at.clone()),
                    finished_at: ended.finished_at.clone().or_else(|| Some(now())),
                    ..base.clone()
                }))
            }
            Watched::CannotRun(reason, message) => end(Outcome::NotRun, &reason, message),
            Watched::TimedOut => end(
                Outcome::TimedOut,
                "TimedOut",
                format!("ran longer than {}", duration::display(step.timeout)),
            ),
        }
    };
    tokio::select! {
        end = work => end,
        () = shutdown.cancelled() => End::Shutdown,
        () = cancel.cancelled() => end(Outcome::NotRun, CANCELLED, "the run was cancelled".to_owned()),
    }
}

/// Makes namespace and pod, or finds the pod of an earlier start. What may pass is tried again until the caller's
/// deadline ends the wait; a refusal is final.
async fn ensure_pod(
    shared: &Shared,
    pods: &Api<Pod>,
    options: &pod::PodOptions,
    step: &PlannedStep,
    number: u32,
) -> Result<(), (String, String)> {
    let wanted = pod::build(options, step, number);
    let deadline = Instant::now() + step.timeout;
    loop {
        let error = match try_ensure(shared, pods, options, &wanted).await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let message =
                    format!("a pod called {} that is not of this test is in the way", wanted.name_any());
                return Err(("PodNameTaken".to_owned(), message));
            }
            Err(error) => error,
        };
        match &error {
            kube::Error::Api(status) if matches!(status.code, 400..=428) && status.code != 404 => {
                return Err(("PodRejected".to_owned(), status.message.clone()));
            }
            _ if Instant::now() >= deadline => {
                return Err(("ClusterUnavailable".to_owned(), error.to_string()));
            }
            _ => warn!(%error, "cannot make a test pod; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// False: a pod of that name is somebody else's.
async fn try_ensure(
    shared: &Shared,
    pods: &Api<Pod>,
    options: &pod::PodOptions,
    wanted: &Pod,
) -> Result<bool, kube::Error> {
    if let Some(there) = pods.get_opt(&wanted.name_any()).await? {
        return Ok(is_ours(&there, &options.execution_uid));
    }
    let namespaces: Api<Namespace> = Api::all(shared.cluster.clone());
    if namespaces.get_opt(&options.namespace).await?.is_none() {
        let made = namespaces.create(&PostParams::default(), &pod::namespace(&options.namespace)).await;
        if let Err(error) = made
            && !is_conflict(&error)
        {
            return Err(error);
        }
    }
    match pods.create(&PostParams::default(), wanted).await {
        Ok(_) => Ok(true),
        Err(error) if is_conflict(&error) => Ok(pods
            .get_opt(&wanted.name_any())
            .await?
            .is_some_and(|pod| is_ours(&pod, &options.execution_uid))),
        // A new namespace has no default service account for a moment.
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("serviceaccount") => {
            tokio::time::sleep(RETRY).await;
            pods.create(&PostParams::default(), wanted).await.map(|_| true)
        }
        Err(error) => Err(error),
    }
}

fn is_ours(pod: &Pod, execution_uid: &str) -> bool {
    pod.labels().get(pod::EXECUTION_UID_LABEL).is_some_and(|uid| uid == execution_uid)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

enum Watched {
    Ended(observe::Ended),
    CannotRun(String, String),
    TimedOut,
}

async fn watch_step(pods: &Api<Pod>, name: &str, step: &PlannedStep, deadline: Instant) -> Watched {
    let mut events = std::pin::pin!(watch_object(pods.clone(), name));
    let mut stuck: Option<(Stuck, Instant)> = None;
    let (mut seen, mut ran) = (false, false);
    loop {
        // An image problem ends the wait early; everything else may last as long as the step may.
        let wake = match &stuck {
            Some((reason, since)) if is_image(reason) => deadline.min(*since + IMAGE_TOLERANCE),
            _ => deadline,
        };
        let Ok(event) = timeout_at(wake, events.next()).await else {
            return match stuck {
                Some((reason, _)) => {
                    Watched::CannotRun(reason.reason, describe(&reason.message, &step.image))
                }
                None if ran => Watched::TimedOut,
                None => {
                    Watched::CannotRun("NotStarted".to_owned(), "the pod did not start in time".to_owned())
                }
            };
        };
        let pod = match event {
            Some(Ok(Some(pod))) => pod,
            Some(Ok(None)) if seen => {
                return Watched::CannotRun(
                    "PodDeleted".to_owned(),
                    "somebody deleted the test's pod".to_owned(),
                );
            }
            Some(Ok(None)) => continue,
            Some(Err(error)) => {
                warn!(%error, pod = name, "cannot watch a test pod; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            None => return Watched::CannotRun("WatchEnded".to_owned(), "the pod's watch ended".to_owned()),
        };
        seen = true;
        match observe::step(&pod) {
            Observation::Ended(ended) => return Watched::Ended(ended),
            Observation::Lost { reason, message } => return Watched::CannotRun(reason, message),
            Observation::Stuck(now) if now.forever => {
                return Watched::CannotRun(now.reason, describe(&now.message, &step.image));
            }
            Observation::Stuck(now) => {
                let since = stuck.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                stuck = Some((now, since));
            }
            Observation::Running => {
                ran = true;
                stuck = None;
            }
            // Between two tries of a pull the reason may vanish for a moment; the clock goes on.
            Observation::Pending => {}
        }
    }
}

fn is_image(stuck: &Stuck) -> bool {
    matches!(stuck.reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable")
}

fn describe(message: &str, image: &str) -> String {
    if message.is_empty() { format!("image {image}") } else { message.to_owned() }
}

/// Tells the pod to stop, which makes the collector print, and reads what it prints.
async fn collect_files(pods: &Api<Pod>, name: &str) -> Collection {
    let deadline = Instant::now() + COLLECTOR_START;
    loop {
        match pods.get_opt(name).await {
            Ok(Some(pod)) => {
                if observe::collector(&pod)? {
                    break;
                }
            }
            Ok(None) => return Err("the pod was gone before its files were read".to_owned()),
            Err(error) => warn!(%error, pod = name, "cannot read a test pod; trying again"),
        }
        if Instant::now() >= deadline {
            return Err("the collector did not start".to_owned());
        }
        tokio::time::sleep(RETRY).await;
    }
    let read = timeout(COLLECTOR_PRINT, read_frames(pods, name)).await;
    read.unwrap_or_else(|_| Err("the collector did not finish in time".to_owned()))
}

async fn read_frames(pods: &Api<Pod>, name: &str) -> Collection {
    let params =
        LogParams { container: Some(pod::COLLECTOR.to_owned()), follow: true, ..LogParams::default() };
    let log =
        pods.log_stream(name, &params).await.map_err(|error| format!("its log cannot be read: {error}"))?;
    let grace = u32::try_from(pod::GRACE_SECONDS).unwrap_or(60);
    let stop = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
    if let Err(error) = pods.delete(name, &stop).await {
        return Err(format!("the pod cannot be told to stop: {error}"));
    }
    let mut decoder = collect::Decoder::default();
    let mut lines = log.lines();
    while let Some(line) = lines.try_next().await.map_err(|error| format!("its log broke off: {error}"))? {
        decoder.line(&line).map_err(|error| error.to_string())?;
        if decoder.ended() {
            break;
        }
    }
    decoder.finish().map_err(|error| error.to_string())
}

/// Removes the pod and sees it go; by force when it does not go by itself.
async fn remove(pods: &Api<Pod>, name: &str, execution_uid: &str) {
    let deadline = Instant::now() + POD_GONE;
    let mut asked = false;
    loop {
        match pods.get_opt(name).await {
            Ok(None) => return,
            Ok(Some(pod)) if !is_ours(&pod, execution_uid) => return,
            Ok(Some(pod)) => {
                let late = Instant::now() >= deadline;
                if !asked || late {
                    // Nothing is left to collect: no reason to wait for the grace period.
                    let params = DeleteParams {
                        grace_period_seconds: Some(u32::from(!late)),
                        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                        ..DeleteParams::default()
                    };
                    asked = pods.delete(name, &params).await.is_ok();
                }
                if late && asked {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, pod = name, "cannot remove a test pod; trying again");
                if Instant::now() >= deadline {
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
