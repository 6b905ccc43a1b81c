//! The inbox in a store that several processes share. A batch of records is one value, and what has been received of its
//! outbox another; one transaction writes both, on the condition that nobody has changed the second meanwhile. So two
//! processes that are sent the same record take it once.
//!
//! | key below `fairlead/hub/inbox/` | value |
//! |---|---|
//! | `marks/UID` | JSON: outbox epochs with the highest sequence received |
//! | `batches/UID/EPOCH/SEQUENCE` | gzip of JSON: the cluster's name and the records from SEQUENCE on |
//!
//! A record's position is the revision of its batch and its number therein: positions grow in the order in which batches
//! became durable. Every process follows the store and knows where batches are, not what is in them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{OutboxAck, OutboxBatch, Record, RecordPage, StoredRecord};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fleet_objects::AgentIdentity;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{
    Compare, EventKind, KeyRange, KeyValue, Operation, RangeRequest, Revision, Store, StoreError,
    Transaction, WatchRequest,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{PAGE_BYTES, PAGE_RECORDS, Received, Unreadable};
use crate::error::Error;
use crate::record_key::RecordKey;
use crate::replicas::ROOT;

/// Outbox lives remembered per cluster, as of the inbox in files.
const EPOCHS_PER_CLUSTER: usize = 4;
/// Bits of a position that number the records of a batch.
const INDEX_BITS: u32 = 12;
/// Records of one batch at most; a position has room for them.
const BATCH_RECORDS: usize = 1 << INDEX_BITS;
/// Bytes of a batch before it is compressed; etcd takes requests of 1.5 MiB.
const BATCH_BYTES: usize = 1 << 20;
/// A batch's bytes at most when it is read back: its largest record is bounded by the endpoint.
const MAX_PLAIN: u64 = 64 << 20;
/// Tries against other processes that take records of the same cluster.
const TRIES: usize = 8;
/// Batches removed in one transaction: below etcd's limit of 128 operations.
const REMOVED_AT_ONCE: usize = 100;
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(1);
/// Unread batches of the watch; what is missed is read again.
const BUFFER: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct SharedInbox {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    key: RecordKey,
    max_bytes: u64,
    state: Mutex<State>,
    appended: watch::Sender<u64>,
    /// One batch at a time per cluster in this process: others meet in the store.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    unreadable: Unreadable,
    _stop: DropGuard,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedInbox").finish_non_exhaustive()
    }
}

/// Where batches are.
#[derive(Default)]
struct State {
    batches: BTreeMap<Revision, Place>,
    by_key: HashMap<Bytes, Revision>,
    marks: HashMap<String, Marks>,
    bytes: u64,
}

struct Place {
    key: Bytes,
    uid: String,
    bytes: u64,
    records: u64,
}

/// Epochs in the order they were first seen, with the highest sequence received.
type Marks = VecDeque<(Uuid, u64)>;

#[derive(Serialize, Deserialize)]
struct Batch {
    cluster: String,
    records: Vec<Record>,
}

fn batches() -> String {
    format!("{ROOT}inbox/batches/")
}

fn marks() -> String {
    format!("{ROOT}inbox/marks/")
}

fn failed(operation: &'static str) -> impl Fn(StoreError) -> Error {
    move |source| Error::Store { operation, source }
}

fn mark_of(marks: &Marks, epoch: Uuid) -> u64 {
    marks.iter().find(|(known, _)| *known == epoch).map_or(0, |(_, sequence)| *sequence)
}

fn raise(marks: &mut Marks, epoch: Uuid, sequence: u64) {
    if let Some((_, known)) = marks.iter_mut().find(|(known, _)| *known == epoch) {
        *known = sequence.max(*known);
        return;
    }
    if marks.len() >= EPOCHS_PER_CLUSTER {
        marks.pop_front();
    }
    marks.push_back((epoch, sequence));
}

fn encode(key: &RecordKey, place: &str, batch: &Batch) -> Result<Bytes, Error> {
    let text = serde_json::to_vec(batch)
        .map_err(|error| Error::Invalid(format!("a record is not JSON: {error}")))?;
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = out.write_all(&text).and_then(|()| out.finish());
    let packed = packed.map_err(|error| Error::Invalid(format!("a batch cannot be packed: {error}")))?;
    key.seal(place.as_bytes(), packed).map(Bytes::from)
}

