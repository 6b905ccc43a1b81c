//! Which Jobs a CronJob starts, stops and forgets. Pure.

use foundation::cron::Schedule;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::batch::v1::{CronJob, Job},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::objects::controller_reference;

/// What to do for one CronJob.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) start: Option<Box<Job>>,
    pub(super) delete: Vec<Arc<Job>>,
    /// The status to write; none when it stands so already.
    pub(super) status: Option<Value>,
    /// What a person should know: reason and text.
    pub(super) warning: Option<(&'static str, String)>,
    pub(super) look_again: Option<SignedDuration>,
}

/// How a Job ended, if it did: well or not, and when.
fn end(job: &Job) -> Option<(bool, Option<Timestamp>)> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|own| own.status == "True");
    let end = ends.find(|own| matches!(own.type_.as_str(), "Complete" | "Failed"))?;
    Some((end.type_ == "Complete", end.last_transition_time.as_ref().map(|time| time.0)))
}

/// `jobs` are those it controls.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let spec = &cron.spec;
    let mut plan = Plan::default();
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut active: Vec<Arc<Job>> = jobs.iter().filter(|job| end(job).is_none()).cloned().collect();
    forget(&mut plan, jobs, true, spec.successful_jobs_history_limit.unwrap_or(3));
    forget(&mut plan, jobs, false, spec.failed_jobs_history_limit.unwrap_or(1));
    let status = cron.status.clone().unwrap_or_default();
    let mut last = status.last_schedule_time.as_ref().map(|time| time.0);
    if spec.suspend != Some(true) {
        match read_schedule(cron) {
            Ok((schedule, zone)) => {
                let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
                let since = last.unwrap_or(created);
                if let Some(due) = schedule.latest(since, now, &zone) {
                    consider(&mut plan, cron, due, &mut active, &mut last, now);
                }
                plan.look_again = schedule.next(now, &zone).map(|next| next.duration_since(now));
            }
            Err(problem) => plan.warning = Some(("UnparseableSchedule", problem)),
        }
    }
    plan.status = changed_status(cron, jobs, &active, last);
    plan
}

fn read_schedule(cron: &CronJob) -> Result<(Schedule, TimeZone), String> {
    let spec = &cron.spec;
    let schedule = Schedule::parse(&spec.schedule)
        .map_err(|problem| format!("schedule {:?}: {problem}", spec.schedule))?;
    let zone = match &spec.time_zone {
        Some(name) => TimeZone::get(name).map_err(|error| format!("time zone {name:?}: {error}"))?,
        None => TimeZone::UTC,
    };
    Ok((schedule, zone))
}

fn consider(
    plan: &mut Plan,
    cron: &CronJob,
    due: Timestamp,
    active: &mut Vec<Arc<Job>>,
    last: &mut Option<Timestamp>,
    now: Timestamp,
) {
    let spec = &cron.spec;
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(due) > deadline) {
        plan.warning = Some(("MissSchedule", format!("Missed scheduled time to start a job: {due}")));
        return;
    }
    match spec.concurrency_policy.as_deref() {
        // The end of what runs brings the key back.
        Some("Forbid") if !active.is_empty() => return,
        Some("Replace") => plan.delete.append(active),
        _ => {}
    }
    plan.start = Some(Box::new(job_for(cron, due)));
    *last = Some(due);
}

fn job_for(cron: &CronJob, due: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut job = Job { spec: template.spec, ..Job::default() };
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    // The same time always makes the same name: a second attempt finds the first.
    job.metadata.name = Some(format!("{name}-{}", due.as_second() / 60));
    job.metadata.namespace.clone_from(&cron.metadata.namespace);
    job.metadata.labels = meta.labels;
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(), due.to_string());
    job.metadata.annotations = Some(annotations);
    job.metadata.owner_references = Some(vec![controller_reference("batch/v1", "CronJob", &cron.metadata)]);
    job
}

/// Deletes the oldest ended Jobs beyond the limit.
fn forget(plan: &mut Plan, jobs: &[Arc<Job>], good: bool, limit: i32) {
    let mut ended: Vec<&Arc<Job>> =
        jobs.iter().filter(|job| end(job).is_some_and(|(well, _)| well == good)).collect();
    ended.sort_by_key(|job| (end(job).and_then(|(_, when)| when), job.metadata.name.clone()));
    let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    plan.delete.extend(ended.into_iter().take(excess).cloned());
}

