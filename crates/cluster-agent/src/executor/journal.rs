//! The executor's notes: what it has taken on and how far it is, in the agent's store.

use std::collections::BTreeMap;

use fleet_objects::test_run::{ClusterResult, Outcome, TestExecutionSpec};
use fleet_objects::test_workflow::TestPriority;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use storage::{KeyRange, Operation, RangeRequest};
use workflow::plan::PlannedConcurrency;
use workflow::progress::Progress;

use super::Error;
use crate::notes::Notes;

const PREFIX: &str = "/test-executions/";
/// Notes read at once: each holds a workflow, some 10 kB.
const PAGE: usize = 64;

/// One execution, as far as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) spec: TestExecutionSpec,
    pub(super) result: ClusterResult,
    /// What runs in pods of its own: the execution's steps are the part without a name.
    #[serde(default)]
    pub(super) parts: BTreeMap<String, Part>,
    /// Its last record is in the outbox.
    pub(super) finished: bool,
    /// Its place among those that wait, kept when it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queued: Option<Queued>,
    /// It is not run: what is told instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// Why it was cancelled while it waited, where it was not a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// A place among those that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Queued {
    /// Rises from one execution to the next.
    pub(super) number: u64,
    #[serde(default)]
    pub(super) priority: TestPriority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<PlannedConcurrency>,
    /// Since when.
    pub(super) at: Time,
}

/// What is told of an execution that is not run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A plan under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) progress: Progress,
    /// Its time counts from here, also over a restart.
    pub(super) started_at: Option<Time>,
    /// The number of its newest pod.
    pub(super) number: u32,
    /// The pod under way.
    pub(super) pod: Option<PodNote>,
    /// A pod has left what it packed for the next.
    #[serde(default)]
    pub(super) packed: bool,
    /// Bytes of each step's log that are in the outbox, at least.
    #[serde(default)]
    pub(super) logs: BTreeMap<String, u64>,
}

/// A pod under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PodNote {
    /// Its steps: from, up to but not with.
    pub(super) steps: (usize, usize),
    /// It was seen: when it is gone, somebody removed it.
    pub(super) made: bool,
    /// All that it had to tell is noted.
    #[serde(default)]
    pub(super) collected: bool,
}

impl Note {
    pub(super) fn new(uid: String, name: String, spec: TestExecutionSpec) -> Self {
        let result = ClusterResult { cluster: spec.cluster.clone(), ..ClusterResult::default() };
        let parts = BTreeMap::new();
        Self { uid, name, spec, result, parts, finished: false, queued: None, verdict: None, why: None }
    }
}

/// Reads and writes notes.
pub(super) struct Journal {
    notes: Notes,
}

impl Journal {
    pub(super) fn new(notes: Notes) -> Self {
        Self { notes }
    }

    /// Some notes, in the order of their uids, after that of `after`; none when there are no more.
    pub(super) async fn page(&self, after: Option<&str>) -> Result<Vec<Note>, Error> {
        let mut range = KeyRange::prefix(PREFIX);
        if let Some(end) = after.and_then(|uid| KeyRange::single(key(uid)).end) {
            range.start = end;
        }
        self.read(RangeRequest { limit: Some(PAGE), ..RangeRequest::all(range) }).await
    }

    pub(super) async fn get(&self, uid: &str) -> Result<Option<Note>, Error> {
        let read = self.read(RangeRequest::all(KeyRange::single(key(uid)))).await?;
        Ok(read.into_iter().next())
    }

    async fn read(&self, request: RangeRequest) -> Result<Vec<Note>, Error> {
        let failed = |source| Error::Store { operation: "cannot read the notes", source };
        let read = self.notes.range(request).await.map_err(failed)?;
        let parse = |kv: &storage::KeyValue| {
            serde_json::from_slice(&self.notes.open(kv).map_err(failed)?)
                .map_err(|source| Error::Note { key: String::from_utf8_lossy(&kv.key).into_owned(), source })
        };
        read.kvs.iter().map(parse).collect()
    }

    /// Durable when it answers.
    pub(super) async fn save(&self, note: &Note) -> Result<(), Error> {
        self.save_all(std::slice::from_ref(note)).await
    }

    /// All of them are durable when it answers.
    pub(super) async fn save_all(&self, notes: &[Note]) -> Result<(), Error> {
        if notes.is_empty() {
            return Ok(());
        }
        let put = |note: &Note| {
            let key = key(&note.uid);
            let value = serde_json::to_vec(note);
            let value = value.map_err(|source| Error::Note { key: key.clone(), source })?;
            let failed = |source| Error::Store { operation: "cannot seal a note", source };
            self.notes.put(key, value).map_err(failed)
        };
        let operations = notes.iter().map(put).collect::<Result<_, Error>>()?;
        self.write(operations, "cannot write a note").await
    }

    pub(super) async fn remove(&self, uid: &str) -> Result<(), Error> {
        self.write(vec![Operation::delete(key(uid))], "cannot remove a note").await
    }

    async fn write(&self, success: Vec<Operation>, what: &'static str) -> Result<(), Error> {
        self.notes.write(success).await.map_err(|source| Error::Store { operation: what, source })
    }
}

fn key(uid: &str) -> String {
    format!("{PREFIX}{uid}")
}