/// Nothing for one that can be opened and not understood; an error for one that is sealed with another key, for that is a
/// matter of the hub's configuration.
fn decode(key: &RecordKey, kv: &KeyValue, unreadable: &Unreadable) -> Result<Option<Batch>, Error> {
    let packed = key
        .unseal(&kv.key, &kv.value)
        .map_err(|error| Error::Invalid(format!("batch {}: {error}", kv.key.escape_ascii())))?;
    let mut text = Vec::new();
    let read = GzDecoder::new(&*packed).take(MAX_PLAIN).read_to_end(&mut text);
    let batch = read.map_err(|error| error.to_string());
    let batch = batch.and_then(|_| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    Ok(batch.inspect_err(|why| unreadable.note(position(kv.mod_revision, 0), why)).ok())
}

/// Records in pieces that one value may hold.
fn pieces(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut all, mut bytes) = (Vec::<Vec<Record>>::new(), usize::MAX);
    for record in records {
        let size = serde_json::to_vec(&record).map_or(0, |text| text.len());
        let full = all.last().is_none_or(|last| last.len() == BATCH_RECORDS);
        if full || bytes.saturating_add(size) > BATCH_BYTES {
            all.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = all.last_mut() {
            last.push(record);
        }
    }
    all
}

impl State {
    /// A batch's key ends with how many records it has, so that nobody must read it to count them.
    fn add(&mut self, kv: &KeyValue) {
        let Some((uid, records)) = parts(&kv.key) else { return };
        let bytes = (kv.key.len() + kv.value.len()) as u64;
        if self.by_key.insert(kv.key.clone(), kv.mod_revision).is_none() {
            self.bytes += bytes;
            self.batches.insert(kv.mod_revision, Place { key: kv.key.clone(), uid, bytes, records });
        }
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(revision) = self.by_key.remove(key) else { return };
        if let Some(place) = self.batches.remove(&revision) {
            self.bytes = self.bytes.saturating_sub(place.bytes);
        }
    }

    fn take_marks(&mut self, kv: &KeyValue) {
        let uid = String::from_utf8_lossy(&kv.key[marks().len()..]).into_owned();
        if let Ok(read) = serde_json::from_slice(&kv.value) {
            self.marks.insert(uid, read);
        }
    }
}

/// Uid and number of records of a batch's key: `batches/UID/EPOCH/SEQUENCE-COUNT`.
fn parts(key: &[u8]) -> Option<(String, u64)> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(&batches())?;
    let (uid, rest) = text.split_once('/')?;
    let (_, count) = rest.rsplit_once('-')?;
    Some((uid.to_owned(), count.parse().ok()?))
}

fn position(revision: Revision, index: usize) -> u64 {
    (revision.0 << INDEX_BITS) | index as u64
}

