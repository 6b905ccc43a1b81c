//! Executions that this agent decided on by itself.

use std::sync::Arc;

use fleet_objects::test_run::{TestExecution, TestExecutionSpec};
use fleet_objects::test_trigger::AGENT_UID_ANNOTATION;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::Error;
use super::journal::{Journal, Note};
use crate::notes::Notes;

/// What waits for the executor; callers wait beyond that.
const QUEUE: usize = 64;

/// What the executor is asked for.
pub(super) enum Request {
    /// Take up this execution, which is in the notes.
    Start(String),
    /// End it.
    Cancel(String),
}

/// Begins executions without a hub, and knows which go on. Clones share the executor.
#[derive(Clone)]
pub struct LocalRuns {
    journal: Arc<Journal>,
    requests: mpsc::Sender<Request>,
}

impl LocalRuns {
    pub(super) fn new(notes: Notes) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(QUEUE);
        (Self { journal: Arc::new(Journal::new(notes)), requests }, received)
    }

    /// Begins an execution; durable when it answers. Beginning it again changes nothing.
    ///
    /// # Errors
    /// When the notes cannot be written.
    pub async fn start(&self, uid: &str, name: &str, spec: TestExecutionSpec) -> Result<(), Error> {
        if self.journal.get(uid).await?.is_some() {
            return Ok(());
        }
        self.journal.save(&Note::new(uid.to_owned(), name.to_owned(), spec)).await?;
        // An executor that has ended takes it up at its next start.
        let _ = self.requests.send(Request::Start(uid.to_owned())).await;
        Ok(())
    }

    /// Whether an execution has begun and not ended.
    ///
    /// # Errors
    /// When the notes cannot be read.
    pub async fn is_under_way(&self, uid: &str) -> Result<bool, Error> {
        Ok(self.journal.get(uid).await?.is_some_and(|note| !note.finished))
    }

    /// Ends an execution.
    pub async fn cancel(&self, uid: &str) {
        let _ = self.requests.send(Request::Cancel(uid.to_owned())).await;
    }
}

/// The uid under which this agent knows an execution: its own, where it began it before the hub heard of it.
pub(super) fn uid_of(execution: &TestExecution) -> Option<String> {
    execution.annotations().get(AGENT_UID_ANNOTATION).cloned().or_else(|| execution.uid())
}

/// Whether an agent began it: the hub's object only tells of it and starts nothing.
pub(super) fn is_local(execution: &TestExecution) -> bool {
    execution.annotations().contains_key(AGENT_UID_ANNOTATION)
}
