//! The redb file: tables, commits, loading.
//!
//! Every call into redb goes through [`guarded`]: redb checks less of what it reads from a damaged file than it should, and
//! a panic of its must become an error that names the file.

use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use storage::mvcc::{Core, LeaseChange, LeaseGrant, Loader, RecordId, RevisionEvents};
use storage::{Incarnation, KeyValue, LeaseId, Revision, StoreError};
use uuid::Uuid;

use crate::backend::{Backend, Faults};
use crate::directory::{corrupt, io_error};
use crate::records;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const FACTS_KEY: &str = "store";
const MAGIC: &[u8; 8] = b"FAIRDB\x00\x01";
/// redb's page cache. Everything is read once, at open; writes touch the tree's right edge.
const CACHE_BYTES: usize = 3 << 20;

/// What the store knows of itself; written with every commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
}

impl Facts {
    const BYTES: usize = 60;

    /// The number of records and leases is part of the facts, so that a table that lost some is noticed.
    fn encode(&self, records: u64, leases: u64) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..24].copy_from_slice(self.incarnation.0.as_bytes());
        for (at, number) in [self.revision.0, self.compacted.0, records, leases].into_iter().enumerate() {
            out[24 + 8 * at..32 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..56]);
        out[56..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<(Self, u64, u64), &'static str> {
        if bytes.len() != Self::BYTES || &bytes[..8] != MAGIC {
            return Err("it was not written by a store of this format");
        }
        if u32::from_le_bytes(records::array(bytes, 56)) != crc32c::crc32c(&bytes[..56]) {
            return Err("the checksum of the store's own facts is wrong");
        }
        let number = |at| u64::from_le_bytes(records::array(bytes, at));
        let facts = Self {
            incarnation: Incarnation(Uuid::from_bytes(records::array(bytes, 8))),
            revision: Revision(number(24)),
            compacted: Revision(number(32)),
        };
        Ok((facts, number(40), number(48)))
    }
}

/// What one commit writes.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) facts: Facts,
    pub(crate) revisions: &'a [RevisionEvents],
    pub(crate) leases: &'a [LeaseChange],
    pub(crate) garbage: &'a [RecordId],
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Data {
    path: PathBuf,
    database: Database,
    pub(crate) faults: Faults,
}

