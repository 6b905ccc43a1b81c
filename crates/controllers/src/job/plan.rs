//! How a Job goes on. Pure.
//!
//! Pods carry the finalizer `batch.kubernetes.io/job-tracking` until the status has counted their end, so no end is
//! missed when a pod is deleted. The uids of ended pods stand in `uncountedTerminatedPods` from the moment they are
//! counted until their finalizer is gone, so none is counted twice.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::objects::{is_active, is_ready, phase};

pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// A failed pod's successor waits this long, twice as long after each further failure.
const BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(600);
/// Pods created at once at most.
const BURST: usize = 500;

/// What to do for one Job.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Pods to create: their completion index, or none.
    pub(super) create: Vec<Option<i32>>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods whose end stands in the status already: their finalizer can go.
    pub(super) release: Vec<Arc<Pod>>,
    /// The status to write; none when it stands so already.
    pub(super) status: Option<JobStatus>,
    /// The Job outlived its time after its end.
    pub(super) expired: bool,
    pub(super) look_again: Option<SignedDuration>,
}

fn has_ended(pod: &Pod) -> bool {
    // A pod deleted before it ended counts as failed, as upstream does.
    matches!(phase(pod), "Succeeded" | "Failed")
        || pod.metadata.deletion_timestamp.is_some() && !is_running(pod)
}

fn is_running(pod: &Pod) -> bool {
    matches!(phase(pod), "Running" | "Pending")
        && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|own| own == TRACKING)
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

fn holds(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

pub(super) fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| holds(status, "Complete") || holds(status, "Failed"))
}

/// `pods` are those it controls.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let Some(spec) = job.spec.as_ref() else { return Plan::default() };
    let before = job.status.clone().unwrap_or_default();
    let mut plan = Plan::default();
    if is_finished(job) {
        after_the_end(&mut plan, job, &before, pods, now);
        return plan;
    }
    let mut status = before.clone();
    let counted = count(&mut status, &mut plan, pods);
    let suspended = spec.suspend == Some(true);
    if status.start_time.is_none() && !suspended {
        status.start_time = Some(Time(now));
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed {
        status.completed_indexes = Some(write_indexes(&completed_indexes(&before, pods, spec.completions)));
        status.succeeded = i32::try_from(read_indexes(status.completed_indexes.as_deref()).len()).ok();
    }
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let succeeded = status.succeeded.unwrap_or(0);
    let deadline = spec
        .active_deadline_seconds
        .zip(status.start_time.as_ref())
        .map(|(seconds, start)| SignedDuration::from_secs(seconds) - now.duration_since(start.0));
    let failure = if holds(&status, "FailureTarget") {
        status.conditions.iter().flatten().find(|condition| condition.type_ == "FailureTarget").map(
            |condition| {
                (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default())
            },
        )
    } else if status.failed.unwrap_or(0) > spec.backoff_limit.unwrap_or(6) {
        Some(("BackoffLimitExceeded".to_owned(), "Job has reached the specified backoff limit".to_owned()))
    } else if !suspended && deadline.is_some_and(|left| left <= SignedDuration::ZERO) {
        Some(("DeadlineExceeded".to_owned(), "Job was active longer than specified deadline".to_owned()))
    } else {
        None
    };
    let complete = match spec.completions {
        Some(wanted) => succeeded >= wanted,
        // Without a number, one success says that the work is done; what still runs may end.
        None => succeeded > 0 && active.is_empty(),
    };
    if let Some((reason, message)) = failure {
        plan.delete.clone_from(&active);
        set(&mut status, "FailureTarget", &reason, &message, now);
        finish(&mut status, &mut plan, pods, counted, "Failed", (&reason, &message), now);
    } else if complete || holds(&status, "SuccessCriteriaMet") {
        let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
        plan.delete.clone_from(&active);
        set(&mut status, "SuccessCriteriaMet", reason, message, now);
        finish(&mut status, &mut plan, pods, counted, "Complete", (reason, message), now);
    } else if suspended {
        plan.delete.clone_from(&active);
        status.start_time = None;
        set(&mut status, "Suspended", "JobSuspended", "Job suspended", now);
    } else {
        unset(&mut status, "Suspended", "JobResumed", "Job resumed", now);
        fill(&mut plan, job, &status, pods, &active, now);
        plan.look_again = [plan.look_again, deadline].into_iter().flatten().min();
    }
    status.active = i32::try_from(active.len() - plan.delete.len()).ok();
    status.ready = i32::try_from(active.iter().filter(|pod| is_ready(pod)).count()).ok();
    let terminating = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !has_ended(pod));
    status.terminating = i32::try_from(terminating.count()).ok();
    plan.status = (status != before).then_some(status);
    plan
}

