//! A run as CDEvents (<https://cdevents.dev>), one JSON document a line: every cluster is a test suite run in its
//! environment, every case a test case run. Ids follow from the run, so that sending them again is noticed.

use fleet_objects::test_run::{ClusterResult, Outcome, SUCCEEDED, TestRunStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::Cases;
use super::told::{self, Told, Verdict};
use crate::collect::digest;
use crate::junit::{self, CaseOutcome};
use crate::plan::CANCELLED;

/// The version of the specification that is written.
pub(crate) const SPEC_VERSION: &str = "0.5.1";
/// Bytes of a reason.
const MAX_REASON: usize = 1024;

/// What events of one run have in common.
struct Run<'a> {
    name: &'a str,
    uid: &'a str,
    source: &'a str,
    /// When the run ended: of clusters in which nothing ran there is no other time.
    ended: jiff::Timestamp,
}

/// The events of every cluster that has ended: its cases, then the cluster itself. `source` is a URI reference that names
/// the sender; `workflow` what was run.
#[must_use]
pub fn lines(
    run: &str,
    uid: &str,
    workflow: &str,
    source: &str,
    status: &TestRunStatus,
    cases: &Cases,
) -> String {
    let conditions = status.conditions.iter().filter(|condition| condition.type_ == SUCCEEDED);
    let ended = conditions.map(|condition| condition.last_transition_time.0).next();
    let context = Run { name: run, uid, source, ended: ended.unwrap_or_default() };
    let all = told::all(run, status, cases);
    let mut out = String::new();
    for cluster in status.clusters.iter().filter(|cluster| cluster.outcome.is_some()) {
        let own = all.iter().filter(|told| told.cluster == cluster.cluster);
        let events = own.enumerate().map(|(index, told)| case(&context, cluster, index, told));
        for event in events.chain([suite(&context, workflow, cluster)]) {
            out.push_str(&event.to_string());
            out.push('\n');
        }
    }
    out
}

fn suite(run: &Run<'_>, workflow: &str, cluster: &ClusterResult) -> Value {
    let id = run.suite(cluster);
    let mut content = json!({
        "outcome": outcome(cluster),
        "environment": {"id": cluster.cluster},
        "testSuite": {"id": workflow, "name": workflow},
    });
    if !cluster.message.is_empty() {
        content["reason"] = junit::cut(&cluster.message, MAX_REASON).into();
    }
    run.event("testsuiterun.finished.0.3.0", &id, cluster.finished_at.as_ref(), content)
}

fn case(run: &Run<'_>, cluster: &ClusterResult, index: usize, told: &Told) -> Value {
    let id = format!("{}/{index}", run.suite(cluster));
    let name = format!("{} {}", told.case.class_name, told.case.name);
    let mut content = json!({
        "environment": {"id": cluster.cluster},
        "testCase": {"id": name.trim(), "name": name.trim()},
        "testSuiteRun": {"id": run.suite(cluster)},
    });
    if !told.message().is_empty() {
        content["reason"] = junit::cut(told.message(), MAX_REASON).into();
    }
    let kind = match told.verdict() {
        Verdict::Skipped => "testcaserun.skipped.0.2.0",
        _ => {
            content["outcome"] = match told.case.outcome {
                CaseOutcome::Passed => "success",
                CaseOutcome::Failed { .. } => "failure",
                _ => "error",
            }
            .into();
            "testcaserun.finished.0.3.0"
        }
    };
    run.event(kind, &id, cluster.finished_at.as_ref(), content)
}

fn outcome(cluster: &ClusterResult) -> &'static str {
    match cluster.outcome {
        Some(Outcome::Passed | Outcome::Skipped) => "success",
        Some(Outcome::Failed | Outcome::TimedOut) => "failure",
        _ if cluster.reason == CANCELLED => "cancel",
        _ => "error",
    }
}

impl Run<'_> {
    fn suite(&self, cluster: &ClusterResult) -> String {
        format!("{}/{}", self.name, cluster.cluster)
    }

    fn event(&self, kind: &str, id: &str, time: Option<&Time>, content: Value) -> Value {
        let hash = digest(format!("{}/{id}/{kind}", self.uid).as_bytes());
        let parts = [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]];
        let time = time.map_or(self.ended, |time| time.0);
        json!({
            "context": {
                "specversion": SPEC_VERSION,
                "id": parts.join("-"),
                "source": self.source,
                "type": format!("dev.cdevents.{kind}"),
                "timestamp": time.to_string(),
            },
            "subject": {"id": id, "source": self.source, "content": content},
        })
    }
}
