//! What single results mean together: attempts make a step, steps a cluster, clusters a run.

use fleet_objects::test_run::{
    AttemptResult, ClusterResult, JunitSummary, Outcome, SUCCEEDED, StepResult, TestCounts, TestRunStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::collect::{Collected, Skipped};
use crate::junit::add_counts;
use crate::plan::CANCELLED;
use crate::read;

/// What was taken out of a pod, or why nothing was.
pub type Collection = Result<(Vec<Collected>, Vec<Skipped>), String>;

/// Reason of an execution that waits for a place in its cluster.
pub const QUEUED: &str = "Queued";
/// Warnings an attempt keeps.
const MAX_WARNINGS: usize = 20;

/// Puts the files of a step into its last attempt, with what its reports say. `wanted`: the step says that it writes
/// reports.
pub fn files(step: &mut StepResult, wanted: bool, collection: &Collection) {
    let Some(ended) = step.attempts.last_mut() else { return };
    match collection {
        Ok((files, skipped)) => {
            ended.artifacts = files.iter().map(|file| file.artifact.clone()).collect();
            ended
                .warnings
                .extend(skipped.iter().map(|file| format!("{} was not kept: {}", file.path, file.reason)));
            read_reports(ended, wanted, files);
        }
        Err(reason) => {
            ended.warnings.push(format!("no files were collected: {reason}"));
            if wanted && ended.outcome == Outcome::Passed {
                ended.outcome = Outcome::NotRun;
                "ReportLost".clone_into(&mut ended.reason);
                ended.message =
                    format!("the step ended with exit code 0, but its JUnit report was lost: {reason}");
                step.outcome = Some(Outcome::NotRun);
            }
        }
    }
    if let Some(ended) = step.attempts.last_mut() {
        bound_warnings(&mut ended.warnings);
    }
}

/// The first of many, and how many there are.
fn bound_warnings(warnings: &mut Vec<String>) {
    if warnings.len() > MAX_WARNINGS {
        let more = warnings.len() + 1 - MAX_WARNINGS;
        warnings.truncate(MAX_WARNINGS - 1);
        warnings.push(format!("and {more} more"));
    }
}

fn read_reports(ended: &mut AttemptResult, wanted: bool, files: &[Collected]) {
    let mut summary = JunitSummary::default();
    let mut any = false;
    for file in files {
        // Reports are also looked for among the other files: whoever keeps them means them to be read.
        let likely = file.artifact.junit || (!wanted && file.artifact.path.ends_with(".xml"));
        match likely.then(|| read::report(&file.content)) {
            Some(Ok(report)) => {
                any = true;
                report.add_to(&mut summary);
                let warnings =
                    report.warnings.iter().map(|warning| format!("{}: {warning}", file.artifact.path));
                ended.warnings.extend(warnings);
            }
            Some(Err(error)) if file.artifact.junit => {
                ended.warnings.push(format!("{}: {error}", file.artifact.path));
            }
            _ => {}
        }
    }
    if any {
        ended.junit = Some(summary);
    } else if wanted {
        ended.warnings.push("no test report was found".to_owned());
    }
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
    // What a step is made of counts, not the step as well.
    let within: std::collections::BTreeSet<&str> =
        result.steps.iter().map(|step| step.parent.as_str()).collect();
    for step in result.steps.iter().filter(|step| !within.contains(step.name.as_str())) {
        add_counts(&mut counts, step_counts(step));
    }
    result.counts = counts;
    if !finished {
        return;
    }
    let top = result.steps.iter().filter(|step| !step.optional && step.parent.is_empty());
    let worst = top.max_by_key(|step| severity(step.outcome));
    let outcome = worst.and_then(|step| step.outcome).unwrap_or(Outcome::Passed);
    let outcome = if outcome == Outcome::Skipped { Outcome::Passed } else { outcome };
    result.outcome = Some(outcome);
    if outcome == Outcome::Passed {
        "Passed".clone_into(&mut result.reason);
        result.message.clear();
    } else if let Some(worst) = worst {
        let told = first_failure(&result.steps, worst);
        if let Some(attempt) = told.attempts.last() {
            result.reason.clone_from(&attempt.reason);
            result.message = format!("step {}: {}", told.name, attempt.message);
        } else {
            outcome_word(outcome).clone_into(&mut result.reason);
            result.message = format!("step {}", told.name);
        }
    }
}

/// The step that a step's failure comes from: itself, or the worst within it.
fn first_failure<'a>(steps: &'a [StepResult], step: &'a StepResult) -> &'a StepResult {
    let within = steps.iter().filter(|own| own.parent == step.name && !own.optional && own.name != step.name);
    let worst = within.filter(|own| severity(own.outcome) > 0).max_by_key(|own| severity(own.outcome));
    // A parent that names itself would never end; names are unique, so the chain is at most as long as the list.
    worst.map_or(step, |worst| first_failure(steps, worst))
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "Passed",
        Outcome::Failed => "Failed",
        Outcome::TimedOut => "TimedOut",
        Outcome::Skipped => "Skipped",
        Outcome::NotRun => "NotRun",
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
        None => {
            let waits = |cluster: &&ClusterResult| cluster.outcome.is_none() && cluster.reason == QUEUED;
            match status.clusters.iter().filter(waits).count() {
                0 => ("Unknown", "Running", format!("{ended} of {total} clusters have ended")),
                queued => {
                    let reason = if queued + ended == total { QUEUED } else { "Running" };
                    (
                        "Unknown",
                        reason,
                        format!("{ended} of {total} clusters have ended; it waits in {queued}"),
                    )
                }
            }
        }
        Some(_) if status.clusters.iter().all(|cluster| cluster.outcome == Some(Outcome::Skipped)) => {
            let message = status.clusters.iter().map(|cluster| cluster.message.as_str()).next();
            ("True", "Skipped", format!("left out in {total} clusters: {}", message.unwrap_or_default()))
        }
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
            ..Default::default()
        };
        Collected { artifact, content: content.into(), held: false }
    }

    fn step(outcome: Outcome) -> StepResult {
        StepResult {
            name: "unit".into(),
            outcome: Some(outcome),
            attempts: vec![ended(outcome)],
            ..Default::default()
        }
    }

    #[test]
    fn reports_are_read_whether_they_are_called_so_or_not() {
        let report = r#"<testsuite name="s"><testcase name="ok"/><testcase name="bad"><failure/></testcase></testsuite>"#;
        let mut kept = file("out/r.xml", report);
        kept.artifact.junit = false;
        let mut result = step(Outcome::Failed);
        files(&mut result, false, &Ok((vec![kept, file("r.txt", "x")], vec![])));
        let junit = result.attempts[0].junit.as_ref().expect("read");
        assert_eq!((junit.counts.passed, junit.counts.failed), (1, 1));
    }

    #[test]
    fn a_lost_report_is_not_a_pass_but_a_lost_artifact_is_only_a_warning() {
        let lost: Collection = Err("the collector cannot start".into());
        let mut result = step(Outcome::Passed);
        files(&mut result, true, &lost);
        assert_eq!((result.outcome, result.attempts[0].outcome), (Some(Outcome::NotRun), Outcome::NotRun));
        let mut kept = step(Outcome::Passed);
        files(&mut kept, false, &lost);
        assert_eq!((kept.outcome, kept.attempts[0].warnings.len()), (Some(Outcome::Passed), 1));
    }

    #[test]
    fn a_group_decides_and_its_steps_count() {
        let mut result = cluster_with("dev", None);
        let inner =
            |name: &str, outcome| StepResult { name: name.into(), parent: "g".into(), ..step(outcome) };
        result.steps = vec![
            StepResult { name: "g".into(), outcome: Some(Outcome::Passed), ..Default::default() },
            inner("a", Outcome::Failed),
            inner("b", Outcome::Passed),
        ];
        cluster(&mut result, true);
        assert_eq!(result.outcome, Some(Outcome::Passed));
        assert_eq!((result.counts.passed, result.counts.failed), (1, 1));
        result.steps[0].outcome = Some(Outcome::Failed);
        cluster(&mut result, true);
        assert_eq!((result.outcome, result.message.as_str()), (Some(Outcome::Failed), "step a: "));
    }

    #[test]
    fn optional_failures_do_not_decide() {
        let mut result = cluster_with("dev", None);
        result.steps = vec![
            StepResult {
                name: "a".into(),
                outcome: Some(Outcome::Failed),
                optional: true,
                ..Default::default()
            },
            StepResult { name: "b".into(), outcome: Some(Outcome::Passed), ..Default::default() },
        ];
        cluster(&mut result, true);
        assert_eq!(result.outcome, Some(Outcome::Passed));
        assert_eq!(result.counts, TestCounts { passed: 1, failed: 1, errors: 0, skipped: 0 });
    }
}
