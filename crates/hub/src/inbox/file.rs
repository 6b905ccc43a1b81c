//! The inbox in files of its own: how far each agent's outbox has been received is read back from the same log that holds
//! its records.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_protocol::{OutboxAck, OutboxBatch, Record, RecordPage, StoredRecord};
use bytes::Bytes;
use durable_log::Log;
use fleet_objects::AgentIdentity;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PAGE_BYTES, PAGE_RECORDS, Received, Unreadable};
use crate::error::Error;
use crate::record_key::RecordKey;

/// Outbox lives remembered per cluster: an agent that draws a new one for every batch must not fill the hub's memory.
const EPOCHS_PER_CLUSTER: usize = 4;

/// What records are sealed for.
const PLACE: &[u8] = b"inbox";

/// The inbox of all clusters. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct FileInbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    key: RecordKey,
    state: Mutex<State>,
    /// One batch at a time per cluster, so that watermark and append cannot cross.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    unreadable: Unreadable,
}

#[derive(Debug, Default)]
struct State {
    clusters: HashMap<String, ClusterState>,
}

#[derive(Debug, Default)]
struct ClusterState {
    /// Epochs in the order they were first seen, with the highest sequence received.
    watermarks: VecDeque<(Uuid, u64)>,
    /// Where its records are in the log.
    positions: VecDeque<u64>,
}

/// What the log holds.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Entry {
    #[serde(rename_all = "camelCase")]
    Record { uid: String, cluster: String, record: Box<Record> },
    /// All watermarks, written before old segments go.
    Watermarks { marks: BTreeMap<String, Vec<(Uuid, u64)>> },
}

impl ClusterState {
    fn watermark(&self, epoch: Uuid) -> u64 {
        self.watermarks.iter().find(|(known, _)| *known == epoch).map_or(0, |(_, sequence)| *sequence)
    }

    fn raise(&mut self, epoch: Uuid, sequence: u64) {
        if let Some((_, known)) = self.watermarks.iter_mut().find(|(known, _)| *known == epoch) {
            *known = sequence.max(*known);
            return;
        }
        if self.watermarks.len() >= EPOCHS_PER_CLUSTER {
            self.watermarks.pop_front();
        }
        self.watermarks.push_back((epoch, sequence));
    }
}

