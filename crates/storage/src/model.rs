//! The in-memory store: the model other engines are measured against, and the engine of ephemeral clusters.
//!
//! Exempt from the contract's durability: what it holds ends with the process. Everything else holds in full.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use foundation::clock::{SharedClock, SystemClock};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::contract::{
    Incarnation, LeaseId, RangeRequest, RangeResponse, Revision, Snapshot, Store, StoreStatus, Transaction,
    TransactionResponse, WatchRequest, WatchStream,
};
use crate::error::StoreError;
use crate::guard::Witness;
use crate::mvcc::{Core, RestoreOptions, Retention};

/// How often leases, progress and retention are looked after while anybody needs it.
const TICK: Duration = Duration::from_millis(100);

/// How a [`MemoryStore`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What lease times and history ages are measured by.
    pub clock: SharedClock,
    /// Automatic compaction; `None`: only when asked for.
    pub retention: Option<Retention>,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: SystemClock::shared(), retention: Some(Retention::default()) }
    }
}

/// An in-memory [`Store`]. Clones share it; its watches end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: RwLock<Core>,
    incarnation: Incarnation,
    options: Options,
    housekeeping: Mutex<Option<JoinHandle<()>>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::over(Core::new(Incarnation(Uuid::new_v4())), options)
    }

    /// A new life of what `snapshot` holds.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when the snapshot contradicts itself.
    pub fn restore(
        snapshot: &Snapshot,
        restore: RestoreOptions,
        options: Options,
    ) -> Result<Self, StoreError> {
        let now = options.clock.monotonic();
        Ok(Self::over(Core::restore(snapshot, restore, Incarnation(Uuid::new_v4()), now)?, options))
    }

    fn over(core: Core, options: Options) -> Self {
        let incarnation = core.incarnation();
        let inner = Inner { core: RwLock::new(core), incarnation, options, housekeeping: Mutex::new(None) };
        Self { inner: Arc::new(inner) }
    }

    /// Changes the store and makes the change visible, under one lock.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Core, Duration) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let now = self.inner.options.clock.monotonic();
        let mut core = self.inner.core.write();
        let done = change(&mut core, now)?;
        core.publish(now);
        if let Some(retention) = &self.inner.options.retention {
            core.enforce(retention, now);
        }
        Ok(done)
    }

    /// Starts the housekeeping task if it does not run (on this runtime): only watches and leases need it.
    fn keep_house(&self) {
        let mut task = self.inner.housekeeping.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(housekeeping(Arc::downgrade(&self.inner))));
        }
    }
}

async fn housekeeping(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(inner) = inner.upgrade() else { return };
        let store = MemoryStore { inner };
        // Cannot fail: nothing in the closure does.
        let _ = store.change(|core, now| {
            core.expire(now);
            core.tick(now);
            Ok(())
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.housekeeping.get_mut().take() {
            task.abort();
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.inner.core.read().range(&request)
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        self.change(|core, now| core.transact(transaction, now))
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.keep_house();
        let now = self.inner.options.clock.monotonic();
        self.inner.core.write().watch(request, now)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.change(|core, _| core.compact(revision).map(drop))
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        Ok(self.inner.core.read().status())
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    fn served(&self) -> Witness {
        Witness { incarnation: self.inner.incarnation, revision: self.inner.core.read().status().revision }
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.keep_house();
        let id = LeaseId::random();
        self.change(|core, now| core.lease_grant(id, ttl, now)).map(|()| id)
    }

    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.change(|core, now| core.lease_renew(lease, now))
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.change(|core, now| core.lease_revoke(lease, now))
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(self.inner.core.read().snapshot())
    }
}
