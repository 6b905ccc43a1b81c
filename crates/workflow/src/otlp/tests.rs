use fleet_objects::test_run::{TestRunSpec, TestRunStatus, WorkflowReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::metrics::{Meters, Now};
use super::*;

fn at(second: i64) -> Option<Time> {
    Some(Time(Timestamp::from_second(second).expect("a time")))
}

fn run() -> TestRun {
    let attempt = |attempt, outcome, from, to| AttemptResult {
        attempt,
        outcome,
        reason: "ExitCode".into(),
        message: "exit code 1".into(),
        exit_code: Some(1),
        started_at: at(from),
        finished_at: at(to),
        junit: None,
        artifacts: Vec::new(),
        warnings: Vec::new(),
    };
    let step = StepResult {
        name: "check".into(),
        outcome: Some(Outcome::Failed),
        attempts: vec![attempt(1, Outcome::Failed, 11, 12), attempt(2, Outcome::Failed, 12, 20)],
        ..StepResult::default()
    };
    let cluster = ClusterResult {
        cluster: "dev".into(),
        outcome: Some(Outcome::Failed),
        started_at: at(10),
        finished_at: at(21),
        steps: vec![step],
        ..ClusterResult::default()
    };
    let workflow_ref = Some(WorkflowReference { name: "smoke".into() });
    let mut run = TestRun::new("smoke-1", TestRunSpec { workflow_ref, ..TestRunSpec::default() });
    run.metadata.uid = Some("u1".into());
    run.metadata.creation_timestamp = at(8);
    run.status = Some(TestRunStatus { clusters: vec![cluster], ..TestRunStatus::default() });
    run
}

fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let all = of["attributes"].as_array().expect("attributes");
    &all.iter().find(|own| own["key"] == key).expect(key)["value"]["stringValue"]
}

#[test]
fn a_run_is_one_trace_whenever_it_is_told() {
    let sender = Sender { version: "1".into(), instance: "hub".into() };
    let told = trace(&run(), &sender).expect("it has ended");
    assert_eq!(Some(&told), trace(&run(), &sender).as_ref());
    let spans = told["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["RUN smoke", "dev", "check", "check"]);
    assert!(spans.iter().all(|span| span["traceId"] == spans[0]["traceId"]));
    assert_eq!((spans[0]["kind"].clone(), spans[2]["kind"].clone()), (json!(2), json!(1)));
    assert_eq!(spans[2]["parentSpanId"], spans[1]["spanId"]);
    assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
    assert_eq!(attribute(&spans[0], "cicd.pipeline.result"), "failure");
    assert_eq!(attribute(&spans[3], "cicd.pipeline.task.run.result"), "failure");
    assert_eq!(spans[3]["endTimeUnixNano"], "20000000000");
    assert_eq!(spans[0]["traceId"].as_str().map(str::len), Some(32));
    let mut open = run();
    open.status.as_mut().expect("a status").clusters[0].outcome = None;
    assert_eq!(trace(&open, &sender), None);
}

#[test]
fn durations_are_counted_by_state_and_result() {
    let mut meters = Meters::new(Timestamp::UNIX_EPOCH);
    meters.ended(&run());
    meters.ended(&run());
    let now = Now { active: [("other".to_owned(), (1, 2))].into(), workers: [1, 2, 3] };
    let told = meters.document(&Sender::default(), Timestamp::from_second(60).expect("a time"), &now);
    let metrics =
        told["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics").clone();
    let points = metrics[0]["histogram"]["dataPoints"].as_array().expect("points").clone();
    let told: Vec<_> = points
        .iter()
        .map(|point| {
            (
                attribute(point, "cicd.pipeline.run.state").clone(),
                point["sum"].clone(),
                point["count"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("executing".into(), json!(22.0), json!("2")), ("pending".into(), json!(4.0), json!("2"))]
    );
    assert_eq!(metrics[0]["name"], "cicd.pipeline.run.duration");
    assert_eq!(metrics[1]["sum"]["dataPoints"], json!([]), "a failure is no error");
    assert_eq!(metrics[3]["sum"]["dataPoints"][2]["asInt"], "3");
}
