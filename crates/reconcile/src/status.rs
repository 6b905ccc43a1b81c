//! What a reconciler's task can say about itself.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A task's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct TaskStatus {
    /// Reconciliations that ended well.
    pub successes: u64,
    /// Reconciliations that failed.
    pub failures: u64,
    /// When one last ended well.
    pub last_success: Option<Instant>,
    /// The last failure: its text and when it happened.
    pub last_error: Option<(Instant, String)>,
    /// Keys that wait to be worked on.
    pub queue_depth: usize,
    /// Keys being worked on.
    pub in_flight: usize,
    /// Keys whose last attempt failed.
    pub failing_keys: usize,
}

/// Reads a running task's status. Clones read the same task.
pub struct StatusHandle<K> {
    shared: Arc<Mutex<Record<K>>>,
}

struct Record<K> {
    status: TaskStatus,
    failures: HashMap<K, u32>,
}

impl<K> Clone for StatusHandle<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> fmt::Debug for StatusHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.lock().status.fmt(f)
    }
}

impl<K: Clone + Eq + Hash> StatusHandle<K> {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Mutex::new(Record { status: TaskStatus::default(), failures: HashMap::new() })),
        }
    }

    /// The present status.
    #[must_use]
    pub fn get(&self) -> TaskStatus {
        let record = self.shared.lock();
        let mut status = record.status.clone();
        status.failing_keys = record.failures.len();
        status
    }

    /// How often in a row `key` has failed.
    #[must_use]
    pub fn failures_of(&self, key: &K) -> u32 {
        self.shared.lock().failures.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn set_load(&self, queue_depth: usize, in_flight: usize) {
        let mut record = self.shared.lock();
        record.status.queue_depth = queue_depth;
        record.status.in_flight = in_flight;
    }

    pub(crate) fn succeeded(&self, key: &K) {
        let mut record = self.shared.lock();
        record.failures.remove(key);
        record.status.successes += 1;
        record.status.last_success = Some(Instant::now());
    }

    /// Counts a failure and returns how many in a row it makes.
    pub(crate) fn failed(&self, key: &K, error: String) -> u32 {
        let mut record = self.shared.lock();
        record.status.failures += 1;
        record.status.last_error = Some((Instant::now(), error));
        let count = record.failures.entry(key.clone()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }
}
