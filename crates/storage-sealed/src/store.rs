//! [`SealedStore`]: seals on the way in, opens on the way out. Snapshots pass as they are: sealed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use storage::{
    CompareTarget, Event, EventKind, Incarnation, KeyRange, KeyValue, LeaseId, Operation, OperationResponse,
    RangeRequest, RangeResponse, Revision, Snapshot, Store, StoreError, StoreStatus, Transaction,
    TransactionResponse, WatchBatch, WatchRequest, WatchStream, Witness,
};

use crate::configuration::{Configuration, Wanted};
use crate::envelope::{KeyRing, Unopened, is_sealed, key_name};

/// A store whose chosen values are sealed. Clones share it.
#[derive(Clone)]
pub struct SealedStore {
    pub(crate) inner: Arc<dyn Store>,
    rules: Arc<ArcSwap<Rules>>,
}

/// What is sealed with what.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) configuration: Configuration,
    pub(crate) ring: KeyRing,
}

impl std::fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedStore").field("rules", &self.rules()).finish_non_exhaustive()
    }
}

impl SealedStore {
    /// Around a store. Reads once what the configuration wants sealed, so that a key that is missing is said now and not
    /// by objects that nobody can read.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when something is sealed with a key that is not configured, or another of that name;
    /// else as the store's.
    pub async fn open(inner: Arc<dyn Store>, configuration: Configuration) -> Result<Self, StoreError> {
        let rules = Rules::new(configuration);
        rules.check(inner.as_ref()).await?;
        Ok(Self { inner, rules: Arc::new(ArcSwap::from_pointee(rules)) })
    }

    /// Takes another configuration from now on; [`Self::rewrite`] then seals what is older as it wants it.
    ///
    /// # Errors
    /// As [`Self::open`]; and [`StoreError::InvalidRequest`] when a key that writes now is no longer among the keys: what is
    /// being written with it at this moment could not be read. What was stays.
    pub async fn replace(&self, configuration: Configuration) -> Result<(), StoreError> {
        let next = Rules::new(configuration);
        let now = self.rules();
        if let Some(index) =
            now.configuration.writing().find(|index| !next.ring.has_key_of(&now.ring, *index))
        {
            return Err(StoreError::InvalidRequest(format!(
                "the key {} writes until now and must stay among the keys until everything is sealed anew",
                now.ring.name(index)
            )));
        }
        next.check(self.inner.as_ref()).await?;
        self.rules.store(Arc::new(next));
        Ok(())
    }

    /// What is sealed with what at this moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }
}

/// Seals values that lie elsewhere as if they were in the store, by the same configuration.
#[derive(Clone)]
pub struct Sealer(Arc<ArcSwap<Rules>>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sealer").field(&self.0.load()).finish()
    }
}

impl SealedStore {
    /// Seals values that lie elsewhere.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer(Arc::clone(&self.rules))
    }
}

impl Sealer {
    /// As the store would keep it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be sealed.
    pub fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, StoreError> {
        self.0.load().seal(key, Bytes::copy_from_slice(value))
    }

    /// As it was given; what is not sealed stays as it is.
    ///
    /// # Errors
    /// When its key is not configured, or it is damaged.
    pub fn open(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, Unopened> {
        if is_sealed(&value) { self.0.load().ring.open(key, &value) } else { Ok(value) }
    }

    /// Whether it is kept as the store would keep it now.
    #[must_use]
    pub fn is_current(&self, key: &[u8], value: &[u8]) -> bool {
        self.0.load().is_current(key, value)
    }
}

impl Rules {
    fn new(mut configuration: Configuration) -> Self {
        let ring = KeyRing::new(std::mem::take(&mut configuration.keys));
        Self { configuration, ring }
    }

    /// Reads everything that is sealed of what the configuration speaks of.
    async fn check(&self, store: &dyn Store) -> Result<(), StoreError> {
        for prefix in self.configuration.prefixes() {
            let read = store.range(RangeRequest::all(KeyRange::prefix(prefix))).await?;
            for kv in read.kvs.iter().filter(|kv| is_sealed(&kv.value)) {
                self.ring.open(&kv.key, &kv.value).map_err(|why| {
                    StoreError::InvalidRequest(format!("{} cannot be read: {why}", kv.key.escape_ascii()))
                })?;
            }
        }
        Ok(())
    }