/// Counts ended pods and lets go of those whose count is written. Returns whether every end is counted and written.
fn count(status: &mut JobStatus, plan: &mut Plan, pods: &[Arc<Pod>]) -> bool {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let known: BTreeSet<String> =
        uncounted.succeeded.iter().chain(uncounted.failed.iter()).flatten().cloned().collect();
    let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
    let mut all_written = true;
    for pod in pods.iter().filter(|pod| has_ended(pod) && is_tracked(pod)) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let good = phase(pod) == "Succeeded";
        let list = if good { &mut succeeded } else { &mut failed };
        list.push(uid.clone());
        if known.contains(&uid) {
            plan.release.push(Arc::clone(pod));
            continue;
        }
        all_written = false;
        let counter = if good { &mut status.succeeded } else { &mut status.failed };
        *counter = Some(counter.unwrap_or(0).saturating_add(1));
    }
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
        succeeded: (!succeeded.is_empty()).then_some(succeeded),
        failed: (!failed.is_empty()).then_some(failed),
    });
    all_written
}

/// The end is written once no pod runs and every end is counted.
fn finish(
    status: &mut JobStatus,
    plan: &mut Plan,
    pods: &[Arc<Pod>],
    counted: bool,
    kind: &str,
    why: (&str, &str),
    now: Timestamp,
) {
    let quiet = pods.iter().all(|pod| has_ended(pod));
    if quiet && counted && plan.release.is_empty() {
        set(status, kind, why.0, why.1, now);
        if kind == "Complete" {
            status.completion_time = Some(Time(now));
        }
    }
}

fn fill(
    plan: &mut Plan,
    job: &Job,
    status: &JobStatus,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    now: Timestamp,
) {
    let Some(spec) = job.spec.as_ref() else { return };
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let succeeded = status.succeeded.unwrap_or(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - succeeded),
        None if succeeded > 0 => i32::try_from(active.len()).unwrap_or(i32::MAX).min(parallelism),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() > wanted {
        plan.delete = active.iter().skip(wanted).cloned().collect();
        return;
    }
    let missing = (wanted - active.len()).min(BURST);
    if missing == 0 {
        return;
    }
    if let Some(wait) = backoff(pods, now) {
        plan.look_again = Some(wait);
        return;
    }
    if spec.completion_mode.as_deref() == Some("Indexed") {
        let done: BTreeSet<i32> = read_indexes(status.completed_indexes.as_deref());
        let busy: BTreeSet<i32> = active.iter().filter_map(|pod| index_of(pod)).collect();
        let free =
            (0..spec.completions.unwrap_or(0)).filter(|index| !done.contains(index) && !busy.contains(index));
        plan.create = free.take(missing).map(Some).collect();
    } else {
        plan.create = vec![None; missing];
    }
}

/// How much longer to wait after the failures since the last success.
fn backoff(pods: &[Arc<Pod>], now: Timestamp) -> Option<SignedDuration> {
    let ended = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses
            .filter_map(|container| {
                Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)
            })
            .max()
    };
    let last_success = pods.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| ended(pod)).max();
    let failures: Vec<Timestamp> = pods
        .iter()
        .filter(|pod| phase(pod) == "Failed")
        .filter_map(|pod| ended(pod))
        .filter(|end| last_success.is_none_or(|success| *end > success))
        .collect();
    let last = failures.iter().max()?;
    let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(6);
    let wait = (BACKOFF * 2_i32.pow(doublings)).min(MAX_BACKOFF) - now.duration_since(*last);
    (wait > SignedDuration::ZERO).then_some(wait)
}

fn after_the_end(plan: &mut Plan, job: &Job, before: &JobStatus, pods: &[Arc<Pod>], now: Timestamp) {
    plan.release = pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let end = before.conditions.iter().flatten().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    });
    let end = end.and_then(|condition| condition.last_transition_time.as_ref());
    if let Some((ttl, end)) = ttl.zip(end) {
        let left = SignedDuration::from_secs(i64::from(ttl)) - now.duration_since(end.0);
        plan.expired = left <= SignedDuration::ZERO && job.metadata.deletion_timestamp.is_none();
        plan.look_again = (left > SignedDuration::ZERO).then_some(left);
    }
}

