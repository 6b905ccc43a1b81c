//! The executor's notes: what it has taken on and how far it is, in the agent's store.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_objects::test_run::{ClusterResult, TestExecutionSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use storage::{KeyRange, Operation, RangeRequest, Store, Transaction};
use workflow::progress::Progress;

use super::Error;

const PREFIX: &str = "/test-executions/";

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
        Self { uid, name, spec, result, parts: BTreeMap::new(), finished: false }
    }
}

/// Reads and writes notes.
pub(super) struct Journal {
    store: Arc<dyn Store>,
}

impl Journal {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) async fn load(&self) -> Result<Vec<Note>, Error> {
        self.read(KeyRange::prefix(PREFIX)).await
    }

    pub(super) async fn get(&self, uid: &str) -> Result<Option<Note>, Error> {
        Ok(self.read(KeyRange::single(key(uid))).await?.into_iter().next())
    }

    async fn read(&self, range: KeyRange) -> Result<Vec<Note>, Error> {
        let read = self.store.range(RangeRequest::all(range)).await;
        let read = read.map_err(|source| Error::Store { operation: "cannot read the notes", source })?;
        let parse = |kv: &storage::KeyValue| {
            serde_json::from_slice(&kv.value)
                .map_err(|source| Error::Note { key: String::from_utf8_lossy(&kv.key).into_owned(), source })
        };
        read.kvs.iter().map(parse).collect()
    }

    /// Durable when it answers.
    pub(super) async fn save(&self, note: &Note) -> Result<(), Error> {
        let value = serde_json::to_vec(note).map_err(|source| Error::Note { key: key(&note.uid), source })?;
        self.write(Operation::put(key(&note.uid), value), "cannot write a note").await
    }

    pub(super) async fn remove(&self, uid: &str) -> Result<(), Error> {
        self.write(Operation::delete(key(uid)), "cannot remove a note").await
    }

    async fn write(&self, operation: Operation, what: &'static str) -> Result<(), Error> {
        let transaction = Transaction { success: vec![operation], ..Transaction::default() };
        let done = self.store.transact(transaction).await;
        done.map(drop).map_err(|source| Error::Store { operation: what, source })
    }
}

fn key(uid: &str) -> String {
    format!("{PREFIX}{uid}")
}