fn changed_status(
    cron: &CronJob,
    jobs: &[Arc<Job>],
    active: &[Arc<Job>],
    last: Option<Timestamp>,
) -> Option<Value> {
    let present = cron.status.clone().unwrap_or_default();
    let successes =
        jobs.iter().filter_map(|job| end(job)).filter(|(well, _)| *well).filter_map(|(_, when)| when);
    let before = present.last_successful_time.as_ref().map(|time| time.0);
    let successful = successes.chain(before).max();
    let references: Vec<Value> = active
        .iter()
        .map(|job| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name,
                "namespace": job.metadata.namespace, "uid": job.metadata.uid})
        })
        .collect();
    let known = |status: &k8s_openapi::api::batch::v1::CronJobStatus| -> Vec<Option<String>> {
        status.active.iter().flatten().map(|own| own.uid.clone()).collect()
    };
    let uids: Vec<Option<String>> = active.iter().map(|job| job.metadata.uid.clone()).collect();
    let same = known(&present) == uids
        && present.last_schedule_time.as_ref().map(|time| time.0) == last
        && before == successful;
    (!same).then(|| {
        json!({"active": references, "lastScheduleTime": last.map(Time), "lastSuccessfulTime": successful.map(Time)})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(spec: Value) -> CronJob {
        let mut cron = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "c",
            "creationTimestamp": "2026-03-01T00:00:00Z"},
            "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}});
        for (key, value) in spec.as_object().cloned().unwrap_or_default() {
            cron["spec"][key] = value;
        }
        serde_json::from_value(cron).expect("a CronJob")
    }

    fn job(name: &str, ended: Option<(&str, &str)>) -> Arc<Job> {
        let conditions: Vec<Value> = ended
            .iter()
            .map(|(kind, when)| json!({"type": kind, "status": "True", "lastTransitionTime": when}))
            .collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
                "spec": {"template": {}}, "status": {"conditions": conditions}}))
            .expect("a Job"),
        )
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn starts_once_per_time_and_looks_again_at_the_next() {
        let mut cron = cron(json!({}));
        let now = at("2026-03-01T05:20:00Z");
        let first = plan(&cron, &[], now);
        let started = first.start.expect("starts");
        assert_eq!(started.metadata.name, Some(format!("c-{}", at("2026-03-01T05:00:00Z").as_second() / 60)));
        assert_eq!(first.look_again, Some(SignedDuration::from_mins(40)));
        cron.status = serde_json::from_value(first.status.expect("changes")).ok();
        assert!(plan(&cron, &[Arc::new(*started)], now).start.is_none());
    }

    #[test]
    fn policies_and_deadlines() {
        let now = at("2026-03-01T05:20:00Z");
        let busy = [job("old", None)];
        assert!(plan(&cron(json!({"concurrencyPolicy": "Forbid"})), &busy, now).start.is_none());
        let replace = plan(&cron(json!({"concurrencyPolicy": "Replace"})), &busy, now);
        assert!(replace.start.is_some() && replace.delete.len() == 1);
        let late = plan(&cron(json!({"startingDeadlineSeconds": 60})), &[], now);
        assert!(late.start.is_none());
        assert_eq!(late.warning.map(|(reason, _)| reason), Some("MissSchedule"));
        assert!(plan(&cron(json!({"suspend": true})), &[], now).start.is_none());
    }

    #[test]
    fn history_is_bounded() {
        let jobs: Vec<_> = (0..5)
            .map(|hour| job(&format!("j{hour}"), Some(("Complete", &format!("2026-03-01T0{hour}:00:00Z")))))
            .collect();
        let plan = plan(&cron(json!({"suspend": true})), &jobs, at("2026-03-01T05:20:00Z"));
        let names: Vec<_> = plan.delete.iter().filter_map(|job| job.metadata.name.as_deref()).collect();
        assert_eq!(names, ["j0", "j1"]);
        assert_eq!(plan.status.expect("changes")["lastSuccessfulTime"], "2026-03-01T04:00:00Z");
    }
}
