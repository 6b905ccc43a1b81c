//! What single results mean together: attempts make a step, steps a cluster, clusters a run.

use fleet_objects::test_run::{
    AttemptResult, ClusterResult, JunitSummary, Outcome, SUCCEEDED, StepResult, TestCounts, TestRunStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::collect::{Collected, Skipped};
use crate::junit::add_counts;
use crate::plan::{CANCELLED, PlannedStep};
use crate::read;

/// What was taken out of a pod, or why nothing was.
pub type Collection = Result<(Vec<Collected>, Vec<Skipped>), String>;

/// Warnings an attempt keeps.
const MAX_WARNINGS: usize = 20;

/// Completes an attempt whose container ended by what its files say. A failing case fails the attempt whatever the exit
/// code; an attempt whose reports were lost on the way is not called passed.
#[must_use]
pub fn attempt(step: &PlannedStep, mut ended: AttemptResult, collection: &Collection) -> AttemptResult {
    if !step.collects() {
        return ended;
    }
    let (files, skipped) = match collection {
        Ok(whole) => whole,
        Err(reason) => {
            ended.warnings.push(format!("no files were collected: {reason}"));
            if !step.junit.is_empty() && ended.outcome == Outcome::Passed {
                ended.outcome = Outcome::NotRun;
                "ReportLost".clone_into(&mut ended.reason);
                ended.message =
                    format!("the step ended with exit code 0, but its JUnit report was lost: {reason}");
            }
            return ended;
        }
    };
    ended.artifacts = files.iter().map(|file| file.artifact.clone()).collect();
    ended.warnings.extend(skipped.iter().map(|file| format!("{} was not kept: {}", file.path, file.reason)));
    read_reports(step, &mut ended, files);
    ended.warnings.truncate(MAX_WARNINGS);
    ended
}

fn read_reports(step: &PlannedStep, ended: &mut AttemptResult, files: &[Collected]) {
    let mut summary = JunitSummary::default();
    let mut any = false;
    for file in files.iter().filter(|file| file.artifact.junit) {
        match read::report(&file.content) {
            Ok(report) => {
                any = true;
                report.add_to(&mut summary);
                let warnings =
                    report.warnings.iter().map(|warning| format!("{}: {warning}", file.artifact.path));
                ended.warnings.extend(warnings);
            }
            Err(error) => ended.warnings.push(format!("{}: {error}", file.artifact.path)),
        }
    }
    if !any && !step.junit.is_empty() {
        ended.warnings.push(format!("no test report at {}", step.junit.join(", ")));
    }
    if !any {
        return;
    }
    let wrong = summary.counts.failed + summary.counts.errors;
    if wrong > 0 && matches!(ended.outcome, Outcome::Passed | Outcome::Failed) {
        ended.outcome = Outcome::Failed;
        "CasesFailed".clone_into(&mut ended.reason);
        ended.message = match summary.failures.first() {
            Some(first) if wrong == 1 => format!("{} failed", first.name),
            Some(first) => format!("{} and {} more failed", first.name, wrong - 1),
            None => format!("{wrong} cases failed"),
        };
    }
    ended.junit = Some(summary);
}

/// Counts of a step: of its last attempt's cases, or the step itself where there is no report.
#[must_use]
pub fn step_counts(step: &StepResult) -> TestCounts {
    let last = step.attempts.last();
    let mut counts =
        last.and_then(|attempt| attempt.junit.as_ref()).map(|junit| junit.counts).unwrap_or_default();
    let told = counts.failed + counts.errors > 0;
    let any = told || counts.passed + counts.skipped > 0;
    match step.outcome {
        None => {}
        Some(Outcome::Passed) if any => {}
        Some(Outcome::Passed) => counts.passed += 1,
        Some(Outcome::Failed) if told => {}
        Some(Outcome::Failed) => counts.failed += 1,
        Some(Outcome::TimedOut | Outcome::NotRun) => counts.errors += 1,
        Some(Outcome::Skipped) => counts.skipped += 1,
    }
    counts
}

/// Recounts a cluster's result; with `finished`, also decides its outcome.
pub fn cluster(result: &mut ClusterResult, finished: bool) {
    let mut counts = TestCounts::default();
    for step in &result.steps {
        add_counts(&mut counts, step_counts(step));
    }
    result.counts = counts;
    if !finished {
        return;
    }
    let worst = result.steps.iter().filter(|step| !step.optional).max_by_key(|step| severity(step.outcome));
    let outcome = worst.and_then(|step| step.outcome).unwrap_or(Outcome::Passed);
    let outcome = if outcome == Outcome::Skipped { Outcome::Passed } else { outcome };
    result.outcome = Some(outcome);
    if outcome == Outcome::Passed {
        "Passed".clone_into(&mut result.reason);
        result.message.clear();
    } else if let Some((step, attempt)) = worst.and_then(|step| Some((step, step.attempts.last()?))) {
        result.reason.clone_from(&attempt.reason);
        result.message = format!("step {}: {}", step.name, attempt.message);
    }
}

/// What decides between steps or clusters: a known failure says more than something unknown.
fn severity(outcome: Option<Outcome>) -> u8 {
    match outcome {
        Some(Outcome::Passed | Outcome::Skipped) => 0,
        None | Some(Outcome::NotRun) => 1,
        Some(Outcome::TimedOut) => 2,
        Some(Outcome::Failed) => 3,
    }
}

/// A cluster in which nothing ran.
#[must_use]
pub fn not_run(cluster: &str, reason: &str, message: &str) -> ClusterResult {
    ClusterResult {
        cluster: cluster.to_owned(),
        outcome: Some(Outcome::NotRun),
        reason: reason.to_owned(),
        message: message.to_owned(),
        counts: TestCounts { errors: 1, ..TestCounts::default() },
        ..ClusterResult::default()
    }
}

/// How a whole run ended; `None` while a cluster has not.
#[must_use]
pub fn outcome(clusters: &[ClusterResult]) -> Option<Outcome> {
    if clusters.iter().any(|cluster| cluster.outcome.is_none()) {
        return None;
    }
    let worst = clusters.iter().max_by_key(|cluster| severity(cluster.outcome))?;
    worst.outcome
}

/// Recounts a run and writes its condition. `transition` is the time to use when the condition changes.
pub fn run(status: &mut TestRunStatus, generation: Option<i64>, transition: &Time) {
    status.clusters.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    let mut counts = TestCounts::default();
    for cluster in &status.clusters {
        add_counts(&mut counts, cluster.counts);
    }
    status.counts = counts;
    status.observed_generation = generation;
    let ended = status.clusters.iter().filter(|cluster| cluster.outcome.is_some()).count();
    let total = status.clusters.len();
    let (value, reason, message) = match outcome(&status.clusters) {
        _ if total == 0 => ("False", "NoClusters", "no cluster matches the targets".to_owned()),
        None => ("Unknown", "Running", format!("{ended} of {total} clusters have ended")),
        Some(Outcome::Passed | Outcome::Skipped) => ("True", "Passed", format!("passed in {total} clusters")),
        Some(Outcome::NotRun) => {
            let cancelled = status.clusters.iter().any(|cluster| cluster.reason == CANCELLED);
            let reason = if cancelled { CANCELLED } else { "NotRun" };
            ("False", reason, name_clusters(&status.clusters, Outcome::NotRun, "could not run in"))
        }
        Some(Outcome::TimedOut) => {
            ("False", "TimedOut", name_clusters(&status.clusters, Outcome::TimedOut, "timed out in"))
        }
        Some(Outcome::Failed) => {
            ("False", "Failed", name_clusters(&status.clusters, Outcome::Failed, "failed in"))
        }
    };
    set_condition(&mut status.conditions, value, reason, &message, generation, transition);
}

fn name_clusters(clusters: &[ClusterResult], outcome: Outcome, verb: &str) -> String {
    let names: Vec<_> =
        clusters.iter().filter(|c| c.outcome == Some(outcome)).map(|c| c.cluster.as_str()).collect();
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 10 {
        format!("{verb} {shown} and {} more", names.len() - 10)
    } else {
        format!("{verb} {shown}")
    }
}

/// Sets the `Succeeded` condition; its transition time changes only with its value.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    value: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: &Time,
) {
    let before = conditions.iter().find(|condition| condition.type_ == SUCCEEDED);
    let since = before.filter(|condition| condition.status == value).map(|c| c.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != SUCCEEDED);
    conditions.push(Condition {
        type_: SUCCEEDED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| now.clone()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_with(name: &str, outcome: Option<Outcome>) -> ClusterResult {
        ClusterResult { cluster: name.into(), outcome, ..Default::default() }
    }

    #[test]
    fn a_failure_outweighs_a_cluster_that_could_not_run() {
        let clusters = |outcomes: &[Option<Outcome>]| {
            outcomes.iter().map(|outcome| cluster_with("c", *outcome)).collect::<Vec<_>>()
        };
        let (passed, failed, not_run) = (Some(Outcome::Passed), Some(Outcome::Failed), Some(Outcome::NotRun));
        assert_eq!(outcome(&clusters(&[passed, not_run, failed])), failed);
        assert_eq!(outcome(&clusters(&[passed, not_run])), not_run);
        assert_eq!(outcome(&clusters(&[passed, passed])), passed);
        assert_eq!(outcome(&clusters(&[failed, None])), None);
    }

    fn planned(junit: bool) -> PlannedStep {
        PlannedStep {
            name: "unit".into(),
            image: "i".into(),
            command: vec![],
            args: vec![],
            env: vec![],
            working_dir: "/workspace".into(),
            timeout: std::time::Duration::from_secs(1),
            attempts: 1,
            optional: false,
            always: false,
            artifacts: vec!["*".into()],
            junit: if junit { vec!["*.xml".into()] } else { vec![] },
        }
    }

    fn ended(outcome: Outcome) -> AttemptResult {
        AttemptResult {
            attempt: 1,
            outcome,
            reason: "Completed".into(),
            message: String::new(),
            exit_code: Some(0),
            started_at: None,
            finished_at: None,
            junit: None,
            artifacts: vec![],
            warnings: vec![],
        }
    }

    fn file(path: &str, content: &str) -> Collected {
        let artifact = fleet_objects::test_run::Artifact {
            path: path.into(),
            sha256: crate::collect::digest(content.as_bytes()),
            size: content.len() as u64,
            junit: true,
        };
        Collected { artifact, content: content.into() }
    }

    #[test]
    fn a_failing_case_fails_a_step_that_exits_with_0() {
        let report = r#"<testsuite name="s"><testcase name="ok"/><testcase name="bad"><failure/></testcase></testsuite>"#;
        let result =
            attempt(&planned(true), ended(Outcome::Passed), &Ok((vec![file("r.xml", report)], vec![])));
        assert_eq!((result.outcome, result.reason.as_str()), (Outcome::Failed, "CasesFailed"));
        assert_eq!(result.message, "bad failed");
    }

    #[test]
    fn a_lost_report_is_not_a_pass_but_a_lost_artifact_is_only_a_warning() {
        let lost: Collection = Err("the collector cannot start".into());
        assert_eq!(attempt(&planned(true), ended(Outcome::Passed), &lost).outcome, Outcome::NotRun);
        let kept = attempt(&planned(false), ended(Outcome::Passed), &lost);
        assert_eq!((kept.outcome, kept.warnings.len()), (Outcome::Passed, 1));
    }

    #[test]
    fn optional_failures_do_not_decide() {
        let mut result = cluster_with("dev", None);
        result.steps = vec![
            StepResult { name: "a".into(), outcome: Some(Outcome::Failed), optional: true, attempts: vec![] },
            StepResult { name: "b".into(), outcome: Some(Outcome::Passed), ..Default::default() },
        ];
        cluster(&mut result, true);
        assert_eq!(result.outcome, Some(Outcome::Passed));
        assert_eq!(result.counts, TestCounts { passed: 1, failed: 1, errors: 0, skipped: 0 });
    }
}
