//! The store itself: opening, and the contract's methods as messages to the writer or reads of the memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use foundation::clock::{SharedClock, SystemClock};
use parking_lot::RwLock;
use storage::mvcc::{Core, RestoreOptions, Retention};
use storage::{
    Incarnation, LeaseId, RangeRequest, RangeResponse, Revision, Snapshot, Store, StoreError, StoreStatus,
    Transaction, TransactionResponse, WatchRequest, WatchStream, Witness,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Data, Facts};
use crate::directory::{Directory, corrupt};
use crate::snapshot_file;
use crate::writer::{Command, Reply, Shared, Writer};

/// Commands that may wait for the writer; callers wait beyond that. Four commits' worth.
const QUEUE: usize = 1024;

/// How an [`EmbeddedStore`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What lease times and history ages are measured by.
    pub clock: SharedClock,
    /// Automatic compaction; `None`: only when asked for.
    pub retention: Option<Retention>,
    /// How large the data file may grow; beyond that writes answer [`StoreError::NoSpace`], and reads go on.
    pub max_bytes: Option<u64>,
    /// What this machine knows to have been served of the store: one that is behind it begins a new life when opened.
    pub witness: Option<Witness>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            retention: Some(Retention::default()),
            max_bytes: None,
            witness: None,
        }
    }
}