impl SharedInbox {
    pub(super) async fn open(store: Arc<dyn Store>, max_bytes: u64, key: RecordKey) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            store,
            max_bytes,
            key,
            state: Mutex::default(),
            appended: watch::Sender::new(0),
            turns: Mutex::default(),
            unreadable: Unreadable::default(),
            _stop: stop.clone().drop_guard(),
        });
        let revision = load(&shared).await.map_err(failed("read the inbox"))?;
        let (weak, following) = (Arc::downgrade(&shared), stop);
        tokio::spawn(async move {
            let follow = async {
                let mut from = Some(revision);
                // Ends with the last clone, which cancels `following`.
                while let Some(shared) = weak.upgrade() {
                    let store = Arc::clone(&shared.store);
                    let start = match from.take() {
                        Some(revision) => Ok(revision),
                        None => load(&shared).await,
                    };
                    drop(shared);
                    let ended = match start {
                        Ok(revision) => follow(store, &weak, revision).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = ended {
                        tracing::debug!(%error, "the inbox is read anew");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            };
            following.run_until_cancelled(follow).await;
        });
        Ok(Self { shared })
    }

    pub(super) async fn accept(&self, from: &AgentIdentity, batch: OutboxBatch) -> Result<OutboxAck, Error> {
        let turn = self.shared.turns.lock().entry(from.uid.clone()).or_default().clone();
        let _turn = turn.lock().await;
        let (epoch, total) = (batch.agent_epoch, batch.records.len() as u64);
        let mut ack = OutboxAck { through: self.watermark(&from.uid, epoch), duplicates: 0 };
        let mut fresh = 0;
        for piece in pieces(batch.records) {
            let (through, taken) = self.append(from, epoch, piece).await?;
            ack.through = through;
            fresh += taken;
        }
        ack.duplicates = total - fresh;
        Ok(ack)
    }

    /// Appends what is new of a piece; answers how far the outbox is received, and how many were new.
    async fn append(
        &self,
        from: &AgentIdentity,
        epoch: Uuid,
        piece: Vec<Record>,
    ) -> Result<(u64, u64), Error> {
        let store = &self.shared.store;
        let key = format!("{}{}", marks(), from.uid);
        for _ in 0..TRIES {
            let read = store.range(RangeRequest::all(KeyRange::single(key.clone()))).await;
            let found = read.map_err(failed("read how far an outbox is received"))?.kvs.into_iter().next();
            let mut known: Marks = match &found {
                Some(kv) => serde_json::from_slice(&kv.value)
                    .map_err(|error| Error::Invalid(format!("{key} cannot be read: {error}")))?,
                None => Marks::new(),
            };
            let through = mark_of(&known, epoch);
            let fresh: Vec<Record> =
                piece.iter().filter(|record| record.sequence > through).cloned().collect();
            let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else { return Ok((through, 0)) };
            let (first, last, count) = (first.sequence, last.sequence, fresh.len());
            raise(&mut known, epoch, last);
            let unchanged = match &found {
                Some(kv) => Compare::unchanged_since(key.clone(), kv.mod_revision),
                None => Compare::absent(key.clone()),
            };
            let told = serde_json::to_vec(&known).map_err(|error| Error::Invalid(error.to_string()))?;
            let place = format!("{}{}/{epoch}/{first:020}-{count}", batches(), from.uid);
            let value =
                encode(&self.shared.key, &place, &Batch { cluster: from.name.clone(), records: fresh })?;
            let write = Transaction {
                compare: vec![unchanged],
                success: vec![Operation::put(key.clone(), told), Operation::put(place, value)],
                failure: Vec::new(),
            };
            if store.transact(write).await.map_err(failed("take in records"))?.succeeded {
                return Ok((last, count as u64));
            }
        }
        Err(Error::Store {
            operation: "take in records",
            source: StoreError::Unavailable("another process takes records of the same cluster".to_owned()),
        })
    }

    pub(super) fn watermark(&self, uid: &str, epoch: Uuid) -> u64 {
        self.shared.state.lock().marks.get(uid).map_or(0, |marks| mark_of(marks, epoch))
    }

    async fn fetch(&self, key: &Bytes) -> Result<Option<(Revision, Batch)>, Error> {
        let read = self.shared.store.range(RangeRequest::all(KeyRange::single(key.clone()))).await;
        let Some(kv) = read.map_err(failed("read records"))?.kvs.into_iter().next() else { return Ok(None) };
        let batch = decode(&self.shared.key, &kv, &self.shared.unreadable)?;
        Ok(batch.map(|batch| (kv.mod_revision, batch)))
    }

    /// Batches from a position on, in order, that `wanted` chooses.
    fn places(&self, from: u64, wanted: impl Fn(&Place) -> bool) -> Vec<(Revision, Bytes, u64)> {
        let state = self.shared.state.lock();
        let all = state.batches.range(Revision(from >> INDEX_BITS)..);
        let all = all.filter(|(_, place)| wanted(place)).take(PAGE_RECORDS);
        all.map(|(revision, place)| (*revision, place.key.clone(), place.bytes)).collect()
    }

    pub(super) async fn page(&self, uid: &str, from: u64) -> Result<RecordPage, Error> {
        let total = {
            let state = self.shared.state.lock();
            state.batches.values().filter(|place| place.uid == uid).map(|place| place.records).sum()
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (revision, key, size) in self.places(from, |place| place.uid == uid) {
            if records.len() >= PAGE_RECORDS || bytes > PAGE_BYTES {
                return Ok(RecordPage { total, records, next: Some(position(revision, 0)) });
            }
            let Some((revision, batch)) = self.fetch(&key).await? else { continue };
            bytes += usize::try_from(size).unwrap_or(usize::MAX);
            let stored = batch
                .records
                .into_iter()
                .enumerate()
                .map(|(index, record)| StoredRecord { position: position(revision, index), record });
            records.extend(stored.filter(|stored| stored.position >= from));
        }
        Ok(RecordPage { total, records, next: None })
    }

    pub(super) async fn read(&self, from: u64) -> Result<(Vec<Received>, u64), Error> {
        let (mut records, mut next, mut bytes) = (Vec::new(), from, 0);
        for (revision, key, size) in self.places(from, |_| true) {
            if records.len() >= PAGE_RECORDS || bytes > PAGE_BYTES {
                break;
            }
            next = position(revision.next(), 0);
            let Some((uid, _)) = parts(&key) else { continue };
            let Some((revision, batch)) = self.fetch(&key).await? else { continue };
            bytes += usize::try_from(size).unwrap_or(usize::MAX);
            let from_cluster = AgentIdentity { name: batch.cluster, uid };
            let received = batch.records.into_iter().enumerate().map(|(index, record)| Received {
                position: position(revision, index),
                from: from_cluster.clone(),
                record,
            });
            records.extend(received.filter(|received| received.position >= from));
        }
        Ok((records, next))
    }

    pub(super) fn appended(&self) -> watch::Receiver<u64> {
        self.shared.appended.subscribe()
    }

    pub(super) async fn trim(&self, handled: u64, fence: Option<&Compare>) -> Result<(), Error> {
        let old: Vec<Bytes> = {
            let state = self.shared.state.lock();
            if state.bytes < self.shared.max_bytes / 4 * 3 {
                return Ok(());
            }
            let half = state.batches.len().div_ceil(2);
            let before = state.batches.range(..Revision(handled >> INDEX_BITS)).take(half);
            before.map(|(_, place)| place.key.clone()).collect()
        };
        for keys in old.chunks(REMOVED_AT_ONCE) {
            let removal = Transaction {
                compare: fence.cloned().into_iter().collect(),
                success: keys.iter().map(|key| Operation::delete(key.clone())).collect(),
                failure: Vec::new(),
            };
            self.shared.store.transact(removal).await.map_err(failed("trim the inbox"))?;
        }
        Ok(())
    }
}

/// Learns everything anew; answers at which revision.
async fn load(shared: &Shared) -> Result<Revision, StoreError> {
    let everything = KeyRange::prefix(format!("{ROOT}inbox/"));
    let read = shared.store.range(RangeRequest::all(everything)).await?;
    let mut state = State::default();
    for kv in &read.kvs {
        if kv.key.starts_with(marks().as_bytes()) {
            state.take_marks(kv);
        } else {
            state.add(kv);
        }
    }
    *shared.state.lock() = state;
    shared.appended.send_replace(position(read.revision, 0));
    Ok(read.revision)
}

/// Follows the store from a revision on. `Ok` when the store or the inbox has ended.
async fn follow(
    store: Arc<dyn Store>,
    shared: &std::sync::Weak<Shared>,
    revision: Revision,
) -> Result<(), StoreError> {
    let range = KeyRange::prefix(format!("{ROOT}inbox/"));
    let mut stream =
        store.watch(WatchRequest { range, start: Some(revision.next()), buffer: BUFFER }).await?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        if batch.events.is_empty() {
            continue;
        }
        {
            let mut state = shared.state.lock();
            for event in &batch.events {
                match event.kind {
                    EventKind::Delete => state.remove(&event.kv.key),
                    EventKind::Put if event.kv.key.starts_with(marks().as_bytes()) => {
                        state.take_marks(&event.kv)
                    }
                    EventKind::Put => state.add(&event.kv),
                }
            }
        }
        shared.appended.send_replace(position(batch.revision, 0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use agent_protocol::RecordBody;
    use storage::model::MemoryStore;

    use super::*;

    fn agent() -> AgentIdentity {
        AgentIdentity { name: "dev".into(), uid: "1".into() }
    }

    fn batch(epoch: Uuid, sequences: std::ops::RangeInclusive<u64>) -> OutboxBatch {
        let record = |sequence| Record {
            sequence,
            agent_epoch: epoch,
            time: jiff::Timestamp::UNIX_EPOCH,
            body: RecordBody::Dropped { count: sequence },
        };
        OutboxBatch { agent_epoch: epoch, records: sequences.map(record).collect() }
    }

    async fn seen(inbox: &SharedInbox, count: usize) -> Vec<u64> {
        let mut appended = inbox.appended();
        loop {
            appended.mark_unchanged();
            let (records, _) = inbox.read(0).await.unwrap();
            if records.len() >= count {
                return records.iter().map(|received| received.record.sequence).collect();
            }
            appended.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn two_processes_that_are_sent_the_same_take_it_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let one = SharedInbox::open(store.clone(), 1 << 20, RecordKey::default()).await.unwrap();
        let two = SharedInbox::open(store.clone(), 1 << 20, RecordKey::default()).await.unwrap();
        let epoch = Uuid::from_u128(1);
        // The agent sends to one, loses the answer, and sends again, and more, to both at the same time.
        one.accept(&agent(), batch(epoch, 1..=3)).await.unwrap();
        let (a, b) = (agent(), agent());
        let (first, second) =
            tokio::join!(one.accept(&a, batch(epoch, 1..=9)), two.accept(&b, batch(epoch, 2..=9)));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!((first.through, second.through), (9, 9));
        for inbox in [&one, &two] {
            assert_eq!(seen(inbox, 9).await, (1..=9).collect::<Vec<_>>());
        }
        let page = two.page("1", 0).await.unwrap();
        assert_eq!((page.total, page.records.len(), page.next), (9, 9, None));
        let later = page.records[4].position;
        assert_eq!(two.page("1", later).await.unwrap().records.len(), 5);
        // A third that comes later knows the same, and another life of the outbox begins at 1.
        let three = SharedInbox::open(store, 1 << 20, RecordKey::default()).await.unwrap();
        assert_eq!(three.watermark("1", epoch), 9);
        assert_eq!(
            three.accept(&agent(), batch(epoch, 9..=10)).await.unwrap(),
            OutboxAck { through: 10, duplicates: 1 }
        );
        assert_eq!(three.accept(&agent(), batch(Uuid::from_u128(2), 1..=1)).await.unwrap().through, 1);
    }

    #[tokio::test]
    async fn old_records_go_by_the_leaders_word_alone_and_marks_stay() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let inbox = SharedInbox::open(store.clone(), 2000, RecordKey::default()).await.unwrap();
        let epoch = Uuid::from_u128(1);
        for sequence in 1..=40 {
            inbox.accept(&agent(), batch(epoch, sequence..=sequence)).await.unwrap();
        }
        seen(&inbox, 40).await;
        let (_, handled) = inbox.read(0).await.unwrap();
        let deposed = Compare::unchanged_since("leader", Revision(7));
        inbox.trim(handled, Some(&deposed)).await.unwrap();
        assert_eq!(inbox.read(0).await.unwrap().0.len(), 40, "the fence does not hold");
        inbox.trim(handled, None).await.unwrap();
        let mut appended = inbox.appended();
        while inbox.read(0).await.unwrap().0.len() > 20 {
            appended.changed().await.unwrap();
        }
        assert_eq!(inbox.accept(&agent(), batch(epoch, 1..=40)).await.unwrap().duplicates, 40);
    }

    #[tokio::test]
    async fn what_cannot_be_read_holds_nothing_up() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let newer = format!("{}1/{}/{:020}-1", batches(), Uuid::from_u128(9), 1);
        let put = Operation::put(newer, b"of a newer hub".to_vec());
        let write = Transaction { compare: Vec::new(), success: vec![put], failure: Vec::new() };
        store.transact(write).await.unwrap();
        let inbox = SharedInbox::open(store, 1 << 20, RecordKey::default()).await.unwrap();
        inbox.accept(&agent(), batch(Uuid::from_u128(1), 1..=3)).await.unwrap();
        assert_eq!(seen(&inbox, 3).await, [1, 2, 3]);
        assert_eq!(inbox.page("1", 0).await.unwrap().records.len(), 3);
        assert_eq!(inbox.shared.unreadable.0.lock().len(), 1);
    }

    #[test]
    fn large_batches_are_cut() {
        let cut = pieces(batch(Uuid::nil(), 1..=10_000).records);
        assert_eq!(cut.iter().map(Vec::len).sum::<usize>(), 10_000);
        assert!(cut.len() >= 3 && cut.iter().all(|piece| piece.len() <= BATCH_RECORDS));
    }
}