impl FileInbox {
    /// Opens the inbox and reads all of it once.
    ///
    /// # Errors
    /// As the log's.
    pub(super) async fn open(
        dir: PathBuf,
        options: durable_log::Options,
        key: RecordKey,
    ) -> Result<Self, Error> {
        let place = dir.clone();
        let log = Log::open(dir, options).await?;
        let mut state = State::default();
        let unreadable = Unreadable::default();
        let mut position = log.first();
        loop {
            let page = log.read_from(position, PAGE_RECORDS, PAGE_BYTES).await?;
            let Some(last) = page.last() else { break };
            position = last.sequence + 1;
            for stored in &page {
                let entry = decode(&key, stored, &unreadable);
                let entry = entry.map_err(|error| Error::Invalid(format!("{error}; {}", hint(&place))))?;
                if let Some(entry) = entry {
                    state.take(stored.sequence, entry);
                }
            }
        }
        unreadable.summarise();
        let (state, turns) = (Mutex::new(state), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { log, key, state, turns, unreadable }) })
    }

    fn decode(&self, stored: &durable_log::Record) -> Result<Option<Entry>, Error> {
        decode(&self.shared.key, stored, &self.shared.unreadable)
    }

    fn encode(&self, entry: &Entry) -> Result<Bytes, Error> {
        let text = serde_json::to_vec(entry)
            .map_err(|error| Error::Invalid(format!("a record is not JSON: {error}")))?;
        self.shared.key.seal(PLACE, text).map(Bytes::from)
    }

    /// Takes a batch: what is new is appended and durable when this answers. `from` is the authenticated sender.
    ///
    /// # Errors
    /// [`Error::Inbox`] when it could not be made durable: nothing was
    /// acknowledged, send it again.
    pub(super) async fn accept(&self, from: &AgentIdentity, batch: OutboxBatch) -> Result<OutboxAck, Error> {
        let turn = self.shared.turns.lock().entry(from.uid.clone()).or_default().clone();
        let _turn = turn.lock().await;
        let watermark = self.watermark(&from.uid, batch.agent_epoch);
        let mut fresh = Vec::new();
        let mut duplicates = 0;
        let mut through = watermark;
        for record in batch.records {
            if record.sequence <= watermark {
                duplicates += 1;
                continue;
            }
            through = record.sequence;
            let (uid, cluster) = (from.uid.clone(), from.name.clone());
            fresh.push(self.encode(&Entry::Record { uid, cluster, record: Box::new(record) })?);
        }
        if !fresh.is_empty() {
            let positions = self.shared.log.append_batch(fresh).await?;
            let mut state = self.shared.state.lock();
            let cluster = state.clusters.entry(from.uid.clone()).or_default();
            cluster.raise(batch.agent_epoch, through);
            cluster.positions.extend(positions);
        }
        Ok(OutboxAck { through, duplicates })
    }

    /// The highest sequence received of an outbox; 0 when none.
    #[must_use]
    pub(super) fn watermark(&self, uid: &str, epoch: Uuid) -> u64 {
        self.shared.state.lock().clusters.get(uid).map_or(0, |cluster| cluster.watermark(epoch))
    }

    /// Records of a cluster from a position on, at most 500.
    ///
    /// # Errors
    /// As the log's.
    pub(super) async fn page(&self, uid: &str, from: u64) -> Result<RecordPage, Error> {
        let (total, positions): (usize, Vec<u64>) = {
            let state = self.shared.state.lock();
            let all = state.clusters.get(uid).map(|cluster| &cluster.positions);
            let first = all.map_or(0, |all| all.partition_point(|position| *position < from));
            let wanted =
                all.into_iter().flat_map(|all| all.iter().skip(first).take(PAGE_RECORDS + 1).copied());
            (all.map_or(0, VecDeque::len), wanted.collect())
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        for position in positions {
            if records.len() == PAGE_RECORDS || bytes > PAGE_BYTES {
                next = Some(position);
                break;
            }
            let found = self.shared.log.read_from(position, 1, 1).await?;
            let Some(stored) = found.first().filter(|stored| stored.sequence == position) else { continue };
            bytes += stored.payload.len();
            if let Some(Entry::Record { record, .. }) = self.decode(stored)? {
                records.push(StoredRecord { position, record: *record });
            }
        }
        Ok(RecordPage { total: total as u64, records, next })
    }

    /// Records of all clusters from a position on, with the position to go on from. Waits for nothing.
    ///
    /// # Errors
    /// As the log's.
    pub(super) async fn read(&self, from: u64) -> Result<(Vec<Received>, u64), Error> {
        let page = self.shared.log.read_from(from, PAGE_RECORDS, PAGE_BYTES).await?;
        let next = page.last().map_or(from, |last| last.sequence + 1);
        let mut records = Vec::with_capacity(page.len());
        for stored in &page {
            if let Some(Entry::Record { uid, cluster, record }) = self.decode(stored)? {
                let from = AgentIdentity { name: cluster, uid };
                records.push(Received { position: stored.sequence, from, record: *record });
            }
        }
        Ok((records, next))
    }

    /// Wakes when something was appended.
    #[must_use]
    pub(super) fn appended(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.log.appended()
    }

    /// Gives space back when the log is more than three quarters full: the older half of what lies before `handled`.
    ///
    /// # Errors
    /// As the log's.
    pub(super) async fn trim(&self, handled: u64) -> Result<(), Error> {
        let usage = self.shared.log.usage();
        if usage.used_bytes < usage.max_bytes / 4 * 3 {
            return Ok(());
        }
        let through = (self.shared.log.first() + usage.records / 2).min(handled.saturating_sub(1));
        // Turns are not needed: a watermark raised after this snapshot has its record behind it in the log.
        let marks = {
            let state = self.shared.state.lock();
            let marks = |cluster: &ClusterState| cluster.watermarks.iter().copied().collect();
            state.clusters.iter().map(|(uid, cluster)| (uid.clone(), marks(cluster))).collect()
        };
        self.shared.log.append_batch(vec![self.encode(&Entry::Watermarks { marks })?]).await?;
        self.shared.log.acknowledge(through).await?;
        let mut state = self.shared.state.lock();
        for cluster in state.clusters.values_mut() {
            while cluster.positions.front().is_some_and(|position| *position <= through) {
                cluster.positions.pop_front();
            }
        }
        Ok(())
    }

    /// The oldest position kept.
    #[must_use]
    pub(super) fn first(&self) -> u64 {
        self.shared.log.first()
    }
}

impl State {
    fn take(&mut self, position: u64, entry: Entry) {
        match entry {
            Entry::Record { uid, record, .. } => {
                let cluster = self.clusters.entry(uid).or_default();
                cluster.raise(record.agent_epoch, record.sequence);
                cluster.positions.push_back(position);
            }
            Entry::Watermarks { marks } => {
                for (uid, marks) in marks {
                    let cluster = self.clusters.entry(uid).or_default();
                    for (epoch, sequence) in marks {
                        cluster.raise(epoch, sequence);
                    }
                }
            }
        }
    }
}

/// Nothing for one that can be opened and not understood; an error for one that is sealed with another key, for that is a
/// matter of the hub's configuration.
fn decode(
    key: &RecordKey,
    stored: &durable_log::Record,
    unreadable: &Unreadable,
) -> Result<Option<Entry>, Error> {
    let text = key
        .unseal(PLACE, &stored.payload)
        .map_err(|error| Error::Invalid(format!("inbox record {}: {error}", stored.sequence)))?;
    let entry = serde_json::from_slice(&text);
    Ok(entry.inspect_err(|why| unreadable.note(stored.sequence, why)).ok())
}

