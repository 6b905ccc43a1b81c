//! Snapshots: a copy of what lies below the prefix at one revision, in the form that all engines share; and a new store of one.

use std::collections::BTreeSet;

use storage::mvcc::RestoreOptions;
use storage::{KeyRange, LeaseId, RangeRequest, Revision, Snapshot, StoreError};

use crate::connection::{Connection, Fault, Repeat};
use crate::layout::Layout;
use crate::life::{self, Record};
use crate::options::Options;
use crate::store::{EtcdStore, Shared};
use crate::wire::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op};

/// What one transaction of a restore puts at most: half of etcd's default limits of 128 operations and 1.5 MiB.
const CHUNK_KEYS: usize = 64;
const CHUNK_BYTES: usize = 768 << 10;

impl Shared {
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read = self.range(&RangeRequest::all(KeyRange::prefix(""))).await?;
        let ids: BTreeSet<LeaseId> = read.kvs.iter().filter_map(|kv| kv.lease).collect();
        let mut leases = Vec::with_capacity(ids.len());
        for id in ids {
            // One that has ended since took its keys with it; a restore unties them.
            leases.extend(self.lease(id).await?);
        }
        let incarnation = self.life.incarnation;
        Ok(Snapshot { revision: read.revision, incarnation, kvs: read.kvs, leases })
    }
}

impl EtcdStore {
    /// Makes a new store below the prefix of a snapshot: a new incarnation, and revisions that the old one never reached.
    /// Keys keep value and lease; their own revisions and versions begin anew, for etcd gives those. The store's record is
    /// written last: a restore that was cut short leaves keys that no store will open.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] when the snapshot contradicts itself or there is something below the prefix already.
    pub async fn restore(
        snapshot: &Snapshot,
        restore: RestoreOptions,
        options: Options,
    ) -> Result<Self, StoreError> {
        snapshot.check()?;
        let connection =
            Connection::new(&options).map_err(|error| StoreError::InvalidRequest(error.to_string()))?;
        let layout = Layout::new(&options.prefix);
        let (start, end) = layout.everything();
        let found = life::range(&connection, start, Some(end)).await?;
        if found.count > 0 {
            return Err(StoreError::InvalidRequest(format!(
                "there are keys below `{}` in etcd already: restore to another prefix, or delete them",
                options.prefix
            )));
        }
        for grant in &snapshot.leases {
            crate::lease::grant(&connection, *grant).await?;
        }
        write(&connection, &layout, snapshot).await?;
        let base = Revision(snapshot.revision.0.saturating_add(restore.revision_bump));
        let record = Record::beginning(base, base, life::header(&found).0);
        if !life::put(&connection, &layout, 0, &record).await?.succeeded {
            return Err(StoreError::InvalidRequest("another restore was faster".to_owned()));
        }
        let life = life::open(&connection, &layout, false, options.witness).await?;
        Self::over(connection, layout, life, options.history).await
    }
}

async fn write(connection: &Connection, layout: &Layout, snapshot: &Snapshot) -> Result<(), StoreError> {
    let known: BTreeSet<LeaseId> = snapshot.leases.iter().map(|grant| grant.id).collect();
    let mut puts: Vec<RequestOp> = Vec::new();
    let mut bytes = 0;
    for kv in &snapshot.kvs {
        let lease = kv.lease.filter(|lease| known.contains(lease)).map_or(0, |lease| lease.0);
        let put =
            PutRequest { key: layout.key(&kv.key), value: kv.value.to_vec(), lease, ..PutRequest::default() };
        let size = put.key.len() + put.value.len();
        if puts.len() >= CHUNK_KEYS || bytes + size > CHUNK_BYTES {
            flush(connection, &mut puts).await?;
            bytes = 0;
        }
        bytes += size;
        puts.push(RequestOp { request: Some(request_op::Request::RequestPut(put)) });
    }
    flush(connection, &mut puts).await
}

async fn flush(connection: &Connection, puts: &mut Vec<RequestOp>) -> Result<(), StoreError> {
    if puts.is_empty() {
        return Ok(());
    }
    let request = TxnRequest { success: std::mem::take(puts), ..TxnRequest::default() };
    let call = |channel| {
        let request = request.clone();
        async move { Connection::kv(channel).txn(request).await }
    };
    // Putting the same again changes nothing that a restore promises.
    connection.call(Repeat::Freely, call).await.map(drop).map_err(Fault::store_error)
}
