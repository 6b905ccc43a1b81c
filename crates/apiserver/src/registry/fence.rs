//! Writes that the store takes only as long as nobody has drawn another fence: those of a leader. A leader that was deposed
//! and does not know it yet is refused by the store itself, not by a clock.

use bytes::Bytes;
use kube_objects::{Reason, Status};
use storage::{Compare, CompareTarget, KeyValue, Operation, OperationResponse, Revision};

/// What holds as long as nobody else has written the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The key.
    pub key: Bytes,
    /// The revision at which the leader wrote it.
    pub revision: Revision,
}

tokio::task_local! {
    /// The fence of the request that this task serves.
    static FENCE: Fence;
}

impl Fence {
    /// Serves a request behind the fence.
    pub(crate) async fn around<T>(self, serving: impl Future<Output = T>) -> T {
        FENCE.scope(self, serving).await
    }

    /// Of the request that is being served.
    pub(crate) fn current() -> Option<Self> {
        FENCE.try_with(Clone::clone).ok()
    }

    /// What a write must add to its conditions.
    pub(crate) fn compare(&self) -> Compare {
        Compare { key: self.key.clone(), target: CompareTarget::ModRevision(self.revision) }
    }

    /// What a write that failed must read to know whether it was the fence.
    pub(crate) fn read(&self) -> Operation {
        Operation::get(self.key.clone())
    }

    /// Whether the fence no longer holds, by what was read last.
    ///
    /// # Errors
    /// 409: who asked leads no more.
    pub(crate) fn check(&self, read: Option<OperationResponse>) -> Result<(), Status> {
        let Some(OperationResponse::Range(range)) = read else { return Ok(()) };
        let holds = range.kvs.first().map(|kv: &KeyValue| kv.mod_revision) == Some(self.revision);
        if holds {
            return Ok(());
        }
        Err(Status::new(Reason::Conflict, "another process leads now; what was to be written was not"))
    }
}
