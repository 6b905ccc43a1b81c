//! [`EtcdStore`]: the handle, what its tasks share, and the fence around everything it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use storage::{
    Incarnation, LeaseId, RangeRequest, RangeResponse, Revision, Snapshot, Store, StoreError, StoreStatus,
    Transaction, TransactionResponse, WatchRequest, WatchStream, Witness,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::{Connection, Fault, Repeat};
use crate::layout::Layout;
use crate::life::{self, Life};
use crate::options::Options;
use crate::read::{Reader, Waiting};
use crate::wire::etcdserverpb::{
    RangeRequest as EtcdRange, RequestOp, ResponseHeader, ResponseOp, StatusRequest, TxnRequest, request_op,
};

/// Reads of the newest revision that may wait for the next answer of etcd; one call answers all that wait.
const WAITING_READS: usize = 4096;

/// A [`Store`] in etcd. Clones share it; its watches end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What the handle and its tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) layout: Layout,
    pub(crate) life: Life,
    /// etcd's newest revision that anything has shown; a linearizable answer never lies below what was known before it
    /// was asked for.
    pub(crate) high: AtomicI64,
    /// A revision known to be compacted; there may be a later one.
    pub(crate) compacted: AtomicU64,
    failed: RwLock<Option<StoreError>>,
    /// Cancelled when the store has failed.
    pub(crate) broken: CancellationToken,
    /// Cancelled when the last handle is dropped.
    pub(crate) stop: CancellationToken,
    /// etcd's revision that watches should soon be known to have reached.
    pub(crate) wanted: watch::Sender<i64>,
    /// Whether etcd can be asked for a watch's progress, see [`progress_is_sound`].
    pub(crate) asks_progress: bool,
    reads: mpsc::Sender<Waiting>,
}

impl EtcdStore {
    /// Opens the store below the prefix, or creates it. Begins a new life when etcd is another cluster than the store was
    /// written to, or is behind the witness.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] for endpoints that cannot be one, [`StoreError::Unavailable`] when no member answers,
    /// [`StoreError::Corrupt`] when there is something below the prefix that is no store.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let connection =
            Connection::new(&options).map_err(|error| StoreError::InvalidRequest(error.to_string()))?;
        let layout = Layout::new(&options.prefix);
        let life = life::open(&connection, &layout, options.create, options.witness).await?;
        Self::over(connection, layout, life, options.history).await
    }

    pub(crate) async fn over(
        connection: Connection,
        layout: Layout,
        life: Life,
        history: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let status = |channel| async move { Connection::maintenance(channel).status(StatusRequest {}).await };
        let version = connection.call(Repeat::Freely, status).await.map_err(Fault::store_error)?.version;
        let (reads, waiting) = mpsc::channel(WAITING_READS);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            connection,
            layout,
            life,
            high: AtomicI64::new(life.fence),
            compacted: AtomicU64::new(life.numbering.floor.0),
            failed: RwLock::new(None),
            broken: CancellationToken::new(),
            stop: stop.clone(),
            wanted: watch::Sender::new(0),
            asks_progress: progress_is_sound(&version),
            reads,
        });
        tokio::spawn(Reader::new(Arc::clone(&shared), waiting).run());
        if let Some(history) = history {
            tokio::spawn(crate::compaction::run(Arc::clone(&shared), history));
        }
        Ok(Self { inner: Arc::new(Inner { shared, _stop: stop.drop_guard() }) })
    }
}

/// Whether a progress notification asked for comes after the events it covers: so since 3.4.25 and 3.5.8
/// (etcd-io/etcd#15220).
fn progress_is_sound(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap_or(0)
    });
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

