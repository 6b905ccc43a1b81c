use fleet_objects::test_run::{RunReference, TestExecutionSpec};

use super::*;

fn planned(text: &str) -> ExecutionPlan {
    let spec = TestExecutionSpec {
        run: RunReference::default(),
        cluster: "dev".into(),
        workflow: serde_saphyr::from_str(text).expect("a workflow"),
        variables: BTreeMap::new(),
        config: BTreeMap::new(),
        cancel: false,
        pause: None,
    };
    crate::plan::execution(&spec).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a plan: steps whose script is `fail` fail, as do those that `fail <n>` tells on their n-th asking.
fn run(plan: &ExecutionPlan) -> (Vec<String>, Option<Outcome>) {
    let mut progress = Progress::default();
    let mut told = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let begins = begins(plan, &progress, index, &NoMachine).expect("no machine is needed");
        let fails = step.args.iter().any(|word| word == "fail");
        let outcome = match (begins, fails) {
            (false, _) => Outcome::Skipped,
            (true, fails) => {
                let own = if fails { Outcome::Failed } else { Outcome::Passed };
                if step.negative { inverted(own) } else { own }
            }
        };
        told.push(format!("{} {}", step.name, word(outcome)));
        progress.ended.insert(index, outcome);
    }
    (told, outcome(plan, &progress))
}

const IMAGE: &str = "container: {image: i}\n";

fn told(steps: &str) -> (String, Option<Outcome>) {
    let (told, outcome) = run(&planned(&format!("{IMAGE}{steps}")));
    (told.join(", "), outcome)
}

#[test]
fn a_failure_leaves_out_what_follows_but_after_and_always() {
    let (steps, outcome) = told(
        "steps: [{name: a, shell: fail}, {name: b, shell: ok}, {name: c, shell: ok, always: true}, {name: d, shell: ok, condition: failed}]\nafter: [{name: e, shell: ok}]\n",
    );
    assert_eq!(steps, "a failed, b skipped, c passed, d passed, e passed");
    assert_eq!(outcome, Some(Outcome::Failed));
}

#[test]
fn optional_and_negative_change_what_counts() {
    let (steps, outcome) = told(
        "steps: [{name: a, shell: fail, optional: true}, {name: b, shell: fail, negative: true}, {name: c, shell: ok}]\n",
    );
    assert_eq!(steps, "a failed, b passed, c passed");
    assert_eq!(outcome, Some(Outcome::Passed));
    let (_, outcome) = told("steps: [{name: a, shell: ok, negative: true}]\n");
    assert_eq!(outcome, Some(Outcome::Failed));
}

#[test]
fn groups_pass_and_fail_as_a_whole() {
    let (steps, outcome) = told(
        "steps: [{name: g, negative: true, steps: [{name: a, shell: fail}, {name: b, shell: ok}]}, {name: o, optional: true, steps: [{name: c, shell: fail}]}, {name: d, shell: ok}, {name: s, condition: never, steps: [{name: e, shell: fail, always: true}]}]\n",
    );
    assert_eq!(steps, "a failed, b skipped, c failed, d passed, e skipped");
    assert_eq!(outcome, Some(Outcome::Passed));
}

#[test]
fn a_group_is_repeated_until_it_passes() {
    let (steps, outcome) =
        told("steps: [{name: g, retry: {count: 2}, steps: [{name: a, shell: ok}]}, {name: z, shell: ok}]\n");
    assert_eq!(steps, "a passed, a-2 skipped, a-3 skipped, z passed");
    assert_eq!(outcome, Some(Outcome::Passed));
    let (steps, outcome) = told(
        "steps: [{name: g, retry: {count: 1}, steps: [{name: a, shell: fail}]}, {name: z, shell: ok}]\n",
    );
    assert_eq!(steps, "a failed, a-2 failed, z skipped");
    assert_eq!(outcome, Some(Outcome::Failed));
}

#[test]
fn pods_hold_steps_until_something_needs_one_of_its_own() {
    let plan = planned(&format!(
        "{IMAGE}steps: [{{name: a, shell: ok}}, {{name: b, shell: ok}}, {{name: p, parallel: {{count: 2, steps: [{{shell: ok}}]}}}}, {{name: w, shell: ok, paused: true}}, {{name: c, image: own}}]\n"
    ));
    let mut progress = Progress::default();
    let no = |_: usize| false;
    assert_eq!(next(&plan, &progress, &no), Next::Pod(0, 2));
    progress.ended.extend([(0, Outcome::Passed), (1, Outcome::Passed)]);
    assert_eq!(next(&plan, &progress, &no), Next::Parallel(2));
    progress.ended.insert(2, Outcome::Passed);
    assert_eq!(next(&plan, &progress, &no), Next::Wait(3));
    assert_eq!(next(&plan, &progress, &|_| true), Next::Pod(3, 5));
    progress.ended.insert(3, Outcome::Failed);
    assert_eq!(next(&plan, &progress, &no), Next::Skip(4));
    progress.ended.insert(4, Outcome::Skipped);
    assert_eq!(next(&plan, &progress, &no), Next::Finish);
}

#[test]
fn a_message_fits_what_a_pod_leaves_for_it() {
    let attempt = AttemptMessage {
        outcome: Outcome::Failed,
        code: Some(1),
        start: 123_456,
        duration: 65_432,
        reason: String::new(),
        message: String::new(),
    };
    let message =
        StepMessage { attempts: vec![attempt; 20], outcome: Some(Outcome::Failed), ..StepMessage::default() };
    let text = message.clone().fitted(4);
    assert_eq!(serde_json::from_str::<StepMessage>(&text).expect("reads back"), message);
    let text = StepMessage { why: "x".repeat(100), ..message }.fitted(64);
    assert!(text.len() <= 192, "{} {text}", text.len());
    let read: StepMessage = serde_json::from_str(&text).expect("reads back");
    assert_eq!(usize::try_from(read.dropped).expect("small") + read.attempts.len(), 20);
}
