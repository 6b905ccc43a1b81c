//! A watcher: a cursor into a storage's history. It has no queue, so ten thousand idle ones cost ten thousand cursors,
//! and a slow one holds nothing alive: when history has moved past it, it is told to list again.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use storage::Revision;
use tokio::sync::watch;

use super::resource::Progress;
use super::{CachedEvent, CachedObject, Change, ResourceCache};

/// Events looked at per wake-up before other tasks get their turn.
const BATCH: usize = 256;

/// Which objects a watcher sees: scope and selectors in one.
pub(crate) type Filter = Arc<dyn Fn(&CachedObject) -> bool + Send + Sync>;

/// One thing a watcher is told.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What happened, seen through the watcher's filter.
    pub(crate) change: Change,
    /// The object to show.
    pub(crate) object: Arc<CachedObject>,
    /// Keeps the shared frames.
    pub(crate) event: Arc<CachedEvent>,
}

/// The watcher's place in history is gone: 410 Expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// A running watch of one storage.
pub(crate) struct Subscription {
    cache: Arc<ResourceCache>,
    cursor: Revision,
    reloads: u64,
    newest: watch::Receiver<Progress>,
    filter: Filter,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Subscription {
    pub(super) fn new(
        cache: Arc<ResourceCache>,
        cursor: Revision,
        reloads: u64,
        newest: watch::Receiver<Progress>,
        filter: Filter,
    ) -> Self {
        Self { cache, cursor, reloads, newest, filter }
    }

    /// The next events that the filter lets through, in order; waits for the first. Cancel safe: what was not returned is
    /// returned by the next call.
    ///
    /// # Errors
    /// [`Expired`] when history has moved past this watcher; nothing follows.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>, Expired> {
        loop {
            let ready = self.ready()?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            // The cache outlives its subscriptions; should it go, there is no history left.
            self.newest.changed().await.map_err(|_| Expired)?;
        }
    }

    /// What [`Self::next`] would answer without waiting; nothing when it would have to wait.
    ///
    /// # Errors
    /// As it.
    pub(crate) fn ready(&mut self) -> Result<Vec<Delivery>, Expired> {
        loop {
            // Marked as seen before reading, so that a change in between wakes who waits then.
            let up_to = self.newest.borrow_and_update().revision;
            let events = self.cache.events_after(self.cursor, up_to, self.reloads, BATCH).ok_or(Expired)?;
            let Some(last) = events.last() else { return Ok(Vec::new()) };
            self.cursor = last.revision;
            let told: Vec<Delivery> = events
                .into_iter()
                .filter_map(|event| {
                    let (change, object) = event.seen_by(|object| (self.filter)(object))?;
                    Some(Delivery { change, object, event })
                })
                .collect();
            if !told.is_empty() {
                self.cache.tell(told.len());
                return Ok(told);
            }
        }
    }

    /// What was delivered in plain JSON, in one buffer that others who are told the same share.
    pub(crate) fn piece(&self, deliveries: &[Delivery]) -> Bytes {
        self.cache.piece(deliveries)
    }

    /// The last revision it has been told of.
    pub(crate) fn cursor(&self) -> Revision {
        self.cursor
    }

    /// The revision after which history is still there.
    pub(crate) fn floor(&self) -> Revision {
        self.cache.floor()
    }

    /// A revision up to which this watcher has been told everything: what a bookmark says. `applied` is the revision up to
    /// which the whole cache was complete before this call.
    pub(crate) fn bookmark(&mut self, applied: Revision) -> Revision {
        if self.cache.is_behind(self.cursor, self.reloads) == Some(false) && applied > self.cursor {
            self.cursor = applied;
        }
        self.cursor
    }
}
