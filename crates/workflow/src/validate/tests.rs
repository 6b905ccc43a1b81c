use fleet_objects::test_run::TestTargets;
use fleet_objects::test_workflow::RetryPolicy;

use super::*;

fn step(name: &str) -> TestStep {
    TestStep { name: name.into(), image: "busybox".into(), ..TestStep::default() }
}

#[test]
fn a_plain_workflow_is_valid() {
    let spec = TestWorkflowSpec { steps: vec![step("unit"), step("load")], ..Default::default() };
    assert_eq!(workflow(&spec, "spec"), Ok(()));
}

#[test]
fn every_mistake_is_named_with_its_field() {
    let bad = TestStep {
        name: "Not A Name".into(),
        image: "a b".into(),
        condition: Some("passd".into()),
        timeout: Some("10".into()),
        retry: Some(RetryPolicy { count: 99, until: None }),
        artifacts: vec!["".into(), "a[".into()],
        ..TestStep::default()
    };
    let spec = TestWorkflowSpec {
        variables: [("1x".to_owned(), String::new()), ("FAIRLEAD_RUN".to_owned(), String::new())].into(),
        steps: vec![step("a"), step("a"), bad],
        ..Default::default()
    };
    let Err(Invalid(errors)) = workflow(&spec, "spec") else { panic!("must be invalid") };
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.variables.1x",
            "spec.variables.FAIRLEAD_RUN",
            "spec.steps[1].name",
            "spec.steps[2].name",
            "spec.steps[2].image",
            "spec.steps[2].condition",
            "spec.steps[2].timeout",
            "spec.steps[2].retry.count",
            "spec.steps[2].artifacts[0]",
            "spec.steps[2].artifacts[1]",
        ]
    );
}

#[test]
fn a_run_needs_one_workflow_and_a_target() {
    let Err(Invalid(errors)) = run(&TestRunSpec::default()) else { panic!("must be invalid") };
    assert_eq!(errors.len(), 2, "{errors:?}");
    let good = TestRunSpec {
        workflow: Some(TestWorkflowSpec { steps: vec![step("a")], ..Default::default() }),
        targets: TestTargets { all: true, ..Default::default() },
        ..Default::default()
    };
    assert_eq!(run(&good), Ok(()));
    let typo = TestRunSpec { variables: [("URl".to_owned(), String::new())].into(), ..good };
    assert!(run(&typo).is_err());
}
