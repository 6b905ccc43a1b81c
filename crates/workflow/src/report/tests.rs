use fleet_objects::test_run::{AttemptResult, FailedCase, JunitSummary, Outcome, TestCounts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::junit::{Case, CaseOutcome};

fn at(second: i64) -> Option<Time> {
    jiff::Timestamp::from_second(1_700_000_000 + second).ok().map(Time)
}

fn attempt(number: u32, outcome: Outcome, seconds: i64, failures: &[&str]) -> AttemptResult {
    let failures: Vec<_> = failures
        .iter()
        .map(|name| FailedCase {
            class_name: "api".into(),
            name: (*name).to_owned(),
            message: format!("{name} <wrong> after 17ms"),
            ..FailedCase::default()
        })
        .collect();
    AttemptResult {
        attempt: number,
        outcome,
        reason: "Completed".into(),
        message: if outcome == Outcome::Passed { String::new() } else { "exit code 1".into() },
        exit_code: Some(i32::from(outcome != Outcome::Passed)),
        started_at: at(0),
        finished_at: at(seconds),
        junit: Some(JunitSummary {
            counts: TestCounts { passed: 2, failed: failures.len() as u32, ..TestCounts::default() },
            failures,
            omitted: 0,
        }),
        artifacts: Vec::new(),
        warnings: Vec::new(),
    }
}

fn cluster(name: &str, attempts: Vec<AttemptResult>) -> ClusterResult {
    let outcome = attempts.last().map(|attempt| attempt.outcome);
    let step = StepResult { name: "unit".into(), outcome, attempts, ..StepResult::default() };
    let mut result = ClusterResult {
        cluster: name.into(),
        started_at: at(0),
        finished_at: at(9),
        steps: vec![step],
        ..ClusterResult::default()
    };
    fold::cluster(&mut result, true);
    result
}

fn status(clusters: Vec<ClusterResult>) -> TestRunStatus {
    let mut status = TestRunStatus { clusters, ..TestRunStatus::default() };
    fold::run(&mut status, Some(1), &Time(jiff::Timestamp::UNIX_EPOCH));
    status
}

/// Passes in `dev` at the second attempt, fails in `eu` and `us` alike; nothing ran in `gone`.
fn mixed() -> TestRunStatus {
    status(vec![
        cluster("dev", vec![attempt(1, Outcome::Failed, 2, &["b"]), attempt(2, Outcome::Passed, 3, &[])]),
        cluster("eu", vec![attempt(1, Outcome::Failed, 5, &["b"])]),
        cluster("us", vec![attempt(1, Outcome::Failed, 5, &["b"])]),
        fold::not_run("gone", "Disconnected", "its agent is away"),
    ])
}

/// What `dev`'s file says; those of the others have not arrived.
fn cases() -> Cases {
    let case = |name: &str| Case {
        suite: "s".into(),
        class_name: "api".into(),
        name: name.into(),
        seconds: 0.25,
        outcome: CaseOutcome::Passed,
    };
    let report = Report { cases: vec![case("a"), case("b")], warnings: Vec::new() };
    Cases { reports: vec![("dev".into(), "unit".into(), 2, report)] }
}

#[test]
fn every_format_tells_the_same_run() {
    let (status, cases) = (mixed(), cases());
    insta::assert_snapshot!("junit", junit("smoke-1", &status, &cases));
    insta::assert_snapshot!("ctrf", ctrf::report("smoke-1", "uid", &status, &cases));
    insta::assert_snapshot!("html", html::report("smoke-1", &status, &cases));
    insta::assert_snapshot!(
        "cdevents",
        cdevents::lines("smoke-1", "uid", "smoke", "/fairlead", &status, &cases)
    );
    insta::assert_snapshot!("github", github::summary("smoke-1", &status));
}

#[test]
fn ctrf_counts_what_it_lists_and_reads_back() {
    let text = ctrf::report("smoke-1", "uid", &mixed(), &cases());
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let (summary, tests) = (&document["results"]["summary"], &document["results"]["tests"]);
    assert_eq!(summary["tests"], tests.as_array().expect("a list").len());
    let read = crate::read::report(text.as_bytes()).expect("own output").counts();
    assert_eq!(
        (summary["passed"].as_u64(), summary["failed"].as_u64()),
        (Some(read.passed.into()), Some(read.failed.into()))
    );
}

#[test]
fn the_same_case_stands_side_by_side() {
    let all = told::all("smoke-1", &mixed(), &cases());
    let clusters = ["dev", "eu", "us"].map(str::to_owned);
    let rows = side_by_side::rows(&all);
    let differing: Vec<_> =
        rows.iter().filter(|row| side_by_side::differs(row, &clusters)).cloned().collect();
    insta::assert_snapshot!("side_by_side", side_by_side::table(&differing, &clusters));
    let alike = side_by_side::alike(&all);
    assert_eq!(
        (alike[0].case.as_str(), alike[0].clusters.as_slice()),
        ("unit.api b", &["eu".to_owned(), "us".to_owned()][..])
    );
    assert_eq!(alike.len(), 2, "the cluster where nothing ran is a group of its own");
}

#[test]
fn two_runs_are_compared_case_by_case() {
    let case = |cluster: &str, name: &str, seconds: f64, wrong: Option<&str>| told::Told {
        cluster: cluster.into(),
        step: "unit".into(),
        attempts: 1,
        case: Case {
            suite: String::new(),
            class_name: "unit".into(),
            name: name.into(),
            seconds,
            outcome: wrong
                .map_or(CaseOutcome::Passed, |message| CaseOutcome::Failed { message: message.into() }),
        },
    };
    let before = [
        case("dev", "a", 1.0, None),
        case("dev", "b", 1.0, Some("port 80 refused\nsame")),
        case("dev", "c", 1.0, Some("timeout after 31s")),
        case("dev", "d", 1.0, Some("wrong")),
        case("dev", "e", 1.0, None),
        case("dev", "f", 1.0, None),
    ];
    let after = [
        case("dev", "a", 1.0, Some("now wrong")),
        case("dev", "b", 1.0, Some("no such host\nsame")),
        case("dev", "c", 1.0, Some("timeout after 32s")),
        case("dev", "d", 1.0, None),
        case("dev", "e", 4.0, None),
        case("eu", "f", 1.0, None),
    ];
    insta::assert_snapshot!("compare", compare::table(&compare::runs(&before, &after)));
    assert_eq!(
        compare::table(&compare::runs(&before, &before)).lines().count(),
        4,
        "what still fails is told"
    );
    assert_eq!(compare::runs(&before[..1], &before[..1]), []);
}

#[test]
fn history_tells_flaky_from_broken() {
    let run = |outcome, seconds, failures: &[&str]| {
        status(vec![cluster("dev", vec![attempt(1, outcome, seconds, failures)])])
    };
    let (good, bad) = (run(Outcome::Passed, 2, &[]), run(Outcome::Failed, 2, &["b"]));
    let slow = run(Outcome::Passed, 6, &[]);
    let flaky = history::entries(&[&good, &bad, &good, &bad, &slow]);
    assert!(flaky.iter().all(history::Entry::is_flaky), "{flaky:?}");
    assert_eq!((flaky[0].runs, flaky[0].failed, flaky[0].flips), (5, 2, 4));
    insta::assert_snapshot!("history", history::table(&flaky));
    let broken = history::entries(&[&good, &good, &bad, &bad]);
    assert!(!broken.iter().any(history::Entry::is_flaky), "{broken:?}");
    // Passing only when tried again is flaky, even if it never failed a run.
    let retried = status(vec![cluster(
        "dev",
        vec![attempt(1, Outcome::Failed, 1, &["b"]), attempt(2, Outcome::Passed, 1, &[])],
    )]);
    let all = history::entries(&[&retried]);
    assert!(all.iter().all(|entry| entry.is_flaky() && entry.failed == 0), "{all:?}");
}
