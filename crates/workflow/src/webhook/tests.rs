use fleet_objects::test_run::{ClusterResult, TestRunSpec, TestRunStatus, WorkflowReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).expect("a time"))
}

fn run(outcome: Option<Outcome>) -> TestRun {
    let workflow_ref = Some(WorkflowReference { name: "smoke".into() });
    let mut run = TestRun::new("smoke-1", TestRunSpec { workflow_ref, ..TestRunSpec::default() });
    run.metadata.namespace = Some("default".into());
    run.metadata.uid = Some("u1".into());
    let cluster = ClusterResult {
        cluster: "dev".into(),
        outcome,
        reason: "ExitCode".into(),
        message: "step a: exit code 1".into(),
        started_at: Some(at(10)),
        finished_at: outcome.map(|_| at(25)),
        ..ClusterResult::default()
    };
    let mut status = TestRunStatus { clusters: vec![cluster], ..TestRunStatus::default() };
    fold::run(&mut status, Some(1), &at(26));
    run.status = Some(status);
    run
}

#[test]
fn events_follow_from_the_run_and_the_one_before() {
    use WebhookEvent::{BecomeFailed, BecomePassed, End as Ended, EndFailed, EndPassed, Start};
    let (passed, failed) = (Some(End::Passed), Some(End::Failed));
    for (outcome, before, expected) in [
        (None, None, vec![Start]),
        (Some(Outcome::Passed), None, vec![Start, Ended, EndPassed]),
        (Some(Outcome::Passed), passed, vec![Start, Ended, EndPassed]),
        (Some(Outcome::Passed), failed, vec![Start, Ended, EndPassed, BecomePassed]),
        (Some(Outcome::Failed), None, vec![Start, Ended, EndFailed, BecomeFailed]),
        (Some(Outcome::TimedOut), passed, vec![Start, Ended, EndFailed, BecomeFailed]),
        (Some(Outcome::Failed), failed, vec![Start, Ended, EndFailed]),
        (Some(Outcome::Skipped), failed, vec![Start, Ended]),
    ] {
        let told: Vec<_> = happened(&run(outcome), before).into_iter().collect();
        assert_eq!(told, expected, "{outcome:?} after {before:?}");
    }
    let happened = happened(&run(Some(Outcome::Failed)), None);
    let asked = |events: &[WebhookEvent]| {
        wanted(&TestWebhookSpec { events: events.to_vec(), ..TestWebhookSpec::default() }, &happened)
    };
    assert_eq!(asked(&[]), [Start, Ended]);
    assert_eq!(asked(&[Ended, EndFailed]), [EndFailed], "an end is told once");
    assert_eq!(asked(&[BecomePassed]), []);
}

#[test]
fn an_event_has_one_id() {
    let first = id("hook", "run", WebhookEvent::End);
    assert_eq!(first, id("hook", "run", WebhookEvent::End));
    assert_ne!(first, id("hook", "run", WebhookEvent::Start));
    assert_eq!(first.len(), 36);
}

#[test]
fn what_is_sent() {
    let run = run(Some(Outcome::Failed));
    let template = TestWebhookSpec {
        format: WebhookFormat::Template,
        body: Some(
            json!({"text": "{{ run.workflow }} {{ event }} after {{ run.seconds }} s: {{ run.clusters.0.message }}"}),
        ),
        ..TestWebhookSpec::default()
    };
    let (_, body) = payload(&template, "id", WebhookEvent::EndFailed, &run, "/hub").expect("a document");
    assert_eq!(body, json!({"text": "smoke end-failed after 15 s: step a: exit code 1"}));
    let wrong = TestWebhookSpec { body: Some(json!({"a": ["{{ nobody }}"]})), ..template };
    let error = payload(&wrong, "id", WebhookEvent::End, &run, "/hub").expect_err("no such name");
    assert_eq!(error.field, "spec.body.a[0]", "{error}");
    let (media, event) =
        payload(&TestWebhookSpec::default(), "id", WebhookEvent::End, &run, "/hub").expect("an event");
    assert_eq!(media, "application/cloudevents+json");
    assert_eq!(event["data"]["subject"]["content"]["outcome"], "failure");
    assert_eq!(event["type"], "dev.cdevents.testsuiterun.finished.0.3.0");
    assert_eq!(event["time"], "1970-01-01T00:00:25Z");
}