impl Shared {
    /// The error that ended the store, if one has.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failed.read().clone().map_or(Ok(()), Err)
    }

    /// Refuses everything from now on and ends all watches: the handle must be opened again.
    pub(crate) fn fail(&self, reason: &str) -> StoreError {
        tracing::error!(%reason, "the store must be opened again");
        let error = StoreError::Unavailable(format!("the store must be opened again: {reason}"));
        self.failed.write().get_or_insert_with(|| error.clone());
        self.broken.cancel();
        error
    }

    /// Takes note of the header of a linearizable answer to what was asked when `known` was the newest revision.
    pub(crate) fn note(&self, header: Option<&ResponseHeader>, known: i64) -> Result<i64, StoreError> {
        let Some(header) = header else {
            return Err(StoreError::Unavailable("etcd answered without a header".to_owned()));
        };
        if header.cluster_id != self.life.cluster {
            return Err(self.fail("the endpoints lead to another etcd cluster"));
        }
        if header.revision < known {
            let reason = format!("etcd went back from revision {known} to {}", header.revision);
            return Err(self.fail(&reason));
        }
        self.high.fetch_max(header.revision, Ordering::AcqRel);
        Ok(header.revision)
    }

    /// Does `operations` atomically unless another life has begun. Answers etcd's revision after it.
    pub(crate) async fn fenced(
        &self,
        repeat: Repeat,
        operations: Vec<request_op::Request>,
    ) -> Result<(i64, Vec<ResponseOp>), Refused> {
        self.check()?;
        let request = TxnRequest {
            compare: vec![life::unchanged(self.layout.life(), self.life.fence)],
            success: operations.into_iter().map(|request| RequestOp { request: Some(request) }).collect(),
            failure: Vec::new(),
        };
        let known = self.high.load(Ordering::Acquire);
        let call = |channel| {
            let request = request.clone();
            async move { Connection::kv(channel).txn(request).await }
        };
        let response = self.connection.call(repeat, call).await?;
        let revision = self.note(response.header.as_ref(), known)?;
        if !response.succeeded {
            return Err(self.fail("another life of it has begun").into());
        }
        Ok((revision, response.responses))
    }

    /// Reads a range at one of etcd's revisions (0: now).
    pub(crate) async fn fenced_range(
        &self,
        request: EtcdRange,
    ) -> Result<(i64, crate::wire::etcdserverpb::RangeResponse), Refused> {
        use crate::wire::etcdserverpb::response_op::Response;
        let operation = request_op::Request::RequestRange(request);
        let (revision, responses) = self.fenced(Repeat::Freely, vec![operation]).await?;
        match responses.into_iter().next().and_then(|response| response.response) {
            Some(Response::ResponseRange(read)) => Ok((revision, read)),
            _ => Err(malformed().into()),
        }
    }

    /// etcd's newest revision, no older than this call; answers to calls at the same time are shared.
    pub(crate) async fn head(&self) -> Result<i64, StoreError> {
        self.check()?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        let stopped = || StoreError::Unavailable("the store is shut down".to_owned());
        self.reads.send(answer).await.map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }

    /// The compaction point: what is known, unless somebody has compacted further.
    pub(crate) async fn compaction_point(&self) -> Result<Revision, StoreError> {
        let known = Revision(self.compacted.load(Ordering::Acquire));
        let at = self.life.numbering.etcd(known);
        // Before a store's first life there is nothing that could be read: its record is not etcd's first revision.
        let at = if at > 0 { at } else { self.life.numbering.etcd(Revision(1)) - 1 };
        match self.readable(at).await {
            Ok(()) => Ok(known),
            Err(Refused::Fault(Fault::Compacted)) => {
                let found = crate::watch::compaction_point(self, at).await?;
                Ok(Revision(self.compacted.fetch_max(found.0, Ordering::AcqRel).max(found.0)))
            }
            Err(refused) => Err(refused.store_error()),
        }
    }

    /// Whether etcd still knows (and already knows) a revision.
    pub(crate) async fn readable(&self, revision: i64) -> Result<(), Refused> {
        let key = self.layout.life();
        let request = EtcdRange { key, revision, count_only: true, ..EtcdRange::default() };
        self.fenced_range(request).await.map(drop)
    }

    pub(crate) async fn compacted_error(&self, requested: Revision) -> StoreError {
        match self.compaction_point().await {
            Ok(oldest) => StoreError::Compacted { requested, oldest },
            Err(error) => error,
        }
    }

    pub(crate) async fn future_error(&self, requested: Revision) -> StoreError {
        match self.head().await {
            Ok(newest) => StoreError::FutureRevision { requested, newest: self.life.numbering.own(newest) },
            Err(error) => error,
        }
    }
}

pub(crate) fn malformed() -> StoreError {
    StoreError::Unavailable("etcd's answer does not fit the question".to_owned())
}

/// Why something fenced was not done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// etcd or the way there.
    Fault(Fault),
    /// The store itself.
    Store(StoreError),
}

impl Refused {
    pub(crate) fn store_error(self) -> StoreError {
        match self {
            Self::Fault(fault) => fault.store_error(),
            Self::Store(error) => error,
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.inner.shared.range(&request).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        let shared = Arc::clone(&self.inner.shared);
        // On a task of its own: a transaction that was handed over is not undone by dropping the future, and its outcome
        // is always noted.
        let done = tokio::spawn(async move { shared.transact(transaction).await });
        done.await.map_err(|_| StoreError::Unavailable("the runtime is shutting down".to_owned()))?
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        crate::watch::start(&self.inner.shared, request).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.shared.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let shared = &self.inner.shared;
        let head = shared.head().await?;
        // Whoever asks is about to wait for a watch to get there.
        shared.wanted.send_if_modified(|wanted| std::mem::replace(wanted, head.max(*wanted)) < head);
        Ok(shared.life.numbering.own(head))
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        let shared = &self.inner.shared;
        let compacted = shared.compaction_point().await?;
        let revision = shared.life.numbering.own(shared.head().await?);
        Ok(StoreStatus { revision, compacted })
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.shared.life.incarnation
    }

    fn served(&self) -> Witness {
        let shared = &self.inner.shared;
        let revision = shared.life.numbering.own(shared.high.load(Ordering::Acquire));
        Witness { incarnation: shared.life.incarnation, revision }
    }

    async fn failed(&self) {
        self.inner.shared.broken.cancelled().await;
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.shared.lease_grant(LeaseId::random(), ttl).await
    }

    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.shared.lease_renew(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.shared.lease_revoke(lease).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.shared.snapshot().await
    }
}

#[cfg(test)]
mod tests {
    use super::progress_is_sound;

    #[test]
    fn progress_is_asked_for_only_where_it_can_be_believed() {
        let sound = ["3.4.25", "3.4.31", "3.5.8", "3.6.0", "4.0.0", "3.5.21-k3s1"];
        let unsound = ["3.4.23", "3.4", "3.5.7", "3.3.27", "", "nonsense"];
        assert!(sound.iter().all(|version| progress_is_sound(version)));
        assert!(!unsound.iter().any(|version| progress_is_sound(version)));
    }
}
