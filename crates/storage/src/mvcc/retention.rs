//! How much history is kept without anybody asking for compaction.

use std::time::Duration;

use super::{Core, RecordId};
use crate::contract::Revision;

/// Automatic compaction. History older than `age` is forgotten; and, so that a burst cannot fill the memory, the oldest is
/// forgotten whatever its age when there are more events or bytes than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long history is kept.
    pub age: Duration,
    /// How many events are kept at most.
    pub events: usize,
    /// How many bytes of superseded versions may be kept in any case. Where much lives it may be more, as
    /// [`history_allowance`] says.
    pub bytes: usize,
}

/// How many bytes history may take where versions of `live` bytes are the newest ones: a quarter of those, but at least
/// `least` and at most four times as many. So history is a small part of a large store and bounded in every one; and a watcher
/// of many objects, to whom listing them again is dear, may be as far behind as one of few.
#[must_use]
pub fn history_allowance(least: usize, live: usize) -> usize {
    (live / 4).clamp(least, least.saturating_mul(4))
}

impl Default for Retention {
    /// Five minutes (what a Kubernetes API server asks of etcd), 100,000 events (about 25 MB) with 16 MiB of versions: what a
    /// burst of changes to thousands of clusters leaves among what lives is memory that the process does not get back. Watch
    /// caches keep as much for less time.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), events: 100_000, bytes: 16 << 20 }
    }
}

impl Core {
    /// Compacts what `retention` does not keep. Answers the compaction point and the stored versions to forget, if
    /// anything was done. Cheap when there is nothing to do.
    pub fn enforce(&mut self, retention: &Retention, now: Duration) -> Option<(Revision, Vec<RecordId>)> {
        let point = self.overdue(retention, now)?;
        self.compact(point).ok().map(|garbage| (point, garbage))
    }

    fn overdue(&self, retention: &Retention, now: Duration) -> Option<Revision> {
        let kept_from = now.checked_sub(retention.age);
        let old = self.history.partition_point(|entry| kept_from.is_some_and(|from| entry.at <= from));
        let allowed = history_allowance(retention.bytes, self.live_bytes);
        let over = self.history_events > retention.events || self.history_bytes > allowed;
        // An eighth at a time, so that a store at its limit does not compact on every write.
        let crowded = if over { self.history.len().div_ceil(8) } else { 0 };
        let last = old.max(crowded).checked_sub(1)?;
        let point = self.history.get(last)?.revision.min(self.visible);
        (point > self.compacted).then_some(point)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::contract::{Incarnation, KeyRange, Operation, RangeRequest, Transaction};
    use crate::mvcc::{Loader, Stored, StoredVersion};

    const AGE: Duration = Duration::from_secs(300);

    fn write(core: &mut Core, operations: Vec<Operation>) {
        let transaction = Transaction { success: operations, ..Transaction::default() };
        core.transact(transaction, Duration::ZERO).unwrap();
    }

    fn put(key: usize, bytes: usize) -> Operation {
        Operation::put(format!("{key:08}"), vec![0; bytes])
    }

    fn live(core: &Core) -> usize {
        let all = RangeRequest::all(KeyRange::prefix(""));
        core.range(&all).unwrap().kvs.iter().map(|kv| kv.value.len()).sum()
    }

    #[test]
    fn history_takes_as_much_as_is_allowed_by_what_lives() {
        for (keys, least, allowed) in [(64, 4096, 4096), (512, 4096, 16_384), (256, 4096, 8192)] {
            let retention = Retention { age: AGE, events: usize::MAX, bytes: least };
            let mut core = Core::new(Incarnation(uuid::Uuid::nil()));
            for key in 0..keys {
                write(&mut core, vec![put(key, 128)]);
            }
            core.publish(Duration::ZERO);
            assert!(core.enforce(&retention, Duration::ZERO).is_none(), "what was made supersedes nothing");
            for round in 0..400 {
                write(&mut core, vec![put(round % keys, 128)]);
                core.publish(Duration::ZERO);
                core.enforce(&retention, Duration::ZERO);
                // An eighth of the events goes at a time, and the first of them, which made the keys, hold little.
                let bound = if round < 200 { allowed * 2 } else { allowed };
                assert!(core.history_bytes <= bound, "{} of {bound}", core.history_bytes);
            }
            assert!(core.history_bytes * 4 >= allowed * 3, "{} of {allowed}", core.history_bytes);
        }
    }

    #[test]
    fn what_lives_is_counted_through_changes_rollbacks_and_a_restart() {
        let mut core = Core::new(Incarnation(uuid::Uuid::nil()));
        let mut stored = BTreeMap::new();
        for round in 0..100_usize {
            let key = round * 7 % 13;
            let operation =
                if round % 5 == 4 { Operation::delete(format!("{key:08}")) } else { put(key, round) };
            write(&mut core, vec![operation, put(20 + round % 3, 10)]);
            if round % 10 == 9 {
                core.rollback(Duration::ZERO);
            } else {
                for entry in core.unpublished().revisions {
                    for (position, event) in (0..).zip(entry.events.iter()) {
                        let put = (event.kv.version > 0).then(|| StoredVersion {
                            value: event.kv.value.clone(),
                            create_revision: event.kv.create_revision,
                            version: event.kv.version,
                            lease: None,
                        });
                        let id = (entry.revision, position);
                        stored.insert(id, Stored { id, key: event.kv.key.clone(), put });
                    }
                }
                core.publish(Duration::ZERO);
            }
            assert_eq!(core.live_bytes, live(&core), "round {round}");
        }
        let half = Revision(core.visible.0 / 2);
        core.compact(half).unwrap();
        assert_eq!(core.live_bytes, live(&core));
        let mut loader =
            Loader::new(core.incarnation, core.visible, core.compacted, Vec::new(), Duration::ZERO);
        for record in stored.into_values() {
            loader.push(record).unwrap();
        }
        let (loaded, _) = loader.finish();
        assert_eq!(loaded.live_bytes, live(&core));
        assert_eq!(loaded.history_bytes, core.history_bytes);
    }
}
