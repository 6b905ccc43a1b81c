//! `cicd.pipeline.run.*` and `cicd.worker.count`, as cumulative OTLP metrics.

use std::collections::BTreeMap;

use fleet_objects::test_run::{Outcome, TestRun};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Sender, nanos, result, text};
use crate::plan::CANCELLED;
use crate::{fold, report};

/// Bounds of the durations in seconds: what the conventions advise reaches 10 s; tests take longer.
const BOUNDS: [f64; 12] = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0];
/// Workflows that are told apart; those beyond count together. Each takes some 1 kB per result.
const MAX_PIPELINES: usize = 500;
/// What those beyond are called.
const OTHER: &str = "_other";
/// Cumulative (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u8 = 2;

/// Everything counted since `since`.
#[derive(Debug)]
pub struct Meters {
    since: Timestamp,
    /// By pipeline, state and result.
    durations: BTreeMap<(String, &'static str, &'static str), Histogram>,
    /// By pipeline and reason.
    errors: BTreeMap<(String, String), u64>,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// What is counted anew each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Runs under way, by pipeline: those that wait in every cluster, and the others.
    pub active: BTreeMap<String, (u64, u64)>,
    /// Clusters whose agent is connected and runs tests; is connected; is away.
    pub workers: [u64; 3],
}

impl Meters {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        Self { since, durations: BTreeMap::new(), errors: BTreeMap::new() }
    }

    /// Counts a run that has ended: once.
    pub fn ended(&mut self, run: &TestRun) {
        let Some(status) = &run.status else { return };
        let Some(outcome) = fold::outcome(&status.clusters) else { return };
        let pipeline = self.pipeline(&report::history::workflow_of(run));
        let cancelled = status.clusters.iter().any(|cluster| cluster.reason == CANCELLED);
        let word = result(outcome, cancelled);
        let started =
            status.clusters.iter().filter_map(|own| own.started_at.as_ref()).map(|time| time.0).min();
        let finished =
            status.clusters.iter().filter_map(|own| own.finished_at.as_ref()).map(|time| time.0).max();
        let made = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
        for (state, from, to) in [("pending", made, started), ("executing", started, finished)] {
            let Some((from, to)) = from.zip(to) else { continue };
            let seconds = to.duration_since(from).as_secs_f64().max(0.0);
            let histogram = self.durations.entry((pipeline.clone(), state, word)).or_default();
            histogram.counts[BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())] += 1;
            histogram.sum += seconds;
        }
        if matches!(outcome, Outcome::NotRun | Outcome::TimedOut) && !cancelled {
            let reason =
                status.clusters.iter().find(|own| own.outcome == Some(outcome)).map(|own| own.reason.clone());
            *self.errors.entry((pipeline, reason.unwrap_or_default())).or_default() += 1;
        }
    }

    fn pipeline(&self, name: &str) -> String {
        let known = |name: &str| self.durations.keys().any(|(own, ..)| own == name);
        let mut all: Vec<&String> = self.durations.keys().map(|(own, ..)| own).collect();
        all.dedup();
        if all.len() < MAX_PIPELINES || known(name) { name.to_owned() } else { OTHER.to_owned() }
    }

    /// The document of now.
    #[must_use]
    pub fn document(&self, sender: &Sender, at: Timestamp, now: &Now) -> Value {
        let (since, at) = (nanos(self.since), nanos(at));
        let durations = self.durations.iter().map(|((pipeline, state, result), own)| {
            json!({
                "attributes": [
                    text("cicd.pipeline.name", pipeline),
                    text("cicd.pipeline.run.state", state),
                    text("cicd.pipeline.result", result),
                ],
                "startTimeUnixNano": since, "timeUnixNano": at,
                "count": own.counts.iter().sum::<u64>().to_string(),
                "sum": own.sum,
                "bucketCounts": own.counts.map(|count| count.to_string()),
                "explicitBounds": BOUNDS,
            })
        });
        let errors = self.errors.iter().map(|((pipeline, reason), count)| {
            point(&since, &at, *count, vec![text("cicd.pipeline.name", pipeline), text("error.type", reason)])
        });
        let active = now.active.iter().flat_map(|(pipeline, (pending, executing))| {
            [("pending", *pending), ("executing", *executing)].map(|(state, count)| {
                let own = vec![text("cicd.pipeline.name", pipeline), text("cicd.pipeline.run.state", state)];
                point(&since, &at, count, own)
            })
        });
        let workers = ["busy", "available", "offline"].into_iter().zip(now.workers);
        let workers =
            workers.map(|(state, count)| point(&since, &at, count, vec![text("cicd.worker.state", state)]));
        let metrics = json!([
            {
                "name": "cicd.pipeline.run.duration", "unit": "s",
                "histogram": {
                    "aggregationTemporality": CUMULATIVE, "dataPoints": durations.collect::<Vec<_>>(),
                },
            },
            sum("cicd.pipeline.run.errors", "{error}", true, errors.collect()),
            sum("cicd.pipeline.run.active", "{run}", false, active.collect()),
            sum("cicd.worker.count", "{count}", false, workers.collect()),
        ]);
        json!({ "resourceMetrics": [{
            "resource": sender.resource(),
            "scopeMetrics": [{ "scope": sender.scope(), "metrics": metrics }],
        }] })
    }
}

fn sum(name: &str, unit: &str, monotonic: bool, points: Vec<Value>) -> Value {
    json!({
        "name": name, "unit": unit,
        "sum": { "aggregationTemporality": CUMULATIVE, "isMonotonic": monotonic, "dataPoints": points },
    })
}

fn point(since: &str, at: &str, count: u64, attributes: Vec<Value>) -> Value {
    json!({
        "attributes": attributes, "startTimeUnixNano": since, "timeUnixNano": at,
        "asInt": count.to_string(),
    })
}
