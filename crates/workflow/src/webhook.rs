//! What webhooks tell of a run: which events have happened, to whom each is of interest, and what is sent.
//!
//! Ids follow from webhook, run and event, so that one event has one id whenever it is worked out.

use std::collections::BTreeSet;

use fleet_objects::test_run::{Outcome, SUCCEEDED, TestRun};
use fleet_objects::test_webhook::{TestWebhookSpec, WebhookEvent, WebhookFormat};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::collect::digest;
use crate::config::Names;
use crate::plan::CANCELLED;
use crate::report::history::workflow_of;
use crate::validate::FieldError;
use crate::{fold, templates};

/// How a run ended, as far as webhooks care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Passed.
    Passed,
    /// Failed, timed out or could not run.
    Failed,
    /// Cancelled, or left out: nothing became of it.
    Neither,
}

/// How a run ended; `None` while it has not.
#[must_use]
pub fn end(run: &TestRun) -> Option<End> {
    let condition = condition(run)?;
    match condition.status.as_str() {
        "True" if condition.reason == "Skipped" => Some(End::Neither),
        "True" => Some(End::Passed),
        "False" if condition.reason == CANCELLED => Some(End::Neither),
        "False" => Some(End::Failed),
        _ => None,
    }
}

/// Everything that has happened to a run. `before`: how the run before it of the same workflow ended, where there was one
/// that passed or failed.
#[must_use]
pub fn happened(run: &TestRun, before: Option<End>) -> BTreeSet<WebhookEvent> {
    let mut out = BTreeSet::new();
    let clusters = run.status.iter().flat_map(|status| &status.clusters);
    if clusters.into_iter().any(|cluster| cluster.started_at.is_some()) {
        out.insert(WebhookEvent::Start);
    }
    let Some(end) = end(run) else { return out };
    out.insert(WebhookEvent::End);
    match end {
        End::Passed => {
            out.insert(WebhookEvent::EndPassed);
            if before == Some(End::Failed) {
                out.insert(WebhookEvent::BecomePassed);
            }
        }
        End::Failed => {
            out.insert(WebhookEvent::EndFailed);
            if before != Some(End::Failed) {
                out.insert(WebhookEvent::BecomeFailed);
            }
        }
        End::Neither => {}
    }
    out
}

/// Which of these a webhook tells. An end is told once, by its most exact name.
#[must_use]
pub fn wanted(spec: &TestWebhookSpec, happened: &BTreeSet<WebhookEvent>) -> Vec<WebhookEvent> {
    let asked: BTreeSet<WebhookEvent> = if spec.events.is_empty() {
        [WebhookEvent::Start, WebhookEvent::End].into()
    } else {
        spec.events.iter().copied().collect()
    };
    let mut out: Vec<_> = happened.intersection(&asked).copied().collect();
    if out.iter().any(|event| matches!(event, WebhookEvent::EndPassed | WebhookEvent::EndFailed)) {
        out.retain(|event| *event != WebhookEvent::End);
    }
    out
}

/// What is wrong with a webhook.
///
/// # Errors
/// Each with its field.
pub fn validate(spec: &TestWebhookSpec) -> Result<(), FieldError> {
    let fail =
        |field: &str, message: &str| Err(FieldError { field: field.to_owned(), message: message.to_owned() });
    if !spec.url.starts_with("https://") && !spec.url.starts_with("http://") {
        return fail("spec.url", "must begin with https:// or http://");
    }
    match (spec.format, &spec.body) {
        (WebhookFormat::Template, None) => fail("spec.body", "required with format Template"),
        (WebhookFormat::Template, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => fail("spec.body", "only with format Template"),
    }
}

/// The id of one event for one webhook: the form of a UUID.
#[must_use]
pub fn id(webhook_uid: &str, run_uid: &str, event: WebhookEvent) -> String {
    let hash = digest(format!("{webhook_uid}/{run_uid}/{}", name(event)).as_bytes());
    [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]].join("-")
}

/// As it stands in documents.
#[must_use]
pub fn name(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::Start => "start",
        WebhookEvent::End => "end",
        WebhookEvent::EndPassed => "end-passed",
        WebhookEvent::EndFailed => "end-failed",
        WebhookEvent::BecomeFailed => "become-failed",
        WebhookEvent::BecomePassed => "become-passed",
    }
}

