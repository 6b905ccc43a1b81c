//! The store's own record in etcd: which life it is in, and how its revisions are counted.

use serde::{Deserialize, Serialize};
use storage::mvcc::RESTORE_BUMP;
use storage::{Incarnation, Revision, StoreError, Witness};
use uuid::Uuid;

use crate::connection::{Connection, Fault, Repeat};
use crate::layout::{Layout, Numbering};
use crate::wire::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, compare, request_op,
};

const FORMAT: u32 = 1;
/// How often another server may get in between before opening gives up.
const ATTEMPTS: usize = 10;

/// What stands in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    incarnation: Uuid,
    /// The store's revision at etcd's revision that created the record.
    base: u64,
    /// Revisions before this one belong to another life.
    floor: u64,
    /// etcd's cluster id, in hexadecimal.
    cluster: String,
}

impl Record {
    pub(crate) fn first(cluster: u64) -> Self {
        Self::beginning(Revision(1), Revision(0), cluster)
    }

    /// A life whose record is created at `base`.
    pub(crate) fn beginning(base: Revision, floor: Revision, cluster: u64) -> Self {
        Self {
            format: FORMAT,
            incarnation: Uuid::new_v4(),
            base: base.0,
            floor: floor.0,
            cluster: format!("{cluster:016x}"),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // A struct of numbers and strings always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The next life, begun by a transaction right after etcd's revision `now`.
    fn next(&self, numbering: Numbering, now: i64, cluster: u64, witness: Option<Witness>) -> Self {
        let found = numbering.own(now);
        let moved = Witness::next_life(witness, found).0 - found.0;
        let base = Revision(self.base.saturating_add(moved));
        let floor = Revision(found.0.saturating_add(moved).saturating_add(1));
        Self::beginning(base, floor, cluster)
    }
}

/// The life that a handle serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    pub(crate) numbering: Numbering,
    /// The record's etcd revision: whatever is done compares it.
    pub(crate) fence: i64,
    pub(crate) cluster: u64,
}

fn damaged(layout: &Layout, reason: &str) -> StoreError {
    StoreError::Corrupt {
        path: String::from_utf8_lossy(&layout.life()).into_owned().into(),
        reason: format!("{reason}; restore etcd, or `fairlead store restore` into another prefix"),
    }
}

/// Finds the store's life, creates the first one, or begins a new one where etcd went back.
pub(crate) async fn open(
    connection: &Connection,
    layout: &Layout,
    create: bool,
    witness: Option<Witness>,
) -> Result<Life, StoreError> {
    for _ in 0..ATTEMPTS {
        let found = range(connection, layout.life(), None).await?;
        let (cluster, now) = header(&found);
        let Some(kv) = found.kvs.into_iter().next() else {
            let (start, end) = layout.everything();
            if range(connection, start, Some(end)).await?.count > 0 {
                return Err(damaged(
                    layout,
                    "the store's own record is missing, and there are keys beside it",
                ));
            }
            if !create {
                return Err(damaged(layout, "there is no store below the prefix"));
            }
            put(connection, layout, 0, &Record::first(cluster)).await?;
            continue;
        };
        let record: Record = serde_json::from_slice(&kv.value)
            .ok()
            .filter(|record: &Record| record.format == FORMAT)
            .ok_or_else(|| damaged(layout, "it is not the record of a store of this format"))?;
        let base = i64::try_from(record.base).map_err(|_| damaged(layout, "its base is impossible"))?;
        let numbering = Numbering { shift: base - kv.create_revision, floor: Revision(record.floor) };
        let moved = record.cluster != format!("{cluster:016x}");
        let went_back = witness.is_some_and(|witness| witness.contradicted_by(numbering.own(now)));
        if moved || went_back {
            tracing::warn!(
                revision = %numbering.own(now),
                another_cluster = moved,
                "etcd is not what was served before: a new life begins {RESTORE_BUMP} revisions later"
            );
            put(connection, layout, kv.mod_revision, &record.next(numbering, now, cluster, witness)).await?;
            continue;
        }
        let incarnation = Incarnation(record.incarnation);
        return Ok(Life { incarnation, numbering, fence: kv.mod_revision, cluster });
    }
    Err(StoreError::Unavailable("other servers keep changing the store's own record".to_owned()))
}

/// Writes the record unless it changed after `fence`. Losing is fine: the caller looks again.
pub(crate) async fn put(
    connection: &Connection,
    layout: &Layout,
    fence: i64,
    record: &Record,
) -> Result<TxnResponse, StoreError> {
    let put = PutRequest { key: layout.life(), value: record.encode(), ..PutRequest::default() };
    let request = TxnRequest {
        compare: vec![unchanged(layout.life(), fence)],
        success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    // Sent twice, the second would lose against the first.
    let call = |channel| {
        let request = request.clone();
        async move { Connection::kv(channel).txn(request).await }
    };
    connection.call(Repeat::Freely, call).await.map_err(Fault::store_error)
}

/// The key's newest version is of etcd's revision `fence`; 0: it does not exist.
pub(crate) fn unchanged(key: Vec<u8>, fence: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key,
        target_union: Some(compare::TargetUnion::ModRevision(fence)),
    }
}

/// Reads one key, or counts a range, as it is now.
pub(crate) async fn range(
    connection: &Connection,
    key: Vec<u8>,
    range_end: Option<Vec<u8>>,
) -> Result<RangeResponse, StoreError> {
    let count_only = range_end.is_some();
    let request =
        RangeRequest { key, range_end: range_end.unwrap_or_default(), count_only, ..RangeRequest::default() };
    let call = |channel| {
        let request = request.clone();
        async move { Connection::kv(channel).range(request).await }
    };
    connection.call(Repeat::Freely, call).await.map_err(Fault::store_error)
}

/// etcd's cluster id and revision.
pub(crate) fn header(response: &RangeResponse) -> (u64, i64) {
    response.header.as_ref().map_or((0, 0), |header| (header.cluster_id, header.revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_life_lies_past_everything_served_before() {
        let record = Record::first(7);
        let numbering = Numbering { shift: 1 - 5, floor: Revision(0) };
        let witness = Witness { incarnation: Incarnation(record.incarnation), revision: Revision(400) };
        // etcd went back to 105, which is the store's 101; 400 has been served.
        let next = record.next(numbering, 105, 7, Some(witness));
        let later =
            Numbering { shift: i64::try_from(next.base).expect("small") - 5, floor: Revision(next.floor) };
        assert_eq!(later.own(105), Revision(400 + RESTORE_BUMP));
        assert_eq!(later.floor, later.own(106), "the floor is the revision that begins the life");
        assert_ne!(next.incarnation, record.incarnation);
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        assert!(serde_json::from_slice::<Record>(b"{}").is_err());
        let record = Record::first(u64::MAX);
        assert_eq!(serde_json::from_slice::<Record>(&record.encode()).expect("record"), record);
    }
}
