//! Every case of a run, one by one: from the collected files where there are any, else from what the status names.

use fleet_objects::test_run::{ClusterResult, Outcome, StepResult, TestRunStatus};

use super::{Cases, seconds};
use crate::junit::{Case, CaseOutcome};

/// One case in one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Where.
    pub cluster: String,
    /// Which step told it; empty where nothing ran.
    pub step: String,
    /// How often the step was tried.
    pub attempts: usize,
    /// The case; its class begins with the step's name.
    pub case: Case,
}

/// What became of a case, without why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed, broke or could not run.
    Failed,
    /// It was left out.
    Skipped,
}

impl Verdict {
    /// The word for tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

impl Told {
    /// What became of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.case.outcome {
            CaseOutcome::Passed => Verdict::Passed,
            CaseOutcome::Skipped { .. } => Verdict::Skipped,
            CaseOutcome::Failed { .. } | CaseOutcome::Error { .. } => Verdict::Failed,
        }
    }

    /// Why; empty when it passed.
    #[must_use]
    pub fn message(&self) -> &str {
        match &self.case.outcome {
            CaseOutcome::Passed => "",
            CaseOutcome::Failed { message }
            | CaseOutcome::Error { message }
            | CaseOutcome::Skipped { message } => message,
        }
    }

    /// By what the same case is found in other clusters and runs.
    #[must_use]
    pub fn key(&self) -> (String, String) {
        (self.case.class_name.clone(), self.case.name.clone())
    }
}

/// All cases, clusters and steps in the run's order.
#[must_use]
pub fn all(run: &str, status: &TestRunStatus, cases: &Cases) -> Vec<Told> {
    status.clusters.iter().flat_map(|cluster| of_cluster(run, cluster, cases)).collect()
}

fn of_cluster(run: &str, cluster: &ClusterResult, cases: &Cases) -> Vec<Told> {
    if cluster.steps.is_empty() {
        let message = format!("{}: {}", cluster.reason, cluster.message);
        let case = Case {
            suite: cluster.cluster.clone(),
            class_name: run.to_owned(),
            name: "run".to_owned(),
            seconds: 0.0,
            outcome: outcome(cluster.outcome, &message),
        };
        return vec![Told { cluster: cluster.cluster.clone(), step: String::new(), attempts: 0, case }];
    }
    cluster.steps.iter().flat_map(|step| of_step(cluster, step, cases)).collect()
}

fn of_step(cluster: &ClusterResult, step: &StepResult, cases: &Cases) -> Vec<Told> {
    // A group ran nothing itself: its steps tell what it did.
    let ended = !matches!(step.outcome, None | Some(Outcome::Skipped));
    if step.attempts.is_empty() && ended {
        return Vec::new();
    }
    let last = step.attempts.last().map_or(0, |attempt| attempt.attempt);
    let found = cases
        .reports
        .iter()
        .filter(|(name, of, attempt, _)| *name == cluster.cluster && *of == step.name && *attempt == last);
    let mut all: Vec<Case> = found.flat_map(|(.., file)| file.cases.iter().cloned()).collect();
    for case in &mut all {
        case.class_name = class(&step.name, case);
    }
    let wrong = |case: &Case| !matches!(case.outcome, CaseOutcome::Passed | CaseOutcome::Skipped { .. });
    // The step itself is a case where its files do not say how it ended.
    let quiet = step.outcome == Some(Outcome::Passed) && !all.is_empty();
    if !quiet && !all.iter().any(wrong) {
        all.extend(step_cases(step));
    }
    let told = |case| Told {
        cluster: cluster.cluster.clone(),
        step: step.name.clone(),
        attempts: step.attempts.len(),
        case,
    };
    all.into_iter().map(told).collect()
}

fn class(step: &str, case: &Case) -> String {
    let class = if case.class_name.is_empty() { &case.suite } else { &case.class_name };
    if class.is_empty() { step.to_owned() } else { format!("{step}.{class}") }
}

/// A step told without its files: the failed cases that its summary names, or the step as one case.
fn step_cases(step: &StepResult) -> Vec<Case> {
    let last = step.attempts.last();
    let named = last.and_then(|attempt| attempt.junit.as_ref()).map(|junit| junit.failures.as_slice());
    if let Some(failures) = named.filter(|failures| !failures.is_empty()) {
        return failures
            .iter()
            .map(|failed| {
                let mut case = Case {
                    suite: failed.suite.clone(),
                    class_name: failed.class_name.clone(),
                    name: failed.name.clone(),
                    seconds: 0.0,
                    outcome: CaseOutcome::Failed { message: failed.message.clone() },
                };
                case.class_name = class(&step.name, &case);
                case
            })
            .collect();
    }
    let message = last.map(|attempt| format!("{}: {}", attempt.reason, attempt.message)).unwrap_or_default();
    vec![Case {
        suite: String::new(),
        class_name: step.name.clone(),
        name: "step".to_owned(),
        seconds: seconds(step).unwrap_or(0.0),
        outcome: outcome(step.outcome, &message),
    }]
}

fn outcome(outcome: Option<Outcome>, message: &str) -> CaseOutcome {
    let message = message.trim_matches([':', ' ']).to_owned();
    match outcome {
        Some(Outcome::Passed) => CaseOutcome::Passed,
        Some(Outcome::Failed) => CaseOutcome::Failed { message },
        Some(Outcome::Skipped) => CaseOutcome::Skipped { message },
        Some(Outcome::TimedOut | Outcome::NotRun) => CaseOutcome::Error { message },
        None => CaseOutcome::Error { message: "has not ended".to_owned() },
    }
}