fn set(status: &mut JobStatus, kind: &str, reason: &str, message: &str, now: Timestamp) {
    put(status, kind, "True", reason, message, now);
}

fn unset(status: &mut JobStatus, kind: &str, reason: &str, message: &str, now: Timestamp) {
    if holds(status, kind) {
        put(status, kind, "False", reason, message, now);
    }
}

fn put(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|own| own.type_ == kind && own.status == value) {
        return;
    }
    conditions.retain(|own| own.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

fn completed_indexes(before: &JobStatus, pods: &[Arc<Pod>], completions: Option<i32>) -> BTreeSet<i32> {
    let mut done = read_indexes(before.completed_indexes.as_deref());
    let fresh = pods.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| index_of(pod));
    done.extend(fresh.filter(|index| *index < completions.unwrap_or(0)));
    done
}

/// `1,3-5,7`. What makes no sense is left out; a range is bounded by the API's limit of completions.
fn read_indexes(text: Option<&str>) -> BTreeSet<i32> {
    const LIMIT: i32 = 100_000;
    let mut indexes = BTreeSet::new();
    for part in text.unwrap_or_default().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(LIMIT));
        }
    }
    indexes
}

fn write_indexes(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match ranges.last_mut() {
            Some(range) if range.1 + 1 == index => range.1 = index,
            _ => ranges.push((index, index)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(spec: serde_json::Value) -> Job {
        let mut job = json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"},
            "spec": {"template": {"spec": {"containers": []}}}});
        for (key, value) in spec.as_object().cloned().unwrap_or_default() {
            job["spec"][key] = value;
        }
        serde_json::from_value(job).expect("a Job")
    }

    fn pod(uid: &str, phase: &str, tracked: bool) -> Arc<Pod> {
        let finalizers: &[&str] = if tracked { &[TRACKING] } else { &[] };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": uid, "namespace": "ns", "uid": uid, "finalizers": finalizers},
                "spec": {"containers": [], "nodeName": "n"}, "status": {"phase": phase},
            }))
            .expect("a pod"),
        )
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn counts_each_end_once_then_releases_then_completes() {
        let mut job = job(json!({"completions": 1, "parallelism": 1}));
        assert_eq!(plan(&job, &[], NOW).create, [None]);
        let counted = plan(&job, &[pod("a", "Succeeded", true)], NOW);
        assert!(counted.release.is_empty(), "the count must be written first");
        job.status = counted.status;
        assert_eq!(job.status.as_ref().and_then(|status| status.succeeded), Some(1));
        let released = plan(&job, &[pod("a", "Succeeded", true)], NOW);
        assert_eq!(released.release.len(), 1);
        let done = plan(&job, &[pod("a", "Succeeded", false)], NOW).status.expect("changes");
        assert_eq!(done.succeeded, Some(1));
        assert!(holds(&done, "Complete") && holds(&done, "SuccessCriteriaMet"));
    }

    #[test]
    fn fails_beyond_the_backoff_limit_and_stops_what_runs() {
        let job = job(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}));
        let plan = plan(&job, &[pod("a", "Failed", true), pod("b", "Running", true)], NOW);
        assert!(holds(plan.status.as_ref().expect("changes"), "FailureTarget"));
        assert!(!holds(plan.status.as_ref().expect("changes"), "Failed"), "not before everything ended");
        assert_eq!(plan.delete.len(), 1);
    }

    #[test]
    fn indexes_are_given_once_and_written_as_ranges() {
        let job = job(json!({"completions": 5, "parallelism": 3, "completionMode": "Indexed"}));
        assert_eq!(plan(&job, &[], NOW).create, [Some(0), Some(1), Some(2)]);
        let set: BTreeSet<i32> = [0, 2, 3, 4, 7, 8].into();
        assert_eq!(write_indexes(&set), "0,2-4,7,8");
        assert_eq!(read_indexes(Some("0,2-4,7,8")), set);
    }

    #[test]
    fn a_suspended_job_runs_nothing() {
        let job = job(json!({"suspend": true}));
        let plan = plan(&job, &[pod("a", "Running", true)], NOW);
        assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
        assert!(holds(&plan.status.expect("changes"), "Suspended"));
    }
}
