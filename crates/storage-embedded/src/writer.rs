//! The thread that owns the database.

use std::sync::Arc;
use std::time::Duration;

use foundation::clock::SharedClock;
use parking_lot::RwLock;
use storage::mvcc::{Core, RecordId, Retention, Unpublished};
use storage::{LeaseId, Revision, StoreError, Transaction, TransactionResponse};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::database::{Batch, Data, Facts};
use crate::directory::Directory;

/// At most this many commands share one commit: at 2 kB each about half a megabyte, well below what a commit's fsync costs.
const GROUP: usize = 256;
/// How often leases, progress and retention are looked after while anything needs it.
const TICK: Duration = Duration::from_millis(100);
/// How often retention is looked after when nothing else needs a tick.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// How many old records one commit removes: keeps a big compaction from holding up writers for more than some 10 ms.
const GARBAGE_PER_COMMIT: usize = 2000;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(crate) enum Command {
    Transact(Transaction, Reply<TransactionResponse>),
    Compact(Revision, Reply<()>),
    Grant(LeaseId, Duration, Reply<()>),
    Revoke(LeaseId, Reply<()>),
}

/// What the handle and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) core: RwLock<Core>,
    pub(crate) failed: RwLock<Option<StoreError>>,
    /// Cancelled when it has failed.
    pub(crate) broken: CancellationToken,
    pub(crate) clock: SharedClock,
}

/// An answer that waits for the commit.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) data: Option<Data>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) retention: Option<Retention>,
    pub(crate) garbage: Vec<RecordId>,
    /// The compaction point on disk.
    pub(crate) stored_compaction: Revision,
    /// Held until the database is closed.
    pub(crate) directory: Directory,
}

impl Writer {
    /// Runs until the handle is dropped, and commits what was handed over before.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>, runtime: &tokio::runtime::Runtime) {
        loop {
            let wait = if self.shared.core.read().needs_ticks() || !self.garbage.is_empty() {
                TICK
            } else {
                IDLE_TICK
            };
            match runtime.block_on(async { tokio::time::timeout(wait, commands.recv()).await }) {
                Ok(Some(first)) => self.group(first, &mut commands),
                Ok(None) => break,
                Err(_) => self.tick(),
            }
        }
        // The watchers' streams end with the core; the file is closed before the directory is unlocked.
        drop(self.data.take());
        drop(self.directory);
    }

    fn group(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) {
        let mut answers = Vec::new();
        self.apply(first, &mut answers);
        while answers.len() < GROUP {
            let Ok(command) = commands.try_recv() else { break };
            self.apply(command, &mut answers);
        }
        self.settle(answers);
    }

    fn tick(&mut self) {
        let now = self.shared.clock.monotonic();
        {
            let mut core = self.shared.core.write();
            core.expire(now);
            core.tick(now);
            if let Some((_, garbage)) = self.retention.and_then(|retention| core.enforce(&retention, now)) {
                self.garbage.extend(garbage);
            }
        }
        self.settle(Vec::new());
    }

    fn apply(&mut self, command: Command, answers: &mut Vec<Answer>) {
        if let Some(error) = self.shared.failed.read().clone() {
            return refuse(command, error);
        }
        let now = self.shared.clock.monotonic();
        let mut core = self.shared.core.write();
        match command {
            Command::Transact(transaction, reply) => {
                let done = core.transact(transaction, now);
                answers.push(answer(reply, done));
            }
            Command::Compact(revision, reply) => {
                let done = core.compact(revision).map(|garbage| self.garbage.extend(garbage));
                answers.push(answer(reply, done));
            }
            Command::Grant(id, ttl, reply) => answers.push(answer(reply, core.lease_grant(id, ttl, now))),
            Command::Revoke(id, reply) => answers.push(answer(reply, core.lease_revoke(id, now))),
        }
    }

    /// Makes durable what was applied, shows it, and answers; or takes it back.
    fn settle(&mut self, answers: Vec<Answer>) {
        let result = self.commit();
        if result.is_ok() {
            let now = self.shared.clock.monotonic();
            let mut core = self.shared.core.write();
            core.publish(now);
            if let Some((_, garbage)) = self.retention.and_then(|retention| core.enforce(&retention, now)) {
                self.garbage.extend(garbage);
            }
        }
        for answer in answers {
            answer(result.clone());
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if let Some(error) = self.shared.failed.read().clone() {
            return Err(error);
        }
        let (unpublished, facts) = {
            let core = self.shared.core.read();
            let facts = Facts {
                incarnation: core.incarnation(),
                revision: core.head(),
                compacted: core.status().compacted,
            };
            (core.unpublished(), facts)
        };
        if unpublished.is_empty() && facts.compacted == self.stored_compaction && self.garbage.is_empty() {
            return Ok(());
        }
        self.write(&unpublished, facts)
    }

    fn write(&mut self, unpublished: &Unpublished, facts: Facts) -> Result<(), StoreError> {
        let Some(data) = &self.data else {
            return Err(self.fail("its file is closed after an earlier error"));
        };
        let count = self.garbage.len().min(GARBAGE_PER_COMMIT);
        let batch = Batch {
            facts,
            revisions: &unpublished.revisions,
            leases: &unpublished.leases,
            garbage: &self.garbage[..count],
        };
        match data.commit(&batch) {
            Ok(()) => {
                self.garbage.drain(..count);
                self.stored_compaction = facts.compacted;
                Ok(())
            }
            Err(error) if data.only_lacks_space() => Err(self.recover_space(error)),
            Err(error) => {
                self.data = None;
                Err(self.fail(error))
            }
        }
    }

    /// The file could not grow, before anything of the commit counted. redb refuses a database after any error, so it is
    /// opened anew, and what it then says decides.
    fn recover_space(&mut self, error: StoreError) -> StoreError {
        let Some(path) = self.data.take().map(|data| data.path().to_owned()) else { return error };
        let now = self.shared.clock.monotonic();
        let reopened = Data::open(&path, self.max_bytes, false).and_then(|data| Ok((data.load(now)?, data)));
        let visible = self.shared.core.read().status().revision;
        match reopened {
            Ok(((stored, _), data)) if stored.status().revision == visible => {
                self.data = Some(data);
                self.shared.core.write().rollback(now);
                error
            }
            Ok(_) => self.fail("the disk is full, and the file does not hold what was acknowledged"),
            Err(again) => {
                self.fail(format!("the disk is full, and the file cannot be opened again: {again}"))
            }
        }
    }

    /// Refuses everything from now on. The outcome of what was being written is unknown until the store is opened again.
    fn fail(&self, reason: impl std::fmt::Display) -> StoreError {
        tracing::error!(%reason, "the store has failed and must be opened again");
        let error =
            StoreError::Unavailable(format!("a write failed and the store must be opened again: {reason}"));
        *self.shared.failed.write() = Some(error.clone());
        self.shared.broken.cancel();
        self.shared.core.write().end_watches(&error);
        error
    }
}

/// The answer to a command, held back until the commit: what failed by itself is answered with its own error, but only
/// after the commit, too, for it may rest on what another command of the group did.
fn answer<T: Send + 'static>(reply: Reply<T>, done: Result<T, StoreError>) -> Answer {
    Box::new(move |committed| drop(reply.send(committed.and(done))))
}

fn refuse(command: Command, error: StoreError) {
    match command {
        Command::Transact(_, reply) => drop(reply.send(Err(error))),
        Command::Compact(_, reply) | Command::Grant(_, _, reply) | Command::Revoke(_, reply) => {
            drop(reply.send(Err(error)));
        }
    }
}