    /// Whether a value is kept as the configuration wants it.
    pub(crate) fn is_current(&self, key: &[u8], value: &[u8]) -> bool {
        match self.configuration.wanted(key) {
            Wanted::Unnamed => true,
            Wanted::Plain => !is_sealed(value),
            Wanted::Sealed(index) => is_sealed(value) && key_name(value) == Some(self.ring.name(index)),
        }
    }

    /// A value as it is kept.
    pub(crate) fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, StoreError> {
        let Wanted::Sealed(index) = self.configuration.wanted(key) else { return Ok(value) };
        let sealed = self.ring.seal(index, key, &value);
        sealed.map(Bytes::from).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// A kept value as it was given. One that does not open stays as it is: whoever reads it finds an object that is
    /// damaged, and all others.
    fn open(&self, mut kv: KeyValue) -> KeyValue {
        if is_sealed(&kv.value) {
            match self.ring.open(&kv.key, &kv.value) {
                Ok(value) => kv.value = value.into(),
                Err(why) => {
                    tracing::error!(key = %kv.key.escape_ascii(), %why, "a sealed value cannot be read")
                }
            }
        }
        kv
    }

    fn range(&self, mut response: RangeResponse) -> RangeResponse {
        response.kvs = response.kvs.into_iter().map(|kv| self.open(kv)).collect();
        response
    }

    fn operation(&self, operation: Operation) -> Result<Operation, StoreError> {
        Ok(match operation {
            Operation::Put(mut put) => {
                put.value = self.seal(&put.key, put.value)?;
                Operation::Put(put)
            }
            other => other,
        })
    }

    fn answer(&self, response: OperationResponse) -> OperationResponse {
        match response {
            OperationResponse::Put { previous } => {
                OperationResponse::Put { previous: previous.map(|kv| self.open(kv)) }
            }
            OperationResponse::Delete { previous } => {
                OperationResponse::Delete { previous: previous.into_iter().map(|kv| self.open(kv)).collect() }
            }
            OperationResponse::Range(range) => OperationResponse::Range(self.range(range)),
        }
    }

    fn batch(&self, mut batch: WatchBatch) -> WatchBatch {
        let sealed = |event: &Event| {
            is_sealed(&event.kv.value) || event.previous.as_ref().is_some_and(|kv| is_sealed(&kv.value))
        };
        if batch.events.iter().any(sealed) {
            for event in &mut batch.events {
                if event.kind == EventKind::Put {
                    event.kv = self.open(event.kv.clone());
                }
                event.previous = event.previous.take().map(|kv| self.open(kv));
            }
        }
        batch
    }
}

#[async_trait]
impl Store for SealedStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let read = self.inner.range(request).await?;
        Ok(self.rules().range(read))
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        let rules = self.rules();
        for compare in &transaction.compare {
            let by_value = matches!(compare.target, CompareTarget::Value(_));
            if by_value && rules.configuration.wanted(&compare.key) != Wanted::Unnamed {
                return Err(StoreError::InvalidRequest(format!(
                    "{} may be sealed: it cannot be compared by value",
                    compare.key.escape_ascii()
                )));
            }
        }
        let seal = |operations: Vec<Operation>| -> Result<Vec<_>, _> {
            operations.into_iter().map(|operation| rules.operation(operation)).collect()
        };
        let transaction = Transaction {
            compare: transaction.compare,
            success: seal(transaction.success)?,
            failure: seal(transaction.failure)?,
        };
        let mut done = self.inner.transact(transaction).await?;
        let rules = self.rules();
        done.responses = done.responses.into_iter().map(|response| rules.answer(response)).collect();
        Ok(done)
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let rules = Arc::clone(&self.rules);
        Ok(self.inner.watch(request).await?.map(move |batch| rules.load().batch(batch)))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        self.inner.status().await
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation()
    }

    fn served(&self) -> Witness {
        self.inner.served()
    }

    async fn failed(&self) {
        self.inner.failed().await;
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_renew(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.lease_revoke(lease).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }
}
