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
    /// How many bytes of keys and values the events may hold at most.
    pub bytes: usize,
}

impl Default for Retention {
    /// Five minutes (what a Kubernetes API server asks of etcd), 100,000 events (about 25 MB) of at most 64 MiB: a burst of
    /// changes to thousands of clusters must not cost each of them a hundred kilobytes for five minutes. Watch caches keep
    /// theirs besides.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), events: 100_000, bytes: 64 << 20 }
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
        let over = self.history_events > retention.events || self.history_bytes > retention.bytes;
        // An eighth at a time, so that a store at its limit does not compact on every write.
        let crowded = if over { self.history.len().div_ceil(8) } else { 0 };
        let last = old.max(crowded).checked_sub(1)?;
        let point = self.history.get(last)?.revision.min(self.visible);
        (point > self.compacted).then_some(point)
    }
}