fn hint(dir: &Path) -> String {
    format!(
        "start the hub with the encryption configuration it had, or move `{}` away to start with an empty inbox",
        dir.display()
    )
}

#[cfg(test)]
mod tests {
    use agent_protocol::RecordBody;

    use super::*;

    fn agent(name: &str, uid: &str) -> AgentIdentity {
        AgentIdentity { name: name.into(), uid: uid.into() }
    }

    fn batch(epoch: Uuid, sequences: &[u64]) -> OutboxBatch {
        let record = |sequence: &u64| Record {
            sequence: *sequence,
            agent_epoch: epoch,
            time: jiff::Timestamp::UNIX_EPOCH,
            body: RecordBody::Dropped { count: *sequence },
        };
        OutboxBatch { agent_epoch: epoch, records: sequences.iter().map(record).collect() }
    }

    #[tokio::test]
    async fn every_record_once_over_repeats_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let options = durable_log::Options { fsync: false, ..durable_log::Options::default() };
        let (dev, epoch) = (agent("dev", "1"), Uuid::from_u128(1));
        let inbox = FileInbox::open(dir.path().into(), options, RecordKey::default()).await.unwrap();
        assert_eq!(
            inbox.accept(&dev, batch(epoch, &[1, 2])).await.unwrap(),
            OutboxAck { through: 2, duplicates: 0 }
        );
        assert_eq!(
            inbox.accept(&dev, batch(epoch, &[1, 2, 3])).await.unwrap(),
            OutboxAck { through: 3, duplicates: 2 }
        );
        inbox.accept(&agent("prod", "2"), batch(epoch, &[1])).await.unwrap();
        drop(inbox);
        let inbox = FileInbox::open(dir.path().into(), options, RecordKey::default()).await.unwrap();
        assert_eq!(
            inbox.accept(&dev, batch(epoch, &[2, 3, 4])).await.unwrap(),
            OutboxAck { through: 4, duplicates: 2 }
        );
        let page = inbox.page("1", 0).await.unwrap();
        let sequences: Vec<_> = page.records.iter().map(|stored| stored.record.sequence).collect();
        assert_eq!((page.total, sequences), (4, vec![1, 2, 3, 4]));
        assert_eq!(inbox.page("2", 0).await.unwrap().total, 1);
        let second = Uuid::from_u128(2);
        assert_eq!(inbox.accept(&dev, batch(second, &[1])).await.unwrap().through, 1);
        let inbox_of_all = super::super::Inbox(super::super::Kind::File(inbox.clone()));
        let disordered = inbox_of_all.accept(&dev, batch(second, &[3, 2])).await;
        assert!(matches!(disordered, Err(Error::Invalid(_))));
        assert_eq!(inbox.watermark("1", epoch), 4);
    }

    #[tokio::test]
    async fn what_cannot_be_read_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let options = durable_log::Options { fsync: false, ..durable_log::Options::default() };
        let (dev, epoch) = (agent("dev", "1"), Uuid::from_u128(1));
        let open = |key: [u8; 32]| FileInbox::open(dir.path().into(), options, RecordKey::of(key));
        let log = Log::open(dir.path(), options).await.unwrap();
        log.append(br#"{"type":"fromTheFuture"}"#).await.unwrap();
        drop(log);
        let inbox = open([1; 32]).await.unwrap();
        assert_eq!(inbox.accept(&dev, batch(epoch, &[1, 2])).await.unwrap().through, 2);
        drop(inbox);
        let inbox = open([1; 32]).await.unwrap();
        let (records, next) = inbox.read(inbox.first()).await.unwrap();
        assert_eq!((records.len(), next), (2, inbox.first() + 3));
        assert_eq!(inbox.page("1", 0).await.unwrap().total, 2);
        assert_eq!(inbox.shared.unreadable.0.lock().iter().copied().collect::<Vec<_>>(), [1]);
        drop(inbox);
        // Another key is a mistake in the configuration: nothing is passed over for it.
        let refused = open([2; 32]).await.unwrap_err().to_string();
        assert!(
            refused.contains("inbox record 2") && refused.contains("encryption configuration"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn watermarks_outlive_the_records() {
        let dir = tempfile::tempdir().unwrap();
        let options = durable_log::Options { fsync: false, max_bytes: 64 << 10, segment_bytes: 4 << 10 };
        let (dev, epoch) = (agent("dev", "1"), Uuid::from_u128(1));
        let inbox = FileInbox::open(dir.path().into(), options, RecordKey::default()).await.unwrap();
        for sequence in 1..=2000 {
            inbox.accept(&dev, batch(epoch, &[sequence])).await.unwrap();
            let next = *inbox.appended().borrow();
            inbox.trim(next).await.unwrap();
        }
        assert!(inbox.first() > 1);
        drop(inbox);
        let inbox = FileInbox::open(dir.path().into(), options, RecordKey::default()).await.unwrap();
        assert_eq!(
            inbox.accept(&dev, batch(epoch, &[1, 2000])).await.unwrap(),
            OutboxAck { through: 2000, duplicates: 2 }
        );
    }
}
