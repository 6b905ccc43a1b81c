//! Forgetting history: on request, and automatically, by one of the servers of a store at a time.
//!
//! Every server tries, once per `history`, to write the newest revision into one key, comparing the key's version; who
//! succeeds compacts what stood there before, which is then at least one period old. The others have seen the key change
//! and wait again. A server that stops in between loses nothing: the next period compacts further. (kube-apiserver's
//! compactor works the same way.)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::{Revision, StoreError};

use crate::connection::{Connection, Fault, Repeat};
use crate::store::Shared;
use crate::wire::etcdserverpb::{
    CompactionRequest, PutRequest, RangeRequest, TxnRequest, request_op, response_op,
};

impl Shared {
    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.check()?;
        let oldest = self.compaction_point().await?;
        if revision <= oldest {
            return Err(StoreError::Compacted { requested: revision, oldest });
        }
        // The fence: a revision of another life must not be compacted as one of this.
        let newest = self.life.numbering.own(self.head().await?);
        if revision > newest {
            return Err(StoreError::FutureRevision { requested: revision, newest });
        }
        let request = CompactionRequest { revision: self.life.numbering.etcd(revision), physical: false };
        let call = |channel| async move { Connection::kv(channel).compact(request).await };
        match self.connection.call(Repeat::Freely, call).await {
            Ok(_) => {
                self.compacted.fetch_max(revision.0, Ordering::AcqRel);
                Ok(())
            }
            Err(Fault::Compacted) => Err(self.compacted_error(revision).await),
            Err(Fault::Future) => Err(self.future_error(revision).await),
            Err(fault) => Err(fault.store_error()),
        }
    }
}

/// Keeps about `history` of history until the store stops.
pub(crate) async fn run(shared: Arc<Shared>, history: Duration) {
    let (stop, broken) = (shared.stop.clone(), shared.broken.clone());
    let period = history.max(Duration::from_secs(1));
    let mut seen: Option<i64> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = broken.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        match turn(&shared, seen).await {
            Ok(version) => seen = Some(version),
            Err(error) => tracing::warn!(%error, "automatic compaction did not succeed; it is tried again"),
        }
    }
}

/// One try; answers the key's version afterwards. Without a version seen before it only looks: a period has to pass first.
async fn turn(shared: &Shared, seen: Option<i64>) -> Result<i64, StoreError> {
    let key = shared.layout.compaction();
    let look = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let (head, found) = shared.fenced_range(look).await.map_err(crate::store::Refused::store_error)?;
    let found = found.kvs.into_iter().next();
    let (version, before) = found.map_or((0, None), |kv| (kv.version, Some(kv.value)));
    if seen.is_some_and(|seen| seen != version) {
        return Ok(version);
    }
    if seen.is_none() && version > 0 {
        return Ok(version);
    }
    let now = shared.life.numbering.own(head);
    let put = PutRequest { key: key.clone(), value: now.to_string().into_bytes(), ..PutRequest::default() };
    let take = TxnRequest {
        compare: vec![of_version(key, version)],
        success: vec![crate::wire::etcdserverpb::RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }],
        failure: Vec::new(),
    };
    let operation = request_op::Request::RequestTxn(take);
    let (_, responses) = shared
        .fenced(Repeat::UnlessSent, vec![operation])
        .await
        .map_err(crate::store::Refused::store_error)?;
    let won = matches!(
        responses.first().and_then(|response| response.response.as_ref()),
        Some(response_op::Response::ResponseTxn(done)) if done.succeeded
    );
    if !won {
        // Somebody else has this period's turn.
        return Ok(version + 1);
    }
    let before = before.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok().map(Revision));
    if let Some(revision) = before.filter(|revision| *revision <= now) {
        match shared.compact(revision).await {
            Ok(()) => tracing::debug!(%revision, "compacted"),
            Err(StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(version + 1)
}

fn of_version(key: Vec<u8>, version: i64) -> crate::wire::etcdserverpb::Compare {
    use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
    crate::wire::etcdserverpb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key,
        target_union: Some(TargetUnion::Version(version)),
    }
}