/// What is sent: media type and document.
///
/// # Errors
/// What is wrong with the template.
pub fn payload(
    spec: &TestWebhookSpec,
    id: &str,
    event: WebhookEvent,
    run: &TestRun,
    source: &str,
) -> Result<(&'static str, Value), FieldError> {
    match spec.format {
        WebhookFormat::CDEvents => Ok(("application/cloudevents+json", cloud_event(id, event, run, source))),
        WebhookFormat::Json => {
            Ok(("application/json", json!({ "id": id, "event": name(event), "run": about(run) })))
        }
        WebhookFormat::Template => {
            let names = Names::new([("event", json!(name(event))), ("run", about(run))]);
            let mut errors = Vec::new();
            let body = spec.body.clone().unwrap_or_default();
            let body = templates::resolve_document(&body, &names, "spec.body", &mut errors);
            match errors.into_iter().next() {
                Some(error) => Err(error),
                None => Ok(("application/json", body)),
            }
        }
    }
}

fn condition(run: &TestRun) -> Option<&Condition> {
    let conditions = &run.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == SUCCEEDED)
}

/// A run as templates see it.
fn about(run: &TestRun) -> Value {
    let status = run.status.clone().unwrap_or_default();
    let told = condition(run);
    let started =
        status.clusters.iter().filter_map(|cluster| cluster.started_at.as_ref()).map(|time| time.0).min();
    let finished =
        status.clusters.iter().filter_map(|cluster| cluster.finished_at.as_ref()).map(|time| time.0).max();
    let ended = end(run).is_some();
    let seconds =
        started.zip(finished.filter(|_| ended)).map(|(from, to)| to.duration_since(from).as_secs_f64());
    let clusters = status.clusters.iter().map(|cluster| {
        json!({
            "name": cluster.cluster, "outcome": cluster.outcome, "reason": cluster.reason,
            "message": cluster.message, "counts": cluster.counts,
        })
    });
    json!({
        "name": run.metadata.name,
        "namespace": run.metadata.namespace,
        "uid": run.metadata.uid,
        "workflow": workflow_of(run),
        "labels": run.metadata.labels.clone().unwrap_or_default(),
        "outcome": fold::outcome(&status.clusters),
        "reason": told.map(|told| told.reason.clone()).unwrap_or_default(),
        "message": told.map(|told| told.message.clone()).unwrap_or_default(),
        "startedAt": started.map(|time| time.to_string()),
        "finishedAt": finished.filter(|_| ended).map(|time| time.to_string()),
        "seconds": seconds,
        "counts": status.counts,
        "clusters": clusters.collect::<Vec<_>>(),
    })
}

/// A CDEvent of the run as one test suite run, in a CloudEvent (structured mode).
fn cloud_event(id: &str, event: WebhookEvent, run: &TestRun, source: &str) -> Value {
    let about = about(run);
    let workflow = workflow_of(run);
    let kind = match event {
        WebhookEvent::Start => "dev.cdevents.testsuiterun.started.0.3.0",
        _ => "dev.cdevents.testsuiterun.finished.0.3.0",
    };
    let clusters = run.status.iter().flat_map(|status| &status.clusters).map(|own| own.cluster.as_str());
    let mut content = json!({
        "environment": { "id": clusters.collect::<Vec<_>>().join(",") },
        "testSuite": { "id": workflow, "name": workflow },
    });
    if event != WebhookEvent::Start {
        let outcome = match (end(run), run.status.as_ref().and_then(|status| fold::outcome(&status.clusters)))
        {
            (Some(End::Passed), _) => "success",
            (Some(End::Neither), Some(Outcome::Skipped)) => "success",
            (Some(End::Neither), _) => "cancel",
            (_, Some(Outcome::Failed | Outcome::TimedOut)) => "failure",
            _ => "error",
        };
        content["outcome"] = outcome.into();
        content["reason"] = about["message"].clone();
    }
    let subject = format!(
        "{}/{}",
        about["namespace"].as_str().unwrap_or_default(),
        about["name"].as_str().unwrap_or_default()
    );
    let time = if event == WebhookEvent::Start { &about["startedAt"] } else { &about["finishedAt"] };
    let time = match time.as_str() {
        Some(time) => time.to_owned(),
        // A run in which nothing began ended when its condition says so.
        None => condition(run).map(|told| told.last_transition_time.0.to_string()).unwrap_or_default(),
    };
    let data = json!({
        "context": {
            "specversion": crate::report::cdevents::SPEC_VERSION,
            "id": id, "source": source, "type": kind, "timestamp": time,
        },
        "subject": { "id": subject, "source": source, "content": content },
        "customData": { "event": name(event), "run": about },
        "customDataContentType": "application/json",
    });
    json!({
        "specversion": "1.0", "id": id, "source": source, "type": kind, "time": time, "subject": subject,
        "datacontenttype": "application/json", "data": data,
    })
}

#[cfg(test)]
mod tests;
