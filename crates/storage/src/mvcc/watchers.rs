//! The watcher hub: who is told of which revision.
//!
//! A watcher's channel has one slot more than the reader asked for, kept for the error that ends it, so that a slow reader
//! learns why.

use std::time::Duration;

use tokio::sync::mpsc;

use super::RevisionEvents;
use crate::contract::{Event, KeyRange, Revision, WatchBatch, WatchRequest, WatchStream};
use crate::error::StoreError;

/// An idle watcher is told how far the store is at most this often.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// More batches than this are never kept for one watcher; a batch of one small event is about 300 bytes.
const MAX_BUFFER: usize = 1 << 20;

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    start: Revision,
    /// Everything up to here has been delivered.
    delivered: Revision,
    told_at: Duration,
    sender: mpsc::Sender<Result<WatchBatch, StoreError>>,
}

#[derive(Debug, Default)]
pub(super) struct Watchers {
    watchers: Vec<Watcher>,
}

impl Watchers {
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub(super) fn add<'a>(
        &mut self,
        request: WatchRequest,
        start: Revision,
        visible: Revision,
        replay: impl Iterator<Item = &'a RevisionEvents>,
        now: Duration,
    ) -> WatchStream {
        let buffer = request.buffer.clamp(1, MAX_BUFFER);
        let (sender, receiver) = mpsc::channel(buffer + 1);
        let mut watcher =
            Watcher { range: request.range, start, delivered: Revision(0), told_at: now, sender };
        let events = watcher.wanted(replay);
        if events.is_empty() {
            watcher.delivered = visible.min(Revision(start.0.saturating_sub(1)));
            self.watchers.push(watcher);
        } else if watcher.deliver(events, visible, now) {
            self.watchers.push(watcher);
        }
        WatchStream::new(receiver)
    }

    pub(super) fn publish<'a>(
        &mut self,
        revisions: impl Iterator<Item = &'a RevisionEvents> + Clone,
        visible: Revision,
        now: Duration,
    ) {
        self.watchers.retain_mut(|watcher| {
            let events = watcher.wanted(revisions.clone());
            if events.is_empty() {
                watcher.progress(visible, now)
            } else {
                watcher.deliver(events, visible, now)
            }
        });
    }

    pub(super) fn progress(&mut self, visible: Revision, now: Duration) {
        self.watchers.retain_mut(|watcher| watcher.progress(visible, now));
    }

    pub(super) fn end_all(&mut self, error: &StoreError) {
        for watcher in self.watchers.drain(..) {
            // The slot kept for errors is free; a closed channel has nobody to tell.
            let _ = watcher.sender.try_send(Err(error.clone()));
        }
    }
}

impl Watcher {
    fn wanted<'a>(&self, revisions: impl Iterator<Item = &'a RevisionEvents>) -> Vec<Event> {
        let mut events = Vec::new();
        for entry in revisions.filter(|entry| entry.revision >= self.start) {
            events.extend(entry.events.iter().filter(|event| self.range.contains(&event.kv.key)).cloned());
        }
        events
    }

    /// False: the watcher is finished.
    fn deliver(&mut self, events: Vec<Event>, visible: Revision, now: Duration) -> bool {
        if self.sender.capacity() <= 1 {
            let unread = self.sender.max_capacity() - self.sender.capacity();
            let _ = self.sender.try_send(Err(StoreError::SlowWatcher { unread }));
            return false;
        }
        self.delivered = visible;
        self.told_at = now;
        self.sender.try_send(Ok(WatchBatch { revision: visible, events })).is_ok()
    }

    /// Tells a watcher that has read everything how far the store is; a busy one will learn it with its next batch.
    fn progress(&mut self, visible: Revision, now: Duration) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        let idle = self.sender.capacity() == self.sender.max_capacity();
        let due = now.saturating_sub(self.told_at) >= PROGRESS_INTERVAL;
        // Before `start` there is nothing to be told: the watcher said that it knows what was before.
        if idle && due && visible > self.delivered && visible >= self.start {
            return self.deliver(Vec::new(), visible, now);
        }
        true
    }
}