impl Data {
    /// Opens `path`; `fresh`: creates it, replacing what an interrupted creation left.
    pub(crate) fn open(path: &Path, max_bytes: Option<u64>, fresh: bool) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(fresh)
            .truncate(fresh)
            .open(path)
            .map_err(|e| io_error("open", path, &e))?;
        if !fresh {
            refuse_foreign(path, &file)?;
        }
        let faults = Faults::default();
        let backend = Backend::new(file, max_bytes, faults.clone());
        let database = guarded(path, &faults, || {
            Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
        })?;
        Ok(Self { path: path.to_owned(), database, faults })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file has been renamed.
    pub(crate) fn moved_to(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Whether the last error left no doubt that nothing was written.
    pub(crate) fn only_lacks_space(&self) -> bool {
        self.faults.only_no_space()
    }

    /// Writes a new store.
    pub(crate) fn initialise(
        &self,
        facts: Facts,
        kvs: &[KeyValue],
        leases: &[LeaseGrant],
    ) -> Result<(), StoreError> {
        guarded(&self.path, &self.faults, || {
            let transaction = begin(&self.database)?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                for (position, kv) in (0u32..).zip(kvs) {
                    let id = records::encode_id((kv.mod_revision, position));
                    table.insert(id.as_slice(), records::encode_key_value(position, kv).as_slice())?;
                }
                let mut lease_table = transaction.open_table(LEASES)?;
                for grant in leases {
                    lease_table.insert(grant.id.0, milliseconds(grant.ttl))?;
                }
                let facts = facts.encode(table.len()?, lease_table.len()?);
                transaction.open_table(FACTS)?.insert(FACTS_KEY, facts.as_slice())?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Writes one batch; durable when it answers `Ok`.
    pub(crate) fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        guarded(&self.path, &self.faults, || {
            let transaction = begin(&self.database)?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                for entry in batch.revisions {
                    for (position, event) in (0u32..).zip(entry.events.iter()) {
                        let id = records::encode_id((entry.revision, position));
                        table.insert(id.as_slice(), records::encode_event(position, event).as_slice())?;
                    }
                }
                for id in batch.garbage {
                    table.remove(records::encode_id(*id).as_slice())?;
                }
                let mut leases = transaction.open_table(LEASES)?;
                for change in batch.leases {
                    match change {
                        LeaseChange::Granted(grant) => leases.insert(grant.id.0, milliseconds(grant.ttl))?,
                        LeaseChange::Ended(grant) => leases.remove(grant.id.0)?,
                    };
                }
                let facts = batch.facts.encode(table.len()?, leases.len()?);
                transaction.open_table(FACTS)?.insert(FACTS_KEY, facts.as_slice())?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// The revision that the store says it is at.
    pub(crate) fn revision(&self) -> Result<Revision, StoreError> {
        guarded(&self.path, &self.faults, || {
            let transaction = self.database.begin_read()?;
            let facts = transaction.open_table(FACTS)?;
            let facts =
                facts.get(FACTS_KEY)?.ok_or(Failure::Bad("the store's own facts are missing".into()))?;
            Ok(Facts::decode(facts.value())?.0.revision)
        })
    }

    /// Reads and checks everything. Answers the store, and records that an interrupted compaction left.
    pub(crate) fn load(&self, now: Duration) -> Result<(Core, Vec<RecordId>), StoreError> {
        guarded(&self.path, &self.faults, || {
            let transaction = self.database.begin_read()?;
            let facts = transaction.open_table(FACTS)?;
            let facts =
                facts.get(FACTS_KEY)?.ok_or(Failure::Bad("the store's own facts are missing".into()))?;
            let (facts, record_count, lease_count) = Facts::decode(facts.value())?;
            let mut leases = Vec::new();
            for entry in transaction.open_table(LEASES)?.iter()? {
                let (id, ttl) = entry?;
                leases.push(LeaseGrant { id: LeaseId(id.value()), ttl: Duration::from_millis(ttl.value()) });
            }
            if leases.len() as u64 != lease_count {
                return Err("leases are missing".into());
            }
            let mut loader = Loader::new(facts.incarnation, facts.revision, facts.compacted, leases, now);
            let mut count = 0;
            for entry in transaction.open_table(RECORDS)?.iter()? {
                let (id, bytes) = entry?;
                let id = records::decode_id(id.value()).ok_or("a record's name is malformed")?;
                let record = records::decode(id, &Bytes::copy_from_slice(bytes.value()))?;
                loader.push(record).map_err(|misplaced| Failure::Bad(misplaced.to_string()))?;
                count += 1;
            }
            if count != record_count {
                return Err(Failure::Bad(format!("{count} records are there of {record_count}")));
            }
            Ok(loader.finish())
        })
    }
}

/// redb creates a database in an empty file, which would be silent emptiness.
fn refuse_foreign(path: &Path, file: &File) -> Result<(), StoreError> {
    let length = file.metadata().map_err(|e| io_error("look at", path, &e))?.len();
    if length == 0 {
        return Err(corrupt(path, "it is empty"));
    }
    let mut magic = [0; 4];
    let read = std::os::unix::fs::FileExt::read_exact_at(file, &mut magic, 0);
    if read.is_err() || &magic != b"redb" {
        return Err(corrupt(path, "it is not the data of a store"));
    }
    Ok(())
}

fn begin(database: &Database) -> Result<redb::WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).map_err(|e| Failure::Bad(e.to_string()))?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn milliseconds(ttl: Duration) -> u64 {
    // At most a year.
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

enum Failure {
    Redb(redb::Error),
    Bad(String),
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        })+
    };
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self::Bad(reason.to_owned())
    }
}

fn guarded<T>(
    path: &Path,
    faults: &Faults,
    action: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, StoreError> {
    // After a panic the caller drops the database and uses nothing that the action has touched.
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) if faults.only_no_space() => Err(StoreError::NoSpace { path: path.to_owned() }),
        Ok(Err(Failure::Bad(reason))) => Err(corrupt(path, reason)),
        Ok(Err(Failure::Redb(redb::Error::Io(error))))
            if error.kind() != io::ErrorKind::UnexpectedEof && error.kind() != io::ErrorKind::InvalidData =>
        {
            Err(io_error("use", path, &error))
        }
        Ok(Err(Failure::Redb(error))) => Err(corrupt(path, error)),
        Err(_) => Err(corrupt(path, "its structure is broken")),
    }
}
