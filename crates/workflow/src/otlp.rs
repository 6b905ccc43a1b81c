//! A run as OpenTelemetry tells it: the documents of OTLP/HTTP in JSON, with the names of the semantic conventions for CI/CD
//! (`cicd.*`, 1.44). Traces are here, metrics in [`metrics`].
//!
//! A run is a trace: the run is its SERVER span, every cluster a task of it, every attempt at a step a task in that. Ids
//! follow from the run, so that a trace that is sent again is the same trace.

pub mod metrics;

use fleet_objects::test_run::{AttemptResult, ClusterResult, Outcome, StepResult, TestRun};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::collect::digest;
use crate::plan::CANCELLED;
use crate::{fold, report};

/// Spans of one run: each some 600 bytes, together 1.2 MB, below what collectors take at once (4 MiB).
pub const MAX_SPANS: usize = 2000;
/// Kinds of spans.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

/// Who sends: `service.name`, `service.version`, `service.instance.id`.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// This release.
    pub version: String,
    /// Which hub.
    pub instance: String,
}

impl Sender {
    fn resource(&self) -> Value {
        json!({ "attributes": [
            text("service.name", "fairlead-hub"),
            text("service.version", &self.version),
            text("service.instance.id", &self.instance),
        ] })
    }

    fn scope(&self) -> Value {
        json!({ "name": "fairlead.dev/tests", "version": self.version })
    }
}

/// The trace of a run that has ended; `None` while it has not, or when nothing of it ever began.
#[must_use]
pub fn trace(run: &TestRun, sender: &Sender) -> Option<Value> {
    let status = run.status.as_ref()?;
    let outcome = fold::outcome(&status.clusters)?;
    let all = status.clusters.iter().filter_map(times);
    let (from, to) = all.reduce(|(from, to), (other, end)| (from.min(other), to.max(end)))?;
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let trace = Trace { id: digest(uid.as_bytes())[..32].to_owned(), uid: &uid };
    let workflow = report::history::workflow_of(run);
    let cancelled = status.clusters.iter().any(|cluster| cluster.reason == CANCELLED);
    let mut root = trace.span(
        "",
        None,
        &format!("RUN {workflow}"),
        SERVER,
        (from, to),
        vec![
            text("cicd.pipeline.name", &workflow),
            text("cicd.pipeline.action.name", "RUN"),
            text("cicd.pipeline.run.id", &uid),
            text("cicd.pipeline.result", result(outcome, cancelled)),
            text("fairlead.run.name", run.metadata.name.as_deref().unwrap_or_default()),
            text("k8s.namespace.name", run.metadata.namespace.as_deref().unwrap_or_default()),
        ],
    );
    let mut spans = Vec::new();
    let mut dropped = 0_usize;
    for cluster in &status.clusters {
        let Some(span) = times(cluster) else { continue };
        let mut own = vec![trace.cluster(cluster, span)];
        for step in &cluster.steps {
            own.extend(step.attempts.iter().filter_map(|attempt| trace.attempt(cluster, step, attempt)));
        }
        let room = MAX_SPANS.saturating_sub(spans.len() + 1);
        dropped += own.len().saturating_sub(room);
        spans.extend(own.into_iter().take(room));
    }
    if dropped > 0 {
        push(
            &mut root,
            json!({ "key": "fairlead.spans.dropped", "value": { "intValue": dropped.to_string() } }),
        );
    }
    failed(&mut root, outcome, "");
    spans.insert(0, root);
    Some(json!({ "resourceSpans": [{
        "resource": sender.resource(),
        "scopeSpans": [{ "scope": sender.scope(), "spans": spans }],
    }] }))
}

/// The word for how a run or a part of it ended (`cicd.pipeline.result`).
pub(crate) fn result(outcome: Outcome, cancelled: bool) -> &'static str {
    match outcome {
        Outcome::Passed => "success",
        Outcome::Failed => "failure",
        Outcome::TimedOut => "timeout",
        Outcome::Skipped => "skip",
        Outcome::NotRun if cancelled => "cancellation",
        Outcome::NotRun => "error",
    }
}