/// A [`Store`] in a directory. Clones share it; it is closed, and its directory unlocked, when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    incarnation: Incarnation,
    path: PathBuf,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    /// Waits for the writer, one commit at most: whoever drops a store may open it again at once.
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl EmbeddedStore {
    /// Opens the store in `path`, or creates one if there never was any. Reads and checks all of it. Blocks on the disk:
    /// milliseconds for a new store, about a second per million records.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the file and what to do; [`StoreError::Unavailable`] when another process has it;
    /// [`StoreError::NoSpace`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let directory = Directory::open(path)?;
        let data = if directory.holds_store()? {
            directory.mark()?;
            let data = Data::open(&directory.data(), options.max_bytes, false)?;
            let found = data.revision()?;
            match options.witness {
                Some(witness) if witness.contradicted_by(found) => begin_again(&directory, data, &options)?,
                _ => data,
            }
        } else {
            let core = Core::new(new_incarnation());
            create(&directory, &core, &options)?
        };
        Self::start(path, directory, data, options)
    }

    fn start(path: &Path, directory: Directory, data: Data, options: Options) -> Result<Self, StoreError> {
        let (core, garbage) = data.load(options.clock.monotonic())?;
        let incarnation = core.incarnation();
        let stored_compaction = core.status().compacted;
        let shared = Arc::new(Shared {
            core: RwLock::new(core),
            failed: RwLock::new(None),
            broken: CancellationToken::new(),
            clock: options.clock,
        });
        let writer = Writer {
            shared: shared.clone(),
            data: Some(data),
            max_bytes: options.max_bytes,
            retention: options.retention,
            garbage,
            stored_compaction,
            directory,
        };
        let (commands, receiver) = mpsc::channel(QUEUE);
        let cannot =
            |e: std::io::Error| StoreError::Unavailable(format!("cannot start the store's writer: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(cannot)?;
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver, &runtime))
            .map_err(cannot)?;
        let inner = Inner {
            shared,
            incarnation,
            path: path.to_owned(),
            commands: Some(commands),
            thread: Some(thread),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Writes a snapshot file; it is there whole or not at all. Writers go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Unavailable`].
    pub async fn snapshot_to_file(&self, file: impl Into<PathBuf>) -> Result<Snapshot, StoreError> {
        let snapshot = self.snapshot().await?;
        let file = file.into();
        tokio::task::spawn_blocking(move || snapshot_file::write(&file, &snapshot).map(|()| snapshot))
            .await
            .map_err(|_| StoreError::Unavailable("the runtime is shutting down".to_owned()))?
    }

    /// Makes a new store in `path` of a snapshot file: a new incarnation, and revisions that the old one never reached.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the file, [`StoreError::InvalidRequest`] when there is a store in `path` already.
    pub fn restore_from_file(
        file: impl AsRef<Path>,
        path: impl AsRef<Path>,
        restore: RestoreOptions,
        options: Options,
    ) -> Result<Self, StoreError> {
        let (file, path) = (file.as_ref(), path.as_ref());
        let snapshot = snapshot_file::read(file)?;
        let directory = Directory::open(path)?;
        if !matches!(directory.holds_store(), Ok(false)) {
            return Err(StoreError::InvalidRequest(format!(
                "there is a store in `{}` already: restore to another directory, or move this one away",
                path.display()
            )));
        }
        let core = Core::restore(&snapshot, restore, new_incarnation(), options.clock.monotonic())
            .map_err(|error| corrupt(file, error))?;
        let data = create(&directory, &core, &options)?;
        Self::start(path, directory, data, options)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.inner.shared.failed.read().clone().map_or(Ok(()), Err)
    }

    async fn command<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("the store's writer has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let commands = self.inner.commands.as_ref().ok_or_else(stopped)?;
        commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn new_incarnation() -> Incarnation {
    Incarnation(Uuid::new_v4())
}

/// Begins a new life of a store that went back. A crash in between leaves the old one, which begins again as well.
fn begin_again(directory: &Directory, data: Data, options: &Options) -> Result<Data, StoreError> {
    let now = options.clock.monotonic();
    let (core, _) = data.load(now)?;
    drop(data);
    let snapshot = core.snapshot();
    let revision = Witness::next_life(options.witness, snapshot.revision);
    tracing::warn!(
        found = %snapshot.revision, begins = %revision, "the store is not what was served before: a new life begins"
    );
    let restore = RestoreOptions { revision_bump: revision.0 - snapshot.revision.0 };
    create(directory, &Core::restore(&snapshot, restore, new_incarnation(), now)?, options)
}

/// Writes a new store's data under another name, and makes it the store's when it is whole.
fn create(directory: &Directory, core: &Core, options: &Options) -> Result<Data, StoreError> {
    let content = core.snapshot();
    let compacted = core.status().compacted;
    let facts = Facts { incarnation: content.incarnation, revision: content.revision, compacted };
    let mut data = Data::open(&directory.new_data(), options.max_bytes, true)?;
    data.initialise(facts, &content.kvs, &content.leases)?;
    directory.adopt_new_data()?;
    data.moved_to(directory.data());
    Ok(data)
}

/// Reads and checks a whole store that nobody has open. Changes nothing but what opening a database after a crash does.
///
/// # Errors
/// As [`EmbeddedStore::open`]; a directory without a store is [`StoreError::Corrupt`], too.
pub fn verify(path: impl AsRef<Path>) -> Result<StoreStatus, StoreError> {
    let directory = Directory::open_existing(path.as_ref())?;
    directory.holds_store()?;
    let data = Data::open(&directory.data(), None, false)?;
    let (core, _) = data.load(Duration::ZERO)?;
    Ok(core.status())
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.check()?;
        self.inner.shared.core.read().range(&request)
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        self.command(|reply| Command::Transact(transaction, reply)).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.check()?;
        let now = self.inner.shared.clock.monotonic();
        self.inner.shared.core.write().watch(request, now)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.command(|reply| Command::Compact(revision, reply)).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        self.check()?;
        Ok(self.inner.shared.core.read().status())
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    fn served(&self) -> Witness {
        let revision = self.inner.shared.core.read().status().revision;
        Witness { incarnation: self.inner.incarnation, revision }
    }

    async fn failed(&self) {
        self.inner.shared.broken.cancelled().await;
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let id = LeaseId::random();
        self.command(|reply| Command::Grant(id, ttl, reply)).await.map(|()| id)
    }

    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        let now = self.inner.shared.clock.monotonic();
        self.inner.shared.core.write().lease_renew(lease, now)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.command(|reply| Command::Revoke(lease, reply)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.check()?;
        Ok(self.inner.shared.core.read().snapshot())
    }
}

#[cfg(test)]
mod tests;
