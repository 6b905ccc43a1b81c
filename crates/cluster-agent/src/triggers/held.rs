//! Triggers on the agent's disk.

use fleet_objects::test_trigger::TestTriggerAssignmentSpec;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::{KeyRange, Operation, RangeRequest};

use super::decide::Firing;
use crate::executor::Error;
use crate::notes::Notes;

const PREFIX: &str = "/test-triggers/";

/// A trigger as it is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Name of its assignment.
    pub(super) name: String,
    pub(super) spec: TestTriggerAssignmentSpec,
    /// Times of its schedule up to here were judged.
    pub(super) judged: Timestamp,
    /// What it is about to begin; taken up again after a crash.
    #[serde(default)]
    pub(super) pending: Option<Firing>,
    /// The execution it began last.
    pub(super) last_execution: Option<String>,
}

/// Reads and writes them.
pub(super) struct HeldTriggers {
    notes: Notes,
}

impl HeldTriggers {
    pub(super) fn new(notes: Notes) -> Self {
        Self { notes }
    }

    pub(super) async fn load(&self) -> Result<Vec<Held>, Error> {
        let failed = |source| Error::Store { operation: "cannot read the triggers", source };
        let read = self.notes.range(RangeRequest::all(KeyRange::prefix(PREFIX))).await.map_err(failed)?;
        let parse = |kv: &storage::KeyValue| {
            serde_json::from_slice(&self.notes.open(kv).map_err(failed)?)
                .map_err(|source| Error::Note { key: String::from_utf8_lossy(&kv.key).into_owned(), source })
        };
        read.kvs.iter().map(parse).collect()
    }

    /// Durable when it answers.
    pub(super) async fn save(&self, held: &Held) -> Result<(), Error> {
        let key = format!("{PREFIX}{}", held.name);
        let value = serde_json::to_vec(held).map_err(|source| Error::Note { key: key.clone(), source })?;
        let failed = |source| Error::Store { operation: "cannot seal a trigger", source };
        self.write(self.notes.put(key, value).map_err(failed)?, "cannot write a trigger").await
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Error> {
        self.write(Operation::delete(format!("{PREFIX}{name}")), "cannot remove a trigger").await
    }

    async fn write(&self, operation: Operation, what: &'static str) -> Result<(), Error> {
        self.notes.write(vec![operation]).await.map_err(|source| Error::Store { operation: what, source })
    }
}