fn times(cluster: &ClusterResult) -> Option<(Timestamp, Timestamp)> {
    let from = cluster.started_at.as_ref()?.0;
    Some((from, cluster.finished_at.as_ref().map_or(from, |to| to.0).max(from)))
}

struct Trace<'a> {
    id: String,
    uid: &'a str,
}

impl Trace<'_> {
    fn span_id(&self, path: &str) -> String {
        digest(format!("{}/{path}", self.uid).as_bytes())[..16].to_owned()
    }

    fn span(
        &self,
        path: &str,
        parent: Option<&str>,
        name: &str,
        kind: u8,
        (from, to): (Timestamp, Timestamp),
        attributes: Vec<Value>,
    ) -> Value {
        let mut span = json!({
            "traceId": self.id,
            "spanId": self.span_id(path),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": nanos(from),
            "endTimeUnixNano": nanos(to.max(from)),
            "attributes": attributes,
        });
        if let Some(parent) = parent {
            span["parentSpanId"] = self.span_id(parent).into();
        }
        span
    }

    fn cluster(&self, cluster: &ClusterResult, span: (Timestamp, Timestamp)) -> Value {
        let outcome = cluster.outcome.unwrap_or(Outcome::NotRun);
        let mut attributes = vec![
            text("cicd.pipeline.task.name", &cluster.cluster),
            text("cicd.pipeline.task.run.id", &format!("{}/{}", self.uid, cluster.cluster)),
            text("cicd.pipeline.task.run.result", result(outcome, cluster.reason == CANCELLED)),
            text("cicd.pipeline.task.type", "test"),
            text("cicd.worker.name", &cluster.cluster),
            text("k8s.cluster.name", &cluster.cluster),
        ];
        if let Some(queued) = &cluster.queued_at {
            attributes.push(text("fairlead.queued_at", &queued.0.to_string()));
        }
        let mut own = self.span(&cluster.cluster, Some(""), &cluster.cluster, INTERNAL, span, attributes);
        failed(&mut own, outcome, &cluster.message);
        own
    }

    fn attempt(&self, cluster: &ClusterResult, step: &StepResult, attempt: &AttemptResult) -> Option<Value> {
        let from = attempt.started_at.as_ref().or(attempt.finished_at.as_ref())?.0;
        let to = attempt.finished_at.as_ref().map_or(from, |to| to.0);
        let path = format!("{}/{}/{}", cluster.cluster, step.name, attempt.attempt);
        let mut attributes = vec![
            text("cicd.pipeline.task.name", &step.name),
            text("cicd.pipeline.task.run.id", &format!("{}/{path}", self.uid)),
            text("cicd.pipeline.task.run.result", result(attempt.outcome, attempt.reason == CANCELLED)),
            text("cicd.pipeline.task.type", "test"),
            text("cicd.worker.name", &cluster.cluster),
        ];
        if let Some(code) = attempt.exit_code {
            attributes.push(json!({ "key": "process.exit.code", "value": { "intValue": code.to_string() } }));
        }
        let title = if step.title.is_empty() { &step.name } else { &step.title };
        let mut own = self.span(&path, Some(&cluster.cluster), title, INTERNAL, (from, to), attributes);
        failed(&mut own, attempt.outcome, &attempt.message);
        if !matches!(attempt.outcome, Outcome::Passed | Outcome::Skipped) {
            push(&mut own, text("error.type", &attempt.reason));
        }
        Some(own)
    }
}

fn failed(span: &mut Value, outcome: Outcome, message: &str) {
    if !matches!(outcome, Outcome::Passed | Outcome::Skipped) {
        span["status"] = json!({ "code": 2, "message": message });
    }
}

fn push(span: &mut Value, attribute: Value) {
    if let Some(attributes) = span["attributes"].as_array_mut() {
        attributes.push(attribute);
    }
}

pub(crate) fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit numbers are texts in OTLP's JSON.
pub(crate) fn nanos(time: Timestamp) -> String {
    time.as_nanosecond().max(0).to_string()
}

#[cfg(test)]
mod tests;
